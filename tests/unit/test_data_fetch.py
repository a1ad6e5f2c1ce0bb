"""Fetching, against a real server on the loopback: normal, slow, cut off, wrong, missing, not there at all."""

import contextlib
import hashlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from instar.data import fetch
from instar.errors import DataError, UsageError

CONTENT = os.urandom(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Serves one path, and remembers what it was asked for."""

    def __init__(self, answer: Answer) -> None:
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.ranges.append(self.headers["Range"])
                with contextlib.suppress(ConnectionError):  # the client gives up, as some of these tests want
                    answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/data.bin"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Serve = Callable[[Answer], Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("no_proxy", "*")
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def send(handler: BaseHTTPRequestHandler, content: bytes, *, promised: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if promised is None else promised))
    handler.end_headers()
    handler.wfile.write(content)


def whole(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT)


def get(server: Server, folder: Path, *, timeout: float = 5.0, retries: int = 3, md5: str = MD5) -> Path:
    return fetch(
        server.url, folder / "sub" / "data.bin", md5=md5, timeout=timeout, retries=retries, progress=False
    )


def assert_nothing_is_left(folder: Path) -> None:
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_file_arrives_whole_and_alone(serve: Serve, tmp_path: Path) -> None:
    path = get(serve(whole), tmp_path)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_sha256_is_checked_as_well(serve: Serve, tmp_path: Path) -> None:
    server = serve(whole)
    right = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(server.url, tmp_path / "a", sha256=right, progress=False).read_bytes() == CONTENT
    with pytest.raises(DataError, match="sha256"):
        fetch(server.url, tmp_path / "b", sha256="0" * 64, progress=False)
    with pytest.raises(UsageError, match="pass one of md5, sha256 and check"):
        fetch(server.url, tmp_path / "b")


def test_a_wrong_checksum_leaves_nothing_and_replaces_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(whole)
    with pytest.raises(DataError, match=rf"{MD5} instead of {'0' * 32} \(300,000 bytes\)"):
        get(server, tmp_path, md5="0" * 32)
    assert_nothing_is_left(tmp_path)
    old = tmp_path / "sub" / "data.bin"
    old.write_bytes(b"old")
    with pytest.raises(DataError):
        get(server, tmp_path, md5="0" * 32)
    assert old.read_bytes() == b"old"


def test_a_cut_connection_goes_on_where_it_was(serve: Serve, tmp_path: Path) -> None:
    def cut_then_resume(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        if asked is None:
            return send(handler, CONTENT[:100_000], promised=len(CONTENT))
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start:])
        return None

    server = serve(cut_then_resume)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]


def test_a_server_that_cannot_resume_is_asked_from_the_start(serve: Serve, tmp_path: Path) -> None:
    def cut_once(handler: BaseHTTPRequestHandler) -> None:
        first = handler.headers["Range"] is None
        send(handler, CONTENT[:100_000] if first else CONTENT, promised=len(CONTENT))

    server = serve(cut_once)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_a_connection_that_is_always_cut_gives_up(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda handler: send(handler, CONTENT[:1000], promised=len(CONTENT)))
    with pytest.raises(DataError, match="lost after 1,000 of 300,000 bytes") as caught:
        get(server, tmp_path, retries=1)
    assert_the_way_out_is_named(caught.value, server, tmp_path)
    assert len(server.ranges) == 2


def test_a_cut_without_a_promised_length_is_found_by_the_checksum(serve: Serve, tmp_path: Path) -> None:
    def no_length(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT[:1000])

    with pytest.raises(DataError, match=r"\(1,000 bytes\)"):
        get(serve(no_length), tmp_path)
    assert_nothing_is_left(tmp_path)


def test_a_server_that_falls_silent_hits_the_timeout(serve: Serve, tmp_path: Path) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        send(handler, CONTENT[:1000], promised=len(CONTENT))
        time.sleep(3)

    server, start = serve(silent), time.monotonic()
    with pytest.raises(DataError, match=r"no data for 0\.3 seconds") as caught:
        get(server, tmp_path, timeout=0.3, retries=0)
    assert time.monotonic() - start < 2.5
    assert_the_way_out_is_named(caught.value, server, tmp_path)


def test_a_server_that_trickles_hits_the_timeout(serve: Serve, tmp_path: Path) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        send(handler, b"", promised=len(CONTENT))
        for byte in CONTENT[:60]:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(DataError, match=r"only \d+ bytes in"):
        get(serve(trickle), tmp_path, timeout=0.3, retries=0)
    assert time.monotonic() - start < 2.5
    assert_nothing_is_left(tmp_path)


def test_a_server_that_never_answers_hits_the_timeout(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _: time.sleep(3))
    with pytest.raises(DataError, match="timed out"):
        get(server, tmp_path, timeout=0.2, retries=0)
    assert_nothing_is_left(tmp_path)


def test_a_missing_file_is_not_asked_for_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda handler: handler.send_error(404))
    with pytest.raises(DataError, match="404 Not Found") as caught:
        get(server, tmp_path)
    assert len(server.ranges) == 1
    assert_the_way_out_is_named(caught.value, server, tmp_path)


def test_a_server_that_is_busy_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    answers = iter([lambda handler: handler.send_error(503), whole])
    server = serve(lambda handler: next(answers)(handler))
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_no_network_says_which_file_to_put_where(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/data.bin"
        with pytest.raises(DataError, match="no connection") as caught:
            fetch(url, tmp_path / "sub" / "data.bin", md5=MD5, retries=1, progress=False)
    assert url in str(caught.value)
    assert str(tmp_path / "sub" / "data.bin") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_nothing_is_left(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot write"):
        get(serve(whole), tmp_path)


def test_a_full_disk_is_named_and_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(whole)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # no file may grow larger: as good as full
    try:
        with pytest.raises(DataError, match=r"cannot write .*data\.bin: File too large"):
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_nothing_is_left(tmp_path)


def assert_the_way_out_is_named(error: DataError, server: Server, folder: Path) -> None:
    assert server.url in str(error)
    assert str(folder / "sub" / "data.bin") in str(error)
    assert "\n" not in str(error)
    assert_nothing_is_left(folder)
