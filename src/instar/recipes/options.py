"""Options that set settings: what they are named, what their values are, and the nested settings that they make.

An option is written once, in a table of `instar.recipes.commands`: its flag and the key of its setting. Its type,
help and default are those of the field. In Python it is a keyword: `--teacher-epochs` is `teacher_epochs`.
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
from instar.recipes.settings import NetworkSettings, Settings, names_unchecked

Table = Mapping[str, Mapping[str, str]]
"""Options by the title of their panel: a flag and the key of its setting, or the keys of several."""

_LONG = 40  # characters; longer lists need blanks to be broken at


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
    return "; ".join([*([default] if default else []), *(f"{text} {when}" for when, text in differing.items())])


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[0] if isinstance(config, list) else config
        config = None if config is None else getattr(config, part)
    return config


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return (", " if len(str(value)) > _LONG else ",").join(map(_as_text, value))
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
            raise UsageError(
                f"{key} is a part of {parent}, which is set to {settings!r} as a whole: set {parent} part by "
                f"part, for instance {parent}.{'name' if parent == 'data' else 'network'}"
            )
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
