"""`instar targets import`: what comes back from each kind of file, and what is refused with nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from instar.data import load_data
from instar.distillation import SoftTargetStore
from instar.errors import InstarError
from instar.recipes.importing import import_store

DIGITS = load_data("digits")
NAMES = DIGITS.class_names
NUM_ROWS = 1797
LOGITS = 3 * torch.randn(NUM_ROWS, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PROBS = LOGITS.softmax(-1)
DATA = {"name": "digits"}


def table(values: Any = PROBS, *, rows: Any = None, **more: Any) -> pa.Table:
    columns = {name: values[:, place].numpy() for place, name in enumerate(NAMES)}
    return pa.table({"row": np.arange(len(values)) if rows is None else rows, **columns, **more})


def parquet(path: Path, content: pa.Table) -> Path:
    pa.parquet.write_table(content, path)
    return path


def imported(file: Path, **options: Any) -> SoftTargetStore:
    import_store(file.parent / "store", file, data=DATA, **options)
    return SoftTargetStore.open(file.parent / "store")


def check(store: SoftTargetStore, probs: torch.Tensor = PROBS, T: float = 1.0) -> None:
    """The soft targets of the training and validation examples are those of their rows."""
    ids = torch.cat([DIGITS.train.ids, DIGITS.validation.ids])
    rows = torch.cat([DIGITS.train.rows(DIGITS.train.ids), DIGITS.validation.rows(DIGITS.validation.ids)])
    found = store.soft_targets(ids, 0, T).probs  # type: ignore[union-attr]
    torch.testing.assert_close(found.double(), probs[rows], rtol=1e-4, atol=2e-6)


def write_parquet(path: Path) -> Path:
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    return parquet(path / "a.parquet", table().take(order))


def write_csv(path: Path) -> Path:
    pa.csv.write_csv(table(), path / "a.csv")
    return path / "a.csv"


def write_objects(path: Path) -> Path:
    lines = (
        {"row": row, "probs": {name: float(p) for name, p in zip(NAMES, probs, strict=True)}}
        for row, probs in enumerate(PROBS)
    )
    (path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return path / "a.jsonl"


def write_lists(path: Path) -> Path:
    turned = PROBS.flip(1).tolist()
    (path / "a.classes.txt").write_text("\n".join(reversed(NAMES)))
    return parquet(path / "a.parquet", pa.table({"row": np.arange(NUM_ROWS), "probs": turned}))


def write_npz(path: Path) -> Path:
    np.savez(path / "a.npz", probs=PROBS.numpy(), class_names=np.array(NAMES))
    return path / "a.npz"


def write_csv_in_order(path: Path) -> Path:
    pa.csv.write_csv(table().drop_columns("row"), path / "a.csv")
    return path / "a.csv"


@pytest.mark.parametrize(
    "write", [write_parquet, write_csv, write_objects, write_lists, write_npz, write_csv_in_order]
)
def test_probabilities_come_back(write: Callable[[Path], Path], tmp_path: Path) -> None:
    check(imported(write(tmp_path)))


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_at_whatever_temperature_they_were_made(T: float, tmp_path: Path) -> None:
    store = imported(parquet(tmp_path / "a.parquet", table((LOGITS / T).softmax(-1))), made_at=T)
    check(store)
    check(store, (LOGITS / 2).softmax(-1), T=2.0)


def test_logits(tmp_path: Path) -> None:
    check(imported(parquet(tmp_path / "a.parquet", table(LOGITS)), logits=True))
    lists = pa.table({"row": np.arange(NUM_ROWS), "logits": LOGITS.tolist(), "classes": [list(NAMES)] * NUM_ROWS})
    (tmp_path / "other").mkdir()
    check(imported(parquet(tmp_path / "other" / "b.parquet", lists)))


def top(k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which classes are among the top k, what they leave, and the probabilities with the rest spread evenly."""
    kept = PROBS.topk(k).values[:, -1:] <= PROBS
    rest = 1 - (PROBS * kept).sum(1)
    return kept, rest, torch.where(kept, PROBS, (rest / (10 - k))[:, None])


def test_top_k_answers_with_the_rest_spread_evenly(tmp_path: Path) -> None:
    kept, rest, expected = top(3)
    lines = [
        {"row": row, "probs": {NAMES[place]: float(PROBS[row, place]) for place in kept[row].nonzero().flatten()}}
        for row in range(NUM_ROWS)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    done = import_store(tmp_path / "store", tmp_path / "a.jsonl", data=DATA)
    assert done == [
        f"spread the rest of 1797 rows evenly over the classes that they do not answer, "
        f"{float(rest.mean()):.3g} of a row on average"
    ]
    check(SoftTargetStore.open(tmp_path / "store"), expected)
    columns = {
        name: [float(p) if k else None for p, k in zip(PROBS[:, i], kept[:, i], strict=True)]
        for i, name in enumerate(NAMES)
    }
    (tmp_path / "wide").mkdir()
    wide = pa.table({"row": np.arange(NUM_ROWS), **columns, "rest": rest.numpy()})
    check(imported(parquet(tmp_path / "wide" / "a.parquet", wide)), expected)


def test_rows_of_zeros_are_counted(tmp_path: Path) -> None:
    probs = PROBS.clone()
    probs[:5] = 0
    done = import_store(tmp_path / "store", parquet(tmp_path / "a.parquet", table(probs)), data=DATA)
    assert done == ["took all classes to be equally likely in 5 rows of zeros"]
    probs[:5] = 0.1
    check(SoftTargetStore.open(tmp_path / "store"), probs)


def test_more_classes_than_the_data_has_are_left_out_where_asked(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", table(0.5 * PROBS, zebra=np.full(NUM_ROWS, 0.5)))
    with pytest.raises(
        InstarError, match=r"'zebra' is no class of the data, which has .*; --renormalise leaves them"
    ):
        imported(file)
    assert not (tmp_path / "store").exists()
    check(imported(file, renormalise=True))


def test_training_examples_alone(tmp_path: Path) -> None:
    rows = DIGITS.train.rows(DIGITS.train.ids).numpy()
    store = imported(parquet(tmp_path / "a.parquet", table(PROBS[rows], rows=rows)))
    assert len(store.ids) == len(DIGITS.train)


def test_the_key_of_a_picture_is_its_file(tmp_path: Path) -> None:
    for number in range(20):
        place = tmp_path / "pictures" / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    data = {"name": f"folder:{tmp_path / 'pictures'}"}
    files = [f"{'cat' if number % 2 else 'dog'}/{number}.png" for number in range(20)]
    cats = np.linspace(0.1, 0.9, 20)
    file = parquet(tmp_path / "a.parquet", pa.table({"file": files, "dog": 1 - cats, "cat": cats}))
    import_store(tmp_path / "store", file, data=data)
    store, splits = SoftTargetStore.open(tmp_path / "store"), load_data(data["name"])
    for name, found in zip(
        splits.train.names(splits.train.ids),
        store.soft_targets(splits.train.ids, 0, 1.0).probs,  # type: ignore[union-attr]
        strict=True,
    ):
        assert float(found[splits.class_names.index("cat")]) == pytest.approx(cats[int(Path(name).stem)], abs=1e-5)
    wrong = pa.table({"file": [f"x{one}" for one in files], "dog": 1 - cats, "cat": cats})
    with pytest.raises(
        InstarError, match=r"20 keys \('xdog/0.png', 'xcat/1.png', .*, \.\.\.\) are no key of an example"
    ):
        import_store(tmp_path / "other", parquet(tmp_path / "b.parquet", wrong), data=data)


def changed(row: int, column: int, value: float) -> torch.Tensor:
    values = PROBS.clone()
    values[row, column] = value
    return values


WRONG: dict[str, Callable[[], pa.Table]] = {
    "probabilities that add up to 0.5 in 1797 of 1797 rows ('0', '1', '2', ...); for": lambda: table(0.5 * PROBS),
    "NaN or infinity in 1 of 1797 rows ('7')": lambda: table(changed(7, 2, float("nan"))),
    "negative numbers in 1 of 1797 rows ('3')": lambda: table(changed(3, 1, -0.5)),
    "has no answer for 1 of 1295 training examples": lambda: table().filter(
        pa.array(np.arange(NUM_ROWS) != int(DIGITS.train.rows(DIGITS.train.ids)[4]))
    ),
    "has no answer for 1 of 143 validation examples": lambda: table().filter(
        pa.array(np.arange(NUM_ROWS) != int(DIGITS.validation.rows(DIGITS.validation.ids)[4]))
    ),
    "2 keys ('1797', '1798') are no key of an example of digits": lambda: table(
        torch.cat([PROBS, PROBS[:2]]), rows=np.arange(NUM_ROWS + 2)
    ),
    "1 key ('0') is there more than once": lambda: table(
        torch.cat([PROBS, PROBS[:1]]), rows=[*range(NUM_ROWS), 0]
    ),
    "'zebra' is no class of the data": lambda: table(zebra=np.zeros(NUM_ROWS)),
    "'one', 'two' are no class of the data, which has '0', '1', '2', ... (10)": lambda: pa.table(
        {"row": [0, 1], "one": [0.5, 0.5], "two": [0.5, 0.5]}
    ),
    "has no column of keys and 5 rows, digits has 1,797": lambda: table(PROBS[:5]).drop_columns("row"),
    "column 'text' holds 'x', expected the numbers of a class": lambda: table(text=["x"] * NUM_ROWS),
    "row and id may both be the key; say which, --key row": lambda: table(id=np.arange(NUM_ROWS)),
    "has no rows": lambda: table(PROBS[:0]),
    "the lists in probs have no class names": lambda: pa.table({"row": [0], "probs": [[0.5, 0.5]]}),
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_answers_are_refused_and_nothing_is_written(words: str, tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", WRONG[words]())
    with pytest.raises(InstarError) as refused:
        imported(file)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "store").exists()


def test_wrong_files_and_options_are_refused(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", table())
    (tmp_path / "b.parquet").write_bytes(b"no table")
    (tmp_path / "c.jsonl").write_text("[1, 2]\n")
    np.savez(tmp_path / "d.npz", probs=np.array([{}], dtype=object))
    np.savez(
        tmp_path / "short.npz", probs=PROBS.numpy(), keys=np.arange(NUM_ROWS - 1), class_names=np.array(NAMES)
    )
    np.savez(tmp_path / "flat.npz", probs=PROBS[:, 0].numpy(), class_names=np.array(NAMES))
    (tmp_path / "twice.csv").write_text("row,0,1,0\n0,0.5,0.5,0.5\n")
    first, odd = (
        '{"row": 0, "probs": {"0": 0.5, "1": 0.5}}',
        ("null", "5", "[0.5, 0.5]", '{"0": "abc"}', '{"0": {}}'),
    )
    for number, value in enumerate(odd):
        (tmp_path / f"odd-{number}.jsonl").write_text(f'{first}\n{{"row": 1, "probs": {value}}}\n')
    for path, options, words in (
        (file, {"key": "name"}, "has no column 'name'; it has 'row', '0'"),
        (file, {"made_at": 0.0}, "made at temperature 0, expected finite and above 0"),
        (file, {"made_at": 0.0, "logits": True}, "made at temperature 0, expected finite and above 0"),
        (tmp_path / "b.parquet", {}, "cannot be read as parquet"),
        (tmp_path / "c.jsonl", {}, "a line is no object"),
        (tmp_path / "d.npz", {}, "cannot be read as npz"),
        (tmp_path / "short.npz", {}, "different numbers of rows: probs 1797, keys 1796"),
        (tmp_path / "flat.npz", {}, "probs has shape (1797,), expected (rows, classes)"),
        (tmp_path / "twice.csv", {}, "twice.csv: there are several columns '0'; leave one"),
        *((tmp_path / f"odd-{number}.jsonl", {}, "row 1") for number in range(len(odd))),
        (tmp_path / "e.pkl", {}, "expected a file .parquet, .csv, .jsonl or .npz"),
        (tmp_path / "e.csv", {}, "there is no such file"),
    ):
        with pytest.raises(InstarError) as refused:
            imported(path, **options)
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "store").exists()


def test_answers_that_are_read_in_another_way_are_another_store(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", table())
    import_store(tmp_path / "store", file, data={"name": "digits"})
    before = SoftTargetStore.open(tmp_path / "store").identity
    with pytest.raises(InstarError, match="other"):
        import_store(tmp_path / "store", file, data={"name": "digits"}, logits=True)
    import_store(tmp_path / "logits", file, data={"name": "digits"}, logits=True)
    assert SoftTargetStore.open(tmp_path / "logits").identity != before
    import_store(tmp_path / "again", file, data={"name": "digits"})
    assert SoftTargetStore.open(tmp_path / "again").identity == before
