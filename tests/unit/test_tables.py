"""Tables: from columns to vectors and back, fitted on the training rows alone."""

import datetime
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from instar.data import load_data
from instar.data.kinds import KindOptions, read_preparation
from instar.data.kinds.table import fit
from instar.data.kinds.table_columns import Category, Number, fit_columns
from instar.data.records.roles import Roles
from instar.deploy.rows import Rows
from instar.errors import DataError, DataWarning, UsageError

MIXED = {
    "age": [22, 38, 26, 35, None, 54, 2, 27],
    "fare": [7.25, 71.2833, 7.925, 53.1, 8.4583, 51.8625, 21.075, 11.1333],
    "port": ["S", "C", "S", None, "Q", "S", "S", "S"],
    "alone": [False, False, True, False, True, True, False, False],
    "born": [datetime.date(1890 + year, 1, 1) for year in range(8)],
    "deck": pa.array(["C", "D", "C", "D", "C", "D", "C", "C"]).dictionary_encode(),
    "code": ["02139", "10115", "02139", "94110", "10115", "02139", "94110", "02139"],
    "paid": ["1", " 2.5", "3e1", "4", "5", "6", "NA", ""],
}

MIXED_LONG = {
    "port": ["S", "C"] * 100,
    "many": list(range(20)) * 10,
    "born": [datetime.date(1800 + year, 1, 1) for year in range(200)],
    "paid": ["1", " 2.5", "3e1", "NA"] * 50,
}


def fitted(columns, features=None, **options):
    table = pa.table(columns)
    roles = Roles(label="y", features=tuple(features or table.column_names))
    preparation = fit(SimpleNamespace(parts={"train": table}, roles=roles), KindOptions(**options))
    return preparation, table, roles


def test_what_a_column_is_and_that_a_record_gives_the_same_bits():
    preparation, table, roles = fitted(MIXED)
    inputs = preparation.inputs(table, roles)
    kinds = {column.name: type(column) for column in preparation.columns}
    categories = {"port", "deck", "code"}
    assert kinds == {name: Category if name in categories else Number for name in MIXED}
    assert preparation.in_words() == "5 numbers, 3 categories (3 with missing values): 16 numbers a row"
    again = read_preparation(json.loads(json.dumps(preparation.record())))
    assert torch.equal(again.inputs(table, roles), inputs)
    # As rows of texts from a file of texts too.
    texts = table.set_column(0, "age", table["age"].cast(pa.string()))
    texts = texts.set_column(4, "born", table["born"].cast(pa.string()))
    assert torch.equal(again.inputs(texts, roles), inputs)
    assert again.inputs(table.slice(2, 1), roles).equal(inputs[2:3])


def test_columns_that_are_fitted_together_are_what_each_is_alone(monkeypatch):
    monkeypatch.setattr("instar.data.kinds.table_columns.ROWS_AT_ONCE", 64)
    random = np.random.default_rng(0)
    numbers = random.normal(1e3, 5, (200, 40)).round(2)
    numbers[random.random((200, 40)) < 0.1] = np.nan
    numbers[:70, 3] = np.nan  # in all that is computed at once
    numbers[:, 5] = np.rint(numbers[:, 5])
    columns = {f"x{place}": pa.array(column, from_pandas=True) for place, column in enumerate(numbers.T)}
    table = pa.table({**MIXED_LONG, **columns, "one": [1.0] * 200})
    together = fit_columns(table, table.column_names, ["many"])
    assert together == [fit_columns(table, [name], ["many"])[0] for name in table.column_names]
    assert [one.is_whole for one in together[-41:-1]] == [place == 5 for place in range(40)]
    assert together[-1] == "its value is 1 in every training row"
    assert together[-38].mean == pytest.approx(np.nanmean(numbers[:, 3]), rel=1e-12)


def test_numbers_and_categories_are_those_of_scikit_learn():
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(0)
    numbers = random.normal(1e4, [3, 2e3], (3000, 2))
    numbers[random.random(3000) < 0.1, 1] = np.nan
    names = random.choice(["a", "b", "c", None], 3000, p=[0.5, 0.3, 0.1, 0.1])
    many = np.char.add("n", random.zipf(1.3, 3000).clip(max=1000).astype(str))
    columns = {"x": numbers[:, 0], "z": pa.array(numbers[:, 1], from_pandas=True), "name": names, "many": many}
    preparation, table, roles = fitted(columns)
    ours = preparation.inputs(table, roles).numpy()
    x, z, name, many_place = preparation.places
    scaled = StandardScaler().fit_transform(numbers)
    assert np.allclose(ours[:, x], scaled[:, :1], atol=1e-6)
    assert np.allclose(ours[:, z][:, 0], np.nan_to_num(scaled[:, 1]), atol=1e-6)
    assert np.array_equal(ours[:, z][:, 1], np.isnan(numbers[:, 1]))
    encoder = OneHotEncoder(sparse_output=False, max_categories=256, handle_unknown="infrequent_if_exist")
    assert np.array_equal(ours[:, name], encoder.fit_transform(names[:, None]))
    theirs = encoder.fit_transform(many[:, None])
    assert theirs.shape[1] == preparation.columns[3].width == 256
    # Which of equally rare values share a place is chance.
    assert np.array_equal(np.sort(ours[:, many_place].sum(0)), np.sort(theirs.sum(0)))
    # Back to the columns: what estimators with names of columns see.
    rows = preparation.rows(torch.from_numpy(ours))
    assert np.allclose(rows["x"], numbers[:, 0], rtol=1e-6)
    assert list(rows["name"]) == list(names)
    assert np.array_equal(np.isnan(rows["z"]), np.isnan(numbers[:, 1]))
    assert {*rows["many"]} - {None} == set(preparation.columns[3].values)


def test_whole_numbers_come_back_exactly():
    preparation, table, roles = fitted({"n": list(range(0, 90_000, 7)), "m": [1, 2] * 6428 + [3, 4]})
    rows = preparation.rows(preparation.inputs(table, roles))
    assert rows["n"].tolist() == table["n"].to_pylist()


def test_what_training_rows_lack_is_said():
    preparation, _, roles = fitted({"port": ["S", "C", "S"], "age": [1.0, 2.0, 3.0]})
    other = pa.table({"port": ["Q", "S", None], "age": [2.0, None, 1.0]})
    with pytest.warns(DataWarning) as said:
        inputs = preparation.inputs(other, roles)
    assert [str(one.message) for one in said] == [
        "column 'port': no training row has 'Q', 'no value' of 2 rows: they count as none of its categories",
        "column 'age' has no value in 1 rows and one in every training row: the mean of these, 2, stands for it",
    ]
    assert inputs[:, :2].tolist() == [[0, 0], [0, 1], [0, 0]]
    # A column with rare values has a place for others.
    many, _, _ = fitted({"many": [f"n{number % 300}" for number in range(3000)]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert many.inputs(pa.table({"many": ["new"]}), Roles(features=("many",)))[0].nonzero().item() == 255


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([7] * 600, "its value is 7 in every training row"),
        (["x"] * 600, "its value is 'x' in every training row"),
        ([None] * 600, "no row has a value"),
        ([f"{number} Main Street" for number in range(600)], "600 different texts in 600 training rows"),
    ],
)
def test_columns_that_say_nothing_are_left_out(column, reason):
    with pytest.warns(DataWarning, match=f"column 'c' is left out: {reason}"):
        preparation, _, _ = fitted({"c": column, "x": list(range(600))})
    assert preparation.left_out == ("c",)
    assert preparation.width == 1
    with pytest.warns(DataWarning), pytest.raises(DataError, match="no column is left of 'c'"):
        fitted({"c": column})


def test_numbers_that_are_categories():
    preparation, _table, roles = fitted({"month": [1, 2, 12, 1]}, categories=("month",))
    assert preparation.columns[0].values == ("1", "12", "2")
    with pytest.raises(UsageError, match="categories: unknown feature 'mnth'; did you mean"):
        fitted({"month": [1, 2, 12, 1]}, categories=("mnth",))
    assert preparation.inputs(pa.table({"month": [2.0]}), roles).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0, float("inf")]}, "row 1: column 'x' is infinite; correct it"),
        ({"x": [[1, 2], [3]]}, "column 'x' holds list<.*int64>, and a table has numbers, texts and dates"),
        ({"x": [b"1", b"2"]}, "column 'x' holds binary"),
        ({"x": [*map(str, range(399)), "two"]}, "row 399: column 'x' has 'two', and numbers in 99.8% of the rows"),
    ],
)
def test_columns_that_cannot_be_used(columns, message):
    with pytest.raises(DataError, match=message):
        fitted(columns)


def test_rows_that_do_not_fit():
    preparation, _, roles = fitted({"x": [1.0, 2.0], "when": [datetime.date(2020, 1, day) for day in (1, 2)]})
    with pytest.raises(DataError, match="there is no column 'x', 'when', which the training rows have"):
        preparation.inputs(pa.table({"y": [1]}), roles)
    with pytest.raises(DataError, match="row 1: column 'x' has 'two', expected a number as in training"):
        preparation.inputs(pa.table({"x": ["1", "two"], "when": ["2020-01-01"] * 2}), roles)
    with pytest.raises(DataError, match="row 0: column 'when' has 'May', expected a date as in training"):
        preparation.inputs(pa.table({"x": [1], "when": ["May"]}), roles)


def test_booleans_come_as_texts_and_texts_as_booleans() -> None:
    """CSV, JSON and frames each have their own yes and no."""
    flags = [n % 3 > 0 for n in range(60)]
    kinds = ["yes", "no"] * 30
    as_booleans = load_data({"fit": flags, "age": list(range(60)), "label": kinds})
    as_texts = load_data({"fit": [str(one) for one in flags], "age": list(range(60)), "label": kinds})
    for splits in (as_booleans, as_texts):
        rows = Rows.of(splits)
        assert rows is not None
        for given in ([True, False, None], ["True", "False", None], [" true", "FALSE", ""]):
            if splits is as_texts and given[0] == " true":
                continue  # texts are what they are
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [rows.inputs(rows.table([{"fit": one, "age": 3}])[0])[0] for one in given]
                expected = [rows.inputs(rows.table([{"fit": str(one), "age": 3}])[0])[0] for one in (True, False)]
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
            assert not torch.equal(found[0], found[1])
    assert as_booleans.preparation is not None
    assert "is_boolean" in as_booleans.preparation.record()["columns"][0]
    assert "is_boolean" not in as_booleans.preparation.record()["columns"][1]
