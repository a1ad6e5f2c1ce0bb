"""What a recipe's configuration is made of, and how it is read: here configuration stops."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from instar.data import parse_views
from instar.errors import UsageError
from instar.files import read_toml
from instar.networks import find_initialiser
from instar.optimisation import learning_rate_factor

_PositiveInt = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, lt=1)]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def as_text(settings: Mapping[str, float]) -> dict[str, float | str]:
    """Settings as JSON can hold them: it has no number for an infinite temperature.

    Example:
        >>> as_text({"temperature": math.inf, "hard_weight": 0.1})
        {'temperature': 'inf', 'hard_weight': 0.1}
    """
    return {key: _as_text(value) for key, value in settings.items()}


def _as_text(value: float) -> float | str:
    return "inf" if math.isinf(value) else value


Temperature = Annotated[float, Field(gt=0), PlainSerializer(_as_text, when_used="always")]
"""`inf` is logit matching, the limit; written as text, for JSON has no number for it."""

CandidateTemperatures = Annotated[list[Temperature], BeforeValidator(_as_list), Field(min_length=1)]

CandidateRates = Annotated[list[_Positive], BeforeValidator(_as_list), Field(min_length=1)]
"""One value is used; of several, validation chooses."""

CandidateWeights = Annotated[list[_NotNegative], BeforeValidator(_as_list), Field(min_length=1)]


class Settings(BaseModel):
    """A part of a configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class NetworkSettings(Settings):
    """How one network is made and fitted, without its learning rate."""

    network: str
    """mlp:800x2, convnet:8, resnet:20, python:MODULE:FUNCTION, NAME@WEIGHTS; for a teacher also a run directory"""
    epochs: _PositiveInt = 60
    """passes over the training data"""
    bias_rate_factor: _Positive | None = None
    """of the learning rate, for biases; 2 in the first paper's networks"""
    batch_size: _PositiveInt = 128
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: _Share = 0.9
    weight_decay: _NotNegative = 0.0
    schedule: str = "cosine"
    warmup_epochs: _NotNegative = 0.0
    gradient_clip: _Positive | None = None
    max_norm: _Positive | None = None
    ema_decay: _Share | None = None
    patience: _PositiveInt | None = None
    dropout: _Share = 0.0
    input_dropout: _Share = 0.0
    initialiser: str = "he-normal"
    views: str = "none"
    """augmentation: none, jitter:2, crop:4+flip, affine:12,0.15,0.15,2"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    pretrained: bool = False
    """use the weights as they come, train nothing (teachers that are a user's own module)"""
    new_weights: Literal[True] | None = None
    """draw a user's own module anew by `initialiser`: it comes with weights that are not wanted"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        """What would fail in every job fails here, before anything is begun."""
        parse_views(self.views)
        learning_rate_factor(self.schedule, self.epochs, self.warmup_epochs)
        find_initialiser(self.initialiser)
        return self


class FitSettings(NetworkSettings):
    """How one network is made and fitted."""

    learning_rate: _Positive = 0.1


class StudentSettings(NetworkSettings):
    """A network whose learning rate may be chosen on validation."""

    learning_rate: CandidateRates = [0.1]
    """of several values the best on validation is used"""

    def at(self, learning_rate: float) -> FitSettings:
        """The settings of one fit."""
        return FitSettings(**self.model_dump() | {"learning_rate": learning_rate})


class TransferSettings(Settings):
    """Which of the training examples a network learns from; see `instar.transfer_set`."""

    drop_classes: list[str] = []
    """left out, by name"""
    keep_classes: list[str] | None = None
    """the only ones, by name"""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """of each class"""
    rest: bool = False
    """what the fraction leaves, and not the fraction"""
    labelled: Annotated[float, Field(ge=0, le=1)] = 1.0
    """share of the examples that keep their labels"""
    seed: int = 0
    """chooses which"""
    validation_too: bool = False
    """learn from the validation examples as well, and be judged by none"""
    folder: str | None = None
    """unlabelled pictures in place of the training examples: all below this folder"""
    num_views: _PositiveInt | None = None
    """of each example, shown in turns; without it each epoch shows a new one"""


class LossSettings(Settings):
    """What a student's loss is made of: the soft targets' temperature, and the weights of its terms."""

    temperature: Temperature
    """temperature of the soft targets; inf matches logits"""
    soft_weight: _NotNegative = 1.0
    """weight of the soft targets"""
    hard_weight: _NotNegative = 0.0
    """weight of the labels, beside the soft targets"""
    label_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """weight of the labels mixed into the soft targets"""


class SoftSettings(LossSettings):
    """A student's loss, and where its soft targets come from."""

    teachers: list[str] = ["teacher"]
    """jobs that trained the teachers; several are an ensemble"""
    store: str | None = None
    """a job that writes a store of soft targets, or a store's folder, in place of teachers"""
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """mean of the probabilities of an ensemble"""


class DataSettings(Settings):
    """Which data, and how it is split; shared by the teacher and all students."""

    name: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, omniglot, folder:PATH, python:MODULE:FUNCTION"""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    split_seed: int = 0
    view_seed: int = 0
    image_size: _PositiveInt | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """of the training and validation examples of each class that are used at all; test stays whole"""
    classes: tuple[str, ...] | None = None
    """the only ones, relabelled in this order: a task of its own"""


SettingsType = TypeVar("SettingsType", bound=Settings)


def read_config_file(path: Path | None) -> dict[str, Any]:
    """The settings in a TOML file; the `config.toml` of a run directory will do too.

    Raises:
        UsageError: it is not there or is not TOML.
    """
    if path is None:
        return {}
    content = read_toml(path)
    return dict(content["config"]) if isinstance(content.get("config"), dict) else content


def checked(kind: type[SettingsType], content: Mapping[str, Any]) -> SettingsType:
    """Settings from nested values.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _known_keys(kind, problem["loc"])
            raise UsageError(f"unknown setting {key!r}; known here: {known}") from None
        if problem["type"] == "value_error":  # one of our own errors: it says all
            raise UsageError(f"{key}: {problem['ctx']['error']}".removeprefix(": ")) from None
        raise UsageError(f"{key} {problem['msg'].removeprefix('Input ')}, found {problem['input']!r}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings over others; None leaves what was there.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "b": None}})
        {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key, {})
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            merged[key] = merge(inner, value)
        elif value is not None and not isinstance(value, Mapping):
            merged[key] = value  # a number where a table should be stays, for `checked` to refuse
    return merged


def _known_keys(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    for part in location[:-1]:
        field = kind.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type):
            break
        kind = field.annotation
    return ", ".join(kind.model_fields)
