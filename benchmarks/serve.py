"""`instar serve` beside the same model in a loop: requests/s and p99 at 1, 8, 64 clients, lost at SIGTERM."""

import asyncio
import io
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

import instar
from benchmarks.timing import figure, ratio, write_result

NETWORKS = ("mlp:800x2", "resnet:20")
SIDE, CLASSES, PER_CLASS = 32, 4, 40
CLIENTS = {1: 150, 8: 400, 64: 800}
"""Requests of a round, by the clients that share them."""

CALLS = 200
ROUNDS = 5


class Answered(NamedTuple):
    """What a number of clients saw."""

    seconds: float
    latencies: list[float]
    lost: int


def main() -> None:
    """Measure with one thread, and write `results/bench-serve.json`."""
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {}
    tails: dict[str, list[float]] = {}
    lost: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = _pictures(folder / "photos")
        for network in NETWORKS:
            run = folder / network.replace(":", "-")
            instar.distill_study(
                data=f"folder:{folder / 'photos'}", teacher="mlp:8x1", student=network, teacher_epochs=1, epochs=1,
                seeds=1, temperature=2, learning_rate=0.01, teacher_learning_rate=0.01, run_dir=run, quiet=True,
            )  # fmt: skip
            model = instar.load(f"{run}:student-distilled")
            for _ in range(ROUNDS):
                seconds.setdefault(f"{network}, loop", []).append(_loop_seconds(model, picture))
                for way, answered in _served(f"{run}:student-distilled", picture).items():
                    if way == "SIGTERM":
                        lost.setdefault(f"{network}, lost at SIGTERM", []).append(answered.lost)
                        continue
                    seconds.setdefault(f"{network}, {way}", []).append(answered.seconds)
                    tail = statistics.quantiles(answered.latencies, n=100)[-1]
                    tails.setdefault(f"{network}, {way}, p99", []).append(tail)
    counts = {f"{number} clients": requests for number, requests in CLIENTS.items()} | {"loop": CALLS}
    rates = {way: [counts[way.partition(", ")[2]] / one for one in values] for way, values in seconds.items()}
    figures = {way: figure(values, unit="requests/s") for way, values in rates.items()}
    figures |= {way: figure(values, unit="seconds") for way, values in tails.items()}
    figures |= {way: figure(values, unit="requests", goal="<= 0") for way, values in lost.items()}
    ratios = {
        f"{network}, {number} clients": ratio(rates[f"{network}, {number} clients"], rates[f"{network}, loop"])
        for network in NETWORKS
        for number in CLIENTS
    }
    config = {
        "networks": NETWORKS,
        "input": f"a PNG file of {SIDE}x{SIDE} pixels: the body of a request, or bytes for model.predict_proba",
        "threads": 1,
        "clients": "in a process of their own on the same machine, each with one connection",
        "requests": {str(number): requests for number, requests in CLIENTS.items()},
        "ratio": "requests/s of instar serve over calls/s of the same model in a loop, one picture each",
    }
    write_result("serve", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _pictures(folder: Path) -> bytes:
    """A folder of pictures of noise, and one of them."""
    random, content = np.random.default_rng(0), b""
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
        for number in range(PER_CLASS):
            file = io.BytesIO()
            Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "PNG")
            content = file.getvalue()
            (folder / str(label) / f"{number}.png").write_bytes(content)
    return content


def _loop_seconds(model: instar.Model, picture: bytes) -> float:
    model.predict_proba(picture)
    started = time.perf_counter()
    for _ in range(CALLS):
        model.predict_proba(picture)
    return time.perf_counter() - started


def _served(run: str, picture: bytes) -> dict[str, Answered]:
    """What each number of clients saw of one server, and 64 of them at its end."""
    command = [sys.executable, "-m", "instar", "serve", run, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        port = int(re.findall(r"http://127.0.0.1:(\d+)", server.stderr.readline())[0])
        asyncio.run(_ask(port, picture, 8, 50))
        found = {
            f"{number} clients": asyncio.run(_ask(port, picture, number, requests))
            for number, requests in CLIENTS.items()
        }
        found["SIGTERM"] = asyncio.run(_ask(port, picture, 64, 10**9, stop=server))
    return found


async def _ask(
    port: int, picture: bytes, clients: int, requests: int, *, stop: subprocess.Popen[str] | None = None
) -> Answered:
    """Clients that ask one request after the other until all requests are asked; or until nothing listens."""
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
    left, latencies, lost = iter(range(requests)), list[float](), list[str]()

    async def client() -> None:
        connection = None
        for _ in left:
            if connection is None:
                try:
                    connection = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:  # it listens no more
                    return
            reader, writer = connection
            started = time.perf_counter()
            try:
                writer.write(head + picture)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(re.findall(rb"content-length: (\d+)", answer)[0]))
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                lost.append(str(error))
                connection = None
                continue
            assert answer.startswith(b"http/1.1 200"), answer
            latencies.append(time.perf_counter() - started)
            if b"connection: close" in answer:
                writer.close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def stopped() -> None:
        if stop is not None:
            await asyncio.sleep(0.5)
            stop.send_signal(signal.SIGTERM)

    started = time.perf_counter()
    await asyncio.gather(stopped(), *(client() for _ in range(clients)))
    return Answered(time.perf_counter() - started, latencies, len(lost))


if __name__ == "__main__":
    main()
