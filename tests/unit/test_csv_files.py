"""CSV as people have it: other encodings, separators, decimal signs, quotes; and what is said of the rest."""

import gzip
import warnings
from pathlib import Path

import pandas as pd
import pytest

from instar.data import load_data
from instar.data.records.csv_file import read_csv
from instar.errors import DataError, DataWarning

NAMES = ["Müller", "Désirée", "Łukasz", "Ann"]


def lines(separator: str = ",", decimal: str = ".", names: list[str] | None = None) -> str:
    rows = [["größe", "name", "class"]]
    for number in range(120):
        size = f"{number / 7:.3f}".replace(".", decimal)
        if decimal == separator:
            size = f'"{size}"'
        rows.append([size, (names or NAMES[:2])[number % 2], "ab"[number % 2]])
    return "\r\n".join(separator.join(row) for row in rows) + "\r\n"


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"])
def test_encodings_are_found_and_said(tmp_path: Path, coding: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(lines().encode(coding))
    if coding.startswith("utf-8"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = read_csv(file)
    else:
        name = "UTF-16" if "16" in coding else r"Windows-1252 \(Latin-1\)"
        with pytest.warns(DataWarning, match=rf"rows.csv: not in UTF-8, read as {name}; save it as UTF-8"):
            table = read_csv(file)
    owner = pd.read_csv(file, encoding=coding)
    assert table.column_names == list(owner.columns) == ["größe", "name", "class"]
    assert table["name"].to_pylist() == owner["name"].tolist()
    assert table["größe"].to_pylist() == owner["größe"].tolist()


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "rows"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["b", '"b\n1,c"'])
def test_lines_of_more_than_one_block_are_those_that_the_file_has(
    tmp_path: Path, suffix: str, end: str, name: str
) -> None:
    rows = [f"{number},{'a' * (number % 50)}{name if number % 1000 == 0 else 'a'}" for number in range(100_000)]
    content = end.join(["x,name", *rows]).encode()
    assert len(content) > 2 * 2**20  # Arrow's blocks have one MiB
    file = tmp_path / f"rows.{suffix}"
    file.write_bytes(gzip.compress(content, 1) if suffix.endswith("gz") else content)
    table = read_csv(file)
    assert table["x"].to_pylist() == list(range(100_000))
    assert table["name"][7000].as_py() == name.strip('"')
    assert table.equals(read_csv(content))


def test_a_late_letter_of_another_encoding_is_no_picture(tmp_path: Path) -> None:
    rows = ["text,label", *(f"a long line of words {number},{number % 2}" for number in range(12_000)), "café,1"]
    content = "\n".join(rows).encode("cp1252")
    assert len(content) > 2**18
    with pytest.warns(DataWarning, match="Windows-1252"):
        table = read_csv(content, "late.csv")
    assert table["text"][-1].as_py() == "café"
    with gzip.open(tmp_path / "late.csv.gz", "wb") as file:
        file.write(content)
    with pytest.warns(DataWarning, match="Windows-1252"):
        assert read_csv(tmp_path / "late.csv.gz").equals(table)


def test_what_is_no_text_is_one_line() -> None:
    for content in (b"a,b\n\x81\x8d,1\n", b"\xff\xfea\x00,\x00b\x00\n\x00\x00\xd8"):
        with pytest.raises(DataError, match=r"x.csv: ") as found:
            read_csv(content, "x.csv")
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_separators_and_decimal_signs_are_found(separator: str, decimal: str) -> None:
    table = read_csv(lines(separator, decimal).encode(), "x.csv")
    assert table["größe"].to_pylist() == [round(number / 7, 3) for number in range(120)]


def test_quotes_hold_separators_quotes_and_line_breaks() -> None:
    content = b'text,label\n"one, ""two""\nthree",a\nfour,b\n'
    assert read_csv(content, "x.csv")["text"].to_pylist() == ['one, "two"\nthree', "four"]


def test_one_bad_cell_among_decimal_commas_is_named(tmp_path: Path) -> None:
    rows = lines(";", ",").splitlines()
    rows[8] = "1,5o;Ann;a"
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"rows.csv, row 8: 'größe' is '1,5o', and a number in most other rows"):
        load_data(f"csv:{tmp_path / 'rows.csv'}")
    rows[8] = "?;Ann;a"  # stands for nothing
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    splits = load_data(f"csv:{tmp_path / 'rows.csv'}", features=["größe"])
    assert splits.preparation is not None
    assert splits.preparation.in_words().startswith("1 number")


@pytest.mark.parametrize("sign", [",", ".", " ", "'", "\u00a0"])
def test_signs_between_thousands_are_named(tmp_path: Path, sign: str) -> None:
    rows = [
        "price;kind",
        *(f"{number}{sign}{number + 100}{sign}000;{'ab'[number % 2]}" for number in range(1, 60)),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    with pytest.raises(
        DataError, match=r"rows.csv, row 1: 'price' is .1.+101.+000., a number with signs between its"
    ):
        load_data(f"csv:{tmp_path / 'rows.csv'}", label="kind")


def test_quoted_thousands_are_no_decimals(tmp_path: Path) -> None:
    rows = ["price,kind", *(f'"{number},250",{"ab"[number % 2]}' for number in range(1, 60))]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"rows.csv, row 1: 'price' is '1,250', a number with signs between"):
        load_data(f"csv:{tmp_path / 'rows.csv'}", label="kind")


ZIPS = ["02139", "00123", "2139", "90210"]


def rows_of_codes(zips: list[str] = ZIPS, labels: tuple[str, ...] = ("007", "7", "08", "12")) -> str:
    rows = [f"{zips[number // 4 % len(zips)]},{number / 7:.3f},{labels[number % 4]}" for number in range(160)]
    return "\n".join(["zip,x,label", *rows]) + "\n"


@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_codes_that_begin_with_a_0_are_classes_and_categories_of_their_own(
    tmp_path: Path, coding: str, suffix: str
) -> None:
    file, content = tmp_path / f"rows.{suffix}", rows_of_codes().encode(coding)
    file.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of UTF-16
        data = load_data(f"csv:{file}")
    assert data.train.class_names == ("007", "08", "12", "7")
    assert data.preparation is not None
    assert data.preparation.in_words() == "1 number, 1 category: 5 numbers a row"
    assert [note for note in data.notes if "codes" in note] == [
        "'zip' holds codes such as '02139', texts; write numbers without a 0 in front",
        "'label' holds codes such as '007', texts; write numbers without a 0 in front",
    ]


def test_a_code_far_behind_the_first_rows_is_found_and_a_missing_one_stays_missing() -> None:
    rows = [f"{number},{number % 3}" for number in range(100, 200_000)]
    table = read_csv("\n".join(["code,n", *rows, "NA,0", "0100,1", ""]).encode(), "these")
    codes = table["code"].to_pylist()
    assert (codes[0], codes[-2:], table["n"][-1].as_py()) == ("100", [None, "0100"], 1)


@pytest.mark.parametrize("cell", ["0", "0.5", "-7", "007.5", "1e3"])
def test_other_numbers_stay_numbers(cell: str) -> None:
    table = read_csv(f"a,b\n{cell},1\n7,02\n".encode(), "these")
    assert str(table["a"].type) in ("int64", "double")
    assert table["b"].to_pylist() == ["1", "02"]


def test_dates_times_and_texts_with_a_0_change_nothing() -> None:
    table = read_csv(b"day,time,text,n\n2020-01-02,08:30,on 01 02,1\n2020-01-03,09:30,007 it is,0\n", "these")
    assert [str(kind) for kind in table.schema.types] == ["date32[day]", "time32[s]", "string", "int64"]


def test_files_of_one_part_hold_codes_together(tmp_path: Path) -> None:
    """In the second file no code begins with a 0: its column alone would be one of numbers."""
    (tmp_path / "a.csv").write_text(rows_of_codes())
    (tmp_path / "b.csv").write_text(rows_of_codes(["2139", "90210"], ("7", "12", "7", "12")))
    data = load_data(f"csv:{tmp_path}")
    assert data.train.class_names == ("007", "08", "12", "7")
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 320


@pytest.mark.parametrize(
    ("header", "cells", "said"),
    [
        (
            "w;h;label",
            ["10.063;9,5;a", "11.5;8,25;b"],
            r"'h' has decimal commas \(row 1: 9,5\) and 'w' decimal points",
        ),
        ("h;w", ["9,5;10.063", "8,25;11.5"], r"'h' has decimal commas \(row 1: 9,5\) and 'w' decimal points"),
        (
            "h;v;w;label",
            ["1,5;2,5;0.5;a", "2,5;7,5;1.5;b"],
            r"'h' has decimal commas and 'w' decimal points \(row 1: 0.5\)",
        ),
        (
            "x;label",
            ["0.0;a", "1,1;b"],
            r"'x' has decimal commas \(row 2: 1,1\) and 'x' decimal points \(row 1: 0.0\)",
        ),
    ],
)
def test_two_decimal_signs_are_refused_with_their_columns(header: str, cells: list[str], said: str) -> None:
    """One of them was read as texts, which are no features, or 10.063 as a fraction among decimal commas."""
    with pytest.raises(DataError, match=rf"^x.csv: {said}.*; write one sign$"):
        read_csv("\n".join([header, *cells * 30]).encode(), "x.csv")


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        ("n;h\n3;1,5\n4;2,5\n", ["int64", "double"]),
        ("day;h\n01.02.2024;1,5\n13.02.2024;2,5\n", ["string", "double"]),
        ("day;h;v\n01.02;1,5;1,5\n03.02;2,5;0,5\n", ["string", "double", "double"]),
        ("version;h\n1.2.3;1,5\n1.2;2,5\n", ["string", "double"]),
        ("text;w\n1,5 or so;1.5\n2,5;2.5\n", ["string", "double"]),
        ("price;w\n1,250;1.5\n2,500;2.5\n", ["string", "double"]),
        ('list,w\n"1,2",1.5\n"3,4",2.5\n', ["string", "double"]),
    ],
)
def test_other_texts_beside_decimal_numbers_are_no_second_sign(content: str, kinds: list[str]) -> None:
    assert [str(kind) for kind in read_csv(content.encode(), "x.csv").schema.types] == kinds


@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_a_file_that_is_cut_off_in_quotes_is_said(coding: str) -> None:
    rows = ["text,label", *(f'"words, {number}",{number % 2}' for number in range(299)), '"words, an']
    with pytest.raises(
        DataError, match=r"x.csv, row 300: 1 cell, expected 2: .*; a quote is not closed, or the file is"
    ):
        read_csv("\n".join(rows).encode(coding), "x.csv")
    with pytest.raises(DataError, match=r"x.csv, row 300: 1 cell, expected 2: 'words'$"):
        read_csv("\n".join([*rows[:-1], "words"]).encode(coding), "x.csv")
