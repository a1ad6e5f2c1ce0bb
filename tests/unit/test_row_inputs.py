"""What `instar predict` refuses for a network of texts or of rows, in place of an answer to something else."""

from pathlib import Path

import pytest

import instar
from instar.deploy.rows import Rows
from instar.errors import DataError, UsageError
from instar.recipes.shipping.predictions import find_inputs
from instar.recipes.shipping.row_inputs import table_in


def rows_of(inputs: dict[str, list[object]]) -> Rows:
    found = Rows.of(instar.load_data({**inputs, "label": [0, 1] * 20}))
    assert found is not None
    return found


def test_a_file_is_no_text_and_a_text_is_no_row(tmp_path: Path) -> None:
    picture = tmp_path / "0.png"
    picture.write_bytes(b"anything")
    texts = rows_of({"text": [f"text {number}" for number in range(40)]})
    for name in (picture, tmp_path):
        with pytest.raises(DataError, match="a file, and this network takes texts"):
            table_in(str(name), texts)
    for name in ("a text", "a " * 5000):
        table = table_in(name, texts)
        assert table is not None
        assert table["text"].to_pylist() == [name]
    people = rows_of({"age": list(range(40)), "height": list(range(40))})
    with pytest.raises(
        DataError, match="a text: no file of rows, and this network takes rows with 'age', 'height'"
    ):
        table_in("a text", people)
    with pytest.raises(UsageError, match="an input is empty"):
        find_inputs([""], of_rows=True)
