"""How transferable the layers of a network are: bases, treatments, and what the differences say.

Nothing is chosen: every network of the plan is trained as the configuration says and read on test once, at its
last epoch.
"""

import time
from pathlib import Path
from typing import Any

from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import open_engine, run_jobs
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.transfer_plan import Network, Plan
from instar.recipes.transfer_settings import TransferConfig
from instar.runs import Run, run_hash
from instar.transfer import Measured, Study, boost_rows, drop_rows, transition, treatment_rows

MANIFEST = "manifest.json"


def run_path(config: TransferConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/transfer/DATA-HALVES-NETWORK-HASH`."""
    tasks = [load_splits(data) for data in (config.source, config.data) if data is not None]
    names = [*(task.name for task in tasks), config.halves.how, config.network.network]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    fingerprint = " ".join(task.fingerprint for task in tasks)
    return root / "transfer" / f"{slug}-{run_hash('transfer', config.model_dump(), data_fingerprint=fingerprint)}"


def main(
    config: TransferConfig,
    path: Path,
    *,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the whole study, or go on with it, or read what it found.

    Args:
        config: what to do.
        path: the run directory.
        device: where to compute; does not belong to the configuration.
        engine: of the jobs.
        quiet: show no progress.

    Returns:
        The content of `result.json`.
    """
    from instar.recipes.transfer_page import write_transfer_page

    plan = Plan(config, path, device)
    plan.check()
    with Run(path, recipe="transfer", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        run.write_json(MANIFEST, _manifest(plan))
        with open_engine(engine) as workers:
            run_jobs(plan.jobs(), path, engine=workers, quiet=quiet).raise_if_failed()
        measured = [(network, _measured(plan, network)) for network in plan.networks()]
        result = study_result(plan, dict(measured))
        result["seconds"] = round(time.monotonic() - started, 1)
        write_transfer_page(run, plan, result)
        run.finish(result)
        return run.result()


def _manifest(plan: Plan) -> dict[str, Any]:
    """Which classes fell where in each split; the names of the data sets where these are the tasks."""
    names = load_splits(plan.config.data).class_names
    found: dict[str, Any] = {}
    for split in plan.splits:
        halves = plan.halves(split)
        tasks = {letter: plan.task(split, letter).name for letter in "AB"}
        found[f"split-{split}"] = tasks if halves is None else halves.manifest(names)
    return found


def _measured(plan: Plan, network: Network) -> dict[str, float]:
    """The only place that reads test: accuracy in percent, and the paper's mean of the ten best on validation."""
    splits = load_splits(plan.task(network.split, network.target))
    path = plan.path / "jobs" / network.job
    logits = predict_logits(load_run_network(path), splits.test)
    rows = Run.read(path).result()["rows"]
    best = sorted(row["validation_errors"] for row in rows)[:10]
    return {
        "accuracy": 100 * metrics.accuracy(logits, splits.test.labels(splits.test.ids)),
        "ten_best_validation": 100 * (1 - sum(best) / len(best) / len(splits.validation)),
    }


def study_result(plan: Plan, measured: dict[Network, dict[str, float]]) -> dict[str, Any]:
    """The content of `result.json`, from each network's accuracy."""
    study = Study(Measured(*network[1:], found["accuracy"]) for network, found in measured.items())
    paper = Study(Measured(*network[1:], found["ten_best_validation"]) for network, found in measured.items())
    rows = treatment_rows(study)
    for row, same in zip(rows, treatment_rows(paper), strict=True):
        row["ten_best_validation"] = same["mean"]
    about = {"network": plan.config.network.network, "split": _kind_of_split(plan)}
    drops = drop_rows(study)
    return {
        "metrics": {f"{row['treatment']}-{row['cut']}": row["mean"] for row in rows},
        "rows": [{**about, **row} for row in rows],
        "drops": drops,
        "boosts": boost_rows(study),
        "transition": {
            kind: transition(study, kind)
            for kind in ("AnB", "BnB")
            if kind in study.kinds and len(plan.splits) > 1
        },
        "networks": [{**network._asdict(), **found} for network, found in measured.items()],
        "layers": plan.layers,
        "splits": list(plan.splits),
        "num_test": sum(
            len(load_splits(plan.task(plan.splits[0], letter)).test) for letter in plan.config.targets
        ),
    }


def _kind_of_split(plan: Plan) -> str:
    if plan.config.source is not None:
        return f"{plan.config.source.name} to {plan.config.data.name}"
    size = plan.config.halves.classes_per_half
    return plan.config.halves.how + (f" {size}/{size}" if size else "")
