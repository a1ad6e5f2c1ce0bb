"""The examples and the tutorial run as they stand; the flat loop and the library give the same numbers."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from command_line import Command
from instar.data import load_data

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str, folder: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, EXAMPLES / name]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_flat_loop_and_the_library_give_the_same_numbers(tmp_path: Path) -> None:
    flat = printed("distill.py", tmp_path)
    assert flat.count("errors on 497 test images") == 3
    assert printed("distill_with_instar.py", tmp_path) == flat


FEW = ["--epochs", "1", "--learning-rate", "0.05", "--temperature", "4", "--seeds", "1"]
FEW_OF_TEACHER = ["--teacher-epochs", "1", "--teacher-learning-rate", "0.05"]
"""Added to each command of the tutorial: its words are tried, not its numbers."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the tutorial wants it: pictures of three classes, and new ones."""
    folder = tmp_path_factory.mktemp("tutorial")
    train = load_data("digits").train
    pixels, labels = (255 * train.gather(train.ids, 0)).byte(), train.labels(train.ids)
    for label in range(3):
        (folder / "photos" / f"class-{label}").mkdir(parents=True)
        for place, picture in enumerate(pixels[labels == label][:20]):
            Image.fromarray(picture[0].numpy()).save(folder / "photos" / f"class-{label}" / f"{place}.png")
    (folder / "new-photos").mkdir()
    Image.fromarray(pixels[0, 0].numpy()).save(folder / "new-photos" / "new.png")
    return folder


@pytest.mark.slow
def test_the_tutorial_on_pictures_runs_word_for_word(photos: Path, instar: Command) -> None:
    page = (EXAMPLES.parent / "docs" / "methods" / "own-pictures.md").read_text().split("## Variations")[0]
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^instar .*", page, re.MULTILINE)]
    assert [command[1] for command in commands] == ["data", "distill", "distill", "predict", "export", "distill"]
    for command in commands:
        few = FEW if command[1] == "distill" else []
        own_teacher = FEW_OF_TEACHER if "resnet:20" in command else []
        done = instar(*command[1:], *few, *own_teacher, cwd=photos)
        assert done.returncode == 0, (command, done.stderr)
    assert "new.png" in (photos / "answers.csv").read_text()
    assert (photos / "runs" / "photos" / "report.html").stat().st_size > 10_000


WEIGHTS = Path(os.environ.get("INSTAR_DATA", "")) / "weights" / "efficientnet-lite0-57934424.pth"


@pytest.mark.filterwarnings("ignore:.*byte-identical")  # a copy in the published data
@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs EfficientNet-lite0 in INSTAR_DATA/weights")
def test_the_tutorial_on_layers_advises_on_a_large_network(instar: Command, tmp_path: Path) -> None:
    """Its command with one epoch and without controls: the words are tried, not the numbers."""
    page = (EXAMPLES.parent / "docs" / "tutorials" / "which-layers.md").read_text()
    (command,) = (shlex.split(line) for line in re.findall(r"^instar advise .*", page, re.MULTILINE))
    (tmp_path / "weights").symlink_to(WEIGHTS.parent)
    few = ("--epochs", "1", "--set", "rounds=[0.9]", "--set", "controls=false")
    done = instar(*command[1:], *few, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "lite0" / "result.json").read_text())["details"]["num_classes"] == 5


def test_the_study_of_files_reads_both_ends_of_each_content_once(tmp_path: Path) -> None:
    study = runpy.run_path(str(EXAMPLES / "kinds_of_files.py"))
    long = bytes(range(33, 127)) * 100
    contents = {
        "a.txt": b" \n some words \n",
        "b.txt": b"some words",
        "c.bin": long,
        "d.txt": b"short",
        "e.bin": long,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    chosen = list(study["chosen_files"]([tmp_path], 2))
    assert sorted(path.suffix for path in chosen) == [".bin", ".bin", ".txt", ".txt"]
    words, ends = study["ends"](tmp_path / "a.txt").tolist(), study["ends"](tmp_path / "c.bin").tolist()
    assert words == [*b"some words \n", *[256] * (2048 - 25), *b" \n some words"]
    assert ends == [*long[:1024], *long[-1024:]]
    kept = study["distinct"](iter(tmp_path / name for name in contents))
    assert len(kept) == 3  # one is too short, two are copies
