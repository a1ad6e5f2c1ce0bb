#!/usr/bin/env bash
# uvicorn 0.54.0 on Linux, asyncio: with --workers 2 every answer on a kept connection is 40 ms late.
#
# asyncio switches Nagle's algorithm off (TCP_NODELAY) for connections whose socket says that its protocol is TCP. With several
# workers, a file descriptor, or sockets that are given to Server.run, uvicorn makes or takes the listening socket itself; its
# protocol is 0, so are those of its connections, and the option stays off. Head and body of an answer are two writes: the body
# waits for the client's delayed acknowledgement of the head.
#
# Expected: with more workers as fast as with one.
# Seen: 0.2 ms a request with one process, 44 ms with --workers 2, for two bytes on the same machine.
# Cure: set TCP_NODELAY on the listening socket, whose connections inherit it; or uvloop, or a proxy in front.
set -euo pipefail
folder=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0
cat > "$folder/answers.py" <<'P'
async def ok(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
P
cat > "$folder/ask.py" <<'P'
import http.client
import statistics
import sys
import time


def median_ms(port):
    """Of 50 requests on one connection, after 10 that do not count."""
    for _ in range(200):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.connect()
            break
        except ConnectionError:
            time.sleep(0.1)
    seconds = []
    for _ in range(60):
        start = time.perf_counter()
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"ok"
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[10:])


one, two = (median_ms(int(port)) for port in sys.argv[1:])
print(f"uvicorn 0.54.0, one process: {one:.1f} ms a request; --workers 2: {two:.1f} ms")
assert one < 20, "one process is slow too: another fault"
assert two > 30, "workers are as fast now: this finding is out of date"
P
cd "$folder"
free() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
first=$(free); second=$(free)
serve=("$folder/venv/bin/python" -m uvicorn answers:ok --loop asyncio --http h11 --log-level error --lifespan off)
"${serve[@]}" --port "$first" & "${serve[@]}" --port "$second" --workers 2 &
"$folder/venv/bin/python" ask.py "$first" "$second"
