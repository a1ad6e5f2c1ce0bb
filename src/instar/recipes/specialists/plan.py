"""The jobs of `instar specialists`: generalists, class sets, specialists, ensembles, students and controls."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from instar.data import Splits
from instar.jobs import Job, num_gpus
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.fitting import fit_config, fit_cost, fit_job
from instar.recipes.loading import outline
from instar.recipes.settings import FitSettings, LossSettings, SoftSettings
from instar.recipes.specialists.costs import Costs, measure_costs
from instar.recipes.specialists.jobs import (
    DUSTBIN_KIND,
    FULL,
    FULL_HARD,
    assemble,
    find_class_sets,
    fit_specialist,
    save_ensemble,
    specialist_splits,
)
from instar.recipes.specialists.settings import SetSettings, SpecialistsConfig, Student
from instar.recipes.splits import about_data, load_splits
from instar.recipes.study import Execution
from instar.runs import Run
from instar.specialists import ClassSet, SpecialistEnsemble, random_class_sets

# Other seeds than the generalists': a network with the first weights of its teacher learns from it more easily.
_MEMBER_SEED, _STUDENT_SEED = 100_000, 50_000

GENERALIST, WITH, WITH_RANDOM = "generalist", "with-specialists", "with-random-specialists"
LONGER, ORDINARY, MIXTURE = "generalist-longer", "ensemble-same-cost", "mixture-of-experts"
FULL_SOFT, FULL_LABELS = "full-softmax-specialists", "full-softmax-hard"
DISTILLED, AS_LONG = "distilled-back", "labels-as-long"
ROWS = (GENERALIST, LONGER, WITH, WITH_RANDOM, ORDINARY, MIXTURE, FULL_SOFT, FULL_LABELS, DISTILLED, AS_LONG)
_KINDS = {WITH: DUSTBIN_KIND, WITH_RANDOM: DUSTBIN_KIND, FULL_SOFT: FULL, FULL_LABELS: FULL_HARD}


class Choice(NamedTuple):
    """What is chosen on validation."""

    sets: SetSettings
    top_n: int
    student: Student | None = None


class Fit(NamedTuple):
    """A fit of a network for all classes."""

    name: str
    settings: FitSettings
    seed: int
    network_cost: int
    """multiplications for one example"""


@dataclass(frozen=True)
class Plan:
    """A configuration and where it is run."""

    config: SpecialistsConfig
    path: Path
    device: str
    splits: Splits
    costs: Costs

    @property
    def seeds(self) -> range:
        """Seeds of the generalists that are reported."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def specialist_rows(self) -> list[str]:
        """The rows that are a generalist with specialists."""
        needed = {WITH_RANDOM: "random", FULL_SOFT: "full-softmax", FULL_LABELS: "full-softmax"}
        return [name for name in _KINDS if name not in needed or needed[name] in self.config.controls]

    def job_path(self, name: str) -> Path:
        """The run directory of a job."""
        return self.path / "jobs" / name

    def generalist(self, seed: int) -> Fit:
        """The fit of a generalist."""
        return Fit(job_name(GENERALIST, seed), self.config.generalist, seed, self.costs.network)

    def fit_job(self, fit: Fit, soft: SoftSettings | None = None) -> Job:
        """The job of a fit, on soft targets that another job stores if they are given."""
        needs = (soft.store,) if soft and soft.store else ()
        return fit_job(
            self.path,
            fit.name,
            fit.settings,
            self.config.data,
            seed=fit.seed,
            soft=soft,
            needs=needs,
            device=self.device,
        )

    def job(
        self, function: Callable[..., Any], name: str, config: dict[str, Any], *needs: str, cost: float = 1
    ) -> Job:
        """Any other job."""
        config = {**about_data(self.config.data), **config}
        function = functools.partial(function, device=self.device)
        return Job(name, function, config, needs, cost, gpus=num_gpus(self.device))

    def class_sets_job(self, seed: int, sets: SetSettings) -> Job:
        """The class sets of a generalist."""
        generalist = self.generalist(seed).name
        config = {"generalist": generalist, "sets": sets.model_dump(), "seed": seed}
        return self.job(find_class_sets, job_name("class-sets", seed, sets.slug), config, generalist)

    def replicate(self, seed: int, sets: SetSettings) -> "Replicate":
        """A generalist with its class sets, once these are found."""
        rows = Run.read(self.job_path(job_name("class-sets", seed, sets.slug))).result()["rows"]
        found = [ClassSet.of_numbers(row["classes"], self.splits.class_names) for row in rows]
        names = self.splits.class_names
        return Replicate(self, seed, sets, found, random_class_sets(found, seed=seed, class_names=names))


def make_plan(config: SpecialistsConfig, path: Path, execution: Execution) -> Plan:
    """The plan of a configuration; its costs are measured once, here."""
    splits = load_splits(config.data)
    return Plan(config, path, execution.device, splits, measure_costs(config, splits))


def job_name(what: str, seed: int, candidate: str = "") -> str:
    """`WHAT/seed-3`; for the tuning seed `tuning/WHAT` or `tuning/WHAT/CANDIDATE`."""
    if seed != TUNING_SEED:
        return f"{what}/seed-{seed}"
    return f"tuning/{what}/{candidate}" if candidate else f"tuning/{what}"


@dataclass(frozen=True)
class Replicate:
    """A generalist with its class sets, and the jobs of everything that is compared with it."""

    plan: Plan
    seed: int
    sets: SetSettings
    class_sets: list[ClassSet]
    random_sets: list[ClassSet]
    """the same sets with all classes permuted"""

    @property
    def ensemble(self) -> str:
        """The job that saves generalist and specialists as one network."""
        return job_name("ensemble", self.seed)

    def specialists(self, row: str) -> list[str]:
        """The jobs of the specialists of a row."""
        folder = job_name(row.removeprefix("with-"), self.seed, self.sets.slug)
        return [f"{folder}/{number}" for number in range(len(self.class_sets))]

    def specialist_costs(self, row: str) -> list[int]:
        """Multiplications of the fit of each specialist of a row."""
        return self.plan.costs.specialists(self._sets(row), from_soft_targets=row == FULL_SOFT)

    def _sets(self, row: str) -> list[ClassSet]:
        return self.random_sets if row == WITH_RANDOM else self.class_sets

    def specialist_jobs(self, row: str) -> Iterator[Job]:
        """The fits of the specialists of a row."""
        plan, kind, generalist = self.plan, _KINDS[row], self.plan.generalist(self.seed)
        specialist = plan.config.specialist
        update = {"epochs": specialist.epochs, "learning_rate": specialist.learning_rate, "warmup_epochs": 0.0}
        if kind == FULL_HARD:
            update["patience"] = specialist.epochs  # labels alone overfit: the best epoch on validation is kept
        settings = generalist.settings.model_copy(update=update)
        for name, class_set in zip(self.specialists(row), self._sets(row), strict=True):
            own = specialist_splits(plan.splits, class_set) if kind == DUSTBIN_KIND else plan.splits
            network = outline(generalist.settings, own)
            about = {
                "kind": kind,
                "generalist": generalist.name,
                "classes": list(class_set.classes),
                "num_frozen": plan.costs.num_frozen,
            }
            config = fit_config(
                plan.job_path(name), settings, plan.config.data, own, network, seed=self.seed, device=plan.device
            )
            share = 2 * plan.costs.num_special(class_set) / plan.costs.num_train
            cost = share * fit_cost(settings, plan.splits, network)
            yield plan.job(fit_specialist, name, {**config, "specialist": about}, generalist.name, cost=cost)

    def assemble(self, row: str, *, top_n: int = 1) -> SpecialistEnsemble:
        """The generalist and the specialists of a row as one network, on the plan's device."""
        names = [self.plan.generalist(self.seed).name, *self.specialists(row)]
        generalist, *specialists = map(self.plan.job_path, names)
        return assemble(generalist, specialists, top_n=top_n).to(self.plan.device)

    def ensemble_job(self, top_n: int) -> Job:
        """Generalist and specialists as one network, with its soft targets for the student."""
        plan, generalist, specialists = self.plan, self.plan.generalist(self.seed), self.specialists(WITH)
        config = {
            "generalist": generalist.name,
            "specialists": specialists,
            "top_n": top_n,
            "views": generalist.settings.views,
            "num_views": plan.config.num_views,
        }
        # On CIFAR-100 a view takes as long as four or five epochs: several networks predict, then are combined.
        epochs = 4 * plan.config.num_views / generalist.settings.epochs
        cost = 1 + epochs * fit_cost(generalist.settings, plan.splits, outline(generalist.settings, plan.splits))
        return plan.job(save_ensemble, self.ensemble, config, generalist.name, *specialists, cost=cost)

    def student(self, student: Student) -> Fit:
        """The fit of the network that is distilled from the ensemble."""
        candidate = f"temperature-{student.temperature:g}-hard-{student.hard_weight:g}"
        settings = self._with_epochs(student.epochs).model_copy(update={"learning_rate": student.learning_rate})
        return self._student_fit(job_name(DISTILLED, self.seed, candidate), settings)

    def _student_fit(self, name: str, settings: FitSettings) -> Fit:
        return Fit(name, settings, _STUDENT_SEED + self.seed, self.plan.costs.network)

    def student_job(self, student: Student) -> Job:
        """The job of this fit."""
        loss = student.model_dump(include=set(LossSettings.model_fields))
        return self.plan.fit_job(self.student(student), SoftSettings(store=self.ensemble, **loss))

    def controls(self) -> dict[str, list[Fit]]:
        """The fits of the controls, each row at about the cost of generalist and specialists.

        Beside the distilled network one with its first weights, which learns from labels alone for as many epochs.
        """
        config, costs, seed = self.plan.config, self.plan.costs, self.seed
        budget, first_seed = costs.budget(self.class_sets), _MEMBER_SEED + 1000 * seed
        found: dict[str, list[Fit]] = {}
        if "longer" in config.controls:
            longer = self._with_epochs(round(budget / costs.epoch))
            found[LONGER] = [Fit(job_name(LONGER, seed), longer, seed, costs.network)]
        if "ensemble" in config.controls:
            size = max(2, round(budget / costs.generalist))
            member = self._with_epochs(round(budget / costs.epoch / size))
            found[ORDINARY] = [
                Fit(f"{job_name(ORDINARY, seed)}/member-{number}", member, first_seed + number, costs.network)
                for number in range(size)
            ]
        if "mixture" in config.controls:
            mixture = self._with_epochs(round(budget / (3 * costs.mixture * costs.num_train)))
            mixture = mixture.model_copy(update={"network": config.mixture})
            found[MIXTURE] = [Fit(job_name(MIXTURE, seed), mixture, seed, costs.mixture)]
        if "labels" in config.controls and config.distill is not None:
            found[AS_LONG] = [self._student_fit(job_name(AS_LONG, seed), self._with_epochs(config.distill.epochs))]
        return found

    def _with_epochs(self, epochs: int) -> FitSettings:
        """The generalist's settings for other epochs; the warm-up takes at most half of them."""
        generalist, epochs = self.plan.config.generalist, max(1, epochs)
        update = {"epochs": epochs, "warmup_epochs": min(generalist.warmup_epochs, epochs / 2)}
        return generalist.model_copy(update=update)

    def fits(self, row: str, choice: Choice) -> list[str]:
        """The jobs of the networks of a row."""
        generalist = self.plan.generalist(self.seed).name
        if row == GENERALIST:
            return [generalist]
        if row in self.plan.specialist_rows:
            return [generalist, *self.specialists(row)]
        if row == DISTILLED and choice.student is not None:
            return [self.student(choice.student).name]
        return [fit.name for fit in self.controls()[row]]

    def jobs(self, choice: Choice) -> Iterator[Job]:
        """Everything that is compared with the generalist."""
        for row in self.plan.specialist_rows:
            yield from self.specialist_jobs(row)
        yield self.ensemble_job(choice.top_n)
        if choice.student is not None:
            yield self.student_job(choice.student)
        yield from (self.plan.fit_job(fit) for fits in self.controls().values() for fit in fits)
