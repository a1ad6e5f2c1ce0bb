"""`instar serve`: a real server process that is asked over HTTP; and its parts in this process."""

import asyncio
import base64
import gzip
import io
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import instar
from command_line import Command
from instar.deploy import Model, load
from instar.deploy.batching import Batcher
from instar.deploy.rows import Rows
from instar.errors import DataError
from instar.recipes.shipping.serving import Limits, Shown, application, greeting, listening


class Server:
    """`instar serve` in a process of its own, on a free port."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "instar", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said = [self.process.stderr.readline(), self.process.stderr.readline()]
        self.url = re.findall(r"http://[\d.:]+", self.said[0])[0]


@pytest.fixture(scope="module")
def server(finished_run: Path) -> Iterator[Server]:
    started = Server(finished_run, "--top-k", "2", "--max-mib", "0.25")
    yield started
    started.process.kill()
    started.process.communicate()


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Its result, from a thread of its own: a browser's test leaves a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 16), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_server_answers_as_predict_does_and_loses_nothing_at_its_end(
    server: Server, finished_run: Path, tmp_path: Path, typed: Command
) -> None:
    (tmp_path / "seven.png").write_bytes(picture())
    done = typed("predict", finished_run, tmp_path / "seven.png", "--top-k", "2", "--format", "jsonl", "--quiet")
    expected = json.loads(done.stdout)
    answers_as_predict_does(server, expected, tmp_path)
    says_what_is_wrong_in_one_line(server, expected)
    port = server.url.rpartition(":")[2]
    used = typed("serve", finished_run, "--port", port)
    assert (used.returncode, used.stderr.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in used.stderr
    loses_nothing_at_its_end(server)


def answers_as_predict_does(server: Server, expected: dict[str, Any], folder: Path) -> None:
    command = shlex.split(server.said[1].removeprefix("try: ").replace("PICTURE.png", "seven.png"))
    asked = subprocess.run([*command, "--silent"], cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout) == {"answers": [expected | {"input": "body"}]}
    assert "10 classes: 0, 1" in server.said[0]
    test = instar.load_data("digits").test
    inputs, model = test.gather(test.ids[:5], 0), load(server.said[0].split()[3])
    file = io.BytesIO()
    np.save(file, inputs.numpy())
    with httpx2.Client(base_url=server.url) as client:
        files = [("file", ("seven.png", picture())), ("file", ("other.png", picture()))]
        rows = client.post("/predict", files=files, params={"top_k": 1}).json()["answers"]
        first = {key: value for key, value in expected.items() if not key.endswith("_2")}
        assert rows == [first | {"input": "seven.png"}, first | {"input": "other.png"}]
        text = base64.b64encode(picture()).decode()
        sent = {"inputs": [text, f"data:image/png;base64,{text}", inputs[0].tolist()]}
        rows = client.post("/predict", json=sent).json()["answers"]
        assert rows[:2] == [expected | {"input": "0"}, expected | {"input": "1"}]
        by_numbers = client.post("/predict", content=file.getvalue()).json()["answers"]
        assert [row["class"] for row in by_numbers] == model.predict(inputs)
        assert by_numbers[0] == rows[2] | {"input": "0"}
        raw = test.raw(test.rows(test.ids[:1])).tolist()  # integers as the data has them
        assert client.post("/predict", json={"inputs": raw}).json()["answers"] == by_numbers[:1]
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        assert health.json()["class_names"] == list(model.class_names)
        with ThreadPoolExecutor(8) as pool:  # several at once
            asked_at_once = list(pool.map(lambda _: client.post("/predict", content=picture()).json(), range(16)))
        assert asked_at_once == [{"answers": [expected | {"input": "body"}]}] * 16


def says_what_is_wrong_in_one_line(server: Server, expected: dict[str, Any]) -> None:
    wrong: list[tuple[int, str, dict[str, Any]]] = [
        (400, "body: the picture: not an image", {"content": b"no picture"}),
        (400, "the body is empty", {}),
        (400, "not JSON", {"content": b'{"inputs": ['}),
        (400, "found other", {"json": {"other": 1}}),
        (
            400,
            "input 1: a text that is no base64 of a file",
            {"json": {"inputs": [np.zeros((1, 8, 8)).tolist(), "/etc/x"]}},
        ),
        (
            400,
            "input 0: the picture: not an image",
            {"json": {"inputs": [base64.b64encode(b"/etc/hostname").decode()]}},
        ),
        (400, "input 0: an example has shape (2, 1)", {"json": {"inputs": [[[1], [2]]]}}),
        (400, "input 0: ", {"json": {"inputs": [[[1], [2, 3]]]}}),
        (400, "input 0: an example is dict, this network takes arrays of 1x8x8", {"json": {"inputs": [{"a": 1}]}}),
        (400, "NaN", {"content": json.dumps({"inputs": [np.full((8, 8), np.nan).tolist()]})}),
        (400, "not an array", {"content": b"\x93NUMPY and no more"}),
        (400, "broken.png: the picture: not an", {"files": [("file", ("broken.png", b"no picture"))]}),
        (400, "the form has no file", {"files": {"field": (None, "a text")}}),
        (400, "top_k=none", {"content": picture(), "params": {"top_k": "none"}}),
        (413, "larger than 0.25 MiB", {"content": bytes(2**19)}),
        (413, "larger than 0.25 MiB", {"content": iter([bytes(2**18), bytes(2**18)])}),
    ]
    with httpx2.Client(base_url=server.url) as client:
        for status, words, how in wrong:
            found = client.post("/predict", **how)
            line = found.json()["error"]
            assert (found.status_code, "\n" in line) == (status, False), line
            assert words in line
        assert client.get("/predict").status_code == 405
        assert "POST /predict" in client.get("/nowhere").json()["error"]
        assert client.post("/predict", content=picture()).json()["answers"][0]["class"] == expected["class"]


def loses_nothing_at_its_end(server: Server) -> None:
    """Clients with one connection each, and with a new one each time, ask until nothing listens any more."""
    begun = threading.Barrier(9)

    def ask(number: int) -> int:
        lost = 0
        with httpx2.Client(base_url=server.url, headers={"connection": "close"} if number % 2 else {}) as client:
            assert client.post("/predict", content=picture()).status_code == 200
            begun.wait(60)
            while True:
                try:
                    assert client.post("/predict", content=picture()).status_code == 200
                except httpx2.ConnectError:  # it listens no more
                    return lost
                except httpx2.HTTPError:
                    lost += 1

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(ask, number) for number in range(8)]
        begun.wait(60)
        server.process.send_signal(signal.SIGTERM)
        assert [one.result() for one in running] == [0] * 8
    assert server.process.wait() == 0


def test_limits_and_examples_of_others_are_kept_apart() -> None:
    """In this process, through the application alone."""

    class Slow(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            time.sleep(0.5 * float(inputs.max()))
            return inputs

    async def asked() -> list[Any]:
        model = Model(Slow(), ["a", "b", "c", "d"], (4,))
        app = application(model, shown=Shown(explain=True), limits=Limits(1000, 0.2), stopping=asyncio.Event())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://here") as client:
            quick = await client.post("/predict", json={"inputs": [[0.0, 0.0, 0.0, 0.1]]})
            return [quick, await client.post("/predict", json={"inputs": [[0.0, 0.0, 0.0, 1.0]]})]

    quick, slow = in_a_loop(asked())
    (row,) = quick.json()["answers"]
    assert (row["class"], set(row)) == ("d", {"input", "class", "probability", "entropy"})
    assert (slow.status_code, slow.json()["error"].partition(";")[0]) == (504, "no answer within 0.2 s")


def test_rows_are_answered_as_predict_does() -> None:
    """In this process: rows by name and as lists, of several requests at once."""
    people = {"age": list(range(60)), "height": [n % 7 * 10 for n in range(60)], "old": ["no", "yes"] * 30}
    data = instar.load_data(people, label="old")
    network = nn.Linear(data.train.example_shape[0], 2)
    model = Model(network, data.class_names, data.train.example_shape, rows=Rows.of(data))
    expected = model.predict([{"age": 3, "height": 20}, {"age": 50, "height": 10}])
    bodies = [
        {"inputs": [{"age": 3, "height": 20}, {"age": 50, "height": 10}]},
        {"inputs": [[3, 20], [50, 10]]},
        {"inputs": [{"age": 3}]},
        {"inputs": ["/etc/hostname"]},
        {"inputs": [3]},
    ]

    async def asked() -> list[Any]:
        app = application(model, shown=Shown(), limits=Limits(1000, 60), stopping=asyncio.Event())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://here") as client:
            return await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))

    by_name, as_lists, *wrong = (one.json() for one in in_a_loop(asked()))
    assert [row["class"] for row in by_name["answers"]] == expected
    assert as_lists == by_name
    said = ["the rows lack 'height'", "input 0: a file or a text", "input 0: 3 is no row"]
    for found, words in zip(wrong, said, strict=True):
        assert words in found["error"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert """curl -d '{"inputs": [{"age": "...", "height": "..."}]}' http://127""" in greeting(
            model, listener
        )


def test_tables_are_answered_as_forms_and_as_bodies() -> None:
    people = {"age": list(range(60)), "fit": [n % 3 > 0 for n in range(60)], "old": ["no", "yes"] * 30}
    data = instar.load_data(people | {"name": [f"p{n}" for n in range(60)]}, label="old", key="name")
    network = nn.Linear(data.train.example_shape[0], 2)
    model = Model(network, data.class_names, data.train.example_shape, rows=Rows.of(data))
    table = b"age;fit\n3;True\n50;False\n"
    expected = model.predict_proba([{"age": 3, "fit": True}, {"age": 50, "fit": False}])[:, 0].tolist()
    gone = {"content-type": "text/csv"}
    forms: list[dict[str, Any]] = [
        {"files": {"file": ("new.csv", table)}},
        {"files": {"file": ("new.csv.gz", gzip.compress(table))}},
        {"files": {"file": ("new.jsonl", b'{"age": 3, "fit": true}\n{"age": 50, "fit": false}\n')}},
        {"content": table, "headers": gone},
        {"json": {"inputs": [{"age": 3, "fit": "True"}, {"age": 50, "fit": "false"}]}},
        {"files": {"file": ("new.csv", b"name,age,fit\nann,3,True\nbob,50,False\n")}},
        {"files": {"file": ("new.csv", b"age\n3\n")}},
        {"files": {"file": ("new.csv.gz", b"\x1f\x8bno")}},
        {"json": {"inputs": []}},
        {"content": table},
    ]

    async def asked() -> list[Any]:
        app = application(model, shown=Shown(top_k=2), limits=Limits(10**6, 60), stopping=asyncio.Event())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://here") as client:
            return [(await client.post("/predict", **form)).json() for form in forms]

    *right, short, broken, empty, plain = in_a_loop(asked())
    for found in right:
        probs = [
            row["probability"] if row["class"] == data.class_names[0] else row["probability_2"]
            for row in found["answers"]
        ]
        assert probs == pytest.approx(expected, abs=1e-5)
    assert [[row["input"] for row in found["answers"]] for found in (right[0], right[3], right[5])] == [
        ["new.csv:1", "new.csv:2"],
        ["body.csv:1", "body.csv:2"],
        ["ann", "bob"],
    ]
    assert "new.csv: the rows lack 'fit'" in short["error"]
    assert "not a whole gzip file" in broken["error"]
    assert empty["error"].startswith("inputs is empty, expected one or more")
    assert "or a table: curl -F file=@ROWS.csv" in plain["error"]


def test_requests_that_come_together_are_one_batch_and_an_error_is_its_owners() -> None:
    sizes = []

    def answer(examples: list[float]) -> Tensor:
        sizes.append(len(examples))
        if -1 in examples:
            raise DataError("minus one")
        return torch.tensor(examples)[:, None]

    async def several() -> list[Any]:
        batcher = Batcher(answer, most=4, wait_seconds=0.05)

        async def ask(*examples: float) -> Tensor:
            with batcher.preparing():
                await asyncio.sleep(0.01 * examples[0])
            return await batcher.ask(list(examples))

        many = await asyncio.gather(ask(0), ask(1), ask(2, -1), ask(3, 3, 3, 3, 3), return_exceptions=True)
        return [*many, await ask(0)]

    first, second, wrong, large, alone = in_a_loop(several())
    assert [one.flatten().tolist() for one in (first, second, large, alone)] == [[0], [1], [3] * 5, [0]]
    assert str(wrong) == "minus one"
    assert sizes == [4, 1, 1, 2, 5, 1]  # a batch with one that is wrong is asked again, request by request


def test_a_host_that_is_not_here_is_one_line(finished_run: Path, typed: Command) -> None:
    done = typed("serve", finished_run, "--host", "192.0.2.1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot listen on 192.0.2.1, port 8000" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = typed("serve", "no-such-run", "--port", str(taken.getsockname()[1]))
    assert "Address already in use" in done.stderr


def test_connections_send_their_answers_at_once() -> None:
    # Else the body of an answer is 40 ms late: findings/uvicorn-with-workers-answers-40-ms-late.sh.
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
