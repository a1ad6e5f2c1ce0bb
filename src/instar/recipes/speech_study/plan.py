"""Sections 4 and 6 of the paper on speech: an ensemble and what is distilled from it, and 3 % of the data.

A fold holds two speakers out: one chooses, the other is the test. Folds share no network, so a row's n counts
them; the single nets of a fold, of several seeds, are averaged first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from instar.jobs import Job
from instar.recipes.settings import FitSettings, Settings, SoftSettings, Temperature
from instar.recipes.speech_study.data import SpeechDataSettings
from instar.recipes.speech_study.jobs import (
    AlignerSettings,
    LearningSettings,
    alignment_job,
    network_job,
    store_job,
)
from instar.recipes.speech_study.scoring import scoring_job

STUDENT_SEED = 1000  # apart from those of the ensemble's members
BASELINE, LONGER, VARIED = "baseline", "baseline-longer", "varied"
UNLABELLED = "distilled-unlabelled"
_Count = Annotated[int, Field(ge=1)]


class FractionSettings(Settings):
    """A share of the utterances, and how long to learn from it."""

    percent: Annotated[float, Field(gt=0, lt=100)]
    epochs: _Count


class SpeechConfig(Settings):
    """The configuration of `instar reproduce speech`."""

    scale: str
    data: SpeechDataSettings
    aligner: AlignerSettings = AlignerSettings()
    folds: _Count = 6
    """each has another test speaker"""
    ensemble_size: Annotated[int, Field(ge=2)] = 10
    seeds: _Count = 3
    """of each single net of a fold"""
    network: FitSettings
    """of every system: baseline, members and students"""
    student_epochs: _Count
    """of the distilled nets, and of a baseline that is trained as long"""
    temperatures: list[Temperature] = [1.0, 2.0, 5.0, 10.0]
    """validation chooses"""
    hard_weight: float = 0.5
    unlabelled_temperatures: list[Temperature] = [1.0, 2.0]
    """the last is the row's; nothing is chosen"""
    varied_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """of the utterances, that each member of the ensemble with varied data sees"""
    fractions: list[FractionSettings]
    fraction_temperature: Temperature = 2.0
    """of their soft targets, from a net that was trained on everything"""


@dataclass(frozen=True)
class Study:
    """A configuration and where it is run: from here come the jobs."""

    config: SpeechConfig
    path: Path
    device: str = "cpu"

    def fits(self) -> list[Job]:
        """Every fit of every fold; test is read by none of them."""
        return [job for fold in range(self.config.folds) for job in _Fold(self, fold).jobs()]

    def tests(self, temperatures: Sequence[float]) -> list[Job]:
        """One job for each fold that reads its test speaker; `temperatures` were chosen on validation."""
        return [_Fold(self, fold).test(chosen) for fold, chosen in enumerate(temperatures)]

    def distilled(self, fold: int, temperature: float) -> list[str]:
        """The jobs of the students of a fold at a temperature."""
        return _Fold(self, fold).several(distilled_name(temperature))


def distilled_name(temperature: float) -> str:
    """The name of a row: `distilled-T2`.

    Example:
        >>> distilled_name(2.0), distilled_name(2.5)
        ('distilled-T2', 'distilled-T2.5')
    """
    return f"distilled-T{temperature:g}"


def unlabelled_name(config: SpeechConfig, temperature: float) -> str:
    """The name of a row: the last temperature's has none in it."""
    is_row = temperature == config.unlabelled_temperatures[-1]
    return UNLABELLED if is_row else f"{UNLABELLED}-T{temperature:g}"


def fraction_name(way: str, percent: float) -> str:
    """The name of a row.

    Example:
        >>> fraction_name("hard", 3)
        'hard-3-percent'
    """
    return f"{way}-{percent:g}-percent"


@dataclass(frozen=True)
class _Fold:
    """The jobs of one fold."""

    study: Study
    fold: int

    def name(self, rest: str) -> str:
        return f"fold-{self.fold}/{rest}"

    def several(self, kind: str, number: int | None = None) -> list[str]:
        number = self.study.config.seeds if number is None else number
        return [self.name(f"{kind}/{place}") for place in range(number)]

    def jobs(self) -> list[Job]:
        config = self.study.config
        alignment = alignment_job(self.name("alignment"), config.data, self.fold, config.aligner)
        members = self.several(BASELINE, config.ensemble_size)
        stores = [
            store_job(
                self.name(f"targets-{part}"),
                members,
                config.data,
                self.fold,
                alignment=self.name("alignment"),
                part=part,
            )
            for part in ("train", "untranscribed")
        ]
        return [alignment, *self._ensembles(), *stores, *self._students(), *self._fractions()]

    def _ensembles(self) -> list[Job]:
        config = self.study.config
        jobs = []
        for place in range(config.ensemble_size):
            jobs.append(self._fit(f"{BASELINE}/{place}", config.network, place))
            varied = LearningSettings(share=config.varied_share, seed=place + 1)
            jobs.append(self._fit(f"{VARIED}/{place}", config.network, place, varied))
        return jobs

    def _students(self) -> list[Job]:
        config = self.study.config
        longer = config.network.model_copy(update={"epochs": config.student_epochs})
        jobs = []
        for place in range(config.seeds):
            seed = STUDENT_SEED + place
            if self.has_longer:
                jobs.append(self._fit(f"{LONGER}/{place}", longer, seed))
            for temperature in config.temperatures:
                soft = self._soft("train", temperature, config.hard_weight)
                jobs.append(self._fit(f"{distilled_name(temperature)}/{place}", longer, seed, soft=soft))
            for temperature in config.unlabelled_temperatures:
                soft, untranscribed = (
                    self._soft("untranscribed", temperature),
                    LearningSettings(part="untranscribed"),
                )
                kind = unlabelled_name(config, temperature)
                jobs.append(self._fit(f"{kind}/{place}", longer, seed, untranscribed, soft))
        return jobs

    @property
    def has_longer(self) -> bool:
        """Whether students learn longer than the baseline; otherwise it is its own control."""
        return self.study.config.student_epochs != self.study.config.network.epochs

    def _fractions(self) -> list[Job]:
        config = self.study.config
        jobs = []
        for one in config.fractions:
            for place in range(config.seeds):
                learning = LearningSettings(share=one.percent / 100, seed=place)
                settings = config.network.model_copy(update={"epochs": one.epochs})
                # Labels alone overfit: their best epoch is kept, by validation. Soft targets go on to the end.
                stopped = settings.model_copy(update={"patience": one.epochs})
                teacher = self.name(f"{BASELINE}/{place}")
                soft = SoftSettings(teachers=[teacher], temperature=config.fraction_temperature)
                seed = STUDENT_SEED + place
                jobs.append(self._fit(f"{fraction_name('hard', one.percent)}/{place}", stopped, seed, learning))
                jobs.append(
                    self._fit(f"{fraction_name('soft', one.percent)}/{place}", settings, seed, learning, soft)
                )
        return jobs

    def test(self, temperature: float) -> Job:
        """The job that reads the test speaker of this fold: every system, once."""
        config = self.study.config
        singles = {BASELINE: self.several(BASELINE, config.ensemble_size)}
        if self.has_longer:
            singles[LONGER] = self.several(LONGER)
        singles |= {distilled_name(one): self.several(distilled_name(one)) for one in config.temperatures}
        for one in config.unlabelled_temperatures:
            singles[unlabelled_name(config, one)] = self.several(unlabelled_name(config, one))
        for percent in (one.percent for one in config.fractions):
            for way in ("hard", "soft"):
                singles[fraction_name(way, percent)] = self.several(fraction_name(way, percent))
        size = config.ensemble_size
        ensembles = {
            f"ensemble-{size}": self.several(BASELINE, size),
            f"ensemble-{size}-varied": self.several(VARIED, size),
        }
        return scoring_job(
            self.name("test"),
            config.data,
            self.fold,
            alignment=self.name("alignment"),
            singles=singles,
            ensembles=ensembles,
            same={"distilled": distilled_name(temperature)},
        )

    def _soft(self, part: str, temperature: float, hard_weight: float = 0.0) -> SoftSettings:
        members = self.several(BASELINE, self.study.config.ensemble_size)
        return SoftSettings(
            teachers=members,
            store=self.name(f"targets-{part}"),
            temperature=temperature,
            hard_weight=hard_weight,
        )

    def _fit(
        self,
        name: str,
        settings: FitSettings,
        seed: int,
        learning: LearningSettings | None = None,
        soft: SoftSettings | None = None,
    ) -> Job:
        config = self.study.config
        return network_job(
            self.study.path,
            self.name(name),
            settings,
            config.data,
            self.fold,
            aligner=config.aligner,
            alignment=self.name("alignment"),
            seed=seed,
            learning=learning,
            soft=soft,
            device=self.study.device,
        )
