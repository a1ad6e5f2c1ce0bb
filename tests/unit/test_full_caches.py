"""A cache that cannot be written, as on a full disk, costs time alone."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from instar.data.decoded import decoded_once
from instar.data.readers import LabelledImages
from instar.speech.features import features_of
from speech_files import made_corpus

pytestmark = pytest.mark.usefixtures("full")


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file may be larger than a hundred bytes: a write fails as on a full disk."""
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_bytes(b"a file of pictures")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_pictures_are_decoded(tmp_path: Path) -> None:
    images = LabelledImages(torch.ones(9, 1, 8, 8, dtype=torch.uint8), torch.arange(9), ("a",) * 9)
    for _ in range(2):
        assert decoded_once(tmp_path / "file", lambda: images) is images
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_features_are_computed(tmp_path: Path) -> None:
    features = features_of(made_corpus())
    assert torch.equal(features.values, features_of(made_corpus()).values)
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
