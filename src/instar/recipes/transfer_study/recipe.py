"""The first paper's study as one run: networks and kinds of halves, each a plan of `instar transfer`, and a curve.

Nothing is chosen: every network is trained as its part of the configuration says, and read on test once.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar import metrics
from instar.evaluation import evaluate
from instar.jobs import open_engine, run_jobs
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.publishing import time_spent
from instar.recipes.transfer.filters import filter_scores, first_filters
from instar.recipes.transfer.recipe import MANIFEST, manifest, plan_result, study_of
from instar.recipes.transfer_study.plan import (
    CONVNET,
    DISSIMILAR,
    RESNET,
    SIMILAR,
    StudyConfig,
    TransferStudy,
    curve_name,
)
from instar.runs import Run, run_hash
from instar.transfer import findings_of


def run_path(config: StudyConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/transfer-DATA-SCALE-HASH`."""
    fingerprint = load_splits(config.data).fingerprint
    hashed = run_hash("reproduce", config.model_dump(), data_fingerprint=fingerprint)
    return root / "reproduce" / f"transfer-{config.data.name}-{config.scale}-{hashed}"


def main(
    config: StudyConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Run the whole study, or go on with it, or read what it found: the content of `result.json`."""
    from instar.recipes.transfer_study.page import write_study_page

    study = TransferStudy(config, path, device)
    for plan in study.plans.values():
        plan.check()
    with Run(path, recipe="reproduce", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        run.write_json(MANIFEST, {name: manifest(plan) for name, plan in study.plans.items()})
        with open_engine(engine) as workers:
            run_jobs(study.jobs(), path, engine=workers, quiet=quiet).raise_if_failed()
        result = _result(study, quiet=quiet)
        result |= time_spent(path, started)
        write_study_page(run, study, result)
        run.finish(result)
        return run.result()


def _result(study: TransferStudy, *, quiet: bool) -> dict[str, Any]:
    parts = {name: plan_result(plan, quiet=quiet) for name, plan in study.plans.items()}
    findings = study_findings(parts)
    return {
        "metrics": {f"{one['finding']}-{one['network']}": one["number"] for one in findings},
        "rows": [{**row, "part": name} for name, part in parts.items() for row in part.pop("rows")],
        "findings": findings,
        "curve": _curve(study),
        "filters": filter_scores(first_filters(study.plans[CONVNET])),
        "parts": parts,
        "num_test": len(load_splits(study.config.data).test),
    }


def study_findings(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The paper's findings on each network, from what the parts measured."""
    studies = {name: study_of(part["networks"]) for name, part in parts.items()}
    unlike = studies.get(DISSIMILAR), studies.get(SIMILAR)
    return [
        one
        for name in (CONVNET, RESNET)
        if name in studies
        for one in findings_of(parts[name]["network"], studies[name], *(unlike if name == CONVNET else ()))
    ]


def _curve(study: TransferStudy) -> list[dict[str, Any]]:
    """Test accuracy over images a class."""
    test = load_splits(study.config.data).test
    rows = []
    for percent, epochs in study.config.curve.epochs.items():
        paths = [study.path / "jobs" / curve_name(percent, seed) for seed in range(study.config.curve.seeds)]
        over = metrics.over_seeds(
            [100 * evaluate(load_run_network(path), test, device=study.device)["accuracy"] for path in paths]
        )
        splits = load_splits(study.curve_data(percent))
        images = len(splits.train) / len(splits.class_names)
        rows.append({"images_per_class": round(images, 1), "epochs": epochs, **over._asdict()})
    return rows
