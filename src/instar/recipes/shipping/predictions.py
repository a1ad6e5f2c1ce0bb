"""`instar predict`: the classes of new examples, a row for each."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data.progress import tracked
from instar.data.readers.folder import find_images, find_sounds
from instar.data.readers.images import IMAGE_SUFFIXES
from instar.deploy import Model
from instar.deploy.calibration import Calibration
from instar.deploy.model import scaled
from instar.errors import DataError, InstarError, UsageError
from instar.evaluation import batch_size_on
from instar.files import writing, written_whole
from instar.recipes.shipping.exports import calibration_for
from instar.recipes.shipping.row_inputs import STDIN, table_in
from instar.structures import Form

_ROWS_AT_ONCE = 1024
FORMATS = ("csv", "jsonl", "parquet")
Row = dict[str, Any]


class Answer(NamedTuple):
    """The probabilities of the classes of one input, (classes,)."""

    name: str
    probs: Tensor


def find_inputs(given: Iterable[str], *, of_rows: bool = False) -> list[str]:
    """Files, all pictures below folders, or else all sounds (nothing hidden), and the lines of stdin for `-`.

    For a network of rows `-` stays: what comes on stdin is rows then.

    Raises:
        UsageError: nothing was found.
    """
    found: list[str] = []
    for one in given:
        if not one:  # as a path it would be the current folder
            raise UsageError("an input is empty; name a file, a folder or a text")
        if one == STDIN and not of_rows:
            found += _named_on_stdin()
        elif _is_folder(one):
            found += map(str, find_images(Path(one)) or find_sounds(Path(one)))
        else:
            found.append(one)
    if not found:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UsageError(f"{', '.join(given)}: found no picture ({kinds} are read); name files or another folder")
    return found


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # a text that is too long for a name
        return False


def _named_on_stdin() -> list[str]:
    try:
        lines = [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError:  # the content of a picture, for instance
        lines = []
    if not lines or any("\0" in line for line in lines):
        raise UsageError("-: expected names of files on stdin, one a line, found none")
    return lines


def answers(
    model: Model, names: Sequence[str], *, refused: list[str], strict: bool = False, quiet: bool = False
) -> Iterator[Answer]:
    """The answers in the order of the inputs, computed in batches; while one is, the next pictures are read.

    Args:
        model: as `instar.load` gives it.
        names: pictures, or `.npy` files that hold a batch of arrays; for a network of rows also what
            `row_inputs.table_in` takes.
        refused: gets a line for each input that cannot be read.
        strict: raise the first of these errors.
        quiet: show no progress.

    Raises:
        DataError, UsageError: an input that cannot be read, where `strict`.
    """
    waiting: list[tuple[str, Tensor]] = []
    computed: Future[list[Answer]] | None = None
    batch_size = batch_size_on(model.device)
    with ThreadPoolExecutor(1, "answering") as thread:
        for name in tracked(names, total=len(names), description="predicting", show=not quiet):
            try:
                table = None if model.rows is None else table_in(name, model.rows)
                if table is not None:
                    yield from _of_rows(model, name, table, refused=refused, strict=strict)
                    continue
                waiting += _examples(model, name)
            except InstarError as error:
                if strict:
                    raise
                refused.append(str(error))
            while len(waiting) >= batch_size:
                if computed is not None:
                    yield from computed.result()
                computed = thread.submit(_answered, model, waiting[:batch_size])
                waiting = waiting[batch_size:]
        if computed is not None:
            yield from computed.result()
    if waiting:
        yield from _answered(model, waiting)


def _of_rows(model: Model, name: str, table: pa.Table, *, refused: list[str], strict: bool) -> Iterator[Answer]:
    """The answers for the rows of a table; where one of many cannot be used, the others are asked without it."""
    names = names_of_rows(model, name, table)
    for start in range(0, len(table), _ROWS_AT_ONCE):
        part = table.slice(start, _ROWS_AT_ONCE)
        try:
            found: list[Tensor | None] = list(model.of_table(part))
        except InstarError:
            if strict:
                raise
            found = [_one_row(model, part.slice(row, 1), refused) for row in range(len(part))]
        for row, probs in enumerate(found, start):
            if probs is not None:
                yield Answer(names[row], probs)


def names_of_rows(model: Model, name: str, table: pa.Table) -> list[str]:
    """The keys of rows where the data has a column of these, else the file with the number of each row from 1."""
    key = None if model.rows is None else model.rows.roles.key
    if key is not None and key in table.column_names and not table[key].null_count:
        return [str(one) for one in table[key].to_pylist()]
    return [name] if len(table) == 1 else [f"{name}:{row}" for row in range(1, len(table) + 1)]


def _one_row(model: Model, row: pa.Table, refused: list[str]) -> Tensor | None:
    try:
        return model.of_table(row)[0]
    except InstarError as error:
        refused.append(str(error))
        return None


def _examples(model: Model, name: str) -> list[tuple[str, Tensor]]:
    if not name.lower().endswith(".npy"):
        try:
            return [(name, model.picture(name))]
        except DataError as error:
            if Path(name).exists():
                raise
            takes = "this network takes pictures: name files or folders"
            raise DataError(f"{name}: no such file, and {takes}") from error
    arrays = arrays_in(name, name, model.input_shape)
    try:
        return [(f"{name}:{number}", values) for number, values in enumerate(model.preprocess_batch(arrays))]
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def arrays_in(file: str | IO[bytes], name: str, shape: Form) -> NDArray[Any]:
    """The batch of arrays in a `.npy` file.

    Raises:
        DataError: there is none, or arrays of another shape.
    """
    try:
        arrays = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{name}: not an array that can be read: {error or type(error).__name__}") from error
    if not isinstance(arrays, np.ndarray):
        raise DataError(f"{name}: holds several arrays; save the one that is meant with numpy.save")
    if arrays.shape[1:] != shape:
        expected = ", ".join(map(str, shape))
        raise DataError(f"{name}: expected an array of shape (n, {expected}), found {arrays.shape}")
    return arrays


def _answered(model: Model, batch: Sequence[tuple[str, Tensor]]) -> list[Answer]:
    probs = model.probabilities(scaled([values for _, values in batch]))
    return [Answer(name, row) for (name, _), row in zip(batch, probs, strict=True)]


def known_of(model: Model, *, explain: bool, calibrated: bool) -> Calibration | None:
    """What is known of a model on its validation examples, by which its answers are explained or calibrated.

    Args:
        model: `calibrated` sets its temperature.
        explain, calibrated: what was asked for; None without either, and, with a line on stderr, where `explain`
            alone was asked for and it cannot be known.

    Raises:
        DataError, UsageError, RunError: it cannot be known, and `calibrated` needs it.
    """
    if not explain and not calibrated:
        return None
    try:
        known = calibration_for(str(model.source))
    except InstarError as error:
        if calibrated:
            raise
        sys.stderr.write(f"instar: no rank among validation examples: {error}\n")
        return None
    if calibrated:
        model.temperature = known.temperature
    return known


def row_of(
    answer: Answer,
    class_names: Sequence[str],
    *,
    top_k: int = 1,
    explain: bool = False,
    known: Calibration | None = None,
    calibrated: bool = False,
) -> Row:
    """A row of the output: class and probability, then the next ones.

    For `explain` also the entropy in nats and, where it is known, the share of validation examples with a lower
    confidence; `calibrated`: at the temperature.
    """
    probs, best = answer.probs.topk(min(top_k, len(class_names)))
    # A name of bytes that are no UTF-8 is written with escapes.
    row: Row = {"input": os.fsencode(answer.name).decode("utf-8", "backslashreplace")}
    for place, (probability, number) in enumerate(zip(probs.tolist(), best.tolist(), strict=True), 1):
        ending = "" if place == 1 else f"_{place}"
        row |= {f"class{ending}": class_names[number], f"probability{ending}": round(probability, 6)}
    if explain:
        row["entropy"] = round(float(torch.special.entr(answer.probs).sum()), 6)
        if known is not None:
            row["rank"] = known.rank(float(probs[0]), calibrated=calibrated)
    return row


@contextmanager
def row_writer(out: Path | None, form: str) -> Iterator[Callable[[Row], None]]:
    """A function that writes a row to stdout, or to a file that gets its name when all rows are written.

    Raises:
        UsageError: an unknown format, or Parquet on stdout.
        RunError: the file cannot be written.
    """
    if form not in FORMATS:
        raise UsageError(f"format {form!r}: expected {', '.join(FORMATS)}")
    if out is None and form == "parquet":
        raise UsageError("Parquet is not for a terminal: name a file with --out")
    if out is None:
        yield _lines(sys.stdout, form)
        return
    with writing(out), written_whole(out) as unfinished:
        if form == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            rows: list[Row] = []
            yield rows.append
            pq.write_table(pa.Table.from_pylist(rows), unfinished)
        else:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                yield _lines(file, form)


def _lines(file: IO[str], form: str) -> Callable[[Row], None]:
    if form == "jsonl":
        return lambda row: print(json.dumps(row, ensure_ascii=False), file=file)
    tables: list[csv.DictWriter[str]] = []

    def write(row: Row) -> None:
        if not tables:
            tables.append(csv.DictWriter(file, list(row), lineterminator="\n"))
            tables[0].writeheader()
        tables[0].writerow(row)

    return write
