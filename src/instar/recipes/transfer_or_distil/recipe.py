"""Distillation or transfer? One student on few examples: from scratch, transferred, distilled, both.

Every seed has a base, a teacher and four students of its own; the students of a seed start alike and see the data
in the same order, so each difference is paired. Nothing is chosen: test is read once, at the last epoch.
"""

import time
from pathlib import Path
from typing import Any

from instar import metrics
from instar.evaluation import evaluate
from instar.jobs import open_engine, run_jobs
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.publishing import time_spent
from instar.recipes.transfer_or_distil.plan import PAIRS, SCRATCH, STUDENTS, TEACHER, CompareConfig, Plan, job_name
from instar.runs import Run, run_hash


def run_path(config: CompareConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/transfer-or-distil-SCALE-HASH`."""
    fingerprint = load_splits(config.data).fingerprint
    hashed = run_hash("transfer-or-distil", config.model_dump(), data_fingerprint=fingerprint)
    return root / "reproduce" / f"transfer-or-distil-{config.scale}-{hashed}"


def main(
    config: CompareConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Train everything, or go on, and compare: the content of `result.json`."""
    from instar.recipes.transfer_or_distil.page import write_compare_page

    plan = Plan(config, path, device)
    with Run(path, recipe="transfer-or-distil", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            run_jobs(plan.jobs(), path, engine=workers, quiet=quiet).raise_if_failed()
        result = compare_result(plan)
        result |= time_spent(path, started)
        write_compare_page(run, plan, result)
        run.finish(result)
        return run.result()


def compare_result(plan: Plan) -> dict[str, Any]:
    """Accuracy on test of every kind of network, and the paired differences."""
    splits = load_splits(plan.target)
    test = splits.test
    accuracy = {
        kind: [
            100 * evaluate(load_run_network(path), test, device=plan.device)["accuracy"]
            for path in (plan.path / "jobs" / job_name(kind, seed) for seed in range(plan.config.seeds))
        ]
        for kind in (TEACHER, *STUDENTS)
    }
    rows = []
    for kind, values in accuracy.items():
        row: dict[str, Any] = {"name": kind, **metrics.over_seeds(values)._asdict(), "unit": "percent"}
        if kind in STUDENTS[1:]:
            minus = metrics.paired_difference(values, accuracy[SCRATCH])
            row |= {"difference": minus.mean, "difference_low": minus.low, "difference_high": minus.high}
        rows.append(row)
    return {
        "metrics": {row["name"]: row["mean"] for row in rows},
        "rows": rows,
        "differences": [
            {"name": f"{one} - {other}", **metrics.paired_difference(accuracy[one], accuracy[other])._asdict()}
            for one, other in PAIRS
        ],
        "treatment": plan.treatment.name,
        "num_train": len(splits.train),
        "num_test": len(test),
    }
