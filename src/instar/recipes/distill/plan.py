"""From the configuration of `instar distill` come its jobs: teachers, candidates for validation, students."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from instar.data import parse_views
from instar.distillation import SoftTargetStore, fit_class_bias
from instar.errors import UsageError
from instar.jobs import Job
from instar.metrics import SeedStatistics
from instar.recipes.distill.jobs import correct_, correction_job
from instar.recipes.distill.settings import DistillConfig
from instar.recipes.fitting import (
    adopt_job,
    build_for,
    fit_job,
    is_run,
    load_network,
    load_splits,
    logits_job,
    member_specs,
    training_data,
)
from instar.recipes.settings import FitSettings, SoftSettings, checked
from instar.runs import Run, find_run

TUNING_SEED = 10_000  # tuning uses seeds from here on: none of them is ever reported
TEACHER_SEED = 20_000  # and teachers from here on: one seed gives networks of different widths equal first weights
KINDS = ALONE, DISTILLED = "student-alone", "student-distilled"
CORRECTED = "student-distilled-corrected"


@dataclass(frozen=True)
class Choice:
    """One candidate setting of a kind of student, and what validation said of it."""

    kind: str
    learning_rate: float
    soft: dict[str, float] | None
    validation_errors: SeedStatistics | None = None
    validation_nll: float | None = None
    failed: str = ""
    """why a fit of it failed: then it is out"""

    @property
    def settings(self) -> dict[str, float]:
        """By the names that the configuration has for them."""
        return {"learning_rate": self.learning_rate, **(self.soft or {})}


class Member(NamedTuple):
    """A teacher, or one of an ensemble: the name of its job, and how it is made."""

    job: str
    settings: FitSettings
    seed: int

    @property
    def comes_with_weights(self) -> bool:
        """It is taken as it is, not trained."""
        network = self.settings.network
        return self.settings.pretrained or "@" in network or is_run(network)


@dataclass(frozen=True)
class Plan:
    """A configuration and where it is run."""

    config: DistillConfig
    path: Path
    device: str = "cpu"
    processes: int = 1
    tensorboard: bool = False

    @cached_property
    def members(self) -> list[Member]:
        """The teachers; none where stored targets teach."""
        config = self.config
        if config.targets is not None:
            return []
        specs = [one for spec in config.teacher.network.split(",") for one in member_specs(spec)]
        networks = [spec for spec in specs for _ in range(config.teachers)]
        names = (
            ["teacher"] if len(networks) == 1 else [f"teacher/member-{number}" for number in range(len(networks))]
        )
        return [
            Member(name, config.teacher.model_copy(update={"network": network}), seed)
            for seed, (name, network) in enumerate(
                zip(names, networks, strict=True), start=config.seed + TEACHER_SEED
            )
        ]

    @property
    def teacher_name(self) -> str:
        """What taught: `mlp:1200x2`, `3 x mlp:1200x2`, `mlp:64x1 + mlp:128x1`, stored soft targets."""
        if self.config.targets is not None:
            return "stored soft targets"
        networks = [member.settings.network for member in self.members]
        if len(networks) > 1:
            networks = [Run.read(find_run(one)).config["network"] if is_run(one) else one for one in networks]
        counts = Counter(networks).items()
        return " + ".join(network if count == 1 else f"{count} x {network}" for network, count in counts)

    @property
    def student(self) -> FitSettings:
        """The student at its first learning rate."""
        return self.config.student.at(self.config.student.learning_rate[0])

    @property
    def seeds(self) -> range:
        """Of the students that are reported."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def tuning_seeds(self) -> range:
        """Of those that validation chooses by."""
        first = self.config.seed + TUNING_SEED
        return range(first, first + self.config.tuning_seeds)

    @cached_property
    def missing(self) -> list[str]:
        """The classes that the transfer set lacks; unknown, and so none, where its examples have no labels."""
        data = training_data(load_splits(self.config.data), self.config.control)
        present = set(data.labels(data.ids).tolist())
        return [name for number, name in enumerate(data.class_names) if number not in present]

    @property
    def moved(self) -> list[str]:
        """The classes whose bias validation finds."""
        if self.config.fit_bias == "present":
            names = load_splits(self.config.data).class_names
            return [name for name in names if name not in self.missing]
        return self.missing

    def check(self) -> None:
        """What cannot be made is found before a run directory is.

        Raises:
            UsageError: names what is wrong.
        """
        config, splits = self.config, load_splits(self.config.data)
        student = build_for(self.student, splits, seed=0)
        for member in self.members:
            load_network(member.settings, splits)
            if not member.comes_with_weights:
                splits.train.with_views(parse_views(member.settings.views), view_seed=config.data.view_seed)
            if config.teachers > 1 and member.comes_with_weights:
                raise UsageError(
                    f"teachers is {config.teachers}, but {member.settings.network} comes with its weights: "
                    "for an ensemble name several, with commas between them"
                )
        transfer = training_data(splits, config.transfer).with_views(
            parse_views(config.student.views),
            view_seed=config.data.view_seed,
            num_views=config.transfer.num_views,
        )
        if config.targets is not None:
            store = SoftTargetStore.open(config.targets)
            store.check_data(transfer)
            split = store.settings.split
            if split is not None and split["fingerprint"] != splits.fingerprint:
                raise UsageError(
                    f"{config.targets} is of another split of {splits.name} (split_seed {split['split_seed']}, "
                    f"validation_fraction {split['validation_fraction']:g}): its teachers' training may hold "
                    "examples that are validation here; use the same split"
                )
            for temperature in config.temperature:
                store.soft_targets(transfer.ids[:1], 0, temperature, mean=config.ensemble_mean)
        if config.fit_bias:
            if not self.missing:
                raise UsageError("fit_bias: the transfer set lacks no class, so there is nothing to correct")
            labels = splits.validation.labels(splits.validation.ids)
            logits = torch.zeros(len(labels), len(splits.class_names))
            # Both refuse now, not late.
            fit_class_bias(logits, labels, classes=self.moved, class_names=splits.class_names)
            correct_(student, torch.ones(len(splits.class_names)), splits.validation, config.student.network)

    @cached_property
    def teacher_jobs(self) -> list[Job]:
        """The teachers, and where each epoch sees the same examples, what each says of them, asked once."""
        data = self.config.data
        jobs: list[Job] = []
        for member in self.members:
            name, settings, seed = member
            if member.comes_with_weights:
                jobs.append(adopt_job(name, settings, data))
            else:
                jobs.append(fit_job(self.path, name, settings, data, seed=seed, **self._options))
            if self.config.student.views == "none":
                jobs.append(logits_job(name, data, folder=self.config.transfer.folder, device=self.device))
        return jobs

    def choices(self) -> list[Choice]:
        """All candidates, of both kinds of student."""
        rates, *values = self.config.candidates.values()
        keys = list(self.config.candidates)[1:]
        alone = [Choice(ALONE, rate, None) for rate in rates]
        return alone + [
            Choice(DISTILLED, rate, dict(zip(keys, soft, strict=True)))
            for soft in itertools.product(*values)
            for rate in rates
        ]

    def has_rivals(self, choice: Choice) -> bool:
        """Whether validation has anything to choose for this kind of student."""
        return sum(other.kind == choice.kind for other in self.choices()) > 1

    def tuning_name(self, choice: Choice) -> str:
        """The name of the jobs that try a choice: what it varies, and no more."""
        varied = [key for key in choice.settings if len(self.config.candidates[key]) > 1]
        return f"tuning/{choice.kind}/" + "-".join(
            f"{key.replace('_', '-')}-{choice.settings[key]:g}" for key in varied
        )

    def tuning_jobs(self) -> list[Job]:
        """Every candidate that has rivals, with the tuning seeds."""
        return [
            self._student_job(self.tuning_name(choice), choice, seed)
            for choice in self.choices()
            if self.has_rivals(choice)
            for seed in self.tuning_seeds
        ]

    def student_jobs(self, chosen: Sequence[Choice]) -> list[Job]:
        """The students that are reported, and the corrected ones where classes were missing."""
        jobs = [self._student_job(choice.kind, choice, seed) for choice in chosen for seed in self.seeds]
        if self.config.fit_bias:
            jobs += [self._correction_job(seed) for seed in self.seeds]
        return jobs

    def _student_job(self, prefix: str, choice: Choice, seed: int) -> Job:
        config = self.config
        is_distilled = choice.soft is not None
        return fit_job(
            self.path,
            f"{prefix}/seed-{seed}",
            config.student.at(choice.learning_rate),
            config.data,
            seed=seed,
            soft=self.soft_settings(**choice.soft) if choice.soft is not None else None,
            transfer=config.transfer if is_distilled else config.control,
            needs=tuple(job.name for job in self.teacher_jobs) if is_distilled else (),
            **self._options,
        )

    def soft_settings(self, **values: float) -> SoftSettings:
        """Soft targets of this plan's teachers or store."""
        config = self.config
        teachers = [member.job for member in self.members]
        about = {"teachers": teachers, "store": config.targets, "mean": config.ensemble_mean}
        return checked(SoftSettings, {**about, **values})

    def _correction_job(self, seed: int) -> Job:
        config = self.config
        return correction_job(
            f"{CORRECTED}/seed-{seed}",
            f"{DISTILLED}/seed-{seed}",
            self.student,
            config.data,
            classes=self.moved,
            shared=not config.bias_per_class,
        )

    @property
    def _options(self) -> dict[str, Any]:
        return {"device": self.device, "processes": self.processes, "tensorboard": self.tensorboard}
