"""Rows of tables: every format, against the library that owns it; parts, labels, groups, keys; what is refused."""

import gzip
import http.server
import io
import json
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import instar
from instar.data.identity import content_ids, original_rows
from instar.data.records.cells import row_ids
from instar.data.records.csv_file import read_csv
from instar.data.records.guessing import found_roles
from instar.data.records.reading import read_records
from instar.data.records.roles import Roles
from instar.data.records.webdataset_tar import read_shard
from instar.errors import DataError, DataWarning, UsageError
from instar.recipes.record_tables import column_rows, records_of
from instar.recipes.settings import DataSettings
from table_files import KINDS, insects, write_csv, write_jsonl, write_parquet, write_shard

SEEN = Roles(label="kind", features=("width", "legs"))


def cells(path: Path) -> tuple[str, dict[str, int], int]:
    """What must be the same however the rows are stored: classes, sizes of parts, ids."""
    rows = read_records(f"{path}", SEEN)
    return str(rows.class_names), {part: len(one) for part, one in rows.parts.items()}, int(rows.ids["test"].sum())


def test_every_format_gives_the_same_rows_ids_and_parts(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    table = insects()
    numbered = {**table, "kind": [KINDS.index(kind) for kind in table["kind"]]}
    features = datasets.Features(
        {
            "width": datasets.Value("float64"),
            "legs": datasets.Value("int64"),
            "place": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=list(KINDS)),
        }
    )
    owned = datasets.Dataset.from_dict(numbered, features=features)
    owned.save_to_disk(tmp_path / "saved", num_shards=2)
    owned.to_parquet(tmp_path / "owned.parquet")
    found = [
        cells(f"csv:{write_csv(tmp_path / 'a.csv', table)}"),
        cells(f"csv:{write_csv(tmp_path / 'b.csv', table, delimiter=';')}"),
        cells(f"jsonl:{write_jsonl(tmp_path / 'a.jsonl', table)}"),
        cells(f"parquet:{write_parquet(tmp_path / 'a.parquet', numbered, classes={'kind': KINDS})}"),
        cells(f"parquet:{tmp_path / 'owned.parquet'}"),
        cells(f"hf:{tmp_path / 'saved'}"),
    ]
    for frame in (
        owned,
        pd.DataFrame(table),
        pa.table(table),
        table,
        {key: np.array(x) for key, x in table.items()},
    ):
        rows = read_records(frame, SEEN)
        sizes = {part: len(one) for part, one in rows.parts.items()}
        found.append((str(rows.class_names), sizes, int(rows.ids["test"].sum())))
    assert len({str(one) for one in found}) == 1, found
    assert found[0][1] == {"train": 21, "validation": 3, "test": 6}


def test_polars(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(insects()).with_columns(polars.col("kind").cast(polars.Categorical))
    assert read_records(frame, SEEN).class_names == KINDS


def test_parts_by_files_by_column_and_by_the_splits_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    table = insects(36)
    words = ["train"] * 24 + ["dev"] * 6 + ["test"] * 6
    ends = {"train": slice(24), "validation": slice(24, 30), "test": slice(30, 36)}
    parts = {part: {name: column[rows] for name, column in table.items()} for part, rows in ends.items()}
    for part, columns in parts.items():
        write_csv(tmp_path / "files" / f"{part}-0.csv", columns)
    by_split = datasets.DatasetDict({part: datasets.Dataset.from_dict(one) for part, one in parts.items()})
    by_split.save_to_disk(tmp_path / "dict")
    found = [
        read_records(f"csv:{tmp_path / 'files'}", SEEN),
        read_records({**table, "split": words}, SEEN),
        read_records(f"hf:{tmp_path / 'dict'}", SEEN),
        read_records(by_split, SEEN),
        read_records({part: pd.DataFrame(one) for part, one in parts.items()}, SEEN),
    ]
    for rows in found:
        assert {part: one["legs"].to_pylist() for part, one in rows.parts.items()} == {
            part: one["legs"] for part, one in parts.items()
        }
    assert "the part of a row is column 'split'" in found[1].notes


def test_classes_of_each_parquet_file_are_matched_by_name(tmp_path: Path) -> None:
    """`datasets` 5.2 gives the second file the class names of the first, and permutes its labels in silence."""
    numbers = {"n": list(range(12)), "kind": [0, 1, 2] * 4}
    write_parquet(tmp_path / "a.parquet", numbers, classes={"kind": ("ant", "bee", "wasp")})
    later = {"n": [n + 12 for n in numbers["n"]], "kind": numbers["kind"]}
    write_parquet(tmp_path / "b.parquet", later, classes={"kind": ("wasp", "ant", "bee")})
    rows = read_records(f"parquet:{tmp_path}", Roles(label="kind", features=("n",)))
    assert rows.class_names == ("ant", "bee", "wasp")
    own = dict(zip(range(12), ("ant", "bee", "wasp") * 4, strict=True))
    own |= {n + 12: name for n, name in zip(range(12), ("wasp", "ant", "bee") * 4, strict=True)}
    for part, table in rows.parts.items():
        names = [rows.class_names[label] for label in rows.labels[part].tolist()]
        assert names == [own[n] for n in table["n"].to_pylist()]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([3, 10, 2] * 5, ("2", "3", "10")),
        ([1.0, 2.0, 1.0] * 5, ("1", "2")),
        ([True, False, True] * 5, ("false", "true")),
        ([-1, 1, 1] * 5, ("-1", "1")),
        (["b", "a", None] * 5, ("a", "b")),
        (["b", "a", ""] * 5, ("a", "b")),
        ([0, 1, -1] * 5, ("0", "1")),
        ([[0, 1], [1, 0], [1, 0]] * 5, ("0", "1")),
        (pd.Categorical(["b", "a", "b"] * 5, categories=["b", "a", "c"]), ("b", "a", "c")),
    ],
)
def test_labels_of_every_kind(labels: Any, names: tuple[str, ...]) -> None:
    rows = read_records(pd.DataFrame({"n": range(15), "y": labels}), Roles(label="y", features=("n",)))
    assert rows.class_names == names
    for part, table in rows.parts.items():
        given = [labels[n] for n in table["n"].to_pylist()]
        for label, one in zip(rows.labels[part].tolist(), given, strict=True):
            if isinstance(one, list):
                assert label == one.index(1)
            elif one is None or one == "" or (one == -1 and "-1" not in names):
                assert label == -1
            else:
                assert names[label] in (str(one), f"{one:g}" if isinstance(one, float) else "", str(one).lower())
    if any(-1 in one.tolist() for one in rows.labels.values()):
        assert any("have no label" in note for note in rows.notes)


def test_distributions_keep_their_probabilities() -> None:
    probs = [[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]] * 5
    rows = read_records({"n": list(range(15)), "y": probs}, Roles(label="y", features=("n",)))
    assert rows.label_probs is not None
    for part, table in rows.parts.items():
        assert torch.allclose(rows.label_probs[part], torch.tensor([probs[n] for n in table["n"].to_pylist()]))


def test_groups_stay_together_and_the_split_depends_on_no_order() -> None:
    table = insects(60)
    roles = Roles(label="kind", features=("width",), group="place", key=None)
    order = np.random.default_rng(0).permutation(60)
    rows = read_records(table, roles)
    shuffled = read_records({name: [column[n] for n in order] for name, column in table.items()}, roles)
    groups = {part: set(one["place"].to_pylist()) for part, one in rows.parts.items()}
    assert not groups["train"] & (groups["test"] | groups["validation"])
    assert {part: set(one["place"].to_pylist()) for part, one in shuffled.parts.items()} == groups
    assert len(groups["test"]) == 2
    assert any(note.startswith("groups of 'place'") for note in rows.notes)
    by_file = {"train": table, "test": table}
    with pytest.raises(
        DataError, match=r"the test rows, row 0: place 'nest 0' is in the test and in the training part"
    ):
        read_records(by_file, roles)


def test_keys_make_ids_and_copies_stay_in_one_part() -> None:
    table = insects(30) | {"name": [f"n{row}" for row in range(30)]}
    table["width"] = [1.0] * 30
    table["legs"] = [row // 2 for row in range(30)]
    table["kind"] = [KINDS[row // 2 % 3] for row in range(30)]
    roles = Roles(label="kind", features=("width", "legs"), key="name")
    rows = read_records(table, roles)
    assert len(torch.cat(list(rows.ids.values())).unique()) == 30
    legs = {part: set(one["legs"].to_pylist()) for part, one in rows.parts.items()}
    assert not legs["train"] & legs["test"]
    with pytest.raises(DataError, match=r"row 1: the key 'name' is 'n0' as in row 0"):
        read_records(table | {"name": ["n0", "n0", *table["name"][2:]]}, roles)


def test_csv_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    texts = ['she said "no"', "two\nlines", "a;b", "plain, with comma", "", "NA"] * 3
    table = {"text": texts, "size": [row + 0.25 for row in range(18)], "label": ["NA", "b"] * 9}
    for at, dialect in enumerate(({}, {"delimiter": "\t"}, {"delimiter": "|"}, {"delimiter": ";"})):
        path = write_csv(tmp_path / f"{at}.csv", table, **dialect)
        second = pd.read_csv(path, sep=dialect.get("delimiter", ","), keep_default_na=False)
        found = read_csv(path)
        assert found["text"].to_pylist() == list(second["text"]) == texts
        assert found["size"].to_pylist() == list(second["size"])
        assert found["label"].to_pylist() == list(second["label"])
    comma = {**table, "size": [str(size).replace(".", ",") for size in table["size"]]}
    path = write_csv(tmp_path / "comma.csv", comma, delimiter=";")
    assert read_csv(path)["size"].to_pylist() == list(pd.read_csv(path, sep=";", decimal=",")["size"])
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "0.csv").read_bytes()))
    assert read_csv(packed).equals(read_csv(tmp_path / "0.csv"))
    marked = tmp_path / "marked.csv"
    marked.write_bytes("\ufeffa,b\n1,é\n".encode())
    assert read_csv(marked).to_pylist() == [{"a": 1, "b": "é"}]


def pictures(number: int = 12) -> list[Image.Image]:
    """Noise, 8 wide and 6 high."""
    noise = np.random.default_rng(0).integers(0, 256, (number, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in noise]


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_pictures_in_cells_are_those_of_a_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    number = [row % 2 for row in range(12)]
    owned = datasets.Dataset.from_dict({"image": pictures(), "label": number}, features=features)
    for row, picture in enumerate(pictures()):
        folder = tmp_path / "folder" / "ab"[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{row}.png")
    names = [f"folder/{'ab'[row % 2]}/{row}.png" for row in range(12)]
    write_csv(tmp_path / "index.csv", {"file": names, "label": ["ab"[one] for one in number]})
    write_shard(
        tmp_path / "shard.tar",
        [(f"{row:03}.{end}", one) for row, picture in enumerate(pictures()) for end, one in
         (("png", png(picture)), ("cls", str(number[row]).encode()))],
    )  # fmt: skip
    options: dict[str, Any] = {"image_size": 5, "colour": "grey", "progress": False}
    folder = instar.load_data(f"folder:{tmp_path / 'folder'}", **options)
    given = instar.load_data(f"csv:{tmp_path / 'index.csv'}", image="file", **options)
    assert torch.equal(given.test.ids.sort().values, folder.test.ids.sort().values)
    assert torch.equal(given.test.gather(folder.test.ids, 0), folder.test.gather(folder.test.ids, 0))
    for data in (
        instar.load_data(owned, **options),
        instar.load_data(f"webdataset:{tmp_path / 'shard.tar'}", **options),
    ):
        same = data.train.ids[torch.isin(data.train.ids, folder.train.ids)]
        assert len(same) == len(data.train)
        assert torch.equal(data.train.gather(same, 0), folder.train.gather(same, 0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_shards_are_read_as_webdataset_reads_them(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    for shard in range(2):
        with wds.TarWriter(str(tmp_path / f"train-{shard:03}.tar")) as sink:
            for row in range(10):
                n = shard * 10 + row
                about = {"width": n / 4, "who": f"p{n % 5}"}
                sink.write({"__key__": f"a/{n:04}", "txt": f"text {n}", "cls": n % 2, "json": about})
    pattern = f"{tmp_path}/train-{{000..001}}.tar"
    rows = read_records(f"webdataset:{pattern}", Roles(label="cls", text=("txt",), key="__key__"))
    found = {
        text: label
        for part, table in rows.parts.items()
        for text, label in zip(table["txt"].to_pylist(), rows.labels[part].tolist(), strict=True)
    }
    second = wds.WebDataset(pattern, shardshuffle=False).decode().to_tuple("txt", "cls")
    assert found == {text: int(label) for text, label in second}
    assert len(found) == 20
    numbers = read_records(f"webdataset:{pattern}", Roles(label="cls", features=("width",), group="who"))
    assert sum(map(len, numbers.parts.values())) == 20


GOOD = [(f"{row}.{end}", str(row % 2).encode()) for row in range(8) for end in ("txt", "cls")]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([*GOOD, ("0.json", b"{}")], r"0\.json: the members of '0' do not stand together"),
        (
            [(f"a.{row}.{end}", b"1") for row in range(3) for end in ("txt", "cls")],
            r"a\.0\.txt: the first dot ends",
        ),
        ([*GOOD, ("9.txt", b"x")], r"9: lacks \.cls, unlike 0 before it, which has \.txt, \.cls"),
        ([("0.pyd", b"x"), ("1.pyd", b"x")], r"\.pyd is a pickle"),
        ([*GOOD, ("9.cls", b"1"), ("9.txt", b"\xff\xfe")], r"9\.txt: not text in UTF-8"),
        ([("0.json", b"{")], r"0\.json: not JSON"),
        ([], r"holds no files"),
    ],
)
def test_shards_that_other_readers_misread_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    shard = write_shard(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match=message):
        read_records(f"webdataset:{shard}", Roles(label="cls", text=("txt",)))


def test_a_shard_that_is_cut_off_names_shard_and_member(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "x.tar", [(f"{row}.txt", b"x" * 700) for row in range(6)])
    shard.write_bytes(shard.read_bytes()[:3900])
    with pytest.raises(DataError, match=r"x\.tar, (after )?[12]\.txt: .*(cut off|not a whole)"):
        read_records(f"webdataset:{shard}", Roles(label="cls", text=("txt",)))


CSV = "csv"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,label\n1,x\n2,y,z\n", r"a\.csv, row 2: 3 cells, expected 2: '2,y,z'"),
        ("a.csv", 'a,label\n1,"x\n', r"a\.csv: "),
        ("a.csv", "", r"a\.csv: .*[Ee]mpty"),
        ("a.csv", "a,a,label\n1,2,x\n", r"there are two columns 'a'"),
        ("a.csv", "a,label\n" + "1,x\n2,y\n" * 9 + "many,x\n", r"a\.csv, row 19: 'a' is 'many', and a number in"),
        ("a.csv", "a,label\n1,x\n2,x\n", r"expected two or more classes in 'label', found 'x'"),
        ("a.csv", "a,label\n1,0.5\n2,1.5\n", r"a\.csv, row 1: 'label' is 0\.5, expected a class"),
        ("a.csv", "a,label\n", r"there are no rows"),
        (
            "a.jsonl",
            '{"a": 1, "label": "x"}\n{"a": "one", "label": "y"}\n',
            r"a\.jsonl, row 2: 'a' is a string, and a number in the rows before",
        ),
        ("a.jsonl", '{"a": 1, "label": "x"}\n{"a": 2, "lab', r"a\.jsonl: not a JSON object in each line"),
        ("a.csv", b"a,label\n1,caf\x81\n", r"a\.csv: neither UTF-8 nor Windows-1252; save it as UTF-8"),
        ("a.csv", 'a,label\n1,"x\ny"\n2\n3,z\n', r"a\.csv, row 2: 1 cell, expected 2: '2'"),
        ("a.parquet", "PAR1 and no more", r"a\.parquet: not a whole Parquet file"),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    scheme = name.partition(".")[2]
    with pytest.raises(DataError, match=message) as caught:
        read_records(f"{scheme}:{tmp_path / name}", Roles(label="label", features=("a",)))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_paths_are_pictures_or_sounds_and_columns_without_a_value_are_no_features() -> None:
    """Each fault was silent or a refusal: the words of paths were learned, an empty column stopped a table."""
    label = [0, 1] * 6
    for suffix, role in ((".PNG", "image"), (".wav", "audio"), (".txt", "text")):
        table = pa.table({"file": [f"a b/{n}{suffix}" for n in range(12)], "label": label})
        roles, said = found_roles(table, Roles(), "mine")
        assert roles.inputs == ("file",)
        assert roles.record()[role] in ("file", ["file"])
        assert said[1] == f"the {role} is column 'file'"
    numbers = pa.table({"a": label, "id": range(12), "none": pa.nulls(12), "gaps": pa.nulls(12, pa.string())})
    roles, said = found_roles(numbers.append_column("label", pa.array(label)), Roles(), "mine")
    assert roles.features == ("a",)
    assert said[1] == (
        "the features are all 1 other columns without 'id', which counts the rows, without 'none' and 'gaps', "
        "which are empty"
    )


def test_y_is_the_class_where_no_column_is_called_so_and_a_coordinate_elsewhere() -> None:
    numbers = [number / 2 for number in range(24)]
    records = read_records({"x": numbers, "y": numbers, "class": ["a", "b"] * 12})
    assert (records.roles.label, records.roles.features) == ("class", ("x", "y"))
    assert read_records({"x": numbers, "y": [0, 1] * 12}).roles.label == "y"
    with pytest.raises(UsageError, match="which column is the class"):
        read_records({"x": numbers, "label": [0, 1] * 12, "class": [0, 1] * 12})


def sentences(number: int) -> list[str]:
    return [f"The screen of number {n} is too dark for me" for n in range(number)]


def test_names_beside_features_are_left_out_and_sentences_are_a_question() -> None:
    """A table with one column of names was refused."""
    table = {"age": [n / 2 for n in range(40)], "sex": ["f", "m"] * 20, "label": [0, 1, 1, 0] * 10}
    patients = {"patient": [f"P{n:05d}" for n in range(40)]}
    names = {"name": [f"Braund, Mr. Owen Harris (Lily {n})" for n in range(40)]}
    tickets = {"ticket": [f"A/5 {n % 30}" for n in range(40)]}
    for columns, what in (
        (
            patients,
            "'patient', which has a different text in nearly every row; --key patient or --group patient uses it",
        ),
        (
            names | tickets,
            "'name' and 'ticket', which have a different text in most rows; "
            "--key name or --group name uses 'name'",
        ),
    ):
        records = read_records(columns | table)
        assert records.roles.features == ("age", "sex")
        assert records.notes[1] == f"the features are all 2 other columns without {what}"
    for texts in (sentences(40), [f"屏幕太暗了{n}" for n in range(40)]):
        with pytest.raises(
            UsageError, match=r"which columns are the input\?.*--features without 'seen'; the columns"
        ):
            read_records(patients | table | {"seen": texts})
    prices = {"price": [f"{n}.50" for n in range(40)]}  # texts that all are numbers are no names
    assert read_records(patients | table | prices).roles.features == ("age", "sex", "price")
    assert read_records(patients | table, Roles(key="patient")).roles.features == ("age", "sex")
    broken = {"price": [*(f"{n}.50" for n in range(10_000)), "12..5"], "label": [0, *[0, 1] * 5_000]}
    with pytest.raises(DataError, match=r"row 10000: 'price' is '12\.\.5', and a number in most other rows"):
        read_records(broken)


def test_a_question_for_the_class_begins_with_columns_that_may_be_it() -> None:
    """It began with the first twenty columns, in the words of Arrow."""
    table: dict[str, Any] = {f"f{n}": [n + row / 7 for row in range(40)] for n in range(30)}
    table |= {"name": [f"P{n}" for n in range(40)], "rooms": [n % 4 for n in range(40)]}
    table |= {"diagnosis": ["benign", "malignant"] * 20, "is_old": [True, False] * 20}
    with pytest.raises(UsageError) as caught:
        read_records(table)
    assert (
        "the columns are diagnosis (text, 2 values), is_old (yes or no, 2 values), rooms (whole number, 4 "
        in str(caught.value)
    )
    assert str(caught.value).endswith("f16 (number), ...")


def test_a_csv_whose_lines_end_with_carriage_returns_alone_is_read(tmp_path: Path) -> None:
    lines = ["size;class", *(f"{n},5;{'ab'[n % 2]}" for n in range(40))]
    (tmp_path / "old.csv").write_bytes("\r".join(lines).encode())
    (tmp_path / "new.csv").write_bytes("\n".join(lines).encode())
    old, new = (instar.load_data(f"csv:{tmp_path}/{name}.csv", label="class") for name in ("old", "new"))
    assert old.train.fingerprint == new.train.fingerprint
    assert old.train.example_shape == (1,)


@pytest.mark.parametrize("given", [{"label": 1}, {"label": "class", "features": 3}])
def test_a_column_has_a_name(tmp_path: Path, given: Any) -> None:
    (tmp_path / "t.csv").write_text("size,class\n" + "1,a\n2,b\n" * 9)
    with pytest.raises(UsageError, match=r"[13] is no column: expected the name of one, or a list of names"):
        instar.load_data(f"csv:{tmp_path}/t.csv", **given)


def test_columns_that_are_not_there_and_choices_that_are_not_made() -> None:
    table = {"a": list(range(12)), "text": [f"text {n}" for n in range(12)], "label": [0, 1] * 6}
    with pytest.raises(UsageError, match=r"unknown column 'labl'; did you mean label\?"):
        read_records(table, Roles(label="labl"))
    with pytest.raises(
        UsageError,
        match=r"which columns are the input\? --text.*--features without 'b'; .*a \(whole number\), b \(text\)",
    ):
        read_records({"a": table["a"], "b": sentences(12), "label": table["label"]})
    with pytest.raises(UsageError, match=r"which column is the class\? --label COLUMN; the columns are a"):
        read_records({"a": table["a"], "text": table["text"]})
    with pytest.raises(UsageError, match=r"data 'digits' has no columns"):
        instar.load_data("digits", label="label")
    with pytest.raises(UsageError, match=r"image_size and colour are for pictures"):
        instar.load_data({"a": table["a"], "label": table["label"]}, image_size=8)


def test_files_of_two_schemas_and_classes_that_training_lacks(tmp_path: Path) -> None:
    table = insects()
    write_csv(tmp_path / "one" / "a.csv", table)
    write_csv(tmp_path / "one" / "b.csv", {name: column for name, column in table.items() if name != "legs"})
    with pytest.raises(DataError, match=r"b\.csv: lacks 'legs', other columns than .*a\.csv"):
        read_records(f"csv:{tmp_path / 'one'}", SEEN)
    write_csv(tmp_path / "one" / "b.csv", {**table, "legs": ["six"] * 30})
    with pytest.raises(DataError, match=r"b\.csv: column 'legs' holds string, in .*a\.csv int64"):
        read_records(f"csv:{tmp_path / 'one'}", SEEN)
    write_csv(tmp_path / "two" / "train.csv", table)
    write_csv(tmp_path / "two" / "test.csv", {**table, "kind": ["hornet"] * 30})
    with pytest.raises(DataError, match=r"test\.csv, row 1: class 'hornet' of 'kind' is not one of the training"):
        read_records(f"csv:{tmp_path / 'two'}", SEEN)
    (tmp_path / "two" / "more.csv").write_text("x\n")
    with pytest.raises(DataError, match=r"is a part by its name, more\.csv is none"):
        read_records(f"csv:{tmp_path / 'two'}", SEEN)
    bad = write_parquet(tmp_path / "x.parquet", {"n": [1, 2], "kind": [0, 7]}, classes={"kind": ("a", "b")})
    with pytest.raises(DataError, match=r"x\.parquet, row 2: 'kind' is 7, expected 0 to 1"):
        read_records(f"parquet:{bad}", Roles(label="kind", features=("n",)))


def test_rows_of_a_table_that_is_cut_by_content_share_no_copies() -> None:
    numbers = [float(row % 40) for row in range(400)]
    columns = {"x": numbers, "y": [row % 40 % 3 for row in range(400)], "group": [row // 10 for row in range(400)]}
    cut = read_records(pa.table(columns), Roles(label="y", features=("x",)))
    values = {part: set(table["x"].to_pylist()) for part, table in cut.parts.items()}
    assert cut.shares_no_copies
    assert sum(map(len, values.values())) == len(set.union(*values.values())) == 40
    assert not read_records(pa.table(columns), Roles(label="y", features=("x",), group="group")).shares_no_copies
    parts = {"train": pa.table(columns), "test": pa.table(columns)}
    assert not read_records(parts, Roles(label="y", features=("x",))).shares_no_copies


def test_zeros_and_missing_numbers_have_one_id_each() -> None:
    strange = np.frombuffer(np.array([0x7FF8000000000001], dtype=np.uint64), dtype=np.float64)[0]
    rows = pa.table({"x": [0.0, -0.0, np.nan, strange, 1.0], "z": [1.0] * 5})
    ids = row_ids(rows, Roles(features=("x", "z")), torch.zeros(5, dtype=torch.int64))
    assert original_rows(ids).tolist() == [0, 0, 2, 2, 4]
    alone = content_ids([np.array([one, 1.0]).tobytes() for one in (0.0, np.nan, 1.0)], torch.zeros(3).long())
    assert torch.equal(alone, ids[[0, 2, 4]])


def test_copies_across_parts_are_said(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_csv(tmp_path / f"{part}.csv", insects())
    with pytest.warns(DataWarning, match=r"30 of 30 test|\d+ of 30 test examples are byte-identical") as seen:
        instar.load_data(f"csv:{tmp_path}", label="kind", features=("width", "legs"))
    assert "test.csv, row" in str(seen[0].message)


def test_a_survey_whose_equal_rows_have_different_classes_is_read_and_that_is_said() -> None:
    chance = np.random.default_rng(0)
    answers = {name: chance.choice(list("yn"), 400) for name in ("smokes", "sleeps", "works")}
    data = instar.load_data({**answers, "label": chance.choice(["ill", "well"], 400)})
    parts = (data.train, data.validation, data.test)
    assert sum(map(len, parts)) == 400
    assert len({number for part in parts for number in part.ids.tolist()}) == 400
    assert all(set(part.labels(part.ids).tolist()) == {0, 1} for part in parts)
    inputs = [{tuple(row) for row in part.gather(part.ids, 0).tolist()} for part in parts]
    assert not inputs[0] & inputs[1] | inputs[0] & inputs[2] | inputs[1] & inputs[2]
    said = "400 of 400 rows equal others that have another class; equal rows are in the same part"
    assert said in data.notes


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that answers as the hub does: which Parquet files a data set has, and the files."""
    root = tmp_path / "served"
    write_parquet(root / "train.parquet", insects(36))
    write_parquet(root / "test.parquet", {name: column[30:] for name, column in insects(36).items()})
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: handler(*a, directory=str(root)))
    url = f"http://127.0.0.1:{server.server_port}"
    listing = root / "api/datasets/owner/insects/parquet"
    listing.parent.mkdir(parents=True)
    files = {"default": {"train": [f"{url}/train.parquet"], "test": [f"{url}/test.parquet"]}}
    listing.write_text(json.dumps(files))
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "hf:owner/insects"
    server.shutdown()
    server.server_close()


def test_a_name_of_the_hub_is_fetched_once(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(read_records(hub, SEEN).parts["test"]) == 6
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert len(read_records(hub, SEEN).parts["test"]) == 6
    with pytest.raises(DataError, match=r"hf:owner/other: there is no such folder, and the hub does not give it"):
        read_records("hf:owner/other", SEEN)
    with pytest.raises(UsageError, match=r"no name of the hub"):
        read_records("hf:nowhere", SEEN)


def test_a_shard_that_ends_between_two_members_was_cut_off(tmp_path: Path) -> None:
    content = write_shard(tmp_path / "whole.tar", GOOD).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(content[: content.index(b"6.txt")])
    with pytest.raises(DataError, match=r"cut\.tar, after 5\.cls: the shard has no end, and was cut off here"):
        read_records(f"webdataset:{cut}", Roles(label="cls", text=("txt",)))


def many(first: int = 0) -> list[tuple[str, bytes]]:
    return [(f"{row}.{end}", str(row % 2).encode()) for row in range(first, first + 60) for end in ("txt", "cls")]


@pytest.mark.parametrize("damage", ["header", "zeros", "joined"])
def test_what_stands_behind_the_place_where_tarfile_stops_is_refused(tmp_path: Path, damage: str) -> None:
    """The second half of the shard was left out in silence."""
    file = write_shard(tmp_path / "x.tar", many())
    content = bytearray(file.read_bytes())
    start = content.index(b"30.txt")  # a header begins with the name
    if damage == "header":
        content[start + 20 : start + 24] = b"zzzz"
    elif damage == "zeros":
        content[start : start + 1024] = bytes(1024)
    else:
        content += write_shard(tmp_path / "y.tar", many(60)).read_bytes()
    file.write_bytes(content)
    said = {
        "header": r"after 29\.cls: what follows is no tar header",
        "zeros": r"after 29\.cls: bytes after the end mark",
        "joined": r"after 59\.cls: bytes after the end mark.*Name them one by one",
    }[damage]
    with pytest.raises(DataError, match=rf"x\.tar, {said}") as caught:
        read_records(f"webdataset:{file}", Roles(label="cls", text=("txt",)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [1, 20, 1000])
def test_a_shard_may_end_with_zeros_of_any_length(tmp_path: Path, factor: int) -> None:
    file = write_shard(tmp_path / "x.tar", many())
    content = file.read_bytes().rstrip(b"\0")
    content += bytes(-len(content) % 512 + 1024 * factor)
    file.write_bytes(content)
    assert len(read_shard(file)) == 60


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file, no tar archive"),
        (b"no archive", "no tar archive"),
        (b"words of a text\n" * 100, "no tar archive"),
        (None, "compressed by gzip.*unpack it"),
    ],
)
def test_what_is_no_tar_archive_is_said(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = write_shard(tmp_path / "x.tar", many())
    file.write_bytes(gzip.compress(file.read_bytes()) if content is None else content)
    with pytest.raises(DataError, match=rf"x\.tar: {said}"):
        read_records(f"webdataset:{file}", Roles(label="cls", text=("txt",)))


def test_what_a_shard_holds_that_is_not_read_is_said(tmp_path: Path) -> None:
    endings = ("txt", "cls", "pkl", "npy")
    members = [(f"{n}.{end}", str(n % 2 if end == "cls" else n).encode()) for n in range(20) for end in endings]
    shard = write_shard(tmp_path / "x.tar", members)
    with pytest.warns(DataWarning, match=r"x\.tar: not read: \.pkl, \.npy: a pickle could run any code"):
        read_records(f"webdataset:{shard}", Roles(label="cls", text=("txt",)))


def test_a_class_of_one_row_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [f"{row},{'ab'[row % 2]}" for row in range(20)]
    (tmp_path / "x.csv").write_text("\n".join(["w,label", *rows, "3,bb"]))
    with pytest.raises(DataError, match=r"x\.csv, row 21: class 'bb' has a single example"):
        read_records(f"csv:{tmp_path / 'x.csv'}")


def test_a_column_that_another_part_lacks_is_named_with_its_file(tmp_path: Path) -> None:
    rows = [f"{row},{row * row},{'ab'[row % 2]}" for row in range(20)]
    (tmp_path / "train.csv").write_text("\n".join(["w,v,label", *rows]))
    (tmp_path / "test.csv").write_text("\n".join(["w,label", "3,a", "4,b"]))
    with pytest.raises(DataError, match=r"test\.csv: there is no column 'v', which the training rows have"):
        read_records(f"csv:{tmp_path}")


def test_a_missing_file_of_a_saved_data_set_is_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"w": [1.0, 2.0], "label": [0, 1]}).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match=r"\.arrow: there is no such file, and state\.json beside it names it"):
        read_records(f"hf:{tmp_path / 'saved'}")


def test_ids_are_those_of_each_row_alone_whatever_chunks_a_table_has() -> None:
    """A hash of the numbers in double precision, then of each text its length and its bytes."""
    chance = np.random.default_rng(0)
    table = pa.table(
        {
            "x": chance.normal(size=300),
            "text": [None, "", "é", *(f"word {number}" for number in range(297))],
            "port": pa.array(chance.choice(["S", "C", None], 300)).dictionary_encode(),
            "y": pa.array(chance.integers(2, size=300) > 0),
            "label": chance.integers(2, size=300),
        }
    )
    roles = Roles(label="label", features=("x", "port", "y", "text"))
    expected = []
    for row in table.to_pylist():
        content = np.array([row["x"], float(row["y"])]).tobytes()
        for text in (row["port"] or "", row["text"] or ""):
            content += len(text.encode()).to_bytes(8, "little") + text.encode()
        expected.append(int.from_bytes(blake2b(content, digest_size=8).digest(), "little", signed=True))
    labels = torch.zeros(300, dtype=torch.int64)
    chunked = pa.concat_tables([table.slice(start, 7) for start in range(0, 300, 7)])
    for one in (table, chunked, pa.concat_tables([table.slice(0, 0), chunked])):
        assert row_ids(one, roles, labels).tolist() == expected
    alone = [blake2b((text or "").encode(), digest_size=8).digest() for text in table["text"].to_pylist()[1:]]
    found = row_ids(chunked.slice(1), Roles(label="label", text=("text",)), labels[1:])
    assert found.tolist() == [int.from_bytes(one, "little", signed=True) for one in alone]


def test_one_text_names_several_columns_as_on_the_command_line() -> None:
    ants = {"wide, cm": [0.5, 1.5] * 20, "legs": list(range(40)), "kind": ["ant", "bee"] * 20}
    for features in ("wide, cm,legs", "legs,wide, cm"):
        with pytest.raises(UsageError, match="unknown column 'wide'"):
            instar.load_data(ants, label="kind", features=features)
    del ants["wide, cm"]
    ants["wings"] = [0, 2] * 20
    assert instar.load_data(ants, label="kind", features="legs, wings").roles == Roles(
        label="kind", features=("legs", "wings")
    )
    ants["legs,wings"] = ants["legs"]
    assert instar.load_data(ants, label="kind", features="legs,wings").roles == Roles(
        label="kind", features=("legs,wings",)
    )


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (
            {"label": "kind", "features": ("width", "kind")},
            "column 'kind' is the class: it cannot be an input too",
        ),
        ({"label": "kind", "text": ("kind",)}, "column 'kind' is the class: it cannot be an input too"),
        ({"label": "kind", "features": ("width", "width")}, "column 'width' is named twice as an input"),
        ({"label": "kind", "group": "kind"}, "column 'kind' is the class: it cannot be the group too"),
        ({"label": "kind", "part": "legs", "features": ("legs",)}, "column 'legs' is the part of a row"),
    ],
)
def test_a_column_has_one_role(tmp_path: Path, roles: dict[str, Any], said: str) -> None:
    """A class among the inputs makes no errors at all."""
    write_csv(tmp_path / "insects.csv", insects())
    with pytest.raises(UsageError, match=said):
        instar.load_data(f"csv:{tmp_path / 'insects.csv'}", **roles)


def test_rows_without_a_group_and_classes_that_look_alike_are_said(tmp_path: Path) -> None:
    columns = {
        "width": [float(row) for row in range(60)],
        "kind": ["ant", "bee", "Bee "] * 20,
        "nest": [f"nest {row // 3}" if row >= 12 else "" for row in range(60)],
    }
    for file, write in (("rows.csv", write_csv), ("rows.parquet", write_parquet)):
        write(tmp_path / file, columns)
        source = f"{file.partition('.')[2]}:{tmp_path / file}"
        notes = " ".join(instar.load_data(source, label="kind", group="nest").notes)
        assert "12 rows without one are a group of their own" in notes
        assert "the classes 'Bee ', 'bee' differ in spaces or capitals alone" in notes
        settings = DataSettings(name=source, label="kind", group="nest")
        shown = {row["column"]: row["empty"] for row in column_rows(*records_of(settings))}
        assert shown == {"width": 0, "kind": 0, "nest": 12}
