"""The pairs of tasks of `instar reproduce advise`, and a plan of the advisor for each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.settings import AdviseConfig, SearchSettings, TrainingSettings
from instar.recipes.reading_settings import checked
from instar.recipes.scales import choose_scale
from instar.recipes.settings import DataSettings, Settings
from instar.recipes.study import Execution


class Pair(Settings):
    """Two tasks: classes of the same data."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    examples: list[int]
    """of each class of the target; a pair for each number"""


class Family(Settings):
    """Pairs of tasks on the same data, with the same network."""

    source: DataSettings
    data: DataSettings
    """of the target"""
    network: str
    base: TrainingSettings
    fit: TrainingSettings
    pairs: dict[str, Pair]


class JudgeConfig(Settings):
    """The configuration of `instar reproduce advise`."""

    scale: str
    families: dict[str, Family]
    search: SearchSettings = SearchSettings()
    seeds: Annotated[int, Field(ge=2)]
    """of each treatment in the full study"""

    @property
    def pairs(self) -> dict[str, AdviseConfig]:
        """What the advisor is asked, by name: data, source to target, examples of each class of the target."""
        return {
            f"{family.data.name} {name}, {examples}": AdviseConfig(
                **dict(self.search),
                network=family.network,
                source=family.source.model_copy(update={"classes": pair.source}),
                data=family.data.model_copy(update={"classes": pair.target}),
                examples_per_class=examples,
                base=family.base,
                fit=family.fit,
                seeds=self.seeds,
            )
            for family in self.families.values()
            for name, pair in family.pairs.items()
            for examples in pair.examples
        }

    @model_validator(mode="after")
    def _has_no_pair_twice(self) -> Self:
        num_pairs = sum(len(pair.examples) for one in self.families.values() for pair in one.pairs.values())
        if len({str(config) for config in self.pairs.values()}) < num_pairs:
            raise UsageError("two pairs of tasks are the same")
        return self


def config_for(scale: str) -> JudgeConfig:
    """The pairs at a scale: `tiny` for tests, `small` in half an hour, `full` in hours.

    Raises:
        UsageError: there is no such scale.
    """
    return checked(JudgeConfig, choose_scale("advise", "", scale))


Plans = Mapping[str, Plan]
"""A plan of the advisor for each pair, all in one run directory."""


def plans_for(config: JudgeConfig, path: Path, execution: Execution) -> Plans:
    """The plans of all pairs."""
    folders = {name: name.replace(", ", "-").replace(" ", "-") + "/" for name in config.pairs}
    return {name: Plan(pair, path, execution, folders[name]) for name, pair in config.pairs.items()}
