"""The parts that a configuration is made of; `reading_settings` reads and checks them.

The docstring below a field is its description, which `instar COMMAND --help` shows. Nothing here imports torch, so
that help is fast.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from instar.errors import UsageError

_BATCH_SIZE = 128
Count = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, lt=1)]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _without_list(value: Any) -> Any:
    """The value of a list of one, as configurations of format version 1 have it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


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


_unchecked: ContextVar[bool] = ContextVar("_unchecked", default=False)


@contextmanager
def names_unchecked() -> Iterator[None]:
    """Read defaults without checking the names in them, which would import torch: for help."""
    token = _unchecked.set(True)
    try:
        yield
    finally:
        _unchecked.reset(token)


class Settings(BaseModel):
    """A part of a configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)


class NetworkSettings(Settings):
    """How one network is built and trained, without its learning rate."""

    network: str
    """mlp:1200x2, convnet:8, resnet:20, vgg:8, timm:NAME, torchvision:NAME, transformers:PATH,
    python:MODULE:FUNCTION; with weights NAME@FILE, NAME@pretrained"""
    epochs: Count = 60
    """passes over the training data"""
    bias_rate_factor: _Positive | None = None
    """factor on the learning rate of biases; 2 in Yosinski et al. 2014"""
    batch_size: Count = _BATCH_SIZE
    """examples in one step"""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """the optimiser"""
    momentum: _Share = 0.9
    """momentum of SGD"""
    weight_decay: _NotNegative = 0.0
    """weight decay"""
    schedule: str = "cosine"
    """learning rate schedule: cosine, constant, or step:E1,E2,..., which divides it by 10 after those epochs"""
    warmup_epochs: _NotNegative = 0.0
    """epochs in which the learning rate rises from 0"""
    gradient_clip: _Positive | None = None
    """largest norm of the gradient"""
    max_norm: _Positive | None = None
    """largest norm of the incoming weights of a unit"""
    ema_decay: _Share | None = None
    """decay of a moving average of the weights, which is then the trained network"""
    patience: Count | None = None
    """early stopping: epochs without improvement on validation"""
    dropout: _Share = 0.0
    """dropout of hidden units"""
    input_dropout: _Share = 0.0
    """dropout of the input"""
    initialiser: str = "he-normal"
    """initialiser of the weights"""
    views: str = "none"
    """augmentation: none, jitter:2, crop:4+flip, affine:12,0.15,0.15,2"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """number format of training; auto is bfloat16 where the processor has it"""
    pretrained: bool = False
    """use a network of your own with the weights that it comes with, and do not train it"""
    new_weights: Literal[True] | None = None
    """initialise a network of your own anew, in place of the weights that it comes with"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        """Fail here, and not in the first of many jobs. Plain defaults need no check: it would import torch."""
        if _unchecked.get():
            return self
        if self.views != "none":
            from instar.data import parse_views

            parse_views(self.views)
        if self.schedule != "cosine" or self.warmup_epochs:
            from instar.optimisation import learning_rate_factor

            learning_rate_factor(self.schedule, self.epochs, self.warmup_epochs or 0.0)
        if self.initialiser != "he-normal":
            from instar.networks import find_initialiser

            find_initialiser(self.initialiser)
        return self


class FitSettings(NetworkSettings):
    """How one network is built and trained."""

    learning_rate: Annotated[_Positive, BeforeValidator(_without_list)] = 0.1
    """learning rate"""


class SearchedSettings(NetworkSettings):
    """A network whose learning rate is found where none is given (see `instar.recipes.rates`)."""

    learning_rate: Any = None
    batch_size: Count | None = None  # type: ignore[assignment]  # `settled` decides
    """examples in one step; 128, but where the rate is found fewer on few examples, for five steps an epoch"""
    warmup_epochs: _NotNegative | None = None  # type: ignore[assignment]  # `settled` decides
    """epochs in which the rate rises from 0; where it is found, 5 % for deep networks without normalisation"""
    gradient_clip: _Positive | None = None
    """largest norm of the gradient; where the rate is found, 1 for networks without normalisation"""

    @model_validator(mode="before")
    @classmethod
    def _is_given(cls, content: Any) -> Any:
        """With a learning rate that is given nothing is left open."""
        if isinstance(content, dict) and content.get("learning_rate") is not None:
            left_open = {"warmup_epochs": 0.0, "batch_size": _BATCH_SIZE}
            return {**content, **{key: content.get(key) or value for key, value in left_open.items()}}
        return content

    def at(self, learning_rate: float | None = None) -> FitSettings:
        """The settings of one fit; without a rate those of a network that is not to be trained yet."""
        decided = {"warmup_epochs": self.warmup_epochs or 0.0, "batch_size": self.batch_size or _BATCH_SIZE}
        rate = {} if learning_rate is None else {"learning_rate": learning_rate}
        return FitSettings(**self.model_dump(exclude={"learning_rate"}) | decided | rate)


class TeacherSettings(SearchedSettings):
    """A network whose learning rate is given or found."""

    learning_rate: Annotated[_Positive, BeforeValidator(_without_list)] | None = None
    """learning rate; without one it is found by short fits"""


class StudentSettings(SearchedSettings):
    """A network whose learning rate is given, chosen from several, or found."""

    learning_rate: CandidateRates | None = None
    """learning rate; of several values the best on validation is used; without one it is found by short fits"""


class TransferSettings(Settings):
    """The training examples that a network learns from; see `instar.transfer_set`."""

    drop_classes: list[str] = []
    """classes left out of the transfer set"""
    keep_classes: list[str] | None = None
    """the only classes in the transfer set"""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """share of the training examples of each class in the transfer set"""
    rest: bool = False
    """use the examples that `fraction` leaves out"""
    labelled: Annotated[float, Field(ge=0, le=1)] = 1.0
    """share of the transfer set that keeps its labels"""
    seed: int = 0
    """selects the examples of `fraction` and `labelled`"""
    validation_too: bool = False
    """train on the validation examples as well, and do not validate"""
    folder: str | None = None
    """a transfer set without labels: all pictures below this folder"""
    sampled_rows: Count | None = None
    """rows of a table sampled from its training rows, without labels, beside them"""
    num_views: Count | None = None
    """views of each example, shown in turn; by default each epoch shows a new one"""


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


LOSSES = ("kd", "dkd", "dist", "standardised", "hints", "attention")
"""The losses that a student may learn with: the paper's, three in the place of its soft term, two beside it."""


class SoftSettings(LossSettings):
    """A student's loss, and where its soft targets come from."""

    loss: Literal["dkd", "dist", "standardised", "hints", "attention"] | None = None
    """another loss than that of the paper"""
    own_weight: _Positive | None = None
    """of dkd the weight of the other classes, of hints and attention that of the layers"""
    hint_layers: list[str] | None = None
    """TEACHER_LAYER:STUDENT_LAYER, for hints and attention; by default the last before the heads"""

    @model_validator(mode="after")
    def _has_own_weight(self) -> Self:
        if self.own_weight is not None and self.loss not in ("dkd", "hints", "attention"):
            raise UsageError(f"own_weight is {self.own_weight:g}, but loss {self.loss or LOSSES[0]} has none")
        return self

    @property
    def soft_loss(self) -> str:
        """The name of the soft term, with its weight: `dkd:2`."""
        if self.loss in (None, "hints", "attention"):
            return LOSSES[0]
        return str(self.loss) if self.own_weight is None else f"{self.loss}:{self.own_weight!r}"

    teachers: list[str] = ["teacher"]
    """jobs that trained the teachers; several are an ensemble"""
    store: str | None = None
    """a job that writes a store of soft targets, or a store's folder, in place of teachers"""
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """mean of the probabilities of an ensemble"""
    reading: Literal["tail", "drawn", "even"] | None = None
    """of a store of the top k classes: what the others are"""


class DataSettings(Settings):
    """The data and its split; teacher and students share them."""

    name: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, omniglot, clinc150, sst2, folder:PATH, csv:PATH,
    jsonl:PATH, parquet:PATH, hf:PATH, webdataset:SHARDS, conll:PATH, python:MODULE:FUNCTION"""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """share of the training examples held out for validation"""
    split_seed: int = 0
    """selects the validation examples"""
    view_seed: int = 0
    """seed of the augmentation"""
    image_size: Count | None = None
    """resize pictures to this many pixels"""
    colour: Literal["rgb", "grey"] | None = None
    """read all pictures in colour or in grey; by default as they are"""
    normalise: str | None = None
    """normalisation of the inputs: imagenet, data (its own mean and sd), MEAN/SD or none (pixels from 0 to 1); the
    default is none, for CIFAR its own"""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """share of the training and validation examples of each class that is used; the test set stays whole"""
    classes: tuple[str, ...] | None = None
    """the only classes, relabelled in this order"""
    label: str | None = None
    """the column of the class, in data that are rows of a table"""
    text: tuple[str, ...] | None = None
    """the column of texts, or two for pairs"""
    image: str | None = None
    """the column of pictures: their bytes, or paths"""
    audio: str | None = None
    """the column of sounds: their bytes, or paths"""
    features: tuple[str, ...] | None = None
    """the columns of numbers and categories"""
    categories: tuple[str, ...] | None = None
    """those of the features whose numbers are categories"""
    group: str | None = None
    """a column; rows with one value stay in one part: the same patient, speaker, user"""
    key: str | None = None
    """a column that tells examples apart, in place of their content"""
    part: str | None = None
    """a column that says train, validation or test"""
    tokenizer: str | None = None
    """of texts: a folder as transformers saves it, a tokenizer.json, or how many ids one gets that is trained"""
    max_length: Count | None = None
    """texts are cut at so many ids; by default at 128, or fewer where the tokenizer's network takes fewer"""
    clip_seconds: _Positive | None = None
    """cut or pad sounds to this length; by default 95 % of the training clips are not cut"""
    sample_rate: Count | None = None
    """resample sounds to this rate in Hz; by default the commonest of the training clips"""
    feature_extractor: str | None = None
    """of sounds: a folder as transformers saves it, whose feature extractor makes the examples"""
    split_by: Literal["file", "document"] | None = None
    """of running text: `file`, the default, keeps the documents of a file in one part; or `document`"""
    separator: str | None = None
    """of running text: what stands between the documents of a file; by default a file is a document"""

    @field_validator("normalise")
    @classmethod
    def _is_normalisation(cls, text: str | None) -> str | None:
        if text is not None:
            from instar.data.normalisation import parse_normalisation

            parse_normalisation(text)
        return text


SettingsType = TypeVar("SettingsType", bound=Settings)
