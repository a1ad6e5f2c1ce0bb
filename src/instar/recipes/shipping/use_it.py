"""The commands that use a network, as they can be typed: with the program as it was started."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from instar.deploy import find_fit
from instar.deploy.rows import Rows
from instar.errors import InstarError
from instar.runs import Run
from instar.structures import is_plain, read_form

_OF_ROWS = {"text": "TEXTS.csv", "table": "ROWS.csv", "sound": "CLIP_OR_FOLDER", "picture": "PICTURE_OR_FOLDER"}


def use_lines(spec: str, *, comment: str = "") -> list[str]:
    """Three commands that use the network that a name means; none where it cannot be loaded.

    Args:
        spec: as for `instar.load`.
        comment: put behind the first command.
    """
    try:
        path = find_fit(spec)
        config = Run.read(path).config
        rows = Rows.read(path, config["preparation"]) if "preparation" in config else None
    except InstarError:  # its fits were removed, for instance
        return []
    shape = config["input_shape"]
    is_picture = is_plain(read_form(shape)) and len(shape) == 3 and shape[0] in (1, 3)
    inputs = "PICTURE_OR_FOLDER" if is_picture else "ARRAYS.npy"
    inputs = inputs if rows is None else _OF_ROWS[rows.preparation.kind]
    named = shlex.quote(spec)
    return [
        f"{program()} predict {named} {inputs}" + (f"    # {comment}" if comment else ""),
        f"{program()} export {named} --to onnx",
        python_line(f"import instar; model = instar.load({spec!r}); print(model.class_names)"),
    ]


def python_line(code: str) -> str:
    """A command that runs a line of Python, in double quotes where the shell leaves it alone in them."""
    safe = not set(code) & set('"$`\\!')
    return f"{_shown(sys.executable, 'python')} -c " + (f'"{code}"' if safe else shlex.quote(code))


def program() -> str:
    """`instar` as it was started: its name where that finds it, else its path, else the module.

    From Python it is the program beside the interpreter.
    """
    started = Path(sys.argv[0])
    if started.name == "__main__.py" and started.parent.name == "instar":
        return f"{_shown(sys.executable, 'python')} -m instar"
    if started.name != "instar" or not started.is_file():
        started = Path(sys.executable).parent / "instar"
    if not started.is_file():
        return f"{_shown(sys.executable, 'python')} -m instar"
    return _shown(str(started), "instar")


def _shown(path: str, name: str) -> str:
    """How a program is typed: its name where PATH finds this one, else its path, from here if it is below."""
    if os.path.abspath(shutil.which(name) or "") == os.path.abspath(path):  # links are other environments
        return name
    here = os.path.relpath(path)
    return shlex.quote(path if here.startswith("..") else here)
