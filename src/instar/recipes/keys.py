"""Settings by their key, as in `teacher.learning_rate`: the field of a key, and the nearest key of a wrong one."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from instar.errors import UsageError

SYNONYMS = {
    "batch_size": "bs batch",
    "colour": "color grayscale greyscale channels",
    "data": "dataset",
    "dropout": "drop_rate",
    "epochs": "num_epochs n_epochs max_epochs num_train_epochs",
    "examples": "shots num_shots",
    "examples_per_class": "shots num_shots examples",
    "gradient_clip": "clip grad_clip max_grad_norm",
    "hard_weight": "ce_weight beta",
    "image_size": "img_size resolution size",
    "initialiser": "init initializer",
    "learning_rate": "lr eta step_size",
    "name": "dataset",
    "network": "model net arch backbone",
    "normalise": "normalize normalization mean_std",
    "optimiser": "optimizer optim",
    "patience": "early_stopping",
    "precision": "dtype amp",
    "schedule": "scheduler lr_schedule lr_scheduler",
    "seed": "random_state",
    "seeds": "num_seeds n_seeds runs repeats",
    "soft_weight": "alpha kd_weight lambda",
    "teachers": "num_teachers ensemble_size",
    "temperature": "T t temp tau",
    "validation_fraction": "val_fraction val_split validation_split",
    "views": "augmentation augment transform transforms",
    "warmup_epochs": "warmup",
    "weight_decay": "wd decay",
}
"""What other libraries call a setting."""


def field_of(kind: type[BaseModel], key: str) -> FieldInfo:
    """The field of a key.

    Raises:
        KeyError: there is none.
    """
    *parents, last = key.split(".")
    return _part_of(kind, parents).model_fields[last]


def part_in(field: FieldInfo) -> type[BaseModel] | None:
    """The settings that a field holds: itself, optional, or in a list; None where it holds a value."""
    for kind in _types(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


class ValueKind(NamedTuple):
    """What a field holds."""

    type: type
    """bool, int, float or str; dict for a table"""
    is_list: bool
    choices: tuple[str, ...] = ()


def kind_of(field: FieldInfo) -> ValueKind:
    """What the values of a field are.

    Example:
        >>> from instar.recipes.settings import StudentSettings
        >>> kind_of(StudentSettings.model_fields["learning_rate"])
        ValueKind(type=<class 'float'>, is_list=True, choices=())
    """
    types = list(_types(field.annotation))
    is_list = any(get_origin(kind) in (list, tuple) for kind in types)
    if part_in(field):
        return ValueKind(dict, is_list)
    choices = [choice for kind in types if get_origin(kind) is Literal for choice in get_args(kind)]
    plain = next((kind for kind in (bool, int, float, str) if kind in types), type(choices[0]) if choices else str)
    return ValueKind(plain, is_list, tuple(choice for choice in choices if isinstance(choice, str)))


def all_keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of settings, outer ones first."""
    yield from (f"{prefix}{name}" for name in kind.model_fields)
    for name, field in kind.model_fields.items():
        part = part_in(field)
        if part is not None:
            yield from all_keys(part, f"{prefix}{name}.")


def unknown_setting(kind: type[BaseModel], key: str, also: Sequence[str] = ()) -> UsageError:
    """The error for a key that settings do not have, with the nearest ones that they have.

    Args:
        kind: the settings.
        key: the unknown key.
        also: names beside the keys that could have been meant.

    Example:
        >>> from instar.recipes.settings import FitSettings
        >>> print(unknown_setting(FitSettings, "lr"))
        unknown setting 'lr'; did you mean learning_rate?
    """
    near = nearest(key, list(dict.fromkeys([*also, *all_keys(kind)])))
    if near:
        return UsageError(f"unknown setting {key!r}; did you mean {' or '.join(near)}?")
    *parents, _ = _names_in(key)
    return UsageError(f"unknown setting {key!r}; known here: {', '.join(_part_of(kind, parents).model_fields)}")


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """Up to three known keys that could have been meant: in the same part first, then in another one.

    Example:
        >>> nearest("student.lr", ["student.learning_rate", "teacher.learning_rate"])
        ['student.learning_rate']
        >>> nearest("num_epochs", ["student.epochs", "teacher.epochs", "seeds"])
        ['student.epochs', 'teacher.epochs']
    """
    *parents, last = _names_in(key)
    parent = ".".join(parents)
    beside = [one for one in known if one.rpartition(".")[0] == parent]
    for keys, cutoff in ((beside, 0.7), (known, 0.85)):
        names = list(dict.fromkeys(one.rpartition(".")[2] for one in keys))
        meant = [name for name in names if name == last or last in SYNONYMS.get(name, "").split()]
        meant = meant or difflib.get_close_matches(last.lower(), names, n=3, cutoff=cutoff)
        if meant:
            return [one for name in meant for one in keys if one.rpartition(".")[2] == name][:3]
    return []


def _names_in(key: str) -> list[str]:
    """The parts of a key without places in a list; the key itself where it is a number."""
    return [part for part in key.split(".") if not part.isdigit()] or [key]


def _part_of(kind: type[BaseModel], parents: Sequence[str]) -> type[BaseModel]:
    """The settings at a key; the innermost that are known where it is not."""
    for parent in parents:
        part = part_in(kind.model_fields[parent]) if parent in kind.model_fields else None
        if part is None:
            break
        kind = part
    return kind


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)
