"""How transferable the layers of a network are: bases, treatments, and what the differences say.

Nothing is chosen: every network of the plan is trained as the configuration says and read on test once, at its
last epoch.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from instar.data.progress import tracked
from instar.evaluation import evaluate
from instar.jobs import open_engine, run_jobs
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.transfer.filters import filter_scores, first_filters
from instar.recipes.transfer.plan import Network, Plan
from instar.recipes.transfer.settings import TransferConfig
from instar.runs import Run, run_hash
from instar.transfer import Measured, Study, boost_rows, drop_rows, transition, treatment_rows

MANIFEST = "manifest.json"

_MANY_EPOCHS = 100  # of which ten are a small share


def run_path(config: TransferConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/transfer/DATA-HALVES-NETWORK-HASH`."""
    tasks = [load_splits(data) for data in (config.source, config.data) if data is not None]
    names = [*(task.name for task in tasks), config.halves.how, config.network.network]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    plan = Plan(config, root)
    halves = [plan.halves(split) for split in plan.splits]  # a file of parents may say something else by now
    fingerprint = " ".join([*(task.fingerprint for task in tasks), *(half.hash for half in halves if half)])
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
    from instar.recipes.transfer.page import write_transfer_page

    plan = Plan(config, path, device)
    plan.check()
    with Run(path, recipe="transfer", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        run.write_json(MANIFEST, manifest(plan))
        with open_engine(engine) as workers:
            run_jobs(plan.jobs(), path, engine=workers, quiet=quiet).raise_if_failed()
        result = plan_result(plan, quiet=quiet)
        result["filters"] = filter_scores(first_filters(plan))
        result["seconds"] = round(time.monotonic() - started, 1)
        write_transfer_page(run, plan, result)
        run.finish(result)
        return run.result()


def manifest(plan: Plan) -> dict[str, Any]:
    """Which classes fell where in each split; the names of the data sets where these are the tasks."""
    return {f"split-{split}": plan.manifest(split) for split in plan.splits}


def _measured(plan: Plan, network: Network) -> dict[str, float | None]:
    """The only place that reads test: accuracy in percent, and the paper's mean of the ten best on validation.

    With few epochs that were run the ten best are None: of ten or fewer they would be all.
    """
    splits = load_splits(plan.task(network.split, network.target))
    path = plan.path / "jobs" / network.job
    on_test = evaluate(load_run_network(path), splits.test, device=plan.device)
    ten_best, epochs = None, Run.read(path).result()["rows"]
    if len(epochs) >= _MANY_EPOCHS:
        best = sorted(row["validation_errors"] for row in epochs)[:10]
        ten_best = 100 * (1 - sum(best) / len(best) / len(splits.validation))
    return {"accuracy": 100 * on_test["accuracy"], "ten_best_validation": ten_best}


def study_of(networks: Iterable[Mapping[str, Any]], accuracy: str = "accuracy") -> Study:
    """The study that the `networks` of a result make."""
    return Study(Measured(one["split"], one["target"], one["kind"], one["n"], one[accuracy]) for one in networks)


def plan_result(plan: Plan, *, quiet: bool) -> dict[str, Any]:
    """What the networks of a plan say, once all are trained: the content of `result.json`."""
    all_networks = plan.networks()
    shown = tracked(all_networks, total=len(all_networks), description="reading test", show=not quiet)
    networks = [{**network._asdict(), **_measured(plan, network)} for network in shown]
    study = study_of(networks)
    rows = treatment_rows(study)
    if any(one["ten_best_validation"] is None for one in networks):  # those of the others compare with nothing
        networks = [{**one, "ten_best_validation": None} for one in networks]
    else:
        for row, same in zip(rows, treatment_rows(study_of(networks, "ten_best_validation")), strict=True):
            row["ten_best_validation"] = same["mean"]
    may_be_none = dict.fromkeys(("minus_base", "low", "high", "ten_best_validation"))
    about = {"network": plan.config.network.network, "split": kind_of_split(plan)}
    return {
        "network": about["network"],
        "metrics": {f"{row['treatment']}-{row['cut']}": row["mean"] for row in rows},
        "rows": [{**about, **may_be_none, **row} for row in rows],
        "drops": drop_rows(study),
        "boosts": boost_rows(study),
        "transition": {
            kind: transition(study, kind)
            for kind in ("AnB", "BnB")
            if kind in study.kinds and len(plan.splits) > 1
        },
        "networks": networks,
        "layers": plan.layers,
        "splits": list(plan.splits),
        "num_test": sum(
            len(load_splits(plan.task(plan.splits[0], letter)).test) for letter in plan.config.targets
        ),
    }


def kind_of_split(plan: Plan) -> str:
    """How the two tasks were made: random 50/50, semantic 30/30, mnist to digits."""
    halves = plan.halves(plan.splits[0])
    if halves is None:
        return " to ".join(plan.task(plan.splits[0], letter).name for letter in "AB")
    return f"{halves.how} {len(halves.a)}/{len(halves.b)}"
