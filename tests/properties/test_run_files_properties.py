"""Damaged weights, checkpoints and configurations: read whole, or refused in one clear line."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from file_mutations import Mutation, changed, mutations
from instar.errors import InstarError
from instar.networks import build_network
from instar.recipes.distill.settings import read_config
from instar.runs import FINAL, Run

QUICK = settings(max_examples=60, deadline=None)


def read_or_refused(content: bytes, name: str, read: Callable[[Path], object]) -> None:
    """Any other exception than the library's own fails the test; so does one of more than a line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        refusal = "fine"
        try:
            read(path)
        except InstarError as error:
            refusal = str(error)
        assert len(refusal.splitlines()) == 1


def a_run(folder: Path) -> Run:
    with Run(folder / "run", recipe="fit", config={"network": "mlp:4x1", "rates": [0.1, 0.3]}) as run:
        network = build_network("mlp:4x1", input_shape=(3,), num_classes=2, seed=0)
        run.save_weights(network.state_dict(), {"epochs": 3})
        torch.save(network.state_dict(), folder / "weights.pth")
    return run


with tempfile.TemporaryDirectory() as _folder:
    _run = a_run(Path(_folder))
    WEIGHTS = (_run.path / FINAL).read_bytes()
    PICKLED = (Path(_folder) / "weights.pth").read_bytes()
    CONFIG = (_run.path / "config.toml").read_bytes()


def load(path: Path) -> object:
    return build_network(f"mlp:4x1@{path}", input_shape=(3,), num_classes=2, seed=0)


@QUICK
@given(mutations)
def test_damaged_weights(changes: list[Mutation]) -> None:
    read_or_refused(changed(WEIGHTS, changes), "weights.safetensors", load)


@QUICK
@given(mutations)
def test_damaged_state_dict(changes: list[Mutation]) -> None:
    read_or_refused(changed(PICKLED, changes), "weights.pth", load)


@QUICK
@given(mutations)
def test_damaged_run_configuration(changes: list[Mutation]) -> None:
    read_or_refused(changed(CONFIG, changes), "run/config.toml", lambda path: Run.read(path.parent).config)


@QUICK
@given(
    mutations,
    st.sampled_from(["seeds = 3\n", "[student]\nepochs = 4\nnetwork = 'mlp:8x1'\n", "temperature = [2.0]\n"]),
)
def test_damaged_settings(changes: list[Mutation], text: str) -> None:
    read_or_refused(changed(text.encode(), changes), "mine.toml", lambda path: read_config({}, path))
