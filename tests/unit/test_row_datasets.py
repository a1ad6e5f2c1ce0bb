"""`train` and `distill` take the rows that people hold: frames, tables, columns, data sets of Hugging Face."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import instar
from instar.data.row_datasets import row_datasets
from instar.errors import DataError, DataWarning, UsageError

ROWS = 120


def columns(seed: int = 0) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    width = chance.normal(size=ROWS)
    kind = np.where(chance.random(ROWS) < 0.5, "winged", "none")
    return {"width": width, "kind": kind, "label": np.where(width > 0, "bee", "ant")}


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "columns": dict,
    "rows": lambda one: pa.table(one).to_pylist(),
    "datasets": lambda one: datasets.Dataset.from_dict({name: values.tolist() for name, values in one.items()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_any_form_are_trained_on_and_distilled(form: str) -> None:
    train, validation = FORMS[form](columns()), FORMS[form](columns(1))
    torch.manual_seed(0)
    teacher, student = nn.LazyLinear(2), nn.LazyLinear(2)
    about: dict[str, Any] = {"epochs": 20, "learning_rate": 0.5, "batch_size": 32}
    trained = instar.train(teacher, train, validation=validation, **about)
    assert trained.metrics[-1]["validation_errors"] < 10
    taught = instar.distill(trained.network, student, train, validation=validation, **about)
    assert taught.metrics[-1]["validation_errors"] < 10
    data, other = row_datasets(train, validation)
    assert other is not None
    assert (len(data), len(other), data.class_names) == (ROWS, ROWS, ("ant", "bee"))
    assert data.example_shape == other.example_shape == (3,)
    assert abs(float(data.gather(data.ids, 0)[:, 0].mean())) < 1e-5  # by its own mean
    assert abs(float(other.gather(other.ids, 0)[:, 0].mean())) > 1e-5  # and the other by that too


def test_all_forms_are_the_same_data() -> None:
    assert len({row_datasets(FORMS[form](columns()))[0].fingerprint for form in FORMS}) == 1


def test_tensors_arrays_and_loaders_are_taken_too() -> None:
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long()
    forms: list[Any] = [(inputs.numpy(), labels.numpy()), TensorDataset(inputs, labels)]
    for data in forms:
        assert instar.train(nn.Linear(3, 2), data, epochs=1).num_steps == 1
    with pytest.warns(DataWarning, match="its data set is taken"):
        instar.train(nn.Linear(3, 2), DataLoader(TensorDataset(inputs, labels), batch_size=8), epochs=1)


def test_what_cannot_be_guessed_or_used_is_said() -> None:
    unnamed = {"width": [1.0, 2.0], "of": ["a", "b"]}
    with pytest.raises(UsageError, match=r"which column is the class\?.*instar.load_data\(rows, label=\.\.\."):
        instar.train(nn.LazyLinear(2), unnamed, epochs=1)
    frame = pd.DataFrame(columns())
    with pytest.raises(UsageError, match="validation: expected rows with the columns of train, found"):
        instar.train(nn.LazyLinear(2), frame, validation=(torch.zeros(2, 3), torch.tensor([0, 1])), epochs=1)
    other = pd.DataFrame(columns(1))
    other.loc[3, "label"] = "wasp"
    with pytest.raises(DataError, match="the validation rows, row 3: class 'wasp' of 'label' is not one"):
        instar.train(nn.LazyLinear(2), frame, validation=other, epochs=1)
    other = pd.DataFrame(columns(1)).drop(columns="kind")
    with pytest.raises(DataError, match="the validation rows: there is no column 'kind', which the training rows"):
        instar.train(nn.LazyLinear(2), frame, validation=other, epochs=1)
