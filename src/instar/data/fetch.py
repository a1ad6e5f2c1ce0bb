"""Downloads: a file arrives complete and with the right checksum, or not at all."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from instar.data.progress import download_progress
from instar.errors import DataError, UsageError
from instar.files import written_whole

_CHUNK_BYTES = 1 << 18
_SLOWEST_BYTES_PER_SECOND = 1024  # slower than this over a whole timeout counts as stalled
_LONGEST_WAIT_SECONDS = 8.0

Report = Callable[[int, int | None], None]  # bytes received, bytes in total


def fetch(
    url: str,
    destination: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    timeout: float = 30.0,
    progress: bool = True,
    retries: int = 3,
) -> Path:
    """Download a file to `destination`, completely or not at all.

    After a lost connection the download resumes where it stopped, if the server supports it.

    Args:
        url: address of the file.
        destination: the file to write; its folder is created.
        md5: expected checksum, hex digits.
        sha256: expected checksum, hex digits.
        check: checks the content, for archives without a fixed checksum, and raises a `DataError` that says what
            is wrong; exactly one of the three is required.
        timeout: seconds without data (below 1 KiB per second on average) after which the connection is given up.
        progress: draw a bar on stderr where that is a terminal.
        retries: number of further attempts after a lost or refused connection.

    Returns: `destination`.

    Raises:
        DataError: no network, no such file, a wrong checksum, or a folder that cannot be written.
        UsageError: not exactly one of `md5`, `sha256` and `check` is given.
    """
    if [md5, sha256, check].count(None) != 2:
        raise UsageError(f"fetch {url}: pass one of md5, sha256 and check")
    try:
        with written_whole(destination) as part, download_progress(progress) as bars:
            task = bars.add_task(destination.name, total=None)
            with part.open("wb") as file:
                _download(
                    url,
                    file,
                    timeout=timeout,
                    retries=retries,
                    report=lambda received, total: bars.update(task, completed=received, total=total),
                )
            if check is not None:
                _check_content(part, url, check)
            else:
                _check(part, url, "md5" if md5 is not None else "sha256", str(md5 or sha256))
    except _FetchError as error:
        raise DataError(
            f"cannot download {url} ({error}); get it by other means and put it at {destination}"
        ) from error
    except OSError as error:
        raise DataError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination


class _FetchError(Exception):
    """The server or the connection failed; `again` tells whether another attempt may help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


def _download(url: str, file: BinaryIO, *, timeout: float, retries: int, report: Report) -> None:
    for attempt in range(retries + 1):
        try:
            return _attempt(url, file, timeout=timeout, report=report)
        except _FetchError as error:
            if attempt == retries or not error.again:
                raise
            time.sleep(min(0.25 * 2**attempt, _LONGEST_WAIT_SECONDS))
    return None


def _attempt(url: str, file: BinaryIO, *, timeout: float, report: Report) -> None:
    """Resume at the end of the file, or start again where the server cannot resume."""
    start = file.tell()
    headers = {"User-Agent": "instar", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with _opened(urllib.request.Request(url, headers=headers), timeout) as response:
        if start and not _continues(response, start):
            start = 0
            file.seek(0)
            file.truncate()
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        _copy(response, file, total=total, timeout=timeout, report=report)


def _opened(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _FetchError(f"{error.code} {error.reason}", again=error.code >= 500) from error
    except urllib.error.URLError as error:
        raise _FetchError(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _FetchError(f"no answer: {error or type(error).__name__}") from error
    return response


def _next_chunk(response: http.client.HTTPResponse, timeout: float) -> bytes:
    try:
        return response.read1(_CHUNK_BYTES)
    except TimeoutError as error:
        raise _FetchError(f"no data for {timeout:g} seconds") from error
    except (OSError, http.client.HTTPException) as error:
        raise _FetchError(f"the connection was lost: {error or type(error).__name__}") from error


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    found = response.headers.get("Content-Range", "")
    return response.status == 206 and found.startswith(f"bytes {start}-")


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, *, total: int | None, timeout: float, report: Report
) -> None:
    window_start, window_bytes = time.monotonic(), 0
    while chunk := _next_chunk(response, timeout):
        file.write(chunk)
        report(file.tell(), total)
        window_bytes += len(chunk)
        elapsed = time.monotonic() - window_start
        if elapsed >= timeout:
            # The socket's own timeout never fires while single bytes arrive.
            if window_bytes < _SLOWEST_BYTES_PER_SECOND * elapsed:
                raise _FetchError(f"only {window_bytes} bytes in {elapsed:.0f} seconds")
            window_start, window_bytes = time.monotonic(), 0
    if total is not None and file.tell() < total:
        raise _FetchError(f"the connection was lost after {file.tell():,} of {total:,} bytes")


def _check(path: Path, url: str, algorithm: str, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise DataError(
            f"{url}: {algorithm} {found} instead of {expected} ({path.stat().st_size:,} bytes); "
            "nothing was kept, try again or get it by other means"
        )


def _check_content(path: Path, url: str, check: Callable[[Path], None]) -> None:
    try:
        check(path)
    except DataError as error:
        raise DataError(f"{url}: {error}; nothing was kept, try again or get it by other means") from error
