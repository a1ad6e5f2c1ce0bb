"""Scales of the studies: TOML files in `scales/`, each number with its reason as a comment."""

import tomllib
from importlib.resources import files
from typing import Any

from instar.naming import unknown_name
from instar.recipes.reading_settings import merge

_FOLDER = files("instar.recipes") / "scales"


def scale_text(name: str) -> str:
    """The text of `scales/NAME.toml`.

    Raises:
        UsageError: there is no such file.
    """
    known = sorted(one.name.removesuffix(".toml") for one in _FOLDER.iterdir() if one.name.endswith(".toml"))
    if name not in known:
        raise unknown_name("scale", name, known)
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def load_scale(name: str) -> dict[str, Any]:
    """The settings of `scales/NAME.toml` over those of the file that its `extends` names.

    Raises:
        UsageError: there is no such file.
    """
    content = tomllib.loads(scale_text(name))
    base = content.pop("extends", None)
    return content if base is None else merge(load_scale(base), content)


def choose_scale(study: str, data: str, scale: str) -> dict[str, Any]:
    """The settings of a study on some data at a scale: `scales/STUDY-DATA-SCALE.toml`, or `STUDY-SCALE.toml`.

    Raises:
        UsageError: there is no such scale; the message names those of the study.
    """
    known = [one.name.removesuffix(".toml") for one in _FOLDER.iterdir() if one.name.startswith(f"{study}-")]
    for name in (f"{study}-{data}-{scale}", f"{study}-{scale}"):
        if name in known:
            return load_scale(name)
    scales = sorted({name.rpartition("-")[2] for name in known})
    raise unknown_name("scale", scale, [one for one in scales if one != "base"])
