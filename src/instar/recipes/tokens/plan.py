"""The jobs of a language model distilled: a teacher, stores of its answers, students on labels and on its targets.

Nothing is chosen: every network is trained as configured, and is evaluated on test once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from instar.data import Splits
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

_HIDDEN_STORE, _TOP_STORE = "teacher-hidden", "teacher-top-k"


class TokensConfig(Settings):
    """The configuration of `instar distill --task causal-lm` and `instar reproduce tokens`."""

    scale: str = "custom"
    data: DataSettings = DataSettings(name="text:docs-of:numpy,docs-of:sklearn")
    teacher: FitSettings
    """the large network"""
    student: FitSettings
    """the small network"""
    targets: Annotated[list[Targets], Field(min_length=1)] = ["full"]
    """what students learn from: all classes of a teacher that runs beside them, its stored hidden states with its
    head, or its stored top k classes with the others as one class, as draws, or all alike"""
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
    content = merge(read_config_file(config_file), typed)
    if isinstance(content.get("targets"), str):  # of the command line
        content["targets"] = content["targets"].split(",")
    defaults: dict[str, Any] = dict(_DEFAULTS)
    folder = _tokenizer_of(content)
    if folder is not None:
        defaults["data"] = {"tokenizer": folder}
    return checked(TokensConfig, merge(defaults, content))


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
        return [ALONE, *(TARGETS[one] for one in self.config.targets)]

    def jobs(self) -> list[Job]:
        """All of them."""
        config = self.config
        found = [self._teacher_job()]
        if "hidden" in config.targets:
            found.append(self._store_job(_HIDDEN_STORE, {"hidden": True}))
        if {"tail", "drawn", "even"} & set(config.targets):
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

    def _teacher_job(self) -> Job:
        settings = self.config.teacher
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
            temperature=self.config.temperature,
            soft_weight=self.config.soft_weight,
            hard_weight=self.config.hard_weight,
        )
        return {"soft": soft, "needs": (TEACHER,) if store is None else (TEACHER, store)}

    def _fit(self, kind: str, seed: int, **options: Any) -> Job:
        about: dict[str, Any] = {"seed": seed, **self._how, **options}
        return fit_job(self.path, _job_name(kind, seed), self.config.student, self.config.data, **about)


def check(plan: TokensPlan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: the data is no running text, or a network cannot learn from it.
    """
    config, splits = plan.config, plan.splits
    if not predicts_next(splits.train.example_shape):
        raise UsageError(f"{splits.name} is no running text, of which next tokens are predicted: text:FILES is")
    if config.top_k >= splits.train.num_classes:
        raise UsageError(f"top_k is {config.top_k}, the data has {splits.train.num_classes:,} ids: take fewer")
    if comes_with_weights(config.teacher):
        try_trained(load_network(config.teacher, splits), config.teacher.network, splits)
    else:
        try_network(config.teacher, splits)
    try_network(config.student, splits, temperature=config.temperature)


def _job_name(kind: str, seed: int) -> str:
    """The job of one student.

    Example:
        >>> _job_name("top k, others as one", 3)
        'top-k-others-as-one/seed-3'
    """
    return f"{kind.replace(',', '').replace(' ', '-')}/seed-{seed}"
