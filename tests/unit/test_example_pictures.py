"""Examples on a page: of those that are no pictures, one row each."""

from pathlib import Path

from instar import load_data
from instar.recipes.pictures import example_pictures
from instar.reports import Share, Table


def test_a_text_is_one_row_with_its_likely_classes(tmp_path: Path) -> None:
    words = ["good", "bad", "fine", "poor"]
    rows = [f"{word} film number {number},{word in ('good', 'fine')}" for number, word in enumerate(words * 10)]
    (tmp_path / "films.csv").write_text("\n".join(["text,label", *rows]))
    data = load_data(f"csv:{tmp_path}/films.csv", tokenizer="300").train
    first = data.ids[:1].tolist()
    shares = [[Share("True", 0.75), Share("False", 0.25)]]
    found = example_pictures("Dark knowledge", data, first, ["True"], shares, "")
    assert isinstance(found, Table)
    (row,) = found.rows
    assert row["probabilities"] == "True 75.0%, False 25.0%"
    assert "film number" in row["text"]
    (bare,) = example_pictures("Where they disagree", data, first, ["True"], [[]], "").rows  # type: ignore[union-attr]
    assert "probabilities" not in bare


def test_a_row_of_a_table_is_known_by_its_number_or_key_and_its_values(tmp_path: Path) -> None:
    """The page said `yes: teacher no, student yes`, and of none of its rows which it was."""
    rows = [
        f"A/5 {n},{n if n % 5 else ''},{n / 4},{'CQS'[n % 3]},{1980 + n % 40}-03-01,{n % 2}" for n in range(1100)
    ]
    (tmp_path / "them.csv").write_text("\n".join(["name,age,fare,port,born,label", *rows]))
    for key in (None, None, "name", "name"):  # from the files, and from the cache
        test = load_data(f"csv:{tmp_path}/them.csv", key=key).test
        found = example_pictures("", test, test.ids.tolist(), [""] * len(test), [()] * len(test), "")
        assert isinstance(found, Table)
        for row in found.rows:
            number = int(row["row"].rsplit(" ", 1)[1]) - (key is None)
            assert row["row"] == (f"them.csv, row {number + 1}" if key is None else f"A/5 {number}")
            _, age, fare, port, born, _ = rows[number].split(",")
            assert row["values"] == f"age {age or 'missing'}, fare {float(fare):g}, port {port}, born {born}"
    part = test.subset(test.ids[3:5])
    assert part.names(part.ids) == test.names(test.ids[3:5])
