"""From the configuration of `instar specialists` come its jobs, in three rounds.

Generalists and their class sets; specialists of the candidates, of which validation chooses; everything else,
whose cost is that of the chosen specialists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from instar.deploy import multiplications_at
from instar.errors import UsageError
from instar.jobs import Job
from instar.networks import build_network, freeze_, layers_of
from instar.recipes.fitting import build_for, fit_job, load_splits, outline
from instar.recipes.settings import FitSettings, SoftSettings
from instar.recipes.specialists.jobs import (
    DUSTBIN_KIND,
    FULL,
    FULL_HARD,
    class_sets_job,
    class_sets_of,
    num_special,
    specialist_job,
    unit_job,
)
from instar.recipes.specialists.settings import DistillBackSettings, SetSettings, SpecialistsConfig, Teaching
from instar.specialists import ClassSet
from instar.transfer import cacheable_cut

TUNING_SEED = 10_000  # never reported
_MEMBER_SEED = 100_000  # members of the ordinary ensemble begin elsewhere than the generalists

GENERALIST, WITH, WITH_RANDOM = "generalist", "with-specialists", "with-random-specialists"
LONGER, ENSEMBLE, MIXTURE = "generalist-longer", "ensemble-same-cost", "mixture-of-experts"
FULL_ROW, HARD_ROW, DISTILLED = "full-softmax-specialists", "full-softmax-hard", "distilled-back"

_SPECIALISTS = {
    WITH: "specialist",
    WITH_RANDOM: "random-specialist",
    FULL_ROW: "full-softmax",
    HARD_ROW: "full-hard",
}
_KINDS = {WITH: DUSTBIN_KIND, WITH_RANDOM: DUSTBIN_KIND, FULL_ROW: FULL, HARD_ROW: FULL_HARD}


@dataclass(frozen=True)
class Choice:
    """What validation chose: class sets, how many classes choose the specialists, how the student is taught."""

    sets: SetSettings
    top_n: int
    student: Teaching | None = None


@dataclass(frozen=True)
class Plan:
    """A configuration and where it is run."""

    config: SpecialistsConfig
    path: Path
    device: str = "cpu"

    @property
    def seeds(self) -> range:
        """Of the generalists that are reported."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def specialist_rows(self) -> list[str]:
        """The rows that are a generalist with specialists."""
        controls = self.config.controls
        random = [WITH_RANDOM] if "random" in controls else []
        return [WITH, *random, *([FULL_ROW, HARD_ROW] if "full-softmax" in controls else [])]

    def job_path(self, name: str) -> Path:
        """The run directory of a job."""
        return self.path / "jobs" / name

    def part(self, number: int) -> str:
        """What progress is of: the first part is 0, the last -1."""
        parts = 2 + 2 * self.config.is_tuned + self.config.is_student_tuned
        return f"part {number % parts + 1} of {parts}"

    # The first round: generalists and class sets.

    def first_jobs(self, sets: SetSettings | None) -> list[Job]:
        """All generalists; with the class sets that were chosen, or of all candidates for the tuning seed.

        They learn at once, that of the tuning seed too: alone it would have all cores, which a small network does
        not use well.
        """
        tuning = [TUNING_SEED] if self.config.is_tuned else []
        jobs = [self._fit(self.generalist(seed), self.config.generalist, seed) for seed in [*tuning, *self.seeds]]
        if sets is None:
            candidates = [(TUNING_SEED, one) for one in self.config.sets]
        else:
            candidates = [(seed, sets) for seed in self.seeds]
        for seed, one in candidates:
            name, generalist = self.sets_name(seed, one), self.generalist(seed)
            jobs.append(class_sets_job(name, generalist, self.config.data, one, seed=seed, device=self.device))
        return jobs

    def generalist(self, seed: int) -> str:
        """The job of a generalist."""
        return "tuning/generalist" if seed == TUNING_SEED else f"{GENERALIST}/seed-{seed}"

    def sets_name(self, seed: int, sets: SetSettings) -> str:
        """The job that finds the class sets of a generalist."""
        return f"tuning/class-sets/{sets.slug}" if seed == TUNING_SEED else f"class-sets/seed-{seed}"

    def class_sets(self, seed: int, sets: SetSettings, *, random: bool = False) -> list[ClassSet]:
        """The class sets of a generalist, once they are found."""
        names = load_splits(self.config.data).class_names
        return class_sets_of(self.job_path(self.sets_name(seed, sets)), names, random=random)

    # The second round: specialists.

    def tuning_jobs(self) -> list[Job]:
        """The specialists of every candidate for the tuning generalist."""
        return [job for one in self.config.sets for job in self.specialist_jobs(TUNING_SEED, one, WITH)]

    def specialist_jobs(self, seed: int, sets: SetSettings, row: str) -> list[Job]:
        """The specialists of a generalist."""
        names = self.specialists(seed, sets, row)
        class_sets = self.class_sets(seed, sets, random=row == WITH_RANDOM)
        return [
            specialist_job(
                self.path,
                name,
                self.generalist(seed),
                self.config.generalist,
                self.config.specialist,
                self.config.data,
                class_set,
                kind=_KINDS[row],
                seed=seed,
                device=self.device,
            )
            for name, class_set in zip(names, class_sets, strict=True)
        ]

    def specialists(self, seed: int, sets: SetSettings, row: str) -> list[str]:
        """The jobs of the specialists of a generalist."""
        if seed == TUNING_SEED:
            folder = f"tuning/{_SPECIALISTS[row]}/{sets.slug}"
        else:
            folder = f"{_SPECIALISTS[row]}/seed-{seed}"
        return [f"{folder}/{number}" for number in range(len(self.class_sets(seed, sets)))]

    # The third round, where the student has candidates.

    def student_tuning_jobs(self, choice: Choice) -> list[Job]:
        """The unit of the tuning generalist, and a student of each candidate."""
        distill = self.config.distill
        if distill is None:
            return []
        students = [
            self._student_job(self.candidate(one), TUNING_SEED, distill, one) for one in distill.candidates
        ]
        return [self._unit_job(TUNING_SEED, choice), *students]

    def student(self, seed: int) -> str:
        """The job of a student that is reported."""
        return f"{DISTILLED}/seed-{seed}"

    def candidate(self, teaching: Teaching) -> str:
        """The job of a student of the tuning generalist."""
        return f"tuning/{DISTILLED}/temperature-{teaching.temperature:g}-hard-{teaching.hard_weight:g}"

    # The last round: all that is reported.

    def final_jobs(self, choice: Choice) -> list[Job]:
        """Specialists of all kinds, the unit, the student, the controls."""
        return [job for seed in self.seeds for job in self._jobs_of(seed, choice)]

    def _jobs_of(self, seed: int, choice: Choice) -> Iterator[Job]:
        config, controls = self.config, self.config.controls
        for row in self.specialist_rows:
            yield from self.specialist_jobs(seed, choice.sets, row)
        yield self._unit_job(seed, choice)
        if config.distill is not None and choice.student is not None:
            yield self._student_job(self.student(seed), seed, config.distill, choice.student)
        if "longer" in controls:
            epochs = round(self.total(seed, choice) / self.epoch_cost)
            yield self._fit(f"{LONGER}/seed-{seed}", self._with_epochs(epochs), seed)
        if "ensemble" in controls:
            epochs = self.member_epochs(seed, choice)
            for number, name in enumerate(self.members(seed, choice)):
                member_seed = _MEMBER_SEED + 1000 * seed + number
                yield self._fit(name, self._with_epochs(epochs), member_seed)
        if "mixture" in controls:
            yield self._fit(f"{MIXTURE}/seed-{seed}", self._mixture(seed, choice), seed)

    def unit(self, seed: int) -> str:
        """The job that puts generalist and specialists together."""
        return "tuning/together" if seed == TUNING_SEED else f"together/seed-{seed}"

    def _unit_job(self, seed: int, choice: Choice) -> Job:
        config = self.config
        return unit_job(
            self.unit(seed),
            self.generalist(seed),
            self.specialists(seed, choice.sets, WITH),
            config.generalist,
            config.data,
            top_n=choice.top_n,
            views=config.generalist.views,
            num_views=config.num_views,
            device=self.device,
        )

    def _student_job(self, name: str, seed: int, distill: DistillBackSettings, teaching: Teaching) -> Job:
        update = {"learning_rate": distill.learning_rate, "patience": None}
        soft = SoftSettings(
            store=self.unit(seed),
            soft_weight=distill.soft_weight,
            **teaching._asdict(),
        )
        return self._fit(
            name,
            self._with_epochs(distill.epochs).model_copy(update=update),
            seed,
            soft=soft,
            needs=(self.unit(seed),),
        )

    def _with_epochs(self, epochs: int) -> FitSettings:
        """The generalist's settings for other epochs; a warm-up that is as long as they are is shortened."""
        epochs = max(1, epochs)
        warmup = min(self.config.generalist.warmup_epochs, epochs / 2)
        return self.config.generalist.model_copy(update={"epochs": epochs, "warmup_epochs": warmup})

    def _fit(self, name: str, settings: FitSettings, seed: int, **options: Any) -> Job:
        return fit_job(
            self.path,
            name,
            settings,
            self.config.data,
            seed=seed,
            device=self.device,
            **options,
        )

    # What it costs, in multiplications; a backward pass counts as two forward ones.

    @cached_property
    def per_layer(self) -> list[int]:
        """Of one example, until the end of each layer of the generalist."""
        splits = load_splits(self.config.data)
        network = outline(self.config.generalist, splits)
        shape = splits.train.example_shape
        layers = layers_of(network, splits.train.gather(splits.train.ids[:2], 0))
        return multiplications_at(network, [layer.module for layer in layers], shape)

    @property
    def epoch_cost(self) -> int:
        """Of one epoch of the generalist."""
        return 3 * self.per_layer[-1] * len(load_splits(self.config.data).train)

    @property
    def num_frozen(self) -> int:
        """First layers of a specialist that do not learn."""
        trainable, num_layers = self.config.specialist.trainable_layers, len(self.per_layer)
        if trainable is None:
            return 0
        if trainable > num_layers:
            raise UsageError(f"specialist.trainable_layers is {trainable}; the network has {num_layers} layers")
        return num_layers - trainable

    @cached_property
    def _keeps_features(self) -> bool:
        """Whether a specialist's frozen layers see each example once."""
        if not self.num_frozen or self.config.generalist.views != "none":
            return False
        splits = load_splits(self.config.data)
        network = build_for(self.config.generalist, splits, seed=0)
        freeze_(network, self.num_frozen, example_input=splits.train.gather(splits.train.ids[:2], 0))
        return cacheable_cut(network, self.num_frozen, splits) is not None

    def specialist_costs(self, seed: int, choice: Choice, row: str = WITH) -> list[int]:
        """Of the fit of each specialist: its frozen layers once for each example where their features can be kept.

        Those that learn the generalist's soft targets ask it once for each example where there are no views, else
        for every one shown.
        """
        config, splits = self.config, load_splits(self.config.data)
        whole = self.per_layer[-1]
        frozen = self.per_layer[self.num_frozen - 1] if self.num_frozen else 0
        num_train, has_no_views = len(splits.train), config.generalist.views == "none"
        costs = []
        for one in self.class_sets(seed, choice.sets, random=row == WITH_RANDOM):
            shown = 2 * num_special(splits.train, one) * config.specialist.epochs
            first = frozen * (num_train if self._keeps_features else shown)
            asked = whole * (num_train if has_no_views else shown) if row == FULL_ROW else 0
            costs.append(3 * (whole - frozen) * shown + first + asked)
        return costs

    def total(self, seed: int, choice: Choice) -> int:
        """Of a generalist and its specialists: what every control may cost."""
        return self.config.generalist.epochs * self.epoch_cost + sum(self.specialist_costs(seed, choice))

    def member_epochs(self, seed: int, choice: Choice) -> int:
        """Of each member of the ordinary ensemble."""
        return round(self.total(seed, choice) / self.epoch_cost / len(self.members(seed, choice)))

    def members(self, seed: int, choice: Choice) -> list[str]:
        """The ordinary ensemble: as many generalists as the cost allows, at least two."""
        number = max(2, round(self.total(seed, choice) / (self.config.generalist.epochs * self.epoch_cost)))
        return [f"ensemble/seed-{seed}/member-{member}" for member in range(number)]

    @cached_property
    def mixture_cost(self) -> int:
        """Of one example through the mixture of experts."""
        splits = load_splits(self.config.data)
        network = build_network(
            self.config.mixture,
            input_shape=splits.train.example_shape,
            num_classes=len(splits.class_names),
            seed=0,
        )
        return multiplications_at(network, [network], splits.train.example_shape)[0]

    def _mixture(self, seed: int, choice: Choice) -> FitSettings:
        num_train = len(load_splits(self.config.data).train)
        settings = self._with_epochs(round(self.total(seed, choice) / (3 * self.mixture_cost * num_train)))
        return settings.model_copy(update={"network": self.config.mixture})
