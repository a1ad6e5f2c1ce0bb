"""The configuration of `instar specialists`."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.naming import is_of_library, unknown_name
from instar.recipes.reading_settings import checked, merge, read_config_file
from instar.recipes.scales import choose_scale, load_scale
from instar.recipes.settings import (
    CandidateTemperatures,
    CandidateWeights,
    Count,
    DataSettings,
    FitSettings,
    LossSettings,
    Settings,
)

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Control = Literal["longer", "random", "ensemble", "mixture", "full-softmax", "labels"]
DATA = ("cifar100", "omniglot", "digits")
"""Data sets that have scales."""


class SetSettings(Settings):
    """Class sets; of several candidates the best on validation is used."""

    method: Literal["overlapping", "balanced", "kmeans"] = "overlapping"
    """the classes nearest to each cluster centre, sets of equal size without a common class, or the clusters"""
    num_sets: Count
    """number of class sets, each with a specialist"""
    classes_per_set: Annotated[int, Field(ge=2)]
    """number of classes that a specialist distinguishes"""

    @property
    def slug(self) -> str:
        """`overlapping-10x15`."""
        return f"{self.method}-{self.num_sets}x{self.classes_per_set}"


class SpecialistSettings(Settings):
    """How specialists are trained; all other settings are the generalist's."""

    epochs: Count
    """epochs over the examples of the class set and as many others; half the generalist's by default"""
    learning_rate: _Positive
    """learning rate of the specialists; 0.3 of the generalist's by default"""
    trainable_layers: Count | None = None
    """how many last layers are trained, all by default; the others keep the generalist's weights"""


class Student(LossSettings):
    """How one network is trained on the combined soft targets."""

    epochs: int
    learning_rate: float

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that may be chosen on validation."""
        return self.model_dump(include={"temperature", "hard_weight"})


class DistillBackSettings(Settings):
    """A network of the generalist's size, trained on the combined soft targets.

    Of several temperatures and label weights, the best on the tuning generalist's validation is used.
    """

    epochs: Count
    """epochs of the distilled network; twice the generalist's by default"""
    learning_rate: _Positive
    """learning rate of the distilled network; the generalist's by default"""
    temperature: CandidateTemperatures = [2.0]
    """temperature of the combined soft targets; of several, the best on validation is used"""
    soft_weight: Annotated[float, Field(ge=0)] = 1.0
    """weight of the soft targets"""
    hard_weight: CandidateWeights = [0.1]
    """weight of the labels; of several, the best on validation is used"""
    num_views: Count | None = None
    """views of each example to store soft targets for. By default 8, or 1 without augmentation"""

    @property
    def candidates(self) -> list[Student]:
        """Every temperature with every label weight."""
        shared = self.model_dump(include={"soft_weight", "epochs", "learning_rate"})
        pairs = itertools.product(self.temperature, self.hard_weight)
        return [Student(temperature=one, hard_weight=other, **shared) for one, other in pairs]


class SpecialistsConfig(Settings):
    """The configuration of `instar specialists` and of `instar reproduce specialists`."""

    scale: str | None = None
    """the scale of `instar reproduce specialists`"""
    data: DataSettings = DataSettings()
    """the data"""
    generalist: FitSettings
    """the generalist"""
    specialist: SpecialistSettings
    """the specialists"""
    sets: Annotated[list[SetSettings], Field(min_length=1)]
    """class sets; of several, the best on the tuning generalist's validation is used"""
    top_n: Annotated[list[int], Field(min_length=1)] = [1]
    """how many of the generalist's classes activate specialists; of several, the best on validation is used"""
    distill: DistillBackSettings | None = None
    """distil generalist and specialists into one network"""
    controls: list[Control] = list(get_args(Control))
    """what specialists are compared with, each at about their cost; labels: what the distilled network is compared
    with, for as many epochs"""
    mixture: str
    """the mixture of experts, mixture:EXPERTS/EXPERT/GATE; with another network by default two experts like it"""
    seeds: Count = 5
    """number of generalists, each with its specialists and controls"""
    seed: int = 0
    """the first seed"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        generalist = self.generalist
        if generalist.pretrained or "@" in generalist.network:
            raise UsageError(
                "generalist: it is trained here, from several seeds; weights of its own cannot be given"
            )
        if generalist.patience is not None or generalist.schedule.startswith("step:"):
            raise UsageError(
                "generalist: an early stop (patience) and a step schedule do not carry over to specialists and "
                "controls, which are trained for other numbers of epochs; use cosine or constant without patience"
            )
        if self.num_views > 1 and generalist.views == "none":
            raise UsageError(
                f"distill.num_views is {self.num_views}, but there are no views (generalist.views is none): leave "
                "it out, or set generalist.views"
            )
        candidates: dict[str, list[Any]] = {"sets": [sets.slug for sets in self.sets], "top_n": self.top_n}
        if self.distill is not None:
            candidates["distill.temperature"] = self.distill.temperature
            candidates["distill.hard_weight"] = self.distill.hard_weight
        for name, values in candidates.items():
            if len(set(values)) < len(values):
                raise UsageError(f"{name} names a candidate twice: {', '.join(map(str, values))}")
        return self

    @property
    def num_views(self) -> int:
        """Views of each example for which the student's soft targets are stored; 0 without a student."""
        if self.distill is None:
            return 0
        return self.distill.num_views or (1 if self.generalist.views == "none" else 8)

    @property
    def is_tuned(self) -> bool:
        """Whether there is anything to choose on validation."""
        return len(self.sets) > 1 or len(self.top_n) > 1 or self.is_student_tuned

    @property
    def is_student_tuned(self) -> bool:
        """Whether there is anything to choose for the student."""
        return self.distill is not None and len(self.distill.candidates) > 1


def config_for(scale: str, data: str = "cifar100") -> SpecialistsConfig:
    """The configuration of `instar reproduce specialists` at a scale.

    Raises:
        UsageError: there is no such scale, or it has no settings for this data.

    Example:
        >>> config_for("tiny", "digits").seeds
        2
    """
    if data not in DATA:
        raise unknown_name("data set", data, DATA)
    return checked(SpecialistsConfig, {**choose_scale("specialists", data, scale), "scale": scale})


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> SpecialistsConfig:
    """Defaults, overridden by a TOML file, overridden by `typed`.

    Args:
        typed: nested settings; None leaves the default.
        config_file: a TOML file, or the `config.toml` of a run.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong.
    """
    defaults = load_scale("specialists-digits-small")
    file = read_config_file(config_file)
    content = _with_sets(merge(file, {**typed, "sets": None}), typed.get("sets"), defaults["sets"])
    if typed.get("mixture") is None and _network_of(file) not in (None, _network_of(content)):
        content.pop("mixture", None)  # it was sized for the file's network
    if "distill" not in content:
        defaults.pop("distill")
    config = _in_proportion(checked(SpecialistsConfig, merge(defaults, content)), defaults, content)
    if config.distill is None and "labels" in config.controls:
        if content.get("controls") is not None:
            raise UsageError(
                "controls: labels is what the network distilled back is compared with, and there is none: distil "
                "(--distill), or leave labels out"
            )
        config = config.model_copy(update={"controls": [one for one in config.controls if one != "labels"]})
    network = config.generalist.network
    if content.get("mixture") is not None or network == defaults["generalist"]["network"]:
        return config
    if network.startswith("python:") or is_of_library(network):  # no expert can be built from it
        controls = [control for control in config.controls if control != "mixture"]
        return config.model_copy(update={"controls": controls}) if content.get("controls") is None else config
    # The default mixture is as small as the default network: it would train for thousands of epochs here.
    return config.model_copy(update={"mixture": f"mixture:2/{network}/{network}"})


def _in_proportion(
    config: SpecialistsConfig, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> SpecialistsConfig:
    """Epochs and learning rates that were not given, as many times the generalist's as they are by default.

    The generalist's rate fits its optimiser: AdamW takes a tenth of SGD's, or less.
    """
    own, by_default = config.generalist, defaults["generalist"]
    parts = {"specialist": config.specialist, "distill": config.distill}
    for name, part in parts.items():
        if part is None:
            continue
        left = {"epochs", "learning_rate"} - {
            key for key, value in (given.get(name) or {}).items() if value is not None
        }
        update: dict[str, float] = {}
        if "epochs" in left:
            update["epochs"] = max(1, round(defaults[name]["epochs"] * own.epochs / by_default["epochs"]))
        if "learning_rate" in left:
            rate = defaults[name]["learning_rate"] * own.learning_rate / by_default["learning_rate"]
            update["learning_rate"] = float(f"{rate:.6g}")
        config = config.model_copy(update={name: part.model_copy(update=update)})
    return config


def _network_of(content: Mapping[str, Any]) -> Any:
    generalist = content.get("generalist")
    return generalist.get("network") if isinstance(generalist, Mapping) else None


def _with_sets(content: dict[str, Any], typed: Any, defaults: list[dict[str, Any]]) -> dict[str, Any]:
    """The class sets that were typed: a list replaces the candidates, a table changes a part of each one."""
    if not isinstance(typed, Mapping):
        return content if typed is None else {**content, "sets": typed}
    if all(value is None for value in typed.values()):
        return content
    candidates = content.get("sets") or defaults
    changed = [merge(candidate, typed) for candidate in candidates if isinstance(candidate, Mapping)]
    return {**content, "sets": list({str(candidate): candidate for candidate in changed}.values())}
