"""The options of the experiments, in tables that the command line and Python share.

An option is written once, in a table here: its flag and the key of its setting. Its type, help and default are
those of the setting's field. In Python the same option is a keyword: `--teacher-epochs` is `teacher_epochs`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from instar.errors import UsageError
from instar.naming import import_object
from instar.recipes.keys import ValueKind, field_of, kind_of, part_in, unknown_setting
from instar.recipes.settings import DataSettings, NetworkSettings, Settings, names_unchecked

Table = Mapping[str, Mapping[str, str]]
"""Options by the title of their panel: a flag and the key of its setting, or the keys of several."""

FIRST = "Options"
"""The panel of the options that people use first."""

DATA = {
    "--classes": "data.classes",
    "--image-size": "data.image_size",
    "--data-fraction": "data.fraction",
    "--validation-fraction": "data.validation_fraction",
    "--split-seed": "data.split_seed",
    "--view-seed": "data.view_seed",
}
"""The data options of every command that reads data."""

SOURCE = {
    "--source": "source.name",
    "--source-classes": "source.classes",
    "--source-image-size": "source.image_size",
    "--source-fraction": "source.fraction",
}


class DataOnly(Settings):
    """The settings of a command that reads data and runs no study."""

    data: DataSettings = DataSettings()


class Option(NamedTuple):
    """An option of a command."""

    flag: str
    keys: tuple[str, ...]
    panel: str
    field: FieldInfo
    kind: ValueKind
    description: str

    @property
    def name(self) -> str:
        """As a keyword: `teacher_epochs`."""
        return self.flag.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Command:
    """The options of an experiment, and where its settings and its study are."""

    settings: str
    """`MODULE:CLASS` of its configuration; `read_config` is in the same module"""
    table: Table
    study: str = ""
    """`MODULE:STUDY`"""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """settings that change defaults, by the words that say when"""

    @cached_property
    def kind(self) -> type[Settings]:
        """The class of the configuration."""
        kind: type[Settings] = import_object(self.settings)
        return kind

    @cached_property
    def options(self) -> dict[str, Option]:
        """The options by keyword."""
        return {option.name: option for option in options_of(self.kind, self.table)}

    def defaults(self) -> dict[str, str]:
        """The default of each option as text, and when it is another; empty where there is none."""
        if not self.study:
            return {}
        with names_unchecked():
            plain = self.read_config({})
            others = {when: self.read_config(typed) for when, typed in self.variants.items()}
        return {name: _default_text(option.keys[0], plain, others) for name, option in self.options.items()}

    def read_config(self, typed: Mapping[str, Any], file: Path | None = None) -> Any:
        """The configuration: defaults, overridden by a TOML file, overridden by `typed`."""
        return import_module(self.settings.partition(":")[0]).read_config(typed, file)


def _default_text(key: str, plain: Settings, others: Mapping[str, Settings]) -> str:
    default = _as_text(_value(plain, key))
    if key == "data.name":
        return default
    differing = {when: text for when in others if (text := _as_text(_value(others[when], key))) != default}
    if not all(differing.values()):
        return f"{default} without --data"
    return "; ".join([default, *(f"{text} {when}" for when, text in differing.items())])


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[0] if isinstance(config, list) else config
        config = None if config is None else getattr(config, part)
    return config


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_as_text, value))
    if value is None or value is False or isinstance(value, Settings):
        return ""
    return "on" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


def options_of(kind: type[Settings], table: Table) -> Iterator[Option]:
    """The options of a table, in its order."""
    for panel, options in table.items():
        for flag, text in options.items():
            keys = tuple(text.split())
            info = field_of(kind, keys[0])
            text = _description(kind, keys[0], info) if len(keys) == 1 else info.description or ""
            yield Option(flag, keys, panel, info, kind_of(info), text)


def _description(kind: type[Settings], key: str, info: FieldInfo) -> str:
    """The description of a setting, begun with that of its part where the setting alone would be unclear."""
    part, _, last = key.rpartition(".")
    text = info.description or ""
    if part and last in ("name", "network"):
        return f"{field_of(kind, part).description or f'the {part}'}: {text}"
    inside = part_in(field_of(kind, part)) if part else None
    if inside and issubclass(inside, NetworkSettings) and part != "network":
        return f"{part}: {text}"
    return text


def nested(options: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings from the values of options by keyword; None is left out.

    A table or a list for an option that names a part of the settings (`data`, `teacher`) is that part itself; True
    for an optional part is that part with its defaults, and False is none.
    """
    settings: dict[str, Any] = {}
    for name, value in values.items():
        option = options[name]
        is_part = option.kind.type is dict
        if value is None or (is_part and value is False):
            continue
        if is_part and value is True:
            value = {}
        if option.kind.is_list and isinstance(value, (int, float, str)):
            value = [value]
        for key in option.keys:
            is_whole = key.startswith(f"{name}.") and isinstance(value, (Mapping, list, tuple))
            put(settings, name if is_whole else key, value)
    return settings


def put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a key in nested settings, in place.

    Raises:
        UsageError: a part of the key is no table.
    """
    *parents, last = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise UsageError(f"{key}: {parent} has no parts")
    both_tables = isinstance(value, Mapping) and isinstance(settings.get(last), dict)
    settings[last] = {**settings[last], **value} if both_tables else value


def has(settings: Mapping[str, Any], key: str) -> bool:
    """Whether nested settings have a key."""
    part, _, rest = key.partition(".")
    return part in settings and (not rest or has(settings[part], rest))


def from_keywords(command: Command, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings from keywords: options (`teacher_epochs=3`) and settings (`fit={"epochs": 3}`).

    Raises:
        UsageError: a keyword that is neither, with the nearest one.
    """
    fields = command.kind.model_fields
    for name in keywords:
        if name not in command.options and name not in fields:
            raise unknown_setting(command.kind, name, also=list(command.options))
    settings = nested(command.options, {name: keywords[name] for name in keywords if name in command.options})
    for name, value in keywords.items():
        if name not in command.options and value is not None:
            put(settings, name, value)
    return settings


DISTILL = Command(
    settings="instar.recipes.distill.settings:DistillConfig",
    study="instar.recipes.distill.recipe:STUDY",
    variants={"for mnist": {"data": {"name": "mnist"}}},
    table={
        FIRST: {
            "--data": "data.name",
            "--teacher": "teacher.network",
            "--student": "student.network",
            "--temperature": "temperature",
            "--hard-weight": "hard_weight",
            "--epochs": "student.epochs",
            "--teacher-epochs": "teacher.epochs",
            "--learning-rate": "student.learning_rate",
            "--views": "student.views",
            "--seeds": "seeds",
        },
        "Teacher": {
            "--teachers": "teachers",
            "--ensemble-mean": "ensemble_mean",
            "--teacher-views": "teacher.views",
            "--teacher-pretrained": "teacher.pretrained",
            "--targets": "targets",
        },
        "Soft targets": {
            "--soft-weight": "soft_weight",
            "--label-weight": "label_weight",
            "--tuning-seeds": "tuning_seeds",
        },
        "Transfer set": {
            "--drop-classes": "transfer.drop_classes",
            "--keep-classes": "transfer.keep_classes",
            "--fraction": "transfer.fraction",
            "--labelled": "transfer.labelled",
            "--unlabelled": "transfer.folder",
            "--fit-bias": "fit_bias",
            "--bias-per-class": "bias_per_class",
        },
        "Data": DATA,
        "Run": {"--seed": "seed", "--precision": "student.precision teacher.precision"},
    },
)

TRANSFER = Command(
    settings="instar.recipes.transfer.settings:TransferConfig",
    study="instar.recipes.transfer.recipe:STUDY",
    variants={"for cifar100": {"data": {"name": "cifar100"}}},
    table={
        FIRST: {
            "--data": "data.name",
            "--network": "network.network",
            "--treatments": "treatments",
            "--cuts": "cuts",
            "--epochs": "network.epochs",
            "--learning-rate": "network.learning_rate",
            "--views": "network.views",
            "--splits": "splits",
        },
        "Tasks A and B": {
            "--halves": "halves.how",
            "--a": "halves.a",
            "--b": "halves.b",
            "--parents": "halves.parents",
            "--classes-per-half": "halves.classes_per_half",
            **SOURCE,
            "--targets": "targets",
        },
        "Layers": {"--layers": "layers"},
        "Copied layers": {
            "--frozen-dropout": "copied.frozen_dropout",
            "--frozen-norm": "copied.frozen_norm",
        },
        "Data": DATA,
        "Run": {"--seed": "seed"},
    },
)

ADVISE = Command(
    settings="instar.recipes.advise.settings:AdviseConfig",
    study="instar.recipes.advise.recipe:STUDY",
    variants={"with --data": {"data": {"name": "mnist"}, "source": {"name": "digits"}}},
    table={
        FIRST: {
            "--network": "network",
            "--data": "data.name",
            "--examples": "examples_per_class",
            "--epochs": "fit.epochs",
            "--learning-rate": "fit.learning_rate",
            "--views": "fit.views",
            "--cuts": "num_cuts",
            "--seeds": "seeds",
            "--controls": "controls",
        },
        "Data that a network without weights is trained on first": SOURCE,
        "Data": DATA,
        "Run": {"--seed": "seed"},
    },
)

SPECIALISTS = Command(
    settings="instar.recipes.specialists.settings:SpecialistsConfig",
    study="instar.recipes.specialists.recipe:STUDY",
    table={
        FIRST: {
            "--data": "data.name",
            "--network": "generalist.network",
            "--sets": "sets.num_sets",
            "--classes-per-set": "sets.classes_per_set",
            "--epochs": "generalist.epochs",
            "--learning-rate": "generalist.learning_rate",
            "--views": "generalist.views",
            "--seeds": "seeds",
            "--distill": "distill",
        },
        "Specialists": {
            "--method": "sets.method",
            "--top-n": "top_n",
            "--specialist-epochs": "specialist.epochs",
            "--trainable-layers": "specialist.trainable_layers",
            "--controls": "controls",
            "--mixture": "mixture",
            "--temperature": "distill.temperature",
        },
        "Data": DATA,
        "Run": {"--seed": "seed"},
    },
)

SPEECH = Command(
    settings="instar.recipes.speech.plan:RecogniserConfig",
    study="instar.recipes.speech.recogniser:STUDY",
    table={
        FIRST: {
            "--network": "network.network",
            "--epochs": "network.epochs",
            "--learning-rate": "network.learning_rate",
            "--lexicon": "models.lexicon",
            "--grammar": "grammar",
            "--teacher": "teacher",
            "--temperature": "temperature",
        },
        "Recordings": {
            "--test": "data.test",
            "--validation": "data.validation",
            "--test-speakers": "data.test_speakers",
            "--validation-speakers": "data.validation_speakers",
            "--fraction": "data.fraction",
        },
        "Features": {"--normalisation": "features.normalisation"},
        "Run": {"--seed": "seed"},
    },
)

DESCRIBED = Command(settings="instar.recipes.commands:DataOnly", table={"Data": DATA})
STORE = Command(settings="instar.recipes.commands:DataOnly", table={"Data": {"--data": "data.name", **DATA}})
