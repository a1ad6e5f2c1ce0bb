"""Normalisation where layers are copied from one task to another."""

from pathlib import Path
from typing import Any

import pytest
import torch

from instar.errors import DataWarning, UsageError
from instar.recipes.advise.recipe import STUDY as ADVISE
from instar.recipes.advise.settings import read_config as advise_config
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution, run_study
from instar.recipes.transfer.settings import read_config as transfer_config
from instar.recipes.transfer.tasks import check_tasks, splits_of
from small_studies import SMALL, distilled

DIGITS: dict[str, Any] = {"name": "digits"}


def advise(path: Path, **settings: Any) -> None:
    run_study(ADVISE, advise_config(settings), path, Execution(quiet=True))


def test_halves_of_one_data_set_see_the_same_inputs() -> None:
    data = {**DIGITS, "normalise": "data"}
    (split,) = splits_of(transfer_config({"data": data, "splits": 1}))
    whole = load_splits(DataSettings(**data)).train
    for task in split.tasks.values():
        part = load_splits(task).train
        assert part.normalisation == whole.normalisation
        assert torch.equal(part.gather(part.ids[:9], 0), whole.gather(part.ids[:9], 0))


def test_tasks_of_which_one_is_normalised_are_warned_about() -> None:
    config = {"data": DIGITS, "source": {**DIGITS, "normalise": "data"}, "splits": 1}
    with pytest.warns(DataWarning, match="are normalised, those of digits are not: .* --source-normalise data"):
        check_tasks(splits_of(transfer_config(config)))
    check_tasks(splits_of(transfer_config(config | {"data": config["source"]})))


def test_a_base_of_another_normalisation_is_refused_with_the_option_that_gives_the_same(tmp_path: Path) -> None:
    teacher = {"network": "mlp:8x1", "epochs": 1}
    distilled(tmp_path / "run", **SMALL | {"seeds": 1}, teacher=teacher, data={**DIGITS, "normalise": "0.5/0.25"})
    network, target = f"{tmp_path / 'run'}:teacher", {**DIGITS, "classes": ["0", "1"]}
    with pytest.raises(UsageError, match=r"read these the same way: --normalise 0\.5/0\.25$"):
        advise(tmp_path / "advice", network=network, data=target)
