"""`instar speech train` killed in its jobs, then the same again: the same recogniser to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar.runs import PROGRESS, Run
from speech_files import made_corpus, write_kaldi_dir

pytest.importorskip("kaldi_native_fbank")

SMALL = ("--network", "mlp:16x1", "--epochs", "60", "--context", "4,2", "--set", "network.batch_size=32")
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL)
KEPT = ("hmm.json", "network.safetensors", "recogniser.json")


def start(folder: Path, path: Path) -> "subprocess.Popen[str]":
    """In a session of its own, as a terminal would have it, on one core: so all fits have one thread."""
    command = [
        sys.executable,
        "-m",
        "instar",
        "speech",
        "train",
        str(folder),
        *SMALL,
        "--quiet",
        "--run-dir",
        str(path),
    ]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )


def wait_for_news(path: Path, process: "subprocess.Popen[str]") -> None:
    """Until a job has told of its progress since now, or all is done."""
    began = time.time()
    while process.poll() is None:
        for file in path.glob(f"jobs/**/{PROGRESS}"):
            try:
                if file.stat().st_mtime > began:
                    return
            except FileNotFoundError:  # its job has ended meanwhile
                pass
        time.sleep(0.01)


@pytest.mark.slow
def test_a_recogniser_whose_training_is_killed_again_and_again_is_the_same(tmp_path: Path) -> None:
    folder = write_kaldi_dir(tmp_path / "data", made_corpus(("ann", "bob", "cy", "di"), each=4))
    undisturbed = start(folder, tmp_path / "undisturbed")
    _, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said
    moments, path, num_kills = random.Random(3), tmp_path / "killed", 0
    for number in SIGNALS:
        process = start(folder, path)
        wait_for_news(path, process)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
            num_kills += 1
        process.communicate(timeout=300)
    last = start(folder, path)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert num_kills >= 2
    for name in KEPT:
        assert (path / "recogniser" / name).read_bytes() == (
            tmp_path / "undisturbed/recogniser" / name
        ).read_bytes()
    results = [Run.read(one).result() for one in (path, tmp_path / "undisturbed")]
    rows = [json.dumps(one["rows"]) for one in results]
    assert rows[0] == rows[1]
