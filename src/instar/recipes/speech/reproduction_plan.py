"""Sections 4 and 6 of the paper on speech: an ensemble and the networks distilled from it, and 3 % of the data.

Each fold holds two speakers out: one for validation, the other for test. Folds share no network, so they are the
replicates that a row's n counts; several networks of a fold, of different seeds, are averaged first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.jobs import Job
from instar.naming import import_extra
from instar.recipes.reading_settings import checked, merge
from instar.recipes.scales import choose_scale
from instar.recipes.settings import Count, FitSettings, Settings, SoftSettings, Temperature
from instar.recipes.speech.align_jobs import alignment_job, flat_alignment_job, new_models
from instar.recipes.speech.data import ALIGNED, UNTRANSCRIBED, load_features
from instar.recipes.speech.fit_jobs import network_job, store_job, try_acoustic_network
from instar.recipes.speech.score_job import scoring_job
from instar.recipes.speech.settings import LearningSettings, ModelSettings, Source, StudyData
from instar.speech.hmm import HMM

ALIGNER_SEED = 20_000  # the seed of no reported network
STUDENT_SEED = 1000  # different from the seeds of the ensemble's members
ALIGNER, BASELINE, LONGER, VARIED = "aligner", "baseline", "baseline-longer", "varied"
DISTILLED, UNLABELLED = "distilled", "distilled-unlabelled"


class FractionSettings(Settings):
    """A fraction of the utterances, and the epochs of training on it."""

    percent: Annotated[float, Field(gt=0, lt=100)]
    epochs: Count


class ReproductionConfig(Settings):
    """The configuration of `instar reproduce speech`."""

    scale: str
    data: StudyData
    models: ModelSettings
    aligner: FitSettings
    """the network that aligns the utterances for all systems; it is none of them"""
    folds: Count
    """each has another test speaker"""
    ensemble_size: Annotated[int, Field(ge=2)]
    seeds: Count
    """number of networks of each other kind in a fold"""
    network: FitSettings
    """of all systems: baselines, members and students"""
    student_epochs: Count
    """of the distilled networks, and of a baseline with the same training budget"""
    temperatures: list[Temperature]
    """the best on validation is used"""
    hard_weight: float
    """weight of the labels in distillation"""
    unlabelled_temperatures: list[Temperature] = []
    """for students without labels: the row `distilled-unlabelled` has the last one, none is chosen"""
    varied_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """fraction of the utterances that each member of the ensemble with varied data is trained on; without it
    there is no such ensemble"""
    fractions: list[FractionSettings] = []
    fraction_temperature: Temperature = 1.0
    """of the soft targets for a fraction of the utterances, from a baseline trained on all of them"""

    @model_validator(mode="after")
    def _has_a_teacher_for_each_seed(self) -> Self:
        if self.seeds > self.ensemble_size:
            raise UsageError(f"seeds is {self.seeds}, expected at most the ensemble_size, {self.ensemble_size}")
        return self


def config_for(scale: str, data: str = "fsdd") -> ReproductionConfig:
    """The configuration of a scale.

    Raises:
        UsageError: there is no such scale.

    Example:
        >>> config_for("full").ensemble_size
        10
    """
    return checked(ReproductionConfig, merge(choose_scale("speech", data, scale), {"data": {"name": data}}))


_EVERY_THIRD = LearningSettings(validation_every=3)  # neighbouring frames are alike


@dataclass(frozen=True)
class Kind:
    """The networks of one row in a fold; their numbers are added to both seeds."""

    name: str
    count: int
    fit: FitSettings
    learning: LearningSettings = _EVERY_THIRD
    seed: int = STUDENT_SEED
    soft: SoftSettings | None = None
    """its `store` is that of a part; without one the baseline of the same number teaches"""
    alignment: str = "alignment/network"
    row: Mapping[str, Any] = field(default_factory=dict)
    """what its row says of it"""

    @property
    def is_candidate(self) -> bool:
        """Whether validation chooses between this and other temperatures."""
        return "temperature" in self.row


@dataclass(frozen=True)
class Plan:
    """The jobs of a configuration."""

    config: ReproductionConfig
    path: Path
    device: str = "cpu"

    def source(self, fold: int) -> Source:
        """Where the frames of a fold come from."""
        return Source(data=self.config.data, fold=fold)

    @cached_property
    def models(self) -> HMM:
        """The untrained models, whose states all networks predict."""
        return new_models(self.config.models, self.source(0))

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """All networks of a fold, by name."""
        config, seeds = self.config, self.config.seeds
        student = config.network.model_copy(update={"epochs": config.student_epochs})
        aligner, untranscribed = (
            _EVERY_THIRD.model_copy(update=changes) for changes in ({"quiet": True}, {"part": UNTRANSCRIBED})
        )
        kinds = [
            Kind(ALIGNER, 1, config.aligner, aligner, ALIGNER_SEED, alignment="alignment/flat"),
            Kind(BASELINE, config.ensemble_size, config.network, seed=0),
        ]
        if config.varied_share is not None:
            varied = _EVERY_THIRD.model_copy(update={"share": config.varied_share, "seed": 1})
            kinds.append(Kind(VARIED, config.ensemble_size, config.network, varied, seed=0))
        if student != config.network:  # otherwise the baseline has the training budget of a student
            kinds.append(Kind(LONGER, seeds, student))
        for temperature in config.temperatures:
            soft = SoftSettings(store="train", temperature=temperature, hard_weight=config.hard_weight)
            name, row = distilled_name(temperature), {"temperature": temperature}
            kinds.append(Kind(name, seeds, student, soft=soft, row=row))
        for temperature in config.unlabelled_temperatures:
            soft = SoftSettings(store=UNTRANSCRIBED, temperature=temperature)
            kinds.append(Kind(unlabelled_name(config, temperature), seeds, student, untranscribed, soft=soft))
        for fraction in config.fractions:
            learning = _EVERY_THIRD.model_copy(update={"share": fraction.percent / 100})
            fit = config.network.model_copy(update={"epochs": fraction.epochs})
            # Labels alone overfit: they keep the best epoch on validation. Soft targets keep the last epoch.
            stopped = fit.model_copy(update={"patience": fraction.epochs})
            soft = SoftSettings(temperature=config.fraction_temperature)
            hard, taught = fraction_name("hard", fraction.percent), fraction_name("soft", fraction.percent)
            kinds += [
                Kind(hard, seeds, stopped, learning, row={"targets": "hard", "percent": fraction.percent}),
                Kind(
                    taught, seeds, fit, learning, soft=soft, row={"targets": "soft", "percent": fraction.percent}
                ),
            ]
        return {kind.name: kind for kind in kinds}

    @property
    def ensembles(self) -> dict[str, str]:
        """The kinds of the members of the ensembles."""
        size = self.config.ensemble_size
        named = {f"ensemble-{size}": BASELINE, f"ensemble-{size}-varied": VARIED}
        return {name: kind for name, kind in named.items() if kind in self.kinds}

    @property
    def taught_parts(self) -> tuple[str, ...]:
        """The parts for which the ensemble's soft targets are stored."""
        return ("train", UNTRANSCRIBED) if self.config.unlabelled_temperatures else ("train",)

    def networks(self, fold: int, kind: str) -> list[str]:
        """The jobs of the networks of a kind in a fold."""
        return [f"fold-{fold}/{kind}/{number}" for number in range(self.kinds[kind].count)]

    def jobs(self) -> list[Job]:
        """All jobs before the tests, without the students between which validation chooses."""
        jobs = []
        for fold in range(self.config.folds):
            source, models = self.source(fold), f"fold-{fold}/alignment/flat"
            (aligner,), members = self.networks(fold, ALIGNER), self.networks(fold, BASELINE)
            alignment = alignment_name(fold)
            jobs += [
                flat_alignment_job(models, source, self.config.models),
                alignment_job(alignment, source, network=aligner, models=models, new_priors=True),
            ]
            for part in self.taught_parts:
                jobs.append(store_job(_store(fold, part), members, source, alignment=alignment, part=part))
        return [*jobs, *self._fits(kind for kind in self.kinds.values() if not kind.is_candidate)]

    def candidates(self) -> list[Job]:
        """The distilled networks of all temperatures."""
        return self._fits(kind for kind in self.kinds.values() if kind.is_candidate)

    def check(self) -> None:
        """Refuse a plan that cannot be carried out; compute features before several processes need them."""
        for part in dict.fromkeys((*ALIGNED, *self.taught_parts)):
            load_features(self.source(0), part)
        for part in ALIGNED:
            load_features(self.source(0), part, quiet=True)
        import_extra("jiwer", "speech")  # counts the errors at the end
        self.jobs()
        self.candidates()
        for settings in {kind.fit.network: kind.fit for kind in self.kinds.values()}.values():
            try_acoustic_network(settings, self.source(0), self.models)

    def _fits(self, kinds: Iterable[Kind]) -> list[Job]:
        return [
            network_job(
                self.path,
                name,
                kind.fit,
                self.source(fold),
                alignment=f"fold-{fold}/{kind.alignment}",
                models=self.models,
                seed=kind.seed + number,
                learning=kind.learning.model_copy(update={"seed": kind.learning.seed + number}),
                soft=self._soft(fold, number, kind.soft),
                device=self.device,
            )
            for kind in kinds
            for fold in range(self.config.folds)
            for number, name in enumerate(self.networks(fold, kind.name))
        ]

    def _soft(self, fold: int, number: int, soft: SoftSettings | None) -> SoftSettings | None:
        """Soft targets with the names of the jobs that they come from."""
        if soft is None:
            return None
        members = self.networks(fold, BASELINE)
        if soft.store is None:
            return soft.model_copy(update={"teachers": [members[number]]})
        return soft.model_copy(update={"teachers": members, "store": _store(fold, soft.store)})

    def test(self, fold: int, temperature: float, failed: Sequence[float] = ()) -> Job:
        """The job that reads the test speaker of a fold, once, with all systems.

        Args:
            fold: its number.
            temperature: that validation chose.
            failed: temperatures whose students could not be trained.
        """
        left_out = {ALIGNER, VARIED, *map(distilled_name, failed)}
        return scoring_job(
            scores_name(fold),
            self.source(fold),
            alignment=alignment_name(fold),
            singles={kind: self.networks(fold, kind) for kind in self.kinds if kind not in left_out},
            ensembles={name: self.networks(fold, kind) for name, kind in self.ensembles.items()},
            same={DISTILLED: distilled_name(temperature)},
        )


def alignment_name(fold: int) -> str:
    """The job with the states of all utterances of a fold."""
    return f"fold-{fold}/alignment/network"


def scores_name(fold: int) -> str:
    """The job that reads the test speaker of a fold."""
    return f"fold-{fold}/test"


def _store(fold: int, part: str) -> str:
    return f"fold-{fold}/targets-{part}"


def distilled_name(temperature: float) -> str:
    """The name of a row.

    Example:
        >>> distilled_name(2.0), distilled_name(2.5)
        ('distilled-T2', 'distilled-T2.5')
    """
    return f"{DISTILLED}-T{temperature:g}"


def unlabelled_name(config: ReproductionConfig, temperature: float) -> str:
    """The name of a row; that of the last temperature leaves the temperature out."""
    is_last = temperature == config.unlabelled_temperatures[-1]
    return UNLABELLED if is_last else f"{UNLABELLED}-T{temperature:g}"


def fraction_name(targets: str, percent: float) -> str:
    """The name of a row.

    Example:
        >>> fraction_name("hard", 3)
        'hard-3-percent'
    """
    return f"{targets}-{percent:g}-percent"
