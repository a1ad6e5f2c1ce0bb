"""The configuration of `instar distill`, and how it is read."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from instar.errors import UsageError
from instar.naming import TEXT_NAMES, is_source, is_text_files, unknown_name
from instar.recipes.distill.student_folders import extractor_of, tokenizer_of
from instar.recipes.reading_settings import checked, merge, read_config_file
from instar.recipes.settings import (
    LOSSES,
    CandidateRates,
    CandidateTemperatures,
    CandidateWeights,
    Count,
    DataSettings,
    LossSettings,
    Settings,
    StudentSettings,
    TeacherSettings,
    TransferSettings,
)

_LOSS = tuple(LossSettings.model_fields)
"""The settings of the loss that may have several values."""


class Candidate(Settings):
    """One way to fit a student; of several the best on validation is used."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """the learning rate"""
    loss: LossSettings | None = None
    """temperature and weights; without them the student learns from labels alone"""
    own_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """of a loss that has a weight of its own"""
    sampled_rows: Annotated[int, Field(ge=0)] | None = None
    """sampled beside the rows of the transfer set; 0 and None for none"""

    @property
    def settings(self) -> dict[str, float]:
        """Its values by name: `learning_rate`, `temperature`, `soft_weight`, ..."""
        own = {} if self.own_weight is None else {"own_weight": self.own_weight}
        sampled = {} if self.sampled_rows is None else {"sampled_rows": self.sampled_rows}
        return {"learning_rate": self.learning_rate, **dict(self.loss or ()), **own, **sampled}

    def slug(self, keys: Iterable[str]) -> str:
        """`learning-rate-0.1-temperature-4`."""
        return "-".join(f"{key.replace('_', '-')}-{self.settings[key]:g}" for key in keys)


def _names(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _losses(value: Any) -> Any:
    """`kd` alone is what no loss given means, and the same run."""
    names = _names(value)
    return None if names == list(LOSSES[:1]) else names


OWN_WEIGHTS: dict[str, list[float]] = {
    "dkd": [0.5, 2.0, 8.0],  # the paper takes from 0.5 (ImageNet) to 8 and 10 (CIFAR-100)
    "hints": [0.1, 1.0, 10.0],
    "attention": [1.0, 10.0, 100.0],  # the maps are of norm 1: their distance is small
}
"""What is tried where nothing is given, by loss."""


class OwnWeights(Settings):
    """Weights that one loss alone has; of several the best on validation is used."""

    dkd: CandidateRates | None = None
    """of the classes other than the true one, beside 1 of the true one"""
    hints: CandidateRates | None = None
    """of the intermediate layers"""
    attention: CandidateRates | None = None
    """of the attention maps"""


class Variant(NamedTuple):
    """A candidate without its learning rate."""

    loss: LossSettings | None = None
    own_weight: float | None = None
    sampled_rows: int | None = None

    def at(self, learning_rate: float) -> Candidate:
        """The candidate with a learning rate."""
        return Candidate(learning_rate=learning_rate, **self._asdict())


class DistillConfig(Settings):
    """The configuration of `instar distill`."""

    data: DataSettings = DataSettings()
    """the data set"""
    teacher: TeacherSettings = TeacherSettings(network="mlp:1200x2", epochs=40)
    """the large network; of a table also forest, lightgbm, xgboost, catboost; or a trained one (RUN:teacher,
    NAME@WEIGHTS); several with commas are an ensemble"""
    teachers: Count = 1
    """how many teachers of each network, with different seeds: an ensemble"""
    ensemble_mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """mean of the probabilities of an ensemble"""
    folds: Annotated[int, Field(ge=2)] | None = None
    """of forest, lightgbm, ...: soft targets for training examples from copies that were fitted on other folds"""
    targets: str | None = None
    """folder of stored soft targets, in place of a teacher"""
    reading: Literal["tail", "drawn", "even"] | None = None
    """of targets that keep the top k classes: what the others are; by default as the store was written"""
    student: StudentSettings = StudentSettings(network="mlp:8x1")
    """the small network, trained alone and distilled"""
    transfer: TransferSettings = TransferSettings()
    """what the students learn from; the teacher learns from all training examples"""
    temperature: CandidateTemperatures = [2.0, 4.0, 8.0]
    """temperature of the soft targets, inf to match logits; of several the best on validation is used"""
    soft_weight: CandidateWeights = [1.0]
    """weight of the soft targets"""
    hard_weight: CandidateWeights = [0.1]
    """weight of the labels, beside the soft targets"""
    label_weight: CandidateWeights = [0.0]
    """weight of the labels mixed into the soft targets"""
    loss: Annotated[list[str] | None, BeforeValidator(_losses)] = None
    """losses, compared with equal tuning: kd, dkd, dist, standardised, hints, attention; by default kd alone"""
    own_weights: OwnWeights | None = None
    """weights of their own that some losses have"""
    hint_layers: Annotated[list[str] | None, BeforeValidator(_names)] = None
    """TEACHER_LAYER:STUDENT_LAYER for hints and attention, several with commas; by default the last that fit"""
    same_cost: Annotated[Literal[True] | None, BeforeValidator(lambda value: value or None)] = None
    """also a student on labels alone that may train for what teacher and student cost together"""
    int8: Annotated[Literal[True] | None, BeforeValidator(lambda value: value or None)] = None
    """also the networks as files, in float and in eight bits, and the distilled student taught in eight bits"""
    narrower: Annotated[list[str] | None, BeforeValidator(_names)] = None
    """with int8: other students, distilled as the first one is, to compare as files; several with commas"""
    fit_bias: Literal["missing", "present"] | None = None
    """where the transfer set lacks classes: fit the bias of the missing or of the present ones on validation"""
    bias_per_class: bool = False
    """fit a bias for each of these classes in place of one for all"""
    seeds: Count = 5
    """number of students of each kind in the result"""
    seed: int = 0
    """the first seed of the students; it moves the teachers' seeds too"""
    tuning_seeds: Count = 2
    """number of other seeds by which candidates are compared on validation"""
    quick: Annotated[Literal[True] | None, BeforeValidator(lambda value: value or None)] = None
    """a first look: one seed, fewer epochs, one temperature, and one short round of search for learning rates"""

    @property
    def control(self) -> TransferSettings:
        """What the student alone learns from: the same examples with all their labels.

        The pictures of a folder have no labels: the control then learns from all training examples.
        """
        if self.transfer.folder is not None:
            return TransferSettings(num_views=self.transfer.num_views)
        return self.transfer.model_copy(update={"labelled": 1.0, "sampled_rows": None})

    @property
    def taught(self) -> TransferSettings:
        """What the distilled student learns from, but for sampled rows: validation decides on these."""
        return self.transfer.model_copy(update={"sampled_rows": None})

    @property
    def losses(self) -> list[LossSettings]:
        """All combinations of temperature and weights."""
        return [
            LossSettings(**dict(zip(_LOSS, values, strict=True)))
            for values in itertools.product(*(getattr(self, key) for key in _LOSS))
        ]

    @property
    def middle_loss(self) -> LossSettings:
        """The one with the middle value of each: at this loss a learning rate is searched for."""
        return LossSettings(**{key: _middle(getattr(self, key)) for key in _LOSS})

    @property
    def loss_names(self) -> list[str]:
        """What the distilled students learn with; the others are compared with the first, `kd` if it is there."""
        names = self.loss or LOSSES[:1]
        return sorted(names, key=lambda name: name != LOSSES[0])

    def variants(self, name: str) -> list[Variant]:
        """What a loss may be tried with, but for the learning rate: first the middle of all, then all temperatures
        and weights, then the other weights of its own.
        """
        own = self._own_weights(name)
        sampled = self.transfer.sampled_rows
        middle = Variant(self.middle_loss, _middle(own) if own else None, None if sampled is None else 0)
        others = [middle._replace(loss=loss) for loss in self.losses if loss != middle.loss]
        others += [middle._replace(own_weight=one) for one in own if one != middle.own_weight]
        return [middle, *others, *([] if sampled is None else [middle._replace(sampled_rows=sampled)])]

    def _own_weights(self, name: str) -> list[float]:
        return getattr(self.own_weights, name, None) or OWN_WEIGHTS.get(name, [])

    @property
    def alone(self) -> list[Candidate]:
        """The candidates of the student alone: the same learning rates as those of the distilled one."""
        return [Candidate(learning_rate=rate) for rate in self.student.learning_rate or ()]

    def distilled(self, name: str) -> list[Candidate]:
        """The candidates of the student that is distilled with a loss: all combinations.

        Weights of its own are tried where they were given: with the defaults it has as many candidates as others.
        """
        rates, own = self.student.learning_rate or (), self._own_weights(name)
        if getattr(self.own_weights, name, None) is None:
            own = [_middle(own)] if own else []
        weights: Sequence[float | None] = own or [None]
        rows = self.transfer.sampled_rows
        sampled: list[int | None] = [None] if rows is None else [0, rows]
        variants = [Variant(loss, one, number) for loss in self.losses for one in weights for number in sampled]
        return [variant.at(rate) for variant in variants for rate in rates]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        several = {key: getattr(self, key) for key in _LOSS} | {"learning_rate": self.student.learning_rate or []}
        for name, values in several.items():
            if len(set(values)) < len(values):
                raise UsageError(f"{name} names a value twice: {', '.join(f'{value:g}' for value in values)}")
        self._check_weights()
        self._check_transfer()
        self._check_losses()
        return self

    def _check_weights(self) -> None:
        if 0 in self.soft_weight and 0 in self.hard_weight:
            raise UsageError("soft_weight and hard_weight are both 0: nothing to learn from")
        if any(weight > 1 for weight in self.label_weight):
            raise UsageError(f"label_weight is {max(self.label_weight):g}, expected from 0 to 1")
        if math.inf in self.temperature and any(self.label_weight):
            raise UsageError("temperature inf matches logits, and label_weight cannot go into logits; set it to 0")
        if self.reading is not None and self.targets is None:
            raise UsageError(f"reading {self.reading} is of stored soft targets: name their folder with --targets")

    def _check_losses(self) -> None:
        names = self.loss_names
        for name in names:
            if name not in LOSSES:
                raise unknown_name("loss", name, LOSSES)
            if names.count(name) > 1:
                raise UsageError(f"loss names {name} twice: {','.join(self.loss or ())}")
        with_layers = [name for name in names if name in ("hints", "attention")]
        if with_layers and self.targets is not None:
            raise UsageError(
                f"loss {with_layers[0]} needs the layers of a teacher, and targets has stored answers alone: name "
                "the teacher with --teacher"
            )
        finite = [name for name in names if name in ("dkd", "dist", "standardised")]
        if finite and math.inf in self.temperature:
            raise UsageError(f"temperature inf matches logits, a limit that loss {finite[0]} does not have")
        unused = [key for key, value in self.own_weights or () if value is not None and key not in names]
        if unused:
            raise UsageError(f"own_weights.{unused[0]} is given, but loss is {','.join(names)}")
        self._check_hint_layers(with_layers)
        self._check_narrower()
        if self.same_cost and self.targets is not None:
            raise UsageError("same_cost: what the teachers of stored targets cost is not known; leave one out")

    def _check_hint_layers(self, with_layers: list[str]) -> None:
        if self.hint_layers is None:
            return
        if not with_layers:
            raise UsageError("hint_layers is given, but no loss that compares layers: --loss kd,hints")
        for pair in self.hint_layers:
            if len(pair.split(":")) != 2 or not all(pair.split(":")):
                raise UsageError(f"hint_layers {pair!r} should be TEACHER_LAYER:STUDENT_LAYER")

    def _check_narrower(self) -> None:
        networks = [self.student.network, *(self.narrower or [])]
        if self.narrower and not self.int8:
            raise UsageError("narrower: these students are compared as files; add --int8")
        if twice := [name for name in networks if networks.count(name) > 1]:
            raise UsageError(f"narrower: {twice[0]} is named twice, or is the student itself")

    def _check_transfer(self) -> None:
        transfer = self.transfer
        if transfer.validation_too:
            raise UsageError(
                "transfer.validation_too: validation selects the candidates, so nothing learns from it"
            )
        if (transfer.folder is not None or transfer.labelled == 0) and 0 in self.soft_weight:
            raise UsageError("soft_weight is 0 and the transfer set has no labels: nothing to learn from")
        if transfer.folder is not None or transfer.labelled == 0:
            for name in ("hard_weight", "label_weight"):
                if len(getattr(self, name)) > 1:
                    raise UsageError(f"{name} has several values, but the transfer set has no labels: give one")
        if transfer.folder is not None:
            given = transfer.model_dump(exclude={"folder", "fraction", "seed", "num_views"}, exclude_defaults=True)
            if given:
                raise UsageError(
                    f"transfer.{next(iter(given))} and transfer.folder: a folder's pictures have no labels"
                )
            if self.fit_bias:
                raise UsageError("fit_bias: which classes a folder's pictures lack cannot be known without labels")
        if self.bias_per_class and not self.fit_bias:
            raise UsageError("bias_per_class needs fit_bias: missing or present")


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


_DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist": {"teacher": {"views": "jitter:2"}, "temperature": [1.0, 2.0, 4.0]}
}
"""Defaults of data sets that need others than the digits; found on their validation examples."""


_OF_KINDS: dict[str, dict[str, Any]] = {
    "text": {
        "teacher": {"epochs": 10, "optimiser": "adamw"},
        "student": {"epochs": 20, "optimiser": "adamw"},
        "temperature": [1.0, 2.0, 4.0],
    }
}
"""Defaults by the kind of data, where these are rows of a table."""

_NETWORKS_OF_KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "text": {
        "teacher": {"network": "bag:256", "dropout": 0.3},
        "student": {"network": "bag:32"},
    }
}
"""The networks by the kind of data, with what belongs to them alone, where none is named. A small transformer that
is trained from nothing knows less than a wide bag of words (docs/experiments.md)."""


_QUICK = {"teacher": 4, "student": 2}
"""By how much a first look has fewer epochs, beside having one seed."""


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> DistillConfig:
    """Defaults that fit the data and the stored targets, overridden by a TOML file, overridden by what was typed.

    Args:
        typed: nested settings; None means not typed.
        config_file: a TOML file, or the `config.toml` of a run.

    Raises:
        UsageError: a key is unknown or its value is wrong (the first is named), or there is no such store.
    """
    content = merge(read_config_file(config_file), typed)
    base = merge(DistillConfig().model_dump(), {"data": extractor_of(content)})
    data = merge(base, content)["data"]
    name = data["name"] if isinstance(data, Mapping) else None
    if is_text_files(name):
        raise UsageError(f"{name} is running text, without classes: --task causal-lm distils language models")
    defaults = merge(base, _DEFAULTS.get(str(name), {}))
    if kind := _kind_of(data):
        if kind == "words":
            raise UsageError(f"{name} has a class of each word: --task token-classification distils such networks")
        defaults = merge(defaults, _OF_KINDS.get(kind, {}))
        for role, network in _NETWORKS_OF_KINDS.get(kind, {}).items():
            given = content.get(role)
            if not isinstance(given, Mapping) or given.get("network") is None:
                defaults = merge(defaults, {role: network})
    if kind == "text":
        defaults = merge(defaults, {"data": tokenizer_of(content)})
    if content.get("targets") is not None:
        teacher = typed.get("teacher")
        if isinstance(teacher, Mapping) and teacher.get("network") is not None:
            raise UsageError("--teacher and --targets: give one of them; stored targets need no teacher")
        defaults = merge(defaults, _store_defaults(str(content["targets"])))
    if content.get("quick"):
        middle = sorted(defaults["temperature"], key=float)[(len(defaults["temperature"]) - 1) // 2]
        fewer = {role: {"epochs": defaults[role]["epochs"] // divisor} for role, divisor in _QUICK.items()}
        defaults = merge(defaults, {"seeds": 1, "tuning_seeds": 1, "temperature": [middle], **fewer})
    return checked(DistillConfig, merge(defaults, content))


def _kind_of(data: Any) -> str | None:
    """The kind of data that are rows of a table, `text` for instance; of others None, and nothing is read."""
    name = data.get("name") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or not (is_source(name) or name in TEXT_NAMES):
        return None
    from instar.recipes.splits import load_splits

    preparation = load_splits(checked(DataSettings, data)).preparation
    return None if preparation is None else preparation.kind


def _store_defaults(path: str) -> dict[str, Any]:
    """What a store decides: the split, the views of both students, and the temperatures of a top-k store."""
    from instar.distillation import SoftTargetStore

    store = SoftTargetStore.open(path)
    data = {"view_seed": store.view_seed}
    if store.settings.split is not None:
        data |= {key: store.settings.split[key] for key in ("split_seed", "validation_fraction")}
    defaults: dict[str, Any] = {"student": {"views": store.views}, "data": data}
    if store.views != "none":
        defaults["transfer"] = {"num_views": store.num_views}
    return defaults if store.top_k is None else {**defaults, "temperature": list(store.temperatures)}
