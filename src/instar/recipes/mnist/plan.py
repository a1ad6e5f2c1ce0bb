"""Section 3 of the paper, every number of it and what lies beyond: a teacher, its students, one table.

A pair is a teacher and its student, each with a seed of its own; pairs share nothing, so a row's n counts
independent ones.
Settings are chosen on validation with a teacher and a seed of their own; then everything is trained again on
training and validation examples together, except where a bias or an early stop needs examples that were held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instar.errors import UsageError
from instar.jobs import Job
from instar.recipes.fitting import LOGITS_OF, fit_job, load_splits, logits_job, store_job
from instar.recipes.settings import (
    DataSettings,
    FitSettings,
    Settings,
    SoftSettings,
    Temperature,
    TransferSettings,
)

TUNING_SEED = 10_000  # never reported
TEACHER_SEED = 20_000  # added to a teacher's: one seed gives networks of different widths equal first weights
MISSING, ONLY = ["3"], ["7", "8"]
_Count = Annotated[int, Field(ge=1)]


class Candidate(Settings):
    """One way to teach a student; of several, validation chooses."""

    learning_rate: float
    temperature: Temperature = 20.0
    hard_weight: float = 0.0
    label_weight: float = 0.0


class BeyondSettings(Settings):
    """The best 2x800 network that can be distilled: other teachers, views, no other data."""

    teachers: list[FitSettings]
    num_views: _Count
    """stored; the student sees them in turns"""
    student: FitSettings
    candidate: Candidate


class MnistConfig(Settings):
    """The configuration of `instar reproduce mnist`."""

    scale: str
    data: DataSettings
    """tuning: its two parts; the table: both together"""
    held_out: DataSettings
    """where a bias or an early stop needs examples that neither teacher nor student saw"""
    pairs: _Count
    smallest_pairs: _Count
    """of the smallest networks of the temperature study"""
    ensemble_size: _Count
    teacher: FitSettings
    student: FitSettings
    candidates: dict[str, list[Candidate]]
    """by row, without the pair"""
    temperatures: list[Temperature]
    temperature_students: list[FitSettings]
    """the first is the smallest"""
    fractions: dict[str, _Count]
    """percent of the examples, and epochs"""
    views: str
    """of the students that see a fraction with views"""
    beyond: BeyondSettings


@dataclass(frozen=True)
class Kind:
    """One row of the table: a student that every pair trains."""

    name: str
    settings: FitSettings
    candidates: Sequence[Candidate]
    pairs: int
    teacher: str | None = "big-net"
    transfer: TransferSettings = field(default_factory=TransferSettings)
    is_held_out: bool = False
    corrected: Sequence[str] = ()
    """the classes whose bias is fitted"""
    like: str = ""
    """the row whose settings it takes"""


def kinds_of(config: MnistConfig) -> list[Kind]:
    """Every student of the study."""

    def kind(name: str, **options: Any) -> Kind:
        settings = options.pop("settings", config.student)
        candidates = config.candidates[options.get("like", name)]
        return Kind(name, settings, candidates, config.pairs, **options)

    def transfer(**options: Any) -> TransferSettings:
        return TransferSettings(validation_too=True, **options)

    return [
        kind("small-net", teacher=None, transfer=transfer()),
        kind("distilled-T20", transfer=transfer()),
        kind("distilled-T20-soft-only", transfer=transfer()),
        kind("distilled-labels-in-targets", transfer=transfer()),
        kind("logit-matching", transfer=transfer()),
        kind("labelled-10-percent", transfer=transfer(labelled=0.1)),
        kind(
            "transfer-set-separate",
            like="distilled-T20",
            teacher="half/big-net",
            transfer=transfer(fraction=0.5, rest=True),
        ),
        kind(
            "omit-3",
            teacher="held-out/big-net",
            transfer=TransferSettings(drop_classes=MISSING),
            is_held_out=True,
            corrected=MISSING,
        ),
        kind(
            "only-7-8",
            settings=config.student.model_copy(update={"epochs": 4 * config.student.epochs}),  # of a fifth as many
            teacher="held-out/big-net",
            transfer=TransferSettings(keep_classes=ONLY),
            is_held_out=True,
            corrected=ONLY,
        ),
        kind("distilled-ensemble", like="distilled-T20", teacher="ensemble", transfer=transfer()),
        *_temperature_kinds(config),
        *_fraction_kinds(config),
    ]


def _temperature_kinds(config: MnistConfig) -> list[Kind]:
    kinds = []
    for number, settings in enumerate(config.temperature_students):
        for temperature in config.temperatures:
            candidates = [
                one.model_copy(update={"temperature": temperature})
                for one in config.candidates[f"temperature-{settings.network}"]
            ]
            kinds.append(
                Kind(
                    temperature_name(settings.network, temperature),
                    settings,
                    candidates,
                    config.pairs if number else config.smallest_pairs,
                    transfer=TransferSettings(validation_too=True),
                )
            )
    return kinds


def temperature_name(network: str, temperature: float) -> str:
    """The name of a row: `temperature-30-units-T2.5`.

    Example:
        >>> temperature_name("mlp:30x2", 2.5)
        'temperature-30-units-T2.5'
    """
    return f"temperature-{network.removeprefix('mlp:').removesuffix('x2')}-units-T{temperature:g}"


def _fraction_kinds(config: MnistConfig) -> list[Kind]:
    kinds = []
    for percent, epochs in config.fractions.items():
        for views in ("none", config.views):
            settings = config.student.model_copy(update={"epochs": epochs, "views": views})
            for way, teacher in (("hard", None), ("soft", "held-out/big-net")):
                # Labels alone overfit: their best epoch is kept, by validation. Soft targets go on to the end.
                patience = epochs if way == "hard" else None
                kinds.append(
                    Kind(
                        f"fraction-{percent}-percent-{way}" + ("-views" if views != "none" else ""),
                        settings.model_copy(update={"patience": patience}),
                        config.candidates[f"fraction-{way}"],
                        config.pairs,
                        teacher=teacher,
                        transfer=TransferSettings(fraction=float(percent) / 100),
                        is_held_out=True,
                    )
                )
    return kinds


@dataclass(frozen=True)
class Study:
    """A configuration and where it is run: from here come the jobs."""

    config: MnistConfig
    path: Path
    device: str = "cpu"

    def check(self) -> None:
        """Before anything is trained.

        Raises:
            UsageError: the data lacks a class that the study leaves out or keeps by its name.
        """
        names = load_splits(self.config.data).class_names
        if missing := [name for name in (*MISSING, *ONLY) if name not in names]:
            raise UsageError(
                f"reproduce mnist needs the classes {', '.join((*MISSING, *ONLY))}; {self.config.data.name} lacks "
                f"{', '.join(missing)}: take mnist or digits"
            )

    def tuning_jobs(self) -> list[Job]:
        """A teacher, and every candidate of the rows that have several."""
        config = self.config
        teacher = "tuning/big-net"
        jobs = [
            self._fit(teacher, config.teacher, config.data, TEACHER_SEED + TUNING_SEED, TransferSettings()),
            logits_job(teacher, config.data, device=self.device),
        ]
        for kind in self.tuned_kinds():
            transfer = kind.transfer.model_copy(update={"validation_too": False})
            for candidate in kind.candidates:
                name = tuning_name(kind, candidate)
                soft = _soft(candidate, [teacher] if kind.teacher else [])
                jobs.append(self._fit(name, kind.settings, config.data, TUNING_SEED, transfer, candidate, soft))
        return jobs

    def tuned_kinds(self) -> list[Kind]:
        """Rows with several candidates of their own."""
        return [kind for kind in kinds_of(self.config) if len(kind.candidates) > 1 and not kind.like]

    def final_jobs(self, chosen: dict[str, Candidate]) -> list[Job]:
        """The teachers of all pairs, and their students."""
        jobs = self._teacher_jobs()
        for kind in kinds_of(self.config):
            data = self.config.held_out if kind.is_held_out else self.config.data
            for pair in range(kind.pairs):
                name, candidate = f"{kind.name}/{pair}", chosen[kind.name]
                soft = _soft(candidate, self._teachers(kind, pair))
                jobs.append(self._fit(name, kind.settings, data, pair, kind.transfer, candidate, soft))
        return jobs + [job for pair in range(self.config.pairs) for job in self._beyond_jobs(pair)]

    def _beyond_jobs(self, pair: int) -> list[Job]:
        beyond, data = self.config.beyond, self.config.data
        whole = TransferSettings(validation_too=True)
        names = self.beyond_teachers(pair)
        jobs = [
            self._fit(name, settings, data, TEACHER_SEED + pair, whole)
            for name, settings in zip(names, beyond.teachers, strict=True)
        ]
        targets = f"beyond/targets/{pair}"
        views = beyond.student.views
        jobs.append(
            store_job(
                targets, names, data, views=views, num_views=beyond.num_views, transfer=whole, device=self.device
            )
        )
        soft = _soft(beyond.candidate, names, store=targets)
        jobs.append(self._fit(f"beyond-2x800/{pair}", beyond.student, data, pair, whole, beyond.candidate, soft))
        return jobs

    def beyond_teachers(self, pair: int) -> list[str]:
        """The members of the ensemble that the best student learns from."""
        return [f"beyond/teacher-{number}/{pair}" for number in range(len(self.config.beyond.teachers))]

    def num_teachers(self) -> int:
        """As many as the row with the most pairs needs."""
        config = self.config
        return max(config.smallest_pairs, config.pairs * config.ensemble_size)

    def members(self, number: int) -> list[str]:
        """The teachers of an ensemble: no two ensembles share one."""
        size = self.config.ensemble_size
        return [f"big-net/{member}" for member in range(number * size, (number + 1) * size)]

    def _teachers(self, kind: Kind, pair: int) -> list[str]:
        if kind.teacher is None:
            return []
        return self.members(pair) if kind.teacher == "ensemble" else [f"{kind.teacher}/{pair}"]

    def _teacher_jobs(self) -> list[Job]:
        config = self.config
        whole = TransferSettings(validation_too=True)
        half = whole.model_copy(update={"fraction": 0.5})
        plan = [(f"big-net/{seed}", seed, config.data, whole) for seed in range(self.num_teachers())]
        for pair in range(config.pairs):
            plan.append((f"held-out/big-net/{pair}", pair, config.held_out, TransferSettings()))
            plan.append((f"half/big-net/{pair}", pair, config.data, half))
        jobs = []
        for name, seed, data, transfer in plan:
            jobs.append(self._fit(name, config.teacher, data, TEACHER_SEED + seed, transfer))
            jobs.append(logits_job(name, data, device=self.device))
        return jobs

    def _fit(
        self,
        name: str,
        settings: FitSettings,
        data: DataSettings,
        seed: int,
        transfer: TransferSettings,
        candidate: Candidate | None = None,
        soft: SoftSettings | None = None,
    ) -> Job:
        needs: list[str] = []
        if soft:
            needs = [soft.store] if soft.store else soft.teachers + [one + LOGITS_OF for one in soft.teachers]
        if candidate:
            settings = settings.model_copy(update={"learning_rate": candidate.learning_rate})
        return fit_job(
            self.path,
            name,
            settings,
            data,
            seed=seed,
            soft=soft,
            transfer=transfer,
            needs=tuple(needs),
            device=self.device,
        )


def _soft(candidate: Candidate, teachers: Sequence[str], store: str | None = None) -> SoftSettings | None:
    """The soft targets of a candidate; none where there is no teacher."""
    if not teachers:
        return None
    return SoftSettings(teachers=list(teachers), store=store, **candidate.model_dump(exclude={"learning_rate"}))


def tuning_name(kind: Kind, candidate: Candidate) -> str:
    """The name of the job that tries a candidate: what it varies, and no more."""
    varied = [key for key in Candidate.model_fields if len({getattr(one, key) for one in kind.candidates}) > 1]
    return f"tuning/{kind.name}/" + "-".join(
        f"{key.replace('_', '-')}-{getattr(candidate, key):g}" for key in varied
    )
