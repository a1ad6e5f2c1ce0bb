"""The networks of a distillation as files: in floating point, in eight bits, and taught anew in eight bits."""

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
from instar.recipes.exports import judge, source_of
from instar.recipes.fitting import fit_job
from instar.recipes.halving import shortened
from instar.recipes.loading import about_data
from instar.recipes.rows import row
from instar.recipes.settings import FitSettings
from instar.runs import Run

RECOVERED = "student-distilled-int8"
FORMS = {"float": MODELS["onnx"], "int8": INT8}

_SHARE, _RATE = 0.25, 0.1  # of the student's epochs and learning rate: it begins where that ended
_AS_FAST = 1.1  # latencies closer than this are one
Row = dict[str, Any]


def in_use_jobs(plan: Plan, candidate: Candidate) -> list[Job]:
    """The fits in eight bits, and a job that writes the files of each network."""
    student = next(one for one in plan.students if one.name == DISTILLED)
    settings = shortened(student.settings, max(1, math.ceil(_SHARE * student.settings.epochs)))
    options = settings.model_dump() | {"learning_rate": _RATE * candidate.learning_rate}
    loss = candidate.loss
    jobs = [
        fit_job(
            plan.path,
            f"{RECOVERED}/seed-{seed}",
            FitSettings(**options),
            plan.config.data,
            seed=seed,
            soft=plan.teaching.soft_settings(loss) if loss else None,
            transfer=plan.config.transfer,
            needs=tuple(plan.teaching.needs),
            recovers=f"{DISTILLED}/seed-{seed}",
            **fit_options(plan.execution),
        )
        for seed in plan.seeds
    ]
    config = about_data(plan.config.data)
    files = [name for several in _fits(plan).values() for name in several]
    return [*jobs, *(Job(_files_of(name), _write_files, {**config, "of": name}, (name,)) for name in files)]


def in_use(plan: Plan, test: Dataset) -> Row:
    """What the files answer on test and what they cost, and which is the best at the student's latency.

    `rows` have the `form`, test errors over seeds, `bytes` and `latency_ms` for one example, means over seeds.
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
                key: sum(one[place][stated] for one in measured) / len(measured)
                for key, stated in (("bytes", "bytes"), ("latency_ms", "latency_1_ms"))
            }
            rows.append(row(kind, [errors(name, file) for name in names], form=form, **costs))
    return {"sentence": _verdict(rows), "rows": rows}


def _verdict(rows: Sequence[Row]) -> str:
    """Which file makes the fewest errors of those that are as fast as the distilled student in floating point."""
    own = next(one for one in rows if (one["name"], one["form"]) == (DISTILLED, "float"))
    as_fast = [one for one in rows if one["latency_ms"] <= _AS_FAST * own["latency_ms"]]
    best = min(as_fast, key=lambda one: (one["mean"], one["latency_ms"]))
    if best is own:
        return (
            f"In use, no file that is as fast ({own['latency_ms']:.2g} ms for one example) makes fewer errors "
            "than the distilled student in floating point."
        )
    return (
        f"In use, of the files that are as fast as the distilled student in floating point "
        f"({own['latency_ms']:.2g} ms for one example, {own['mean']:.1f} errors), {best['name']} in "
        f"{best['form']} makes the fewest errors: {best['mean']:.1f}, at {best['latency_ms']:.2g} ms."
    )


def _fits(plan: Plan) -> dict[str, list[str]]:
    """The networks that are written as files: names of their jobs by the name of the row."""
    kinds = {kind: [f"{kind}/seed-{seed}" for seed in plan.seeds] for kind in (ALONE, DISTILLED, RECOVERED)}
    if len(plan.members) != 1 or is_teacher_file(plan.members[0].settings.network):
        return kinds
    return {"teacher": [plan.members[0].job], **kinds}


def _files_of(name: str) -> str:
    return f"in-use/{name}"


def _write_files(run: Run, needs: Mapping[str, Path]) -> Row:
    rows = write_onnx_files(source_of(judge(needs[run.config["of"]])), run.path)
    return {"rows": [one._asdict() for one in rows]}
