"""`instar speech train` killed in its jobs, then the same again: the same recogniser to the bit."""

import json
import signal
from pathlib import Path

import pytest

from instar.runs import Run
from killing import run_undisturbed_and_killed
from speech_files import made_corpus, write_kaldi_dir

pytest.importorskip("kaldi_native_fbank")

SMALL = ("--network", "mlp:16x1", "--epochs", "60", "--context", "4,2", "--set", "network.batch_size=32")
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL)
KEPT = ("hmm.json", "network.safetensors", "recogniser.json")


@pytest.mark.slow
def test_a_recogniser_whose_training_is_killed_again_and_again_is_the_same(tmp_path: Path) -> None:
    folder = write_kaldi_dir(tmp_path / "data", made_corpus(("ann", "bob", "cy", "di"), each=4))
    undisturbed, path = run_undisturbed_and_killed(
        ["speech", "train", str(folder), *SMALL],
        tmp_path,
        signals=SIGNALS,
        news="jobs/**",
        at_most_seconds=0.3,
        seed=3,
        one_core=True,
        interrupt_all=False,
    )
    for name in KEPT:
        assert (path / "recogniser" / name).read_bytes() == (undisturbed / "recogniser" / name).read_bytes()
    results = [Run.read(one).result() for one in (path, undisturbed)]
    rows = [json.dumps(one["rows"]) for one in results]
    assert rows[0] == rows[1]
