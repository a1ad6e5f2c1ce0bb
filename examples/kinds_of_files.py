"""A published model teaches a small network without a label: magika's, which tells 214 kinds of files apart.

pip install 'instar[onnx]' magika==1.0.3
python examples/kinds_of_files.py /usr/share /usr/lib /usr/include

Of the files below the folders at most so many of each suffix are taken, in the order of the hashes of their paths;
of files that the model sees alike, one. It is asked once for each, and its answers are stored. A student of a
fourteenth of its weights learns from its best guess alone, as from a label, and from its soft targets; an error on
test is a file for which the student's best guess is another one. What is read stays in `runs/kinds-of-files`.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import instar
from instar.data import InMemoryDataset, Splits
from instar.networks import read_teacher
from instar.recipes.publishing import publish

FOLDER = Path("runs/kinds-of-files")
END, BLOCK, PADDING, SMALLEST = 1024, 4096, 256, 8  # magika's: bytes of each end, where they are looked for, ...
TEST, VALIDATION = 0.2, 0.1


def main() -> None:
    """Ask the teacher, train the students, and print how often they agree with it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folders", nargs="+", type=Path)
    arguments.add_argument("--most", type=int, default=160, help="files of one suffix")
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--publish", action="store_true")
    given = arguments.parse_args()

    kinds = copy_model(FOLDER / "magika.onnx")
    inputs = distinct(chosen_files(given.folders, given.most))
    files = InMemoryDataset(inputs, None, class_names=kinds)
    start = time.perf_counter()
    teacher = read_teacher(f"onnx:{FOLDER}/magika.onnx", class_names=kinds, example_shape=files.example_shape)
    store = instar.SoftTargetStore.write(FOLDER / "store", {"magika": teacher}, files, rows_per_shard=1000)
    seconds = time.perf_counter() - start
    np.save(FOLDER / "files.npy", inputs.numpy())
    np.save(FOLDER / "kinds.npy", store.logits(files.ids, 0)[0].argmax(-1).numpy())

    result = instar.distill_study(
        data="python:examples.kinds_of_files:splits",
        targets=str(FOLDER / "store"),
        student={"network": "python:examples.kinds_of_files:student", "optimiser": "adamw"},
        temperature=[1, 2, 4],
        epochs=given.epochs,
        seeds=given.seeds,
    )
    megabytes = sum(file.stat().st_size for file in (FOLDER / "store").iterdir()) / 1e6
    stored = {"files": len(files), "megabytes": megabytes, "seconds": seconds}
    result["details"] |= {"store": stored, "agreement_by_kind": by_kind(result["details"]["errors_by_class"])}
    print(f"{len(files):,} files asked about in {seconds:.0f} s; their answers take {megabytes:.1f} MB")
    for row in result["rows"]:
        print(f"{row['name']}: agrees on {100 * row['test_accuracy']:.1f} % of {result['num_test']:,} files")
    if given.publish:
        publish(result, "teachers-magika")


def copy_model(path: Path) -> list[str]:
    """Copy magika's model out of its package, with the names of its classes beside it, and return these."""
    found = importlib.util.find_spec("magika")
    if found is None or found.origin is None:
        raise SystemExit("magika is not installed: pip install magika==1.0.3")
    folder = Path(found.origin).parent / "models" / "standard_v3_3"
    kinds: list[str] = json.loads((folder / "config.min.json").read_text())["target_labels_space"]
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "model.onnx", path)
    path.with_suffix(".classes.txt").write_text("\n".join(kinds) + "\n")
    return kinds


def chosen_files(folders: list[Path], most: int) -> Iterator[Path]:
    """Of each suffix at most so many files, in the order of the hashes of their paths."""
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place, name)
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    by_suffix[path.suffix.lower()].append(str(path))
    for suffix in sorted(by_suffix):
        yield from map(
            Path, sorted(by_suffix[suffix], key=lambda path: hashlib.sha256(os.fsencode(path)).digest())[:most]
        )


def distinct(paths: Iterator[Path]) -> Tensor:
    """What the model sees of the files, (files, 2048) int32, each once, in the order of their hashes."""
    seen = {}
    for path in paths:
        if path.stat().st_size >= SMALLEST:
            row = ends(path).tobytes()
            seen[hashlib.sha256(row).digest()] = row
    rows = b"".join(seen[digest] for digest in sorted(seen))
    return torch.from_numpy(np.frombuffer(rows, np.int32).reshape(-1, 2 * END).copy())


def ends(path: Path) -> np.ndarray:
    """The first and the last bytes of a file but for white space, as magika reads them."""
    with path.open("rb") as file:
        first = file.read(BLOCK).lstrip()[:END]
        file.seek(max(0, path.stat().st_size - BLOCK))
        last = file.read(BLOCK).rstrip()[-END:]
    row = np.full(2 * END, PADDING, np.int32)
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[2 * END - len(last) :] = np.frombuffer(last, np.uint8)
    return row


def splits() -> Splits:
    """The files, with the teacher's best guesses as labels; the order of the hashes splits them."""
    inputs, labels = (torch.from_numpy(np.load(FOLDER / name)) for name in ("files.npy", "kinds.npy"))
    kinds = (FOLDER / "magika.classes.txt").read_text().split("\n")[:-1]
    test, validation = (int(share * len(inputs)) for share in (TEST, TEST + VALIDATION))
    parts = (slice(validation, None), slice(test, validation), slice(test))
    train, validation_data, test_data = (
        InMemoryDataset(inputs[part], labels[part], class_names=kinds) for part in parts
    )
    return Splits(train, validation_data, test_data, "kinds-of-files")


class Bytes(nn.Module):
    """Eight bytes at a time, a convolution over them, and the largest of each channel."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.bytes = nn.Embedding(PADDING + 1, 8)
        self.body = nn.Sequential(
            nn.Conv1d(64, 128, 3, stride=2), nn.GELU(), nn.AdaptiveMaxPool1d(1), nn.Flatten()
        )
        self.head = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (batch, classes) of tokens (batch, 2048)."""
        groups = self.bytes(inputs).reshape(len(inputs), -1, 64)
        return self.head(self.body(groups.transpose(1, 2)))


def student(num_classes: int, seed: int) -> nn.Module:
    """A network of a fourteenth of the teacher's weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Bytes(num_classes)


def by_kind(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many test files of each kind there are, and the share of them on which each student agrees."""
    test = splits().test
    counts = dict(
        zip(test.class_names, torch.bincount(test.labels(test.ids), minlength=214).tolist(), strict=True)
    )
    wrong = {(row["network"], row["class"]): row["errors"] for row in errors}
    return [
        {"kind": kind, "files": count}
        | {name: 1 - wrong[name, kind] / count for name in ("student-alone", "student-distilled")}
        for kind, count in counts.items()
        if count
    ]


if __name__ == "__main__":
    main()
