"""The jobs of networks of tokens: a teacher, stores of its answers, students on labels and on its targets.

Nothing is chosen: every network is trained as configured, and is evaluated on test once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from instar.data import Splits
from instar.distillation import SoftTargetStore
from instar.errors import UsageError
from instar.jobs import Job
from instar.recipes.distill.students import TEACHER_SEED
from instar.recipes.fitting import adopt_job, fit_job
from instar.recipes.loading import comes_with_weights, load_network, try_network, try_trained
from instar.recipes.reading_settings import checked, merge, read_config_file
from instar.recipes.scales import choose_scale
from instar.recipes.settings import Count, DataSettings, FitSettings, Settings, SoftSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import DEFAULT, Execution
from instar.recipes.targets import check_store_of
from instar.recipes.teacher_answers import store_job
from instar.structures import predicts_next

Targets = Literal["full", "hidden", "tail", "drawn", "even"]

TEACHER, ALONE = "teacher", "labels alone"
TARGETS: dict[Targets, str] = {
    "full": "all classes",
    "hidden": "hidden states",
    "tail": "top k, others as one",
    "drawn": "top k, others drawn",
    "even": "top k, others even",
}
"""What a student learns from, and the name of its row."""

STORED = "stored soft targets"
"""The row of students that learn from a store that is there."""

_HIDDEN_STORE, _TOP_STORE = "teacher-hidden", "teacher-top-k"
_READ = ("tail", "drawn", "even")


class TokensConfig(Settings):
    """The configuration of `instar distill --task causal-lm` and `instar reproduce tokens`."""

    scale: str = "custom"
    data: DataSettings = DataSettings(name="text:docs-of:numpy,docs-of:sklearn")
    teacher: FitSettings | None = None
    """the large network; beside stored soft targets the trained one that wrote them, to be compared with"""
    student: FitSettings
    """the small network"""
    targets: Annotated[list[Targets], Field(min_length=1)] = ["full"]
    """what students learn from: all classes of a teacher that runs beside them, its stored hidden states with its
    head, or its stored top k classes with the others as one class, as draws, or all alike"""
    store: str | None = None
    """the folder of stored soft targets, in place of a teacher that is asked"""
    reading: Literal["tail", "drawn", "even"] | None = None
    """of stored soft targets of the top k classes: what the others are"""
    temperature: Annotated[float, Field(gt=0, lt=float("inf"))] = 1.0
    """temperature of the soft targets"""
    soft_weight: Annotated[float, Field(gt=0)] = 1.0
    """weight of the soft targets"""
    hard_weight: Annotated[float, Field(ge=0)] = 0.1
    """weight of the labels, beside the soft targets"""
    top_k: Count = 16
    """classes of each token that are stored"""
    draws: Count = 8
    """of the others, that are stored too"""
    seeds: Count = 3
    """students of each kind"""
    seed: int = 0
    """the first seed"""


_NETWORK = {"optimiser": "adamw", "weight_decay": 0.01, "gradient_clip": 1.0, "batch_size": 16, "epochs": 1}
_DEFAULTS: dict[str, Any] = {
    "teacher": {"network": "causal:4x128", "learning_rate": 2e-3, **_NETWORK},
    "student": {"network": "causal:2x32", "learning_rate": 5e-3, **_NETWORK},
}


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> TokensConfig:
    """The configuration of `instar distill --task causal-lm`: defaults, a TOML file over them, `typed` over both.

    Raises:
        UsageError: a key is unknown or its value is wrong.
    """
    return checked(TokensConfig, with_defaults(merge(read_config_file(config_file), typed), _DEFAULTS))


def with_defaults(content: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over defaults, and over what stored soft targets and the folder of a network decide.

    Raises:
        UsageError: there is no such store.
    """
    targets, found = content.get("targets"), dict(defaults)
    if isinstance(targets, str | Path):  # of the command line
        names = str(targets).split(",")
        is_store = not set(names) <= set(TARGETS) and ("/" in str(targets) or Path(targets).exists())
        content |= {"store": str(targets), "targets": None} if is_store else {"targets": names}
    if content.get("reading") is not None and content.get("store") is None:
        raise UsageError(
            f"reading {content['reading']} is of stored soft targets: name their folder, --targets DIR"
        )
    if content.get("store") is not None:
        found |= {"teacher": None, "data": _split_of(SoftTargetStore.open(content["store"]))}
    if (folder := _tokenizer_of(content)) is not None:
        found["data"] = {**found.get("data", {}), "tokenizer": folder}
    return merge(found, {key: value for key, value in content.items() if value is not None})


def _split_of(store: SoftTargetStore) -> dict[str, Any]:
    split = store.settings.split or {}
    return {key: split[key] for key in ("split_seed", "validation_fraction") if key in split}


def config_for(scale: str) -> TokensConfig:
    """The configuration of a scale.

    Raises:
        UsageError: there is no such scale.
    """
    return checked(TokensConfig, merge(_DEFAULTS, choose_scale("tokens", "", scale)))


def _tokenizer_of(content: Mapping[str, Any]) -> str | None:
    """The folder of the teacher, or of the student, that has a tokenizer: both are to use its ids."""
    for role in ("teacher", "student"):
        part = content.get(role)
        network = part.get("network") if isinstance(part, Mapping) else None
        if isinstance(network, str) and network.startswith("transformers:"):
            folder = Path(network.removeprefix("transformers:").partition("@")[0]).expanduser()
            if (folder / "tokenizer.json").is_file():
                return str(folder)
    return None


@dataclass(frozen=True)
class TokensPlan:
    """A configuration, its run directory, and how it is run."""

    config: TokensConfig
    path: Path
    execution: Execution = DEFAULT

    @cached_property
    def splits(self) -> Splits:
        """The data."""
        return load_splits(self.config.data)

    @property
    def seeds(self) -> range:
        """Those of the students."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def kinds(self) -> list[str]:
        """The rows of students."""
        stored = self.config.store is not None
        return [ALONE, *([STORED] if stored else (TARGETS[one] for one in self.config.targets))]

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher is there to be compared with; stored soft targets need none."""
        return self.config.teacher is not None

    def jobs(self) -> list[Job]:
        """All of them."""
        config = self.config
        found = [self._teacher_job(config.teacher)] if config.teacher is not None else []
        if config.store is not None:
            soft = SoftSettings(teachers=[], store=config.store, reading=config.reading, **self._weights)
            return [*found, *(self._fit(*one) for one in self._seeded(ALONE)),
                    *(self._fit(*one, soft=soft) for one in self._seeded(STORED))]  # fmt: skip
        if "hidden" in config.targets:
            found.append(self._store_job(_HIDDEN_STORE, {"hidden": True}))
        if set(_READ) & set(config.targets):
            about = {"top_k": config.top_k, "draws": config.draws, "temperatures": [config.temperature]}
            found.append(self._store_job(_TOP_STORE, {**about, "draws_at": config.temperature}))
        for seed in self.seeds:
            found.append(self._fit(ALONE, seed))
            found += [self._fit(TARGETS[one], seed, **self._soft(one)) for one in config.targets]
        return found

    def fits(self, kind: str) -> list[Path]:
        """The run directories of a row's networks."""
        names = [TEACHER] if kind == TEACHER else [_job_name(kind, seed) for seed in self.seeds]
        return [self.path / "jobs" / name for name in names]

    def _seeded(self, kind: str) -> list[tuple[str, int]]:
        return [(kind, seed) for seed in self.seeds]

    def _teacher_job(self, settings: FitSettings) -> Job:
        if comes_with_weights(settings):
            return adopt_job(TEACHER, settings, self.config.data)
        seed = TEACHER_SEED + self.config.seed
        return fit_job(self.path, TEACHER, settings, self.config.data, seed=seed, **self._how)

    @property
    def _how(self) -> dict[str, Any]:
        return {"device": self.execution.device, "tensorboard": self.execution.tensorboard}

    def _store_job(self, name: str, options: dict[str, Any]) -> Job:
        about: dict[str, Any] = {"views": "none", "num_views": 1, "device": self.execution.device}
        return store_job(name, [TEACHER], self.config.data, options=options, **about)

    def _soft(self, targets: Targets) -> dict[str, Any]:
        """How a student learns from the teacher, and the jobs that it needs."""
        stores: dict[str, str | None] = {"full": None, "hidden": _HIDDEN_STORE}
        store = stores.get(targets, _TOP_STORE)
        soft = SoftSettings(
            teachers=[TEACHER],
            store=store,
            reading=None if targets == "full" or targets == "hidden" else targets,
            **self._weights,
        )
        return {"soft": soft, "needs": (TEACHER,) if store is None else (TEACHER, store)}

    @property
    def _weights(self) -> dict[str, Any]:
        return self.config.model_dump(include={"temperature", "soft_weight", "hard_weight"})

    def _fit(self, kind: str, seed: int, **options: Any) -> Job:
        about: dict[str, Any] = {"seed": seed, **self._how, **options}
        return fit_job(self.path, _job_name(kind, seed), self.config.student, self.config.data, **about)


def check(plan: TokensPlan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: the data is no running text, or a network cannot learn from it.
    """
    if not predicts_next(plan.splits.train.example_shape):
        raise UsageError(
            f"{plan.splits.name} is no running text, of which next tokens are predicted: text:FILES is"
        )
    check_networks(plan)


def check_networks(plan: TokensPlan) -> None:
    """Refuse networks and stored soft targets that are not of the data.

    Raises:
        UsageError: names what is wrong.
    """
    config, splits, teacher = plan.config, plan.splits, plan.config.teacher
    network = None
    if config.store is None and set(_READ) & set(config.targets) and config.top_k >= splits.train.num_classes:
        raise UsageError(f"top_k is {config.top_k}, the data has {splits.train.num_classes:,} classes: take fewer")
    if teacher is None and config.store is None:
        raise UsageError("there is no teacher: name one, --teacher NETWORK, or stored soft targets, --targets DIR")
    if teacher is not None and comes_with_weights(teacher):
        network = load_network(teacher, splits)
        try_trained(network, teacher.network, splits)
    elif teacher is not None and config.store is not None:
        raise UsageError(
            f"--teacher {teacher.network} and --targets {config.store}: beside stored soft targets a teacher is "
            "compared with, not trained: name the trained one, RUN:teacher, or leave it out"
        )
    elif teacher is not None:
        try_network(teacher, splits)
    if config.store is not None:
        store = SoftTargetStore.open(config.store)
        check_store_of(store, splits)
        store.soft_targets(splits.train.ids[:1], 0, config.temperature, reading=config.reading)
        if network is not None:
            store.check_teachers({store.members[0]: network})
    try_network(config.student, splits, temperature=config.temperature)


def _job_name(kind: str, seed: int) -> str:
    """The job of one student.

    Example:
        >>> _job_name("top k, others as one", 3)
        'top-k-others-as-one/seed-3'
    """
    return f"{kind.replace(',', '').replace(' ', '-')}/seed-{seed}"
