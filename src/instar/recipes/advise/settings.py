"""The configuration of `instar advise`, and how it is read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.naming import is_of_library
from instar.recipes.reading_settings import check_source, checked, merge, read_config_file
from instar.recipes.settings import Count, DataSettings, FitSettings, Settings
from instar.recipes.transfer.settings import CopySettings
from instar.runs import is_run

_Share = Annotated[float, Field(gt=0, lt=1)]


class TrainingSettings(FitSettings):
    """How a network is trained whose architecture `network` of the advisor's configuration decides."""

    network: str = "as in network"


class SearchSettings(Settings):
    """How the advisor searches."""

    copied: CopySettings = CopySettings()
    num_cuts: Count = 3
    """number of cuts in the first round; the deepest is always one of them"""
    rounds: Annotated[list[_Share], Field(min_length=1)] = [0.1, 0.3]
    """budgets of the rounds of successive halving: epochs as a share of those of a full fit"""
    keep: _Share = 1 / 3
    """share of the treatments that each round keeps"""
    finalists: Count = 2
    """how many treatments of the last round are fitted in full, for validation to choose from"""

    @model_validator(mode="after")
    def _rounds_increase(self) -> Self:
        if self.rounds != sorted(self.rounds):
            raise UsageError(f"rounds must increase from one to the next, found {self.rounds}")
        return self


class AdviseConfig(SearchSettings):
    """The configuration of `instar advise`."""

    network: str = "mlp:64x3"
    """a trained network (RUN:job, NAME@WEIGHTS, python:MODULE:FUNCTION), or one to train on the source first"""
    source: DataSettings | None = None
    """data to train a network without weights on first; a module of your own is re-initialised for it"""
    data: DataSettings = DataSettings(validation_fraction=0.3)
    """the target"""
    examples_per_class: Annotated[int, Field(ge=2)] | None = None
    """examples of each class of the target, on average, for training and validation together; by default all"""
    base: TrainingSettings = TrainingSettings(epochs=30)
    """how a network without weights is trained on the source"""
    fit: TrainingSettings = TrainingSettings(epochs=60, batch_size=16, learning_rate=0.03)
    """how a network is trained on the target: `epochs` of a full fit"""
    seeds: Count = 1
    """full fits of each finalist"""
    seed: int = 0
    """the first seed"""
    controls: bool = False
    """also train the head alone, fine-tune everything, and train from scratch, for comparison"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for name in ("base", "fit"):
            if getattr(self, name).pretrained:
                raise UsageError(f"{name}.pretrained is for teachers; give a network that has weights instead")
        if self.examples_per_class is not None and self.data.fraction < 1:
            raise UsageError("examples_per_class and data.fraction: give one of them")
        if self.source is not None and has_weights(self.network) and not self.is_module:
            raise UsageError(
                f"network {self.network} comes with weights, so it cannot be trained on source {self.source.name} "
                "first: give one of them"
            )
        if self.source is None and not has_weights(self.network):
            raise UsageError(
                f"network {self.network} has no weights: give one that has (RUN:job, NAME@WEIGHTS, "
                "python:MODULE:FUNCTION), or a source to train it on first"
            )
        return self

    @property
    def is_module(self) -> bool:
        """Whether the network is a user's module or a library's that brings its own weights."""
        if is_of_library(self.network):
            return has_weights(self.network)
        return self.network.startswith("python:") and "@" not in self.network

    @property
    def published_as(self) -> str:
        """`advise-NETWORK-DATA-EXAMPLES`, without modules and files of weights."""
        names = (self.network.partition("@")[0], self.data.name)
        is_long = [name.startswith("python:") or is_of_library(name) for name in names]
        short = [re.split("[:/]", name)[-1] if long else name for name, long in zip(names, is_long, strict=True)]
        return "-".join(["advise", *short, str(self.examples_per_class or "all")])


def has_weights(network: str) -> bool:
    """Whether a name stands for a trained network and not for an architecture alone."""
    if is_of_library(network):
        from instar.networks import brings_weights  # imports torch

        return brings_weights(network)
    return "@" in network or network.startswith("python:") or is_run(network)


_NONE_TO_FOUR = DataSettings(name="digits", classes=tuple("01234")).model_dump()
_FIVE_TO_NINE = {"name": "digits", "classes": tuple("56789")}


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> AdviseConfig:
    """Defaults, overridden by a TOML file, then by `typed`; without any data, from the digits 0-4 to 5-9.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong.
    """
    content = merge(read_config_file(config_file), typed)
    check_source(content)
    defaults = AdviseConfig.model_construct().model_dump()
    is_trained = has_weights(str(content.get("network", defaults["network"])))
    data = content.get("data", {})
    if isinstance(data, Mapping) and not data.get("name") and not content.get("source"):
        defaults = merge(defaults, {"data": _FIVE_TO_NINE, "examples_per_class": 20})
        defaults["source"] = None if is_trained else _NONE_TO_FOUR
    if content.get("source"):
        defaults["source"] = DataSettings().model_dump()
    return checked(AdviseConfig, merge(defaults, content))
