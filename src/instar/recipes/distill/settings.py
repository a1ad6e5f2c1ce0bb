"""The configuration of `instar distill`, and how it is read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from instar.distillation import SoftTargetStore
from instar.errors import UsageError
from instar.recipes.settings import (
    CandidateTemperatures,
    CandidateWeights,
    DataSettings,
    FitSettings,
    Settings,
    StudentSettings,
    TransferSettings,
    checked,
    merge,
    read_config_file,
)


class DistillConfig(Settings):
    """The configuration of `instar distill`."""

    data: DataSettings = DataSettings()
    teacher: FitSettings = FitSettings(network="mlp:1200x2", epochs=40, learning_rate=0.05)
    """of several networks, with commas between them, an ensemble teaches"""
    teachers: Annotated[int, Field(ge=1)] = 1
    """how many of each network, with seeds of their own: an ensemble"""
    ensemble_mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """of the members' probabilities"""
    targets: str | None = None
    """a folder of stored soft targets, in place of a teacher"""
    student: StudentSettings = StudentSettings(network="mlp:8x1", learning_rate=[0.03, 0.1])
    """taught twice: alone and distilled"""
    transfer: TransferSettings = TransferSettings()
    """what the students learn from; the teacher learns from all training examples"""
    temperature: CandidateTemperatures = [2.0, 4.0, 8.0]
    """of the soft targets, `inf` to match logits; of several, validation chooses"""
    soft_weight: CandidateWeights = [1.0]
    hard_weight: CandidateWeights = [0.1]
    label_weight: CandidateWeights = [0.0]
    """of the labels in the soft targets that they modify: the other way to use them"""
    fit_bias: Literal["missing", "present"] | None = None
    """which classes' bias validation moves, where the transfer set lacks classes"""
    bias_per_class: bool = False
    """one bias for each of these classes, not one for all"""
    seeds: Annotated[int, Field(ge=1)] = 5
    """how many students of each kind are reported"""
    seed: int = 0
    """the first of them; teachers have seeds of their own, which it moves too"""
    tuning_seeds: Annotated[int, Field(ge=1)] = 2
    """how many other seeds validation chooses with"""

    @property
    def control(self) -> TransferSettings:
        """What the student alone learns from: the same examples with their labels.

        A folder's pictures never had any: the control then learns from all training examples.
        """
        if self.transfer.folder is not None:
            return TransferSettings(num_views=self.transfer.num_views)
        return self.transfer.model_copy(update={"labelled": 1.0})

    @property
    def candidates(self) -> dict[str, list[float]]:
        """The settings of which validation may choose, by name."""
        names = ("temperature", "soft_weight", "hard_weight", "label_weight")
        return {"learning_rate": self.student.learning_rate, **{name: getattr(self, name) for name in names}}

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for name, values in self.candidates.items():
            if len(set(values)) < len(values):
                raise UsageError(f"{name} names a value twice: {', '.join(f'{value:g}' for value in values)}")
        self._check_weights()
        self._check_transfer()
        return self

    def _check_weights(self) -> None:
        if 0 in self.soft_weight and 0 in self.hard_weight:
            raise UsageError("soft_weight and hard_weight are both 0: nothing to learn from")
        if any(weight > 1 for weight in self.label_weight):
            raise UsageError(f"label_weight is {max(self.label_weight):g}, expected from 0 to 1")
        if math.inf in self.temperature and any(self.label_weight):
            raise UsageError("temperature inf matches logits, and label_weight cannot go into logits; set it to 0")

    def _check_transfer(self) -> None:
        transfer = self.transfer
        if transfer.validation_too:
            raise UsageError("transfer.validation_too: validation chooses here, so nothing learns from it")
        if (transfer.folder is not None or transfer.labelled == 0) and 0 in self.soft_weight:
            raise UsageError("soft_weight is 0 and the transfer set has no labels: nothing to learn from")
        if transfer.folder is not None or transfer.labelled == 0:
            for name in ("hard_weight", "label_weight"):
                if len(getattr(self, name)) > 1:
                    raise UsageError(f"{name} has several values, but the transfer set has no labels: give one")
        if transfer.folder is not None:
            given = transfer.model_dump(exclude={"folder", "fraction", "seed", "num_views"}, exclude_defaults=True)
            if given:
                raise UsageError(
                    f"transfer.{next(iter(given))} and transfer.folder: a folder's pictures have no labels"
                )
            if self.fit_bias:
                raise UsageError("fit_bias: which classes a folder's pictures lack cannot be known without labels")
        if self.bias_per_class and not self.fit_bias:
            raise UsageError("bias_per_class needs fit_bias: missing or present")


_DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist": {
        "teacher": {"views": "jitter:2"},
        "student": {"learning_rate": [0.01, 0.03]},
        "temperature": [1, 2, 4],
    }
}
"""Where other data than the digits start from; found on their validation examples."""


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> DistillConfig:
    """Defaults that fit the data and the stored targets, then a TOML file, then what was typed.

    Args:
        typed: nested settings; None means not typed.
        config_file: a TOML file, or the `config.toml` of a run.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong; or there is no such store.
    """
    content = merge(read_config_file(config_file), typed)
    base = DistillConfig().model_dump()
    data = merge(base, content)["data"]
    name = data["name"] if isinstance(data, Mapping) else None
    defaults = merge(base, _DEFAULTS.get(str(name), {}))
    if content.get("targets") is not None:
        teacher = typed.get("teacher")
        if isinstance(teacher, Mapping) and teacher.get("network") is not None:
            raise UsageError("--teacher and --targets: give one of them, stored targets need no teacher")
        defaults = merge(defaults, _store_defaults(str(content["targets"])))
    return checked(DistillConfig, merge(defaults, content))


def _store_defaults(path: str) -> dict[str, Any]:
    """What a store decides: its split, both students see its views, and one of the top k has its temperatures."""
    store = SoftTargetStore.open(path)
    data = {"view_seed": store.view_seed}
    if store.settings.split is not None:
        data |= {key: store.settings.split[key] for key in ("split_seed", "validation_fraction")}
    defaults: dict[str, Any] = {"student": {"views": store.views}, "data": data}
    if store.views != "none":
        defaults["transfer"] = {"num_views": store.num_views}
    return defaults if store.top_k is None else {**defaults, "temperature": list(store.temperatures)}
