"""The networks of `instar transfer` and their jobs: bases first, then the treatments that copy their layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from instar.data import Splits
from instar.errors import UsageError
from instar.jobs import Job
from instar.networks import layers_of, name_layers_, trace
from instar.optimisation import stretched_schedule
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.fitting import fit_job
from instar.recipes.loading import build_for, outline, refuse_weights, try_network
from instar.recipes.rates import TEACHER_ROUNDS, Found, find_rate, round_lengths, settled
from instar.recipes.settings import FitSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import DEFAULT, Execution, Rounds
from instar.recipes.transfer.jobs import treatment_job
from instar.recipes.transfer.settings import TransferConfig
from instar.recipes.transfer.tasks import Split, check_tasks, splits_of
from instar.transfer import (
    Treatment,
    check_cuts,
    check_forward,
    copied_weights,
    possible_cuts,
    treatments_of,
)

MANIFEST = "manifest.json"
TREATMENT_SEED = 1000  # treatments start from other weights than the bases, which have small seeds


class Network(NamedTuple):
    """A network whose accuracy the study reports, and the name of its job."""

    job: str
    split: int
    target: str
    kind: str
    n: int


@dataclass(frozen=True)
class Plan:
    """A configuration, its run directory, and how it is run."""

    config: TransferConfig
    path: Path
    execution: Execution = DEFAULT
    folder: str = ""
    """below `jobs/`, for a plan that shares its run directory with others: `convnet/`"""
    rate: float | None = None
    """the learning rate that was found, where none is given"""

    @cached_property
    def splits(self) -> list[Split]:
        """The replicates, with the two tasks of each."""
        return splits_of(self.config)

    @cached_property
    def settings(self) -> FitSettings:
        """How every network is built and trained; without a learning rate that is not known yet."""
        given = self.config.network
        if given.learning_rate is None:
            given = settled(given, outline(given.at(), self._searched), len(self._searched.train))
        return given.at(given.learning_rate or self.rate)

    @property
    def _searched(self) -> Splits:
        """The task of the base by which the learning rate is found."""
        return load_splits(self.splits[0].tasks[self.base_letters[0]])

    @property
    def lengths(self) -> list[int]:
        """The epochs of the rounds in which the learning rate is found; none where it is given."""
        if self.config.network.learning_rate is not None:
            return []
        steps_per_epoch = math.ceil(len(self._searched.train) / self.settings.batch_size)
        return round_lengths(TEACHER_ROUNDS, self.settings.epochs, steps_per_epoch)

    def find_rate(self) -> Rounds[Found]:
        """The learning rate of every network, by short fits of a base of the first split."""
        split, letter = self.splits[0], self.base_letters[0]

        def job(name: str, settings: FitSettings) -> Job:
            seed, task = TUNING_SEED + _base_seed(split, letter), split.tasks[letter]
            return fit_job(self.path, name, settings, task, seed=seed, device=self.execution.device)

        num_validation = len(self._searched.validation)
        return find_rate("base", self.settings, job, self.path, self.lengths, num_validation)

    @cached_property
    def _network(self) -> tuple[nn.Module, Tensor]:
        """The network, untrained, and an example input."""
        splits = load_splits(self.config.data)
        network = build_for(self.config.network.at(), splits, seed=0)
        if self.config.layers is not None:
            name_layers_(network, self.config.layers)
        check_forward(network, self.config.network.network, splits)
        return network, splits.train.gather(splits.train.ids[:2], 0)

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """The layers, first to last: `name`, `shape` of the output for one example, number of `parameters`."""
        network, example_input = self._network
        shapes = {call.name: _shape(call.output) for call in trace(network, example_input)}
        return [
            {"name": layer.name, "shape": shapes.get(layer.name, []), "parameters": layer.num_parameters}
            for layer in layers_of(network, example_input)
        ]

    @cached_property
    def cuts(self) -> list[int]:
        """The numbers of copied layers; by default every possible cut."""
        return possible_cuts(self._copied) if self.config.cuts is None else self.config.cuts

    @cached_property
    def _copied(self) -> list[int]:
        return copied_weights(*self._network)

    def manifest(self) -> dict[str, Any]:
        """The classes of both halves of every split."""
        return {f"split-{split.seed}": split.manifest() for split in self.splits}

    def check(self) -> None:
        """Refuse a plan that could not be carried out to its end.

        Raises:
            UsageError: a cut leaves nothing to copy or to train, the tasks do not fit each other or lack examples,
                or a base and its treatments have the same seed.
        """
        refuse_weights(self.config.network, "a transfer study", "network")
        for split in self.splits:
            if TREATMENT_SEED + split.seed in (_base_seed(split, "A"), _base_seed(split, "B")):
                raise UsageError(
                    f"split {split.seed}: its treatments would start from the same weights as a base that they "
                    f"copy, with seed {TREATMENT_SEED + split.seed}; choose another --seed"
                )
        name, names = self.config.network.network, [layer["name"] for layer in self.layers]
        check_cuts(name, self.cuts, names, self._copied)
        for letter in self.base_letters:
            try_network(self.config.network.at(), load_splits(self.splits[0].tasks[letter]))
        check_tasks(self.splits)

    @property
    def treatments(self) -> list[Treatment]:
        """The treatments of each split."""
        return treatments_of(self.config.treatments, self.cuts, self.config.targets)

    @property
    def base_letters(self) -> list[str]:
        """The tasks that need a base: targets, and sources of copied layers."""
        sources = {treatment.source for treatment in self.treatments if treatment.source is not None}
        return sorted(sources | set(self.config.targets))

    def networks(self) -> list[Network]:
        """Every network whose accuracy the study reports."""
        made = []
        for split in self.splits:
            for letter in self.config.targets:
                for kind in ("base", "base-long") if self.config.longer else ("base",):
                    made.append(Network(self._base_name(split, letter, kind), split.seed, letter, kind, 0))
            for one in self.treatments:
                made.append(Network(self._name(split, one.name), split.seed, one.target, one.kind, one.n))
        return made

    def jobs(self) -> list[Job]:
        """The jobs of all splits: bases, and the treatments that copy their layers."""
        jobs = []
        for split in self.splits:
            for letter in self.base_letters:
                jobs.append(self._base_job(split, letter, "base"))
                if self.config.longer and letter in self.config.targets:
                    jobs.append(self._base_job(split, letter, "base-long"))
            jobs += [self._treatment_job(split, treatment) for treatment in self.treatments]
        return jobs

    def _treatment_job(self, split: Split, treatment: Treatment) -> Job:
        source = treatment.source
        return treatment_job(
            self.path,
            self._name(split, treatment.name),
            treatment,
            self.settings,
            split.tasks[treatment.target],
            base=None if source is None else self._base_name(split, source, "base"),
            base_data=None if source is None else split.tasks[source],
            copied=self.config.copied,
            layers=self.config.layers,
            seed=TREATMENT_SEED + split.seed,
            manifest=split.manifest(treatment.target),
            device=self.execution.device,
        )

    def _base_job(self, split: Split, letter: str, kind: str) -> Job:
        settings = self.settings
        if kind == "base-long":
            longer = {"epochs": 2 * settings.epochs, "schedule": stretched_schedule(settings.schedule, 2)}
            settings = settings.model_copy(update=longer)
        return fit_job(
            self.path,
            self._base_name(split, letter, kind),
            settings,
            split.tasks[letter],
            seed=_base_seed(split, letter),
            manifest=split.manifest(letter),
            device=self.execution.device,
        )

    def base_path(self, split: Split, letter: str) -> Path:
        """The run directory of the base that was trained on task A or B."""
        return self.path / "jobs" / self._base_name(split, letter, "base")

    def _base_name(self, split: Split, letter: str, kind: str) -> str:
        return self._name(split, kind.replace("base", f"base{letter}"))

    def _name(self, split: Split, name: str) -> str:
        return f"{self.folder}split-{split.seed}/{name}"


def _base_seed(split: Split, letter: str) -> int:
    return 2 * split.seed + "AB".index(letter)  # two bases from the same weights would be alike for that reason


def _shape(output: Any) -> Sequence[int]:
    """The shape of the first tensor of an output, for one example."""
    first = next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return list(first.shape[1:])
