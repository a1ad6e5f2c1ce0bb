"""From the configuration of `instar transfer` come its tasks and its jobs: bases first, then what copies them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from instar.errors import UsageError
from instar.jobs import Job
from instar.networks import layers_of, name_layers_, trace
from instar.optimisation import stretched_schedule
from instar.recipes.fitting import build_for, fit_job, load_splits
from instar.recipes.settings import DataSettings
from instar.recipes.transfer.jobs import treatment_job
from instar.recipes.transfer.settings import TransferConfig
from instar.transfer import (
    Halves,
    Treatment,
    check_cut,
    check_forward,
    copied_weights,
    known_parents,
    listed_halves,
    parent_halves,
    possible_cuts,
    random_halves,
    read_parents,
    semantic_halves,
    treatments_of,
)

TREATMENT_SEED = 1000  # the upper layers of treatments start elsewhere than those of the bases that they copy


class Network(NamedTuple):
    """One network of the study: the name of its job, and what it is."""

    job: str
    split: int
    target: str
    kind: str
    n: int


@dataclass(frozen=True)
class Plan:
    """A configuration and where it is run."""

    config: TransferConfig
    path: Path
    device: str = "cpu"
    folder: str = ""
    """below `jobs/`, of a plan that shares its run directory with others: `convnet/`"""

    @cached_property
    def _network(self) -> tuple[nn.Module, Tensor]:
        """With what it is to be run on."""
        splits = load_splits(self.config.data)
        network = build_for(self.config.network, splits, seed=0)
        if self.config.layers is not None:
            name_layers_(network, self.config.layers)
        check_forward(network, self.config.network.network, splits)
        return network, splits.train.gather(splits.train.ids[:2], 0)

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """Of the network, first to last: name, shape of what it gives for one example, weights."""
        network, example_input = self._network
        shapes = {call.name: _shape(call.output) for call in trace(network, example_input)}
        return [
            {"name": layer.name, "shape": shapes.get(layer.name, []), "parameters": layer.num_parameters}
            for layer in layers_of(network, example_input)
        ]

    @cached_property
    def cuts(self) -> list[int]:
        """How many layers are copied; by default wherever the next layer has weights to learn."""
        if self.config.cuts is not None:
            return self.config.cuts
        return possible_cuts(self._copied)

    @cached_property
    def _copied(self) -> list[int]:
        network, example_input = self._network
        return copied_weights(network, example_input)

    @property
    def splits(self) -> range:
        """The seeds of the replicates."""
        return range(self.config.seed, self.config.seed + self.config.splits)

    def halves(self, split: int) -> Halves | None:
        """The classes of both tasks; None where these are two data sets."""
        config = self.config
        if config.source is not None:
            return None
        names = load_splits(config.data).class_names
        how, parents = config.halves.how, self._parents(names)
        if how == "lists":
            return listed_halves(names, config.halves.a, config.halves.b)
        if how == "semantic":
            return semantic_halves(names, seed=split)
        if how == "parents":
            return parent_halves(names, parents, seed=split, a=config.halves.a, b=config.halves.b)
        return random_halves(names, seed=split, classes_per_half=config.halves.classes_per_half, parents=parents)

    def _parents(self, names: Sequence[str]) -> dict[str, str]:
        file = self.config.halves.parents
        parents = known_parents(names) if file is None else read_parents(Path(file), names)
        if self.config.halves.how == "parents" and not parents:
            raise UsageError("halves by parents: name a file with the parent of each class (--parents FILE)")
        return parents

    def task(self, split: int, letter: str) -> DataSettings:
        """The data of task A or B."""
        halves = self.halves(split)
        if halves is None:
            return self.config.source or self.config.data if letter == "A" else self.config.data
        return self.config.data.model_copy(update={"classes": halves.classes(letter)})

    def check(self) -> None:
        """Refuse what could not be run to its end.

        Raises:
            UsageError: a cut that leaves nothing to learn, examples of two forms, too few of them, a base that
                would begin as its treatments.
        """
        for split in self.splits:
            if TREATMENT_SEED + split in (_base_seed(split, "A"), _base_seed(split, "B")):
                raise UsageError(
                    f"split {split}: its treatments would begin as a base that they copy, from seed "
                    f"{TREATMENT_SEED + split}; choose another --seed"
                )
        names = [layer["name"] for layer in self.layers]
        if len(names) < 2:
            raise UsageError(
                f"{self.config.network.network} was run and has one stage, {names[0]}: name layers "
                "inside it with --layers NAME,NAME"
            )
        if not self.cuts:
            raise UsageError(
                f"{self.config.network.network} has nowhere to be cut: its layers are {', '.join(names)}; it "
                "needs two with weights"
            )
        for n in self.cuts:
            check_cut("cuts", n, names)
            if not 0 < self._copied[n - 1] < self._copied[-1]:
                lacks = "to learn after it" if self._copied[n - 1] else "to copy before it"
                weighted = ", ".join(layer["name"] for layer in self.layers if layer["parameters"])
                raise UsageError(
                    f"cuts: n is {n}, with no weights {lacks}: of the layers {', '.join(names)} those with "
                    f"weights are {weighted}"
                )
        tasks = [load_splits(self.task(split, letter)) for split in self.splits for letter in "AB"]
        for task in tasks:
            if task.train.example_shape != tasks[0].train.example_shape:
                raise UsageError(
                    f"examples of {tasks[0].name} are {tasks[0].train.example_shape}, of {task.name} "
                    f"{task.train.example_shape}: layers can move between tasks of the same form alone"
                )
            present = set(task.train.labels(task.train.ids).tolist())
            missing = [name for label, name in enumerate(task.class_names) if label not in present]
            if missing:
                raise UsageError(
                    f"{task.name}: no training example of class {missing[0]!r}, and of {len(missing)} of the "
                    f"{len(task.class_names)} classes of a task; {len(task.train)} examples are too few"
                )

    def manifest(self, split: int, letter: str | None = None) -> dict[str, Any]:
        """Which classes fell where; the names of the data sets where these are the tasks."""
        halves = self.halves(split)
        own = {} if letter is None else {"half": letter}
        if halves is None:
            return own | {letter: self.task(split, letter).name for letter in "AB"}
        return own | halves.manifest(load_splits(self.config.data).class_names)

    def networks(self) -> list[Network]:
        """Every network whose accuracy the study reports."""
        made = []
        for split in self.splits:
            for letter in self.config.targets:
                for kind in ("base", "base-long") if self.config.longer else ("base",):
                    made.append(Network(self._base_name(split, letter, kind), split, letter, kind, 0))
            for one in self.treatments:
                made.append(Network(self._name(split, one.name), split, one.target, one.kind, one.n))
        return made

    @property
    def treatments(self) -> list[Treatment]:
        """Of each split."""
        return treatments_of(self.config.treatments, self.cuts, self.config.targets)

    @property
    def base_letters(self) -> list[str]:
        """The tasks that have a base: targets, and sources of what is copied."""
        sources = {one.source for one in self.treatments if one.source is not None}
        return sorted(sources | set(self.config.targets))

    def jobs(self) -> list[Job]:
        """The graph: bases, and the treatments that copy their layers."""
        return [job for split in self.splits for job in self._jobs_of(split)]

    def _jobs_of(self, split: int) -> list[Job]:
        config = self.config
        jobs = []
        for letter in self.base_letters:
            jobs.append(self._base_job(split, letter, "base"))
            if config.longer and letter in config.targets:
                jobs.append(self._base_job(split, letter, "base-long"))
        for one in self.treatments:
            jobs.append(
                treatment_job(
                    self.path,
                    self._name(split, one.name),
                    one,
                    config.network,
                    self.task(split, one.target),
                    base=None if one.source is None else self._base_name(split, one.source, "base"),
                    seed=TREATMENT_SEED + split,
                    copied=config.copied,
                    base_data=None if one.source is None else self.task(split, one.source),
                    layers=config.layers,
                    manifest=self.manifest(split, one.target),
                    device=self.device,
                )
            )
        return jobs

    def _base_job(self, split: int, letter: str, kind: str) -> Job:
        settings: Any = self.config.network
        if kind == "base-long":
            longer = {"epochs": 2 * settings.epochs, "schedule": stretched_schedule(settings.schedule, 2)}
            settings = settings.model_copy(update=longer)
        return fit_job(
            self.path,
            self._base_name(split, letter, kind),
            settings,
            self.task(split, letter),
            seed=_base_seed(split, letter),
            manifest=self.manifest(split, letter),
            device=self.device,
        )

    def base_path(self, split: int, letter: str) -> Path:
        """The run directory of the base that learned task A or B."""
        return self.path / "jobs" / self._base_name(split, letter, "base")

    def _base_name(self, split: int, letter: str, kind: str) -> str:
        return self._name(split, kind.replace("base", f"base{letter}"))

    def _name(self, split: int, name: str) -> str:
        return f"{self.folder}split-{split}/{name}"


def _base_seed(split: int, letter: str) -> int:
    return 2 * split + "AB".index(letter)  # two bases that began alike would be alike for that reason


def _shape(output: Any) -> list[int]:
    """Of one example; of several tensors that of the first."""
    first = next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return list(first.shape[1:])
