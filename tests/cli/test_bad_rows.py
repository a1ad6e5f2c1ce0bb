"""What is wrong with rows, as a user meets it: one line with file and row, a status, and nothing is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Command
from table_files import Columns, insects, write_csv, write_jsonl, write_parquet, write_shard

INSECTS = insects()
FEATURES = ("--label", "kind", "--features", "width,legs")
LETTERS: Columns = {"text": [f"some words {row}" for row in range(30)], "label": ["a", "b"] * 15}


def cut_off(file: Path, fewer: int) -> None:
    file.write_bytes(file.read_bytes()[:-fewer])


def members(kind: str = "cls") -> list[tuple[str, bytes]]:
    pairs = [[(f"{row:02}.txt", b"some words"), (f"{row:02}.{kind}", b"%d" % (row % 2))] for row in range(20)]
    return [one for pair in pairs for one in pair]


def with_cell(column: str, row: int, value: object, table: Columns = INSECTS) -> Columns:
    changed = list(table[column])
    changed[row] = value
    return {**table, column: changed}


def saved(place: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(INSECTS).save_to_disk(place / "x")
    cut_off(next((place / "x").glob("*.arrow")), 400)


def parts(place: Path, train: Columns, test: Columns) -> None:
    write_csv(place / "x" / "train.csv", train)
    write_csv(place / "x" / "test.csv", test)


def shards(place: Path) -> None:
    (place / "x").mkdir()
    write_shard(place / "x" / "0.tar", members())
    write_shard(place / "x" / "1.tar", members("json"))


Case = tuple[Callable[[Path], object], tuple[str, ...], int, str]
CASES: dict[str, Case] = {
    "a cut Parquet file": (
        lambda place: cut_off(write_parquet(place / "x.parquet", INSECTS), 90),
        ("parquet:x.parquet", *FEATURES),
        1,
        "x.parquet: not a whole Parquet file",
    ),
    "a cut CSV file": (
        lambda place: cut_off(write_csv(place / "x.csv", INSECTS), 14),
        ("csv:x.csv", *FEATURES),
        1,
        "x.csv, row 30: ",
    ),
    "a cut file of JSON lines": (
        lambda place: cut_off(write_jsonl(place / "x.jsonl", INSECTS), 9),
        ("jsonl:x.jsonl", *FEATURES),
        1,
        "in row 30",
    ),
    "a cut file of a saved data set": (saved, ("hf:x", *FEATURES), 1, "not a whole Arrow stream"),
    "a column that is not there": (
        lambda place: write_csv(place / "x.csv", INSECTS),
        ("csv:x.csv", "--label", "kin"),
        2,
        "unknown column 'kin'; did you mean kind?",
    ),
    "a text among numbers": (
        lambda place: write_csv(place / "x.csv", with_cell("width", 16, "wide")),
        ("csv:x.csv", *FEATURES),
        1,
        "x.csv, row 17: 'width' is 'wide', and a number in most other rows",
    ),
    "a text among numbers of JSON": (
        lambda place: write_jsonl(place / "x.jsonl", with_cell("width", 16, "wide")),
        ("jsonl:x.jsonl", *FEATURES),
        1,
        "x.jsonl, row 17: 'width' is a string, and a number in the rows before",
    ),
    "a class that training lacks": (
        lambda place: parts(place, INSECTS, with_cell("kind", 4, "hornet")),
        ("csv:x", *FEATURES),
        1,
        "x/test.csv, row 5: class 'hornet' of 'kind' is not one of the training classes",
    ),
    "a column that a part lacks": (
        lambda place: parts(place, INSECTS, {name: INSECTS[name] for name in ("width", "kind")}),
        ("csv:x", *FEATURES),
        1,
        "x/test.csv: there is no column 'legs'",
    ),
    "a shard that was cut off": (
        lambda place: cut_off(write_shard(place / "x.tar", members()), 15_000),
        ("webdataset:x.tar",),
        1,
        "x.tar, after 1",
    ),
    "a name with dots": (
        lambda place: write_shard(place / "x.tar", [*members(), ("20.5.txt", b"x"), ("20.5.cls", b"0")]),
        ("webdataset:x.tar",),
        1,
        "x.tar, 20.5.txt: the first dot ends the name of an example",
    ),
    "members that do not stand together": (
        lambda place: write_shard(place / "x.tar", sorted(members(), key=lambda one: one[0][-3:])),
        ("webdataset:x.tar",),
        1,
        "the members of '00' do not stand together",
    ),
    "shards of two schemas": (shards, ("webdataset:x",), 1, "x/1.tar: lacks 'cls', other columns than x/0.tar"),
    "Parquet files of two schemas": (
        lambda place: [
            write_parquet(
                place / "x" / f"{name}.parquet", {**INSECTS, "width": [name] * 30} if name == "wide" else INSECTS
            )
            for name in ("0", "wide")
        ],
        ("parquet:x", *FEATURES),
        1,
        "x/wide.parquet: column 'width' holds string, in x/0.parquet double",
    ),
    "an empty text": (
        lambda place: write_csv(place / "x.csv", with_cell("text", 7, "", LETTERS)),
        ("csv:x.csv",),
        1,
        "x.csv, row 8: 'text' holds no text",
    ),
    "a row of another width": (
        lambda place: (place / "x.csv").write_text("a,label\n1,x\n2,y,z\n"),
        ("csv:x.csv",),
        1,
        "x.csv, row 2: 3 cells, expected 2: '2,y,z'",
    ),
    "no rows": (lambda place: (place / "x.csv").write_text("a,label\n"), ("csv:x.csv",), 1, "there are no rows"),
    "an empty file": (lambda place: (place / "x.csv").touch(), ("csv:x.csv",), 1, "x.csv: Empty CSV file"),
}


@pytest.mark.parametrize(
    ("case", "command"),
    [*((case, "data show") for case in CASES), ("a text among numbers", "distill"), ("an empty text", "distill")],
)
def test_what_is_wrong_is_one_line_with_its_place_and_nothing_is_written(
    typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, command: str
) -> None:
    if command == "distill" and case not in (
        "a text among numbers",
        "an empty text",
        "a class that training lacks",
    ):
        pytest.skip("reads its data as the other command does")
    make, arguments, status, said = CASES[case]
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "here"
    place.mkdir()
    make(place)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    if command == "distill":
        done = typed("distill", "--data", *arguments, cwd=place)
    else:
        done = typed("data", "show", *arguments, cwd=place)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("instar: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_what_is_odd_and_no_mistake_is_read_and_said(
    typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    decimals = {**INSECTS, "width": [str(number).replace(".", ",") for number in INSECTS["width"]]}
    write_csv(tmp_path / "semicolons.csv", decimals, delimiter=";")
    quoted = {**LETTERS, "text": [f'say "{row}", please' for row in range(30)]}
    write_csv(tmp_path / "quotes.csv", quoted)
    write_csv(tmp_path / "none.csv", with_cell("kind", 4, ""))
    numbers = {"width": INSECTS["width"], "label": [row % 3 for row in range(30)]}
    swapped = {**numbers, "label": [2 - row % 3 for row in range(30)]}
    for name, table, names in (("0", numbers, ("a", "b", "c")), ("1", swapped, ("c", "b", "a"))):
        write_parquet(tmp_path / "order" / f"{name}.parquet", table, classes={"label": names})
    shown = {
        "csv:semicolons.csv": (FEATURES, "2 numbers: 2 numbers a row"),
        "csv:quotes.csv": ((), "The text is column 'text'"),
        "csv:none.csv": (FEATURES, "rows have no label"),
        "parquet:order": ((), "3 classes: a, b, c"),
    }
    for source, (arguments, said) in shown.items():
        done = typed("data", "show", source, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout, done.stdout


def test_rows_without_a_label_count_for_no_class_and_texts_have_so_many_ids(
    typed: Command, tmp_path: Path
) -> None:
    labels = [*([""] * 30), *(["ant", "bee", "bee"] * 20)]
    table = {"text": [f"seen near nest {row}" for row in range(90)], "label": labels}
    write_csv(tmp_path / "x.csv", table)
    done = typed("data", "show", "csv:x.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (train, *others) = json.loads(done.stdout)["parts"]
    assert train["shape"].startswith("<=")
    assert train["shape"].endswith(" ids")
    counts = [sum(part[which] for part in (train, *others)) for which in ("smallest class", "largest class")]
    assert counts == [20, 40]
