"""From the trained networks of a plan to rows and differences. Only `measured_networks` reads the test data."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from instar.data.progress import tracked
from instar.evaluation import evaluate
from instar.recipes.learning import FAILED, failures_in_words
from instar.recipes.loading import load_run_network
from instar.recipes.splits import load_splits
from instar.recipes.transfer.plan import Network, Plan
from instar.runs import Run
from instar.transfer import Measured, Study, boost_rows, difference_rows, transition, treatment_rows

MANY_EPOCHS = 100  # the ten best of fewer are not a small share

Rows = list[dict[str, Any]]


class Part(NamedTuple):
    """What the networks of one plan show."""

    rows: Rows
    """`name` (A3B+), `treatment` (its kind, AnB+), `cut`, `network`, `halves`, and test accuracy in percent over
    the splits; `ten_best_validation`, the paper's measure, where every network has at least 100 epochs"""
    differences: Rows
    """paired on the same target; `effect` is the paper's name of the difference, `treatment` the kind of `name`"""
    details: dict[str, Any]
    """`networks`: `job`, `split`, `target`, `kind`, `n` and `accuracy` of each; `layers`; `tasks`: the classes of
    each half; `boosts`, the paper's Table 1; `transition` by kind; `seeds` of the splits; `num_test`"""


def part_of(plan: Plan) -> Part:
    """The rows, differences and details of a plan whose networks are trained."""
    networks, first = measured_networks(plan), plan.splits[0]
    study = study_of(networks)
    about = {"network": plan.config.network.network, "halves": first.halves_name}
    rows = [{"name": row["name"], **about, **row} for row in rows_of(networks)]
    details = {
        **about,
        "seeds": [split.seed for split in plan.splits],
        "num_test": sum(len(load_splits(first.tasks[letter]).test) for letter in plan.config.targets),
        "layers": plan.layers,
        "tasks": [row for split in plan.splits for row in split.rows()],
        "boosts": boost_rows(study),
        "transition": transitions(study),
        "networks": networks,
    }
    return Part(rows, difference_rows(study), details)


def measured_networks(plan: Plan) -> Rows:
    """Every network with its test accuracy in percent, and the paper's mean of the ten best on validation."""
    networks = plan.networks()
    show = not plan.execution.quiet
    shown = tracked(networks, total=len(networks), description="reading test", show=show)
    measured: Rows = [{**network._asdict(), **_measure(plan, network)} for network in shown]
    if not all(
        "ten_best_validation" in network for network in measured
    ):  # the others have nothing to compare with
        for network in measured:
            network.pop("ten_best_validation", None)
    return measured


def _measure(plan: Plan, network: Network) -> dict[str, Any]:
    split = next(split for split in plan.splits if split.seed == network.split)
    splits = load_splits(split.tasks[network.target])
    path = plan.path / "jobs" / network.job
    accuracy = evaluate(load_run_network(path), splits.test, device=plan.execution.device)["accuracy"]
    fitted = Run.read(path).result()
    found = {"accuracy": 100 * accuracy, **({FAILED: True} if FAILED in fitted else {})}
    if len(fitted["rows"]) < MANY_EPOCHS:
        return found
    best = sorted(row["validation_errors"] for row in fitted["rows"])[:10]
    return {**found, "ten_best_validation": 100 * (1 - sum(best) / len(best) / len(splits.validation))}


def failures(result: Mapping[str, Any]) -> str:
    """Which networks failed to learn; random layers are there to show how little they can do."""
    return failures_in_words([row for row in result["rows"] if row["treatment"] != "RnB"])


def study_of(networks: Iterable[Mapping[str, Any]], accuracy: str = "accuracy") -> Study:
    """The study whose networks a result describes in its `networks`."""
    keys = ("split", "target", "kind", "n", accuracy)
    return Study(Measured(*(network[key] for key in keys)) for network in networks)


def rows_of(networks: Sequence[Mapping[str, Any]]) -> Rows:
    """One row for each treatment at each cut; a split counts as failed where one of its directions failed."""
    rows = treatment_rows(study_of(networks))
    failed = {(one["kind"], one["n"], one["split"]) for one in networks if FAILED in one}
    for row in rows:
        if count := sum((kind, n) == (row["treatment"], row["cut"]) for kind, n, _ in failed):
            row[FAILED] = count
    if all("ten_best_validation" in network for network in networks):
        for row, same in zip(rows, treatment_rows(study_of(networks, "ten_best_validation")), strict=True):
            row["ten_best_validation"] = same["mean"]
    return rows


def transitions(study: Study) -> dict[str, Any]:
    """Where AnB and BnB lose accuracy; one split alone cannot say."""
    kinds = [kind for kind in ("AnB", "BnB") if kind in study.kinds and len(study.splits) > 1]
    return {kind: transition(study, kind) for kind in kinds}
