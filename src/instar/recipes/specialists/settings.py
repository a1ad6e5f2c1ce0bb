"""The configuration of `instar specialists`, and how it is read."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.recipes.settings import (
    CandidateTemperatures,
    CandidateWeights,
    DataSettings,
    FitSettings,
    Settings,
    checked,
    merge,
    read_config_file,
)

_Count = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Control = Literal["longer", "random", "ensemble", "mixture", "full-softmax"]
CONTROLS: tuple[Control, ...] = ("longer", "random", "ensemble", "mixture", "full-softmax")


class SetSettings(Settings):
    """Which class sets; of several, validation chooses."""

    method: Literal["overlapping", "balanced", "kmeans"] = "overlapping"
    num_sets: _Count
    classes_per_set: Annotated[int, Field(ge=2)]

    @property
    def slug(self) -> str:
        """`overlapping-10x15`."""
        return f"{self.method}-{self.num_sets}x{self.classes_per_set}"


class SpecialistSettings(Settings):
    """How a specialist learns; all else is as the generalist's."""

    epochs: _Count
    """over the examples of its class set, with as many of the others"""
    learning_rate: _Positive
    trainable_layers: _Count | None = None
    """how many last layers learn; the others keep the generalist's weights. None: all"""


class Teaching(NamedTuple):
    """What a student may be taught with."""

    temperature: float
    hard_weight: float


class DistillBackSettings(Settings):
    """One network of the generalist's size, taught with the combined soft targets.

    Of several temperatures and weights of the labels validation chooses, with a generalist of its own.
    """

    epochs: _Count
    learning_rate: _Positive
    temperature: CandidateTemperatures = [2.0]
    soft_weight: Annotated[float, Field(ge=0)] = 1.0
    hard_weight: CandidateWeights = [0.1]
    num_views: _Count | None = None
    """of each example for which the combined soft targets are stored. None: 8 where there are views, else 1"""

    @property
    def candidates(self) -> list[Teaching]:
        """Every temperature with every weight of the labels."""
        return list(itertools.starmap(Teaching, itertools.product(self.temperature, self.hard_weight)))


class SpecialistsConfig(Settings):
    """The configuration of `instar specialists` and of `instar reproduce specialists`."""

    scale: str | None = None
    data: DataSettings = DataSettings()
    generalist: FitSettings
    specialist: SpecialistSettings
    sets: Annotated[list[SetSettings], Field(min_length=1)]
    """of several, validation chooses, with a generalist of its own"""
    top_n: Annotated[list[int], Field(min_length=1)] = [1]
    """how many of the generalist's classes choose the specialists; of several, validation chooses"""
    distill: DistillBackSettings | None = None
    controls: list[Control] = list(CONTROLS)
    mixture: str
    """experts and gate, of about the specialists' cost: mixture:2/mlp:16x1/mlp:8x1. `read_config` makes it of the
    generalist's network where that alone is given"""
    seeds: _Count = 5
    """how many generalists, each with its specialists"""
    seed: int = 0
    """the first of them"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.generalist.pretrained or "@" in self.generalist.network:
            raise UsageError(
                "generalist: it is trained here, from several seeds; weights of its own cannot be given"
            )
        if self.generalist.patience is not None or self.generalist.schedule.startswith("step:"):
            raise UsageError(
                "generalist: specialists and controls learn for other numbers of epochs, to which an early stop "
                "(patience) and a step schedule do not carry over; leave patience out, take cosine or constant"
            )
        if self.num_views > 1 and self.generalist.views == "none":
            raise UsageError(
                f"distill.num_views is {self.num_views}, but there are no views (generalist.views is none): leave "
                "it out, or give views"
            )
        for number in self.top_n:
            if number < 1:
                raise UsageError(
                    f"top_n is {number}, expected at least 1: that many classes choose the specialists"
                )
        lists: dict[str, list[Any]] = {"sets": [one.slug for one in self.sets], "top_n": self.top_n}
        if self.distill is not None:
            lists |= {f"distill.{name}": getattr(self.distill, name) for name in ("temperature", "hard_weight")}
        for name, values in lists.items():
            if len(set(values)) < len(values):
                raise UsageError(f"{name} names a candidate twice: {', '.join(map(str, values))}")
        return self

    @property
    def num_views(self) -> int:
        """Of each example for which the student's soft targets are stored."""
        if self.distill is None:
            return 0
        return self.distill.num_views or (1 if self.generalist.views == "none" else 8)

    @property
    def is_tuned(self) -> bool:
        """Whether validation has anything to choose."""
        return len(self.sets) > 1 or len(self.top_n) > 1 or self.is_student_tuned

    @property
    def is_student_tuned(self) -> bool:
        """Whether it has anything to choose for the student."""
        return self.distill is not None and len(self.distill.candidates) > 1


# The digits: a network so small that it confuses some of them.
DEFAULTS: dict[str, Any] = {
    "generalist": {"network": "mlp:12x1", "epochs": 30, "learning_rate": 0.1, "batch_size": 32},
    "specialist": {"epochs": 15, "learning_rate": 0.03},
    "sets": [{"num_sets": 3, "classes_per_set": 4}],
    "top_n": [1, 2],
    "mixture": "mixture:3/mlp:12x1/mlp:6x1",
    "seeds": 4,
}

DISTILL_DEFAULTS: dict[str, Any] = {"epochs": 60, "learning_rate": 0.1, "temperature": 2.0}


def read_config(
    typed: Mapping[str, Any], config_file: Path | None = None, *, distill: bool = False
) -> SpecialistsConfig:
    """Defaults, then a TOML file, then what was typed.

    Args:
        typed: nested settings; None means not typed.
        config_file: a TOML file, or the `config.toml` of a run.
        distill: whether a network is taught with the combined soft targets.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong.
    """
    file = read_config_file(config_file)
    content = _with_set(merge(file, {**typed, "sets": None}), typed.get("sets"))
    if typed.get("mixture") is None and _network_of(file) not in (None, _network_of(content)):
        content.pop("mixture", None)  # it is of the file's network
    if not distill and not content.get("distill"):
        content.pop("distill", None)
    defaults = {**DEFAULTS, "distill": DISTILL_DEFAULTS} if distill or content.get("distill") else DEFAULTS
    config = checked(SpecialistsConfig, merge(defaults, content))
    network = config.generalist.network
    if content.get("mixture") is not None or network == DEFAULTS["generalist"]["network"]:
        return config
    if network.startswith("python:"):  # no expert can be built of it
        rest = [control for control in config.controls if control != "mixture"]
        return config.model_copy(update={"controls": rest}) if content.get("controls") is None else config
    # The default mixture is of the default's size: a large generalist's cost would buy it thousands of epochs.
    return config.model_copy(update={"mixture": f"mixture:2/{network}/{network}"})


def _network_of(content: Mapping[str, Any]) -> Any:
    return (content.get("generalist") or {}).get("network")


def _with_set(content: dict[str, Any], typed: Any) -> dict[str, Any]:
    """What was typed of the class sets: parts of one candidate change each one that there is."""
    if not isinstance(typed, Mapping):
        return content if typed is None else {**content, "sets": typed}
    if all(value is None for value in typed.values()):
        return content
    candidates = content.get("sets") or DEFAULTS["sets"]
    changed = [merge(one, typed) for one in candidates if isinstance(one, Mapping)]
    return {**content, "sets": list({str(one): one for one in changed}.values())}
