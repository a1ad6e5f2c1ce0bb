"""A trained network as a folder to ship: no file gets its name before it answers as the run does."""

import math
import shutil
import sysconfig
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from instar.deploy import parity
from instar.deploy.calibration import Calibration
from instar.deploy.exported import CARD, INT8, MODELS
from instar.deploy.model import Model
from instar.deploy.parity import INT8_BOUND, Examples, Parity
from instar.deploy.to_libraries import LIBRARY_FORMATS, write_library
from instar.deploy.to_onnx import check_packages, write_int8, write_onnx
from instar.deploy.to_torch import write_safetensors, write_torch
from instar.errors import InstarError, RunError, UsageError
from instar.export_record import write_about
from instar.files import writing
from instar.networks.libraries.of_timm import timm
from instar.networks.libraries.of_transformers import transformers
from instar.structures import Inputs, examples_in

FORMATS = tuple(MODELS)
_WIDER = {"onnx": ("torch", "safetensors"), "torch": ("safetensors",)}  # what may work where a format does not
_ALIKE = 1.1  # latencies closer than this are one
_MOST_WORDS = 240  # characters of an exporter's error


class Proven(NamedTuple):
    """A model file that was opened by a fresh process and asked."""

    row: Parity
    calibration: Calibration | None
    """None where the network learned from its validation examples too"""


class Export(NamedTuple):
    """A folder that was written."""

    path: Path
    network: str
    """the run directory of the fit that was taken"""
    files: list[Proven]
    said: list[str]
    """what int8 costs more than it may, what is not known of the weights, and chance, in sentences"""


class Source(NamedTuple):
    """What is exported, and what it is proven by."""

    name: str
    """of the run, for errors"""
    network: nn.Module
    """of the run: takes normalised inputs"""
    config: Mapping[str, Any]
    """`portable_config`"""
    model: Model
    """around another copy of the network: takes inputs before normalisation"""
    examples: Examples
    """of validation"""
    training: Inputs
    """training inputs before normalisation, by which int8 is calibrated"""
    learned_from_validation: bool = False
    said: Sequence[str] = ()
    """what is not known of its weights, in sentences"""


def check_target(target: Path, to: str, *, int8: bool) -> None:
    """Refuse what could not be written, before any work.

    Raises:
        UsageError: an unknown format, a folder that exists, int8 of another format than ONNX, or packages that are
            not installed.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to}: expected {', '.join(FORMATS)}")
    if int8 and to != "onnx":
        raise UsageError(f"--int8 is for --to onnx; {to} has no integers of eight bits")
    if target.exists():
        raise UsageError(f"{target} exists; remove it, or name another folder with --out")
    if to == "onnx":
        check_packages()
    elif to in LIBRARY_FORMATS:
        (timm if to == "timm" else transformers)()


def write_export(
    target: Path,
    to: str,
    source: Source,
    about: Mapping[str, Any],
    card: Callable[[Sequence[Proven], Sequence[str]], str],
    *,
    int8: bool = False,
) -> Export:
    """Write the folder, or nothing.

    Args:
        target: the folder.
        to: one of `FORMATS`.
        source: what is exported.
        about: what `instar.json` says of it.
        card: the text of the card, from the proven files and what is said of them.
        int8: also quantise.

    Raises:
        UsageError: as `check_target`.
        RunError: the network cannot be exported, or the file does not answer as the run does.
    """
    check_target(target, to, int8=int8)
    about = {"to": to, **about} | ({"config": dict(source.config)} if to in LIBRARY_FORMATS else {})
    with writing(target), _named_at_the_end(target) as folder:
        file = folder / MODELS[to]
        _write(to, source, file)
        if source.model.rows is not None:
            source.model.rows.write(folder)
        write_about(folder, about)
        files = [_proven(to, file, source)]
        parity.check(files[0].row, source.name)
        if int8:
            files.append(_int8(file, source))
        said = [*source.said, *(about_int8(*(one.row for one in files)) if int8 else [])]
        about |= {
            "parity": {one.row.file: one.row._asdict() for one in files},
            "calibration": {
                one.row.file: None if one.calibration is None else one.calibration._asdict() for one in files
            },
        }
        (folder / CARD).write_text(card(files, said), encoding="utf-8")
        write_about(folder, about)
    return Export(target, source.name, files, said)


def write_onnx_files(source: Source, folder: Path) -> list[Parity]:
    """Write a network as ONNX in float and in eight bits, without card and `instar.json`: a row for each.

    Raises:
        UsageError: packages are not installed.
        RunError: as `write_export`.
    """
    check_packages()
    file = folder / MODELS["onnx"]
    _write("onnx", source, file)
    whole = _proven("onnx", file, source)
    parity.check(whole.row, source.name)
    return [whole.row, _int8(file, source).row]


def _write(to: str, source: Source, file: Path) -> None:
    form = source.model.input_shape
    inputs = examples_in(form, 2)  # a program keeps them: no example of the data
    try:
        if to == "onnx":
            write_onnx(source.model, inputs, file, form)
        elif to == "torch":
            write_torch(source.model, inputs, file, form)
        elif to == "safetensors":
            write_safetensors(source.network, source.config, file)
        else:
            names, files = source.model.class_names, source.config.get("described")
            write_library(to, source.network, source.model, inputs, names, file.parent, files)
    except InstarError:
        raise
    except Exception as error:  # exporters raise many kinds of errors
        others = " or ".join(f"--to {other}" for other in _WIDER.get(to, ()))
        raise RunError(
            f"{source.name}: {source.config['network']} cannot be exported to {to}, {_cause(error)}"
            + (f"; try {others}" if others else "")
        ) from error


def _cause(error: BaseException) -> str:
    """What stopped an exporter, in a line, and where in the network's own code."""
    while error.__cause__ is not None:
        error = error.__cause__
    # torch explains itself at length
    words = " ".join(str(error).partition("\nCaused by:")[0].split()).rstrip(".")
    short = words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}..."
    return f"{type(error).__name__}{_line_of(error)}: {short}"


def _line_of(error: BaseException) -> str:
    """The last line of neither a library nor instar that an error passed: ` at net.py:9 in forward`."""
    others = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), str(Path(__file__).parents[1]), "<"]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(tuple(others))]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else ""


def _proven(kind: str, file: Path, source: Source) -> Proven:
    found = parity.answers(kind, file, source.examples.inputs, source.examples.form)
    row = parity.parity(file, found, source.examples)
    if source.learned_from_validation or not math.isfinite(row.largest_difference):
        return Proven(row, None)
    return Proven(row, Calibration.fitted(found.batches, source.examples.labels))


def _int8(file: Path, source: Source) -> Proven:
    """The better of one scale for all weights of a layer and one for each channel."""
    tried: list[tuple[Path, Proven]] = []
    for per_channel in (False, True):
        candidate = file.with_name(f"per-{'channel' if per_channel else 'tensor'}.onnx")
        try:
            write_int8(file, source.training, candidate, per_channel=per_channel)
        except Exception as error:  # the quantiser raises many kinds of errors
            raise RunError(f"{source.name}: {file.name} cannot be quantised, {_cause(error)}") from error
        proven = _proven("onnx", candidate, source)
        if not math.isfinite(proven.row.largest_difference):
            raise RunError(f"{source.name}: in eight bits a logit is not finite; export without --int8")
        tried.append((candidate, proven))
    best, proven = tried[best_int8([one.row for _, one in tried])]
    best.rename(file.with_name(INT8))
    for candidate, _ in tried:
        candidate.unlink(missing_ok=True)
    return proven._replace(row=proven.row._replace(file=INT8))


def best_int8(rows: Sequence[Parity]) -> int:
    """Which candidate is kept: of those that lose few errors the fastest; of equally fast ones the most faithful.

    Where all lose too many, the one with the fewest errors.
    """
    places = [place for place, row in enumerate(rows) if row.points_lost <= INT8_BOUND]
    if not places:
        return min(range(len(rows)), key=lambda place: rows[place].errors)
    fastest = min(rows[place].latency_1_ms for place in places)
    near = [place for place in places if rows[place].latency_1_ms <= _ALIKE * fastest]
    return min(near, key=lambda place: (rows[place].errors, rows[place].largest_difference))


def about_int8(float_row: Parity, row: Parity) -> list[str]:
    """What an int8 file costs more than it may, in sentences."""
    said = []
    if row.points_lost > INT8_BOUND:
        said.append(
            f"int8 loses {row.points_lost:.1f} points on validation ({row.errors} errors for {row.run_errors} of "
            f"{row.num_examples:,}), more than {INT8_BOUND}: use {float_row.file}."
        )
    if row.latency_1_ms >= float_row.latency_1_ms:
        said.append(f"On this machine int8 is no faster than {float_row.file} for one example.")
    if row.bytes >= float_row.bytes:
        said.append(
            f"The int8 file is no smaller than {float_row.file} ({row.bytes:,} and {float_row.bytes:,} bytes): "
            "for so few weights the scales and the graph outweigh what they save."
        )
    return said


@contextmanager
def _named_at_the_end(target: Path) -> Iterator[Path]:
    """A folder beside the target, renamed to it at the end, or removed if the block fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    folder.mkdir()
    try:
        yield folder
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
