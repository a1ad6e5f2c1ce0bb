"""How the settings of a configuration are read, checked, and laid over others; nothing here imports torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from instar.errors import UsageError
from instar.files import read_toml
from instar.identity import plain
from instar.naming import described
from instar.recipes.keys import unknown_setting
from instar.recipes.settings import SettingsType

_LONGEST = 80  # characters of a wrong value that an error shows


def read_config_file(path: Path | None) -> dict[str, Any]:
    """The settings in a TOML file, or in the `config.toml` of a run directory.

    Raises:
        UsageError: the file is not there or is not TOML.
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
        return kind.model_validate(plain(content))
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        problem = problems[0]  # an unknown key first: it may be why another one is missing
        where = problem["loc"]
        if where and isinstance(where[-1], int):  # a value in a list: the number in it was not typed
            where = where[:-1]
        key = ".".join(map(str, where))
        if problem["type"] == "extra_forbidden":
            raise unknown_setting(kind, key) from None
        if problem["type"] == "value_error":  # one of our own errors: it says all
            raise UsageError(f"{key}: {problem['ctx']['error']}".removeprefix(": ")) from None
        raise UsageError(
            f"{key} {problem['msg'].removeprefix('Input ')}, found {_found(problem['input'])}"
        ) from None


def _found(value: Any) -> str:
    """A value in the place of a setting, in one line; of an object what it is, and how a study is given it."""
    if value is None or isinstance(value, str | int | float | list | Mapping):
        text = " ".join(repr(value).split())
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return (
        f"{described(value)}; a study takes names: python:MODULE:FUNCTION is a function of yours that returns it"
    )


def check_source(content: Mapping[str, Any]) -> None:
    """Refuse settings of a source that name no data: the default data would be read in silence.

    Raises:
        UsageError: names the first of them.
    """
    source = content.get("source")
    if isinstance(source, Mapping) and source and not source.get("name"):
        raise UsageError(f"source.{next(iter(source))} is given but no source: name its data with --source")


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
        elif _is_given(value):
            merged[key] = value  # a number where a table should be, or the reverse, stays for `checked` to refuse
    return merged


def _is_given(value: Any) -> bool:
    """Whether there is a value, or in a table one at any depth, that is not None."""
    return any(map(_is_given, value.values())) if isinstance(value, Mapping) else value is not None
