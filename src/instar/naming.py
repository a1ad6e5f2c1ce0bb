"""What a user gives, in words: suggestions for an unknown name; and the function of `python:module:function`."""

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from instar.errors import UsageError

LIBRARIES = ("timm", "torchvision", "transformers")
"""Whose networks are built by name."""


ROW_SOURCES = {
    "csv": "csv_file",
    "jsonl": "jsonl_file",
    "parquet": "parquet_file",
    "hf": "hugging_face",
    "webdataset": "webdataset_tar",
    "conll": "conll_file",
}
"""What stands before the colon of a source of rows, and the module of `instar.data.records` that reads it."""

TEXT_FILES = "text"
"""What stands before the colon of files of running text."""

TEXT_NAMES = ("clinc150", "sst2")
"""The named data sets of texts."""


def is_source(name: Any) -> bool:
    """Whether the name of a data set is that of a source of rows.

    Example:
        >>> is_source("csv:flowers.csv"), is_source("folder:photos")
        (True, False)
    """
    return isinstance(name, str) and ":" in name and name.partition(":")[0] in ROW_SOURCES


def is_text_files(name: object) -> bool:
    """Whether the name of a data set is that of files of running text.

    Example:
        >>> is_text_files("text:books/*.txt"), is_text_files("csv:books.csv")
        (True, False)
    """
    return isinstance(name, str) and name.startswith(f"{TEXT_FILES}:")


def is_of_library(network: str) -> bool:
    """Whether the name of a network is that of one of another library.

    Example:
        >>> is_of_library("timm:resnet18"), is_of_library("resnet:20")
        (True, False)
    """
    return network.partition(":")[0] in LIBRARIES


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for an unknown name, with the nearest known ones.

    Example:
        >>> print(unknown_name("data set", "mnits", ["mnist", "digits"]))
        unknown data set 'mnits'; did you mean mnist? Known: digits, mnist
        >>> print(unknown_name("option", "lr", ["learning_rate", "epochs"]))
        unknown option 'lr'; did you mean learning_rate? Known: epochs, learning_rate
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if len(name) > 1:
        initials = {word: "".join(part[:1] for part in re.split("[-_]", word)) for word in known}
        near = near or [word for word in known if word.startswith(name) or initials[word] == name][:3]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return UsageError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


def described(value: Any) -> str:
    """What a value is, in a few words: short ones as they are, others by their kind.

    Example:
        >>> described("digits"), described(None), described([1, 2]), described(int)
        ("'digits'", 'None', 'a list of int, int', 'the class int')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, list | tuple) and value:
        kinds = [type(part).__name__ for part in value]
        return f"a {type(value).__name__} of {', '.join(kinds[:3])}{', ...' * (len(kinds) > 3)}"
    short = repr(value)
    is_plain = value is None or isinstance(value, str | int | float)
    return short if is_plain and len(short) < 80 else type(value).__name__


def import_function(spec: str) -> Callable[..., Any]:
    """The function that `python:module:function` names; the current folder is searched first.

    Raises:
        UsageError: the spec has another form, or the module or function does not exist.
    """
    parts = spec.split(":")
    if len(parts) != 3 or parts[0] != "python" or not all(parts):
        raise UsageError(f"{spec!r} should be python:MODULE:FUNCTION")
    _, module_name, function_name = parts
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"{spec!r}: cannot import module {module_name!r} from {folder}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(f"{spec!r}: module {module_name!r} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def few(names: Sequence[str], most: int = 5) -> str:
    """Some names as a message shows them.

    Example:
        >>> few(["cat", "dog"]), few(["cat", "dog", "cow"], most=2)
        ("'cat', 'dog'", "'cat', 'dog', ... (3)")
    """
    return ", ".join(map(repr, names[:most])) + (f", ... ({len(names)})" if len(names) > most else "")


def listed(names: Sequence[str]) -> str:
    """All names, as a sentence has them.

    Example:
        >>> listed(["kd"]), listed(["kd", "dkd", "dist"])
        ('kd', 'kd, dkd and dist')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def import_extra(module: str, extra: str) -> Any:
    """An optional package.

    Args:
        module: its name in Python.
        extra: of instar, that installs it.

    Raises:
        UsageError: it is not there; names the extra.

    Example:
        >>> import_extra("no_such_package", "speech")
        Traceback (most recent call last):
        ...
        instar.errors.UsageError: no-such-package is not installed: pip install 'instar[speech]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, missing = module.partition(".")[0], getattr(error, "name", None)
        reason = "" if missing in (None, package, module) else f" whole ({' '.join(str(error).split())})"
        raise UsageError(
            f"{package.replace('_', '-')} is not installed{reason}: pip install 'instar[{extra}]'"
        ) from None


def import_object(name: str) -> Any:
    """What `MODULE:NAME` is: our own modules are imported by name where they take long to import.

    Example:
        >>> import_object("math:pi")
        3.141592653589793
    """
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
