"""The networks of a distillation as files: in floating point, in eight bits, and taught anew in eight bits.

Narrower students, distilled as the first one is, say what a small network in floating point is worth beside a
larger one in eight bits. Weights that are pruned one by one stay in dense matrices, and make no file faster.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from instar import metrics
from instar.data import Dataset
from instar.deploy.exported import INT8, MODELS
from instar.deploy.exporting import write_onnx_files
from instar.deploy.to_onnx import Session
from instar.evaluation import predict_logits
from instar.jobs import Job
from instar.networks import is_teacher_file
from instar.recipes.distill.plan import ALONE, DISTILLED, Plan
from instar.recipes.distill.settings import Candidate
from instar.recipes.distill.students import fit_options
from instar.recipes.fitting import fit_job
from instar.recipes.halving import shortened
from instar.recipes.rows import difference, excludes_zero, row, with_interval
from instar.recipes.settings import FitSettings
from instar.recipes.shipping.exports import judge, source_of
from instar.recipes.splits import about_data
from instar.runs import Run

RECOVERED = "student-distilled-int8"
FORMS = {"float": MODELS["onnx"], "int8": INT8}

_SHARE, _RATE = 0.25, 0.1  # of the student's epochs and learning rate: it begins where that ended
_AS_FAST = 1.1  # latencies closer than this are one
_STATED = {"validation_errors": "errors", "bytes": "bytes", "latency_ms": "latency_1_ms"}
_COSTS = {"latency_ms": "latency", "bytes": "size"}
Row = dict[str, Any]


def in_use_jobs(plan: Plan, candidate: Candidate) -> list[Job]:
    """The fits in eight bits, those of narrower students, and a job that writes the files of each network."""
    settings = plan.student_settings
    shorter = shortened(settings, max(1, math.ceil(_SHARE * settings.epochs)))
    fits = {RECOVERED: (shorter, _RATE * candidate.learning_rate)}
    fits |= {name: (one, candidate.learning_rate) for name, one in plan.narrower.items()}
    jobs = [
        fit_job(
            plan.path,
            f"{name}/seed-{seed}",
            FitSettings(**one.model_dump() | {"learning_rate": rate}),
            plan.config.data,
            seed=seed,
            soft=plan.teaching.soft_settings(candidate.loss) if candidate.loss else None,
            transfer=plan.config.transfer,
            needs=tuple(plan.teaching.needs),
            recovers=f"{DISTILLED}/seed-{seed}" if name == RECOVERED else None,
            **fit_options(plan.execution),
        )
        for name, (one, rate) in fits.items()
        for seed in plan.seeds
    ]
    config = about_data(plan.config.data)
    files = [name for several in _fits(plan).values() for name in several]
    return [*jobs, *(Job(_files_of(name), _write_files, {**config, "of": name}, (name,)) for name in files)]


def in_use(plan: Plan, test: Dataset) -> Row:
    """What the files answer on test and what they cost, and which is the best at the student's latency.

    `rows` have the `form`, test errors over seeds, and means over seeds of `validation_errors`, by which files are
    chosen, of `bytes` and of `latency_ms` for one example. With narrower students `at_one` has a sentence and the
    `difference` for `latency_ms` and `bytes`: what a smaller file in floating point and a larger one in eight bits
    make at one latency and at one size.
    """
    plain, labels = test.with_normalisation(None, None), test.labels(test.ids)

    def errors(name: str, file: str) -> int:
        network: nn.Module = Session(plan.path / "jobs" / _files_of(name) / file)
        return int(metrics.errors(predict_logits(network, plain), labels))

    rows = []
    for kind, names in _fits(plan).items():
        measured = [Run.read(plan.path / "jobs" / _files_of(name)).result()["rows"] for name in names]
        for place, (form, file) in enumerate(FORMS.items()):
            if kind == RECOVERED and form == "float":  # it learned to be rounded
                continue
            costs = {
                key: sum(one[place][stated] for one in measured) / len(measured) for key, stated in _STATED.items()
            }
            rows.append(row(kind, [errors(name, file) for name in names], form=form, **costs))
    found: Row = {"sentence": _verdict(rows), "rows": rows}
    if plan.narrower:
        found["at_one"] = {key: _at_one(rows, list(plan.narrower), key) for key in _COSTS}
    return found


def _verdict(rows: Sequence[Row]) -> str:
    """Which file validation chooses of those that are as fast as the distilled student in floating point."""
    own = next(one for one in rows if (one["name"], one["form"]) == (DISTILLED, "float"))
    as_fast = [one for one in rows if one["latency_ms"] <= _AS_FAST * own["latency_ms"]]
    best = _chosen(as_fast)
    if best is own:
        return (
            f"In use, validation prefers no file that is as fast ({own['latency_ms']:.2g} ms for one example) to "
            "the distilled student in floating point."
        )
    return (
        f"In use, of the files that are as fast as the distilled student in floating point "
        f"({own['latency_ms']:.2g} ms for one example, {own['mean']:.1f} errors), validation chooses "
        f"{best['name']} in {best['form']}: {best['mean']:.1f} errors, at {best['latency_ms']:.2g} ms."
    )


def _chosen(rows: Sequence[Row]) -> Row:
    """The file with the fewest errors on validation, of equally good ones the fastest."""
    return min(rows, key=lambda one: (one["validation_errors"], one["latency_ms"]))


def _at_one(rows: Sequence[Row], narrower: Sequence[str], key: str) -> Row:
    """What a narrower student in floating point makes more than the distilled one in eight bits, at one cost.

    Args:
        rows: of all files.
        narrower: the names of the narrower students.
        key: of the cost, `latency_ms` or `bytes`; a narrower student may cost a tenth more.
    """
    large = _chosen([one for one in rows if one["name"] in (DISTILLED, RECOVERED) and one["form"] == "int8"])
    small = [one for one in rows if one["name"] in narrower and one["form"] == "float"]
    small = [one for one in small if one[key] <= _AS_FAST * large[key]]
    what = _COSTS[key]
    named = f"{large['name']} in int8 ({_in_words(large, key)}, {large['mean']:.1f} errors)"
    if not small:
        return {"sentence": f"At one {what}: no narrower student in floating point costs as little as {named}."}
    best = _chosen(small)
    apart = difference(best["name"], large["name"], best["values"], large["values"])
    verdict = (
        "undecided" if not excludes_zero(apart)
        else "the larger one in eight bits is better" if apart["mean"] > 0
        else "the smaller one in floating point is better"
    )  # fmt: skip
    over = "one seed, no interval" if apart["low"] is None else with_interval(apart)
    sentence = (
        f"At one {what}: {best['name']} in floating point ({_in_words(best, key)}, {best['mean']:.1f} errors) "
        f"beside {named}: {verdict} ({over})."
    )
    return {"sentence": sentence, "difference": apart}


def _in_words(row: Row, key: str) -> str:
    return f"{row[key]:.2g} ms" if key == "latency_ms" else f"{row[key]:,.0f} bytes"


def _fits(plan: Plan) -> dict[str, list[str]]:
    """The networks that are written as files: names of their jobs by the name of the row."""
    names = (ALONE, DISTILLED, RECOVERED, *plan.narrower)
    kinds = {kind: [f"{kind}/seed-{seed}" for seed in plan.seeds] for kind in names}
    if len(plan.members) != 1 or is_teacher_file(plan.members[0].settings.network):
        return kinds
    return {"teacher": [plan.members[0].job], **kinds}


def _files_of(name: str) -> str:
    return f"in-use/{name}"


def _write_files(run: Run, needs: Mapping[str, Path]) -> Row:
    rows = write_onnx_files(source_of(judge(needs[run.config["of"]])), run.path)
    return {"rows": [one._asdict() for one in rows]}
