"""`instar data`: list, describe and check data sets."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from command_line import Command
from data_files import image_bytes, random_images, write_image_folder
from instar.data.readers.audio import wav_bytes
from tagged_words import sentences, write_conll


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three parts and a fault of each kind."""
    folder = tmp_path / "photos"
    for seed, part in enumerate(("train", "val", "test")):
        write_image_folder(folder / part, classes=("cat", "cow", "dog"), seed=seed)
    train, test = folder / "train", folder / "test"
    (test / "dog" / "copy.png").write_bytes((train / "dog" / "0.png").read_bytes())
    (train / "cat" / "dog.png").write_bytes((train / "dog" / "1.png").read_bytes())
    (train / "cow" / "1.png").write_bytes((train / "cow" / "0.png").read_bytes())
    (train / "cow" / "2.png").write_bytes(image_bytes(random_images(1, 9, 9)))
    (train / "cow" / "notes.txt").write_text("no picture")
    (test / "cat" / "2.png").write_bytes((test / "cat" / "2.png").read_bytes()[:-30])
    (folder / "val" / "dog" / "3.png").write_bytes(b"nothing")
    return folder


def test_a_check_lists_all_that_is_broken_and_all_copies(typed: Command, photos: Path) -> None:
    done = typed("data", "check", f"folder:{photos}", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    reasons = {Path(one["where"]).relative_to(photos).as_posix(): one["reason"] for one in found["broken"]}
    assert set(reasons) == {"test/cat/2.png", "val/dog/3.png"}
    assert reasons["test/cat/2.png"].startswith("not a whole image")
    copies = {
        tuple(Path(name).relative_to(photos).as_posix() for _, _, name in one["examples"]): one["kind"]
        for one in found["copies"]
    }
    assert copies == {
        ("train/dog/0.png", "test/dog/copy.png"): "across parts",
        ("train/cat/dog.png", "train/dog/1.png"): "different labels",
        ("train/cow/0.png", "train/cow/1.png"): "same class",
    }
    assert [(one["part"], one["examples"], one["smallest class"]) for one in found["parts"]] == [
        ("train", 16, 5),
        ("validation", 14, 4),
        ("test", 15, 4),
    ]
    assert {"part": "train", "form": "9x9 grey", "examples": 1} in found["forms"]
    assert found["not_read"] == {".txt files": 1}
    shown = typed("data", "check", f"folder:{photos}")
    assert shown.returncode == 1
    words = " ".join(shown.stdout.split())
    for expected in ("2 broken", "groups of copies (across parts): 1", "--image-size", ".txt files (1)"):
        assert expected in words


def test_a_sound_folder_passes_and_a_class_that_cannot_be_split_does_not(typed: Command, tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    done = typed("data", "check", f"folder:{tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 examples, nothing broken, no copies" in " ".join(done.stdout.split())
    for number in (2, 3, 4):
        (tmp_path / "dog" / f"{number}.png").write_bytes((tmp_path / "dog" / "0.png").read_bytes())
    (tmp_path / "cow").mkdir()
    found = json.loads((done := typed("data", "check", f"folder:{tmp_path}", "--json")).stdout)
    assert done.returncode == 1
    assert [tuple(one.values()) for one in found["broken"]] == [
        (str(tmp_path / "cow"), "no images in this class"),
        ("class dog", "2 different examples, at least 3 are needed"),
    ]


def test_a_check_of_pictures_of_many_sizes_shows_the_most_frequent(typed: Command, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for width in range(20):
            Image.new("L", (20, 8 + width), 10 * width).save(tmp_path / name / f"{width}.png")
    Image.new("L", (20, 8), 255).save(tmp_path / "dog" / "bright.png")
    lines = typed("data", "check", f"folder:{tmp_path}").stdout.splitlines()
    sizes = [line for line in lines if re.search("[0-9]+x[0-9]+ grey", line)]
    assert len(sizes) == 12
    assert re.search(r"20x8 grey\s+3|8x20 grey\s+3", sizes[0])
    assert any("8 more, see --json." in line for line in lines)


USERS = """
import torch
x = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)); y = torch.arange(40) % 2
def data(): return (x, y), (torch.cat((x[7:8], x[:6] + 1)), torch.cat((1 - y[7:8], y[:6])))
"""


@pytest.mark.filterwarnings("ignore:.*byte-identical")
def test_data_of_a_function_and_named_data_are_checked_too(
    typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checked_data.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = typed("data", "check", "python:checked_data:data", "--json", cwd=tmp_path)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    (copies,) = found["copies"]
    assert copies["kind"] == "across parts, different labels"
    names = sorted(name for _, _, name in copies["examples"])
    assert names[0] == "test row 0"
    assert names[1].endswith(" row 7")
    done = typed("data", "check", "digits")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1797 examples, nothing broken, no copies" in " ".join(done.stdout.split())


def test_data_are_listed_described_and_checked_by_one_command(typed: Command, tmp_path: Path) -> None:
    assert "scikit-learn" in typed("data").stdout
    for words in (("data", "digits"), ("data", "show", "digits")):
        assert "1,295" in typed(*words).stdout
    described = typed("data", "digits", "--colour", "rgb", "--image-size", "12").stdout
    assert "3x12x12" in described
    assert "copies of training examples" in described
    helped = typed("data", "--help").stdout
    assert "check" in helped
    assert "show" in helped
    assert "--normalise" in typed("data", "show", "--help").stdout
    done = typed("data", "check", f"folder:{tmp_path / 'absent'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such folder" in done.stderr


def test_sounds_and_named_texts_which_have_no_columns_are_shown(typed: Command, tmp_path: Path) -> None:
    for number, name in enumerate(("dog", "owl")):
        (tmp_path / name).mkdir()
        for clip in range(6):
            wave = torch.sin(torch.arange(8000) * (0.05 + 0.01 * clip + 0.3 * number))
            (tmp_path / name / f"{clip}.wav").write_bytes(wav_bytes(wave.numpy(), 8000))
    shown = typed("data", "show", f"folder:{tmp_path}")
    assert shown.returncode == 0, shown.stderr
    assert "2 classes: dog, owl" in shown.stdout
    assert "40 mel filters every 10 ms" in shown.stdout
    found = typed("data", "show", f"folder:{tmp_path}", "--json")
    assert json.loads(found.stdout)["class_names"] == ["dog", "owl"]


def test_words_are_shown_as_words_within_80_columns(typed: Command, tmp_path: Path) -> None:
    write_conll(tmp_path / "s.conll", sentences(40))
    shown = typed("data", "show", f"conll:{tmp_path / 's.conll'}", COLUMNS="80")
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert re.search(r"words +list of text +text +0 +[A-Z][a-z]+ [a-zA-Z]+ ", shown.stdout)
    assert re.search(r"\n  B-PER (I-PER )?O [O ]+(B-LOC|I-LOC)", shown.stdout)
    assert '["' not in shown.stdout
