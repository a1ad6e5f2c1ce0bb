"""Files from their publishers: whole and with the right checksum, or not at all."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from instar.data.files import written_whole
from instar.data.progress import download_progress
from instar.errors import DataError, UsageError

_CHUNK_BYTES = 1 << 18
_SLOWEST_BYTES_PER_SECOND = 1024  # slower than this for a whole timeout counts as standing still
_LONGEST_WAIT_SECONDS = 8.0

Tell = Callable[[int, int | None], None]  # bytes that are here, bytes in all


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
    """Fetch a file into `destination`, in one piece or not at all.

    A connection that is cut is taken up again where it was, if the server can.

    Args:
        url: where it is.
        destination: the file to write; its folder is made.
        md5: expected checksum, hex digits.
        sha256: expected checksum, hex digits.
        check: looks into an archive that its publisher packs anew each time, and raises a `DataError` that says
            what is wrong; one of the three is needed.
        timeout: seconds in which something has to arrive (on average 1 KiB a second).
        progress: draw a bar on stderr where that is a terminal.
        retries: how many more times to try after a cut or a refused connection.

    Returns: `destination`.

    Raises:
        DataError: no network, no such file, a wrong checksum, or a folder that cannot be written.
        UsageError: no checksum given.
    """
    if [md5, sha256, check].count(None) != 2:
        raise UsageError(f"fetch {url}: give one checksum, md5 or sha256, or a check of the content")
    try:
        with written_whole(destination) as part, download_progress(progress) as bars:
            task = bars.add_task(destination.name, total=None)
            with part.open("wb") as file:
                _download(
                    url,
                    file,
                    timeout=timeout,
                    retries=retries,
                    tell=lambda here, total: bars.update(task, completed=here, total=total),
                )
            if check is not None:
                _check_content(part, url, check)
            else:
                _check(part, url, "md5" if md5 is not None else "sha256", str(md5 or sha256))
    except _FetchError as error:
        raise DataError(
            f"cannot fetch {url} ({error}); fetch it by other means and put it at {destination}"
        ) from error
    except OSError as error:
        raise DataError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination


class _FetchError(Exception):
    """The server or the way to it failed; again when trying again may help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


def _download(url: str, file: BinaryIO, *, timeout: float, retries: int, tell: Tell) -> None:
    for attempt in range(retries + 1):
        try:
            return _attempt(url, file, timeout=timeout, tell=tell)
        except _FetchError as error:
            if attempt == retries or not error.again:
                raise
            time.sleep(min(0.25 * 2**attempt, _LONGEST_WAIT_SECONDS))
    return None


def _attempt(url: str, file: BinaryIO, *, timeout: float, tell: Tell) -> None:
    """Go on where the file ends, or start anew where the server cannot."""
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
        _copy(response, file, total=total, timeout=timeout, tell=tell)


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
        raise _FetchError(f"nothing came for {timeout:g} seconds") from error
    except (OSError, http.client.HTTPException) as error:
        raise _FetchError(f"the connection was cut: {error or type(error).__name__}") from error


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    found = response.headers.get("Content-Range", "")
    return response.status == 206 and found.startswith(f"bytes {start}-")


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, *, total: int | None, timeout: float, tell: Tell
) -> None:
    window_start, window_bytes = time.monotonic(), 0
    while chunk := _next_chunk(response, timeout):
        file.write(chunk)
        tell(file.tell(), total)
        window_bytes += len(chunk)
        elapsed = time.monotonic() - window_start
        if elapsed >= timeout:
            # A socket's own timeout never fires while single bytes trickle in.
            if window_bytes < _SLOWEST_BYTES_PER_SECOND * elapsed:
                raise _FetchError(f"only {window_bytes} bytes came in {elapsed:.0f} seconds")
            window_start, window_bytes = time.monotonic(), 0
    if total is not None and file.tell() < total:
        raise _FetchError(f"the connection was cut after {file.tell():,} of {total:,} bytes")


def _check(path: Path, url: str, algorithm: str, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise DataError(
            f"{url}: {algorithm} {found} instead of {expected} ({path.stat().st_size:,} bytes came); "
            "nothing was kept, try again or fetch it by other means"
        )


def _check_content(path: Path, url: str, check: Callable[[Path], None]) -> None:
    try:
        check(path)
    except DataError as error:
        raise DataError(f"{url}: {error}; nothing was kept, try again or fetch it by other means") from error
