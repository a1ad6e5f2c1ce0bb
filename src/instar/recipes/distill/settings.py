"""The configuration of `instar distill`, and how it is read."""

import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from instar.errors import UsageError
from instar.recipes.settings import (
    CandidateTemperatures,
    CandidateWeights,
    Count,
    DataSettings,
    LossSettings,
    Settings,
    StudentSettings,
    TeacherSettings,
    TransferSettings,
    checked,
    merge,
    read_config_file,
)

_LOSS = tuple(LossSettings.model_fields)
"""The settings of the loss that may have several values."""


class Candidate(Settings):
    """One way to fit a student; of several the best on validation is used."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """the learning rate"""
    loss: LossSettings | None = None
    """temperature and weights; without them the student learns from labels alone"""

    @property
    def settings(self) -> dict[str, float]:
        """Its values by name: `learning_rate`, `temperature`, `soft_weight`, ..."""
        return {"learning_rate": self.learning_rate, **dict(self.loss or ())}

    def slug(self, keys: Iterable[str]) -> str:
        """`learning-rate-0.1-temperature-4`."""
        return "-".join(f"{key.replace('_', '-')}-{self.settings[key]:g}" for key in keys)


class DistillConfig(Settings):
    """The configuration of `instar distill`."""

    data: DataSettings = DataSettings()
    """the data set"""
    teacher: TeacherSettings = TeacherSettings(network="mlp:1200x2", epochs=40)
    """the large network, or a trained one (RUN:teacher, NAME@WEIGHTS); several with commas are an ensemble"""
    teachers: Count = 1
    """how many teachers of each network, with different seeds: an ensemble"""
    ensemble_mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """mean of the probabilities of an ensemble"""
    targets: str | None = None
    """folder of stored soft targets, in place of a teacher"""
    student: StudentSettings = StudentSettings(network="mlp:8x1")
    """the small network, trained alone and distilled"""
    transfer: TransferSettings = TransferSettings()
    """what the students learn from; the teacher learns from all training examples"""
    temperature: CandidateTemperatures = [2.0, 4.0, 8.0]
    """temperature of the soft targets, inf to match logits; of several the best on validation is used"""
    soft_weight: CandidateWeights = [1.0]
    """weight of the soft targets"""
    hard_weight: CandidateWeights = [0.1]
    """weight of the labels, beside the soft targets"""
    label_weight: CandidateWeights = [0.0]
    """weight of the labels mixed into the soft targets"""
    fit_bias: Literal["missing", "present"] | None = None
    """where the transfer set lacks classes: fit the bias of the missing or of the present ones on validation"""
    bias_per_class: bool = False
    """fit a bias for each of these classes in place of one for all"""
    seeds: Count = 5
    """number of students of each kind in the result"""
    seed: int = 0
    """the first seed of the students; it moves the teachers' seeds too"""
    tuning_seeds: Count = 2
    """number of other seeds by which candidates are compared on validation"""
    quick: Annotated[Literal[True] | None, BeforeValidator(lambda value: value or None)] = None
    """a first look: one seed, fewer epochs, one temperature, and one short round of search for learning rates"""

    @property
    def control(self) -> TransferSettings:
        """What the student alone learns from: the same examples with all their labels.

        The pictures of a folder have no labels: the control then learns from all training examples.
        """
        if self.transfer.folder is not None:
            return TransferSettings(num_views=self.transfer.num_views)
        return self.transfer.model_copy(update={"labelled": 1.0})

    @property
    def losses(self) -> list[LossSettings]:
        """All combinations of temperature and weights."""
        return [
            LossSettings(**dict(zip(_LOSS, values, strict=True)))
            for values in itertools.product(*(getattr(self, key) for key in _LOSS))
        ]

    @property
    def middle_loss(self) -> LossSettings:
        """The one with the middle value of each: at this loss a learning rate is searched for."""
        return LossSettings(
            **{key: sorted(getattr(self, key))[(len(getattr(self, key)) - 1) // 2] for key in _LOSS}
        )

    @property
    def alone(self) -> list[Candidate]:
        """The candidates of the student alone: the same learning rates as those of the distilled one."""
        return [Candidate(learning_rate=rate) for rate in self.student.learning_rate or ()]

    @property
    def distilled(self) -> list[Candidate]:
        """The candidates of the distilled student: all combinations."""
        rates = self.student.learning_rate or ()
        return [Candidate(learning_rate=rate, loss=loss) for loss in self.losses for rate in rates]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        several = {key: getattr(self, key) for key in _LOSS} | {"learning_rate": self.student.learning_rate or []}
        for name, values in several.items():
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
            raise UsageError(
                "transfer.validation_too: validation selects the candidates, so nothing learns from it"
            )
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
    "mnist": {"teacher": {"views": "jitter:2"}, "temperature": [1.0, 2.0, 4.0]}
}
"""Defaults of data sets that need others than the digits; found on their validation examples."""


_QUICK = {"teacher": {"epochs": 10}, "student": {"epochs": 30}}
"""Half a student's epochs and a quarter of a teacher's: what a first look saves beside having one seed."""


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> DistillConfig:
    """Defaults that fit the data and the stored targets, overridden by a TOML file, overridden by what was typed.

    Args:
        typed: nested settings; None means not typed.
        config_file: a TOML file, or the `config.toml` of a run.

    Raises:
        UsageError: a key is unknown or its value is wrong (the first is named), or there is no such store.
    """
    content = merge(read_config_file(config_file), typed)
    base = DistillConfig().model_dump()
    data = merge(base, content)["data"]
    name = data["name"] if isinstance(data, Mapping) else None
    defaults = merge(base, _DEFAULTS.get(str(name), {}))
    if content.get("targets") is not None:
        teacher = typed.get("teacher")
        if isinstance(teacher, Mapping) and teacher.get("network") is not None:
            raise UsageError("--teacher and --targets: give one of them; stored targets need no teacher")
        defaults = merge(defaults, _store_defaults(str(content["targets"])))
    if content.get("quick"):
        middle = sorted(defaults["temperature"], key=float)[(len(defaults["temperature"]) - 1) // 2]
        defaults = merge(defaults, {"seeds": 1, "tuning_seeds": 1, "temperature": [middle], **_QUICK})
    return checked(DistillConfig, merge(defaults, content))


def _store_defaults(path: str) -> dict[str, Any]:
    """What a store decides: the split, the views of both students, and the temperatures of a top-k store."""
    from instar.distillation import SoftTargetStore

    store = SoftTargetStore.open(path)
    data = {"view_seed": store.view_seed}
    if store.settings.split is not None:
        data |= {key: store.settings.split[key] for key in ("split_seed", "validation_fraction")}
    defaults: dict[str, Any] = {"student": {"views": store.views}, "data": data}
    if store.views != "none":
        defaults["transfer"] = {"num_views": store.num_views}
    return defaults if store.top_k is None else {**defaults, "temperature": list(store.temperatures)}
