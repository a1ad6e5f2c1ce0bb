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
