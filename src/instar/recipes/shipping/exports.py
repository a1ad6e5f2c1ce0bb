"""`instar export`: a run's network as a folder to be shipped, proven on the run's own data."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from instar import intervals, metrics
from instar.data import Dataset, Splits
from instar.deploy import find_fit, load, load_run_network
from instar.deploy.calibration import Calibration
from instar.deploy.card import card_text
from instar.deploy.exported import calibration_of, find_export
from instar.deploy.exporting import Export, Source, check_target, write_export
from instar.deploy.loading import portable_config
from instar.deploy.model import require_one_answer
from instar.deploy.parity import Examples
from instar.deploy.to_libraries import LIBRARY_FORMATS, check_library
from instar.errors import DataError, InstarError, RunError, UsageError
from instar.evaluation import commonest, predict_logits, score
from instar.machine import environment
from instar.networks import network_fingerprint
from instar.recipes.fitting import CALIBRATION_EXAMPLES
from instar.recipes.shipping.export_facts import facts_of
from instar.recipes.splits import splits_of
from instar.reports import Column, Table
from instar.runs import Run
from instar.structures import Inputs, map_tensors, num_values, read_form

_MOST_EXAMPLES, _MOST_VALUES = 10_000, 2**26  # of validation: what comparing them costs, in time and in memory
_SAME_NLL = 0.01  # relative: what another machine may change


class Judged(NamedTuple):
    """A fit with its data, and what it says on validation."""

    path: Path
    run: Run
    splits: Splits
    network: nn.Module
    logits: Tensor
    """(validation examples, classes)"""
    labels: Tensor


def export(run: str | Path, *, to: str = "onnx", int8: bool = False, out: str | Path | None = None) -> Export:
    """Write a run's network into a folder that can be shipped: a model file, `instar.json` and a model card.

    A fresh process opens the file and is asked the run's validation examples before the folder gets its name.

    Args:
        run: as for `instar.load`.
        to: `onnx` (for onnxruntime), `torch` (a program of `torch.export`) or `safetensors` (for `instar.load`);
            of a network of these libraries also `transformers` (for `from_pretrained`) or `timm` (for
            `create_model("local-dir:FOLDER")`).
        int8: of ONNX, write a file in eight-bit integers too.
        out: the folder, which must not exist; by default `exports/RUN-FORMAT`.

    Returns:
        `path`, and of each of the `files` its `row` in the table: errors, agreement, largest difference, latency.

    Raises:
        UsageError: no such run or format, a folder that exists, packages that are not installed, or a network of
            another library than that of the format.
        RunError: the run is not finished, its weights were changed, its network cannot be exported, or the file
            does not answer as the run does: nothing is left then.
        DataError: the data of the run are gone or were changed.

    Example:
        >>> export("runs/distill/digits", to="onnx", int8=True)  # doctest: +SKIP
    """
    if find_export(Path(run)) is not None:
        raise UsageError(f"{run} is an export; export the run that it comes from")
    path = find_fit(run)
    target = Path(out) if out is not None else _default_target(path, to)
    check_target(target, to, int8=int8)
    config = Run.read(path).config
    require_one_answer(path, config)
    if to in LIBRARY_FORMATS:
        check_library(load_run_network(path), to, f"{path}: {config['network']}", read_form(config["input_shape"]))
    judged = judge(path)
    test = _on_test(judged)
    source = source_of(judged, [*check_weights(judged), *about_chance(judged.splits, test)])
    facts = facts_of(path, judged.splits, test, environment(), to=to)
    keys = (
        "class_names",
        "input_shape",
        "colours",
        "size",
        "normalisation",
        "scale",
        "network",
        "test",
        "versions",
    )
    return write_export(
        target, to, source, {key: facts[key] for key in keys}, partial(card_text, facts), int8=int8
    )


def parity_table(done: Export) -> Table:
    """What the files of an export cost and how they answer."""
    rows = [{**one.row._asdict(), "percent": 100 * one.row.agreement} for one in done.files]
    first = done.files[0].row
    return Table(
        "Exported",
        rows,
        columns=[
            Column("file", "file"),
            Column("bytes", "bytes", "{bytes:,}"),
            Column(
                "errors", "errors", note=f"of {first.num_examples:,} validation examples; run: {first.run_errors}"
            ),
            Column("percent", "same class", "{percent:.2f} %"),
            Column("largest_difference", "largest difference", "{largest_difference:.2g}", note="of a logit"),
            Column("latency_1_ms", "ms, 1", "{latency_1_ms:.3g}", note="median for one example, one thread"),
            Column("latency_64_ms", "ms, 64", "{latency_64_ms:.3g}", note="for a batch of 64"),
        ],
    )


def calibration_for(run: str | Path) -> Calibration:
    """What a network knows of its validation examples: of a run from its data, of an export from `instar.json`.

    Raises:
        DataError: the data of the run are gone or were changed.
        UsageError: it learned from its validation examples too.
    """
    found = calibration_of(Path(run))
    if found is None:
        if find_export(Path(run)) is None:
            judged = judge(find_fit(run))
            if not _learned_from_validation(judged.run.config):
                return Calibration.fitted(judged.logits, judged.labels)
        raise UsageError(f"{run} learned from its validation examples too: they say nothing of its calibration")
    return found


def judge(path: Path) -> Judged:
    """A fit and its logits on validation.

    Raises:
        RunError: the fit is not finished.
        DataError: its data are gone or were changed.
    """
    run = Run.read(path)
    run.result()
    if "specialist" in run.config:
        raise UsageError(
            f"{path} knows the classes of one set alone; export the generalist or a distilled student"
        )
    network = load_run_network(path)
    try:
        splits = splits_of(run.config)
    except (InstarError, OSError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: the data that it was trained on are needed, and cannot be read: {error}"
        ) from error
    validation = _some(splits.validation)
    return Judged(
        path, run, splits, network, predict_logits(network, validation), validation.labels(validation.ids)
    )


def check_weights(judged: Judged) -> list[str]:
    """Refuse weights of a run of an older instar that are not those that the fit ended with.

    Newer runs have the checksum of their weights, which was compared when these were loaded.

    Returns:
        What is not known of them, in sentences.

    Raises:
        RunError: they are other ones.
    """
    if judged.run.weights_checksum() is not None:
        return []
    known, adopted = judged.run.result()["metrics"], judged.run.config.get("weights")
    if adopted:
        if adopted != network_fingerprint(judged.network):
            raise RunError(f"{judged.path}: its weights were changed since it was finished; train it again")
        return []
    said = [
        "The run is of an older instar and has no checksum of its weights: a change of them that is too small to "
        "show in its errors on validation would not be seen."
    ]
    if len(judged.labels) != len(judged.splits.validation) or "validation_errors" not in known:
        return said
    errors = int(metrics.errors(judged.logits, judged.labels))
    nll = metrics.negative_log_likelihood(judged.logits, judged.labels)
    close = max(1.0, 0.002 * len(judged.labels))
    same_nll = abs(nll - known.get("validation_nll", nll)) <= _SAME_NLL * max(nll, 0.1)
    if abs(errors - known["validation_errors"]) > close or not same_nll:
        raise RunError(
            f"{judged.path}: its weights were changed since it was finished: {errors} validation errors, and "
            f"{known['validation_errors']:g} were noted (nll {nll:.4g}, noted "
            f"{known.get('validation_nll', nll):.4g}); train it again"
        )
    return said


def source_of(judged: Judged, said: Sequence[str] = ()) -> Source:
    """What is exported of a fit: its network, and the examples by which files are proven and quantised."""
    parts = (judged.splits.validation, judged.splits.train)
    validation, training = (part.with_normalisation(None, None) for part in parts)
    model = load(judged.path)
    return Source(
        str(judged.path),
        load_run_network(judged.path),
        portable_config(judged.path),
        model,
        Examples(_gathered(validation, _some(validation).ids), judged.labels, judged.logits, model.input_shape),
        _gathered(training, _few(training.ids, CALIBRATION_EXAMPLES)),
        _learned_from_validation(judged.run.config),
        said,
    )


def _gathered(data: Dataset, ids: Tensor) -> Inputs:
    return map_tensors(Tensor.contiguous, data.gather(ids, 0))


def _on_test(judged: Judged) -> dict[str, float]:
    """Test is read once, after all choices."""
    test = judged.splits.test
    labels, logits = test.labels(test.ids), predict_logits(judged.network, test)
    scores = score(logits, labels, test.label_targets(test.ids))
    return {"num_examples": int((labels >= 0).sum()), **scores}


def about_chance(splits: Splits, test: Mapping[str, float]) -> list[str]:
    """A sentence about a network that is no better on test than the commonest class; none of others."""
    num_examples, errors = int(test["num_examples"]), int(test["errors"])
    num_commonest = commonest(splits.test.labels(splits.test.ids))
    if intervals.is_above_chance(num_examples - errors, num_examples, num_commonest):
        return []
    return [
        f"This network is no better than the commonest class: {errors:,} errors on {num_examples:,} test "
        f"examples, where answering always that class makes {num_examples - num_commonest:,}."
    ]


def _learned_from_validation(config: Mapping[str, Any]) -> bool:
    return bool(config.get("transfer", {}).get("validation_too"))


def _some(data: Dataset) -> Dataset:
    """The examples that files are compared on: all, or so many that their values fit into memory."""
    most = min(_MOST_EXAMPLES, max(_MOST_VALUES // num_values(data.example_shape), 64))
    return data if len(data) <= most else data.subset(_few(data.ids, most))


def _few(ids: Tensor, most: int) -> Tensor:
    return ids[:: -(-len(ids) // most)]


def _default_target(path: Path, to: str) -> Path:
    parts = list(path.parts)
    if "jobs" in parts:
        place = len(parts) - 1 - parts[::-1].index("jobs")
        parts = parts[place - 1 : place] + parts[place + 1 :]
    else:
        parts = parts[-1:]
    return Path("exports", "-".join([*parts, to]))
