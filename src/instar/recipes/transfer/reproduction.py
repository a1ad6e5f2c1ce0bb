"""`instar reproduce transfer`: the first paper's study in one run. Four plans of `instar transfer`, and a curve.

Nothing is chosen: every network is trained as configured, and evaluated on test once.
"""

from collections.abc import Mapping
from typing import Any

from instar import metrics
from instar.evaluation import evaluate
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.rows import ACCURACY
from instar.recipes.scales import choose_scale
from instar.recipes.settings import checked, merge
from instar.recipes.study import Place, Round, Rounds, Study
from instar.recipes.transfer.filters import filter_details, first_filters
from instar.recipes.transfer.recipe import manifest, write_manifest
from instar.recipes.transfer.reproduction_page import answer, findings_table, reproduction_page
from instar.recipes.transfer.reproduction_plan import (
    CONVNET,
    DISSIMILAR,
    RESNET,
    SIMILAR,
    ReproductionConfig,
    ReproductionPlan,
    curve_name,
)
from instar.recipes.transfer.results import part_of, study_of
from instar.transfer import findings_of


def config_for(scale: str, data: str = "cifar100") -> ReproductionConfig:
    """The configuration of a scale, `tiny`, `small` or `full`, on some data.

    Raises:
        UsageError: there is no such scale.

    Example:
        >>> config_for("full").parts["resnet"].cuts
        [2, 3, 4]
    """
    content = choose_scale("transfer", data, scale)
    return checked(ReproductionConfig, merge(content, {"data": {"name": data}}))


def _place(config: ReproductionConfig) -> Place:
    return Place("reproduce", f"transfer-{config.data.name}-{config.scale}", load_splits(config.data).fingerprint)


def _rounds(plan: ReproductionPlan) -> Rounds[None]:
    write_manifest(plan.path, {name: manifest(part) for name, part in plan.plans.items()})
    yield Round(plan.jobs())


def _measure(plan: ReproductionPlan, _: None) -> dict[str, Any]:
    """The result: rows and differences of all parts, each with its `part`.

    `details` has `findings` (see `instar.transfer.findings_of`), the `curve`: test accuracy over
    `images_per_class`, `filters`, and `parts`: the details of each (see `results.Part`).
    """
    parts = {name: part_of(part) for name, part in plan.plans.items()}
    details = {name: part.details for name, part in parts.items()}
    findings = findings_in(details)
    filters = filter_details(first_filters(plan.plans[CONVNET]))
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {f"{finding['finding']}-{finding['network']}": finding["number"] for finding in findings},
        "rows": [{"part": name, **row} for name, part in parts.items() for row in part.rows],
        "differences": [{"part": name, **row} for name, part in parts.items() for row in part.differences],
        "num_test": len(load_splits(plan.config.data).test),
        "details": {
            "findings": findings,
            "curve": _curve(plan),
            "parts": details,
            **({"filters": filters} if filters else {}),
        },
    }


def findings_in(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The paper's findings on each network, from the accuracies in the details of the parts."""
    studies = {name: study_of(part["networks"]) for name, part in parts.items()}
    unlike = studies.get(DISSIMILAR), studies.get(SIMILAR)
    return [
        finding
        for name in (CONVNET, RESNET)
        if name in studies
        for finding in findings_of(parts[name]["network"], studies[name], *(unlike if name == CONVNET else ()))
    ]


def _curve(plan: ReproductionPlan) -> list[dict[str, Any]]:
    """Test accuracy over training images per class."""
    test, curve = load_splits(plan.config.data).test, plan.config.curve
    rows = []
    for point in curve.points:
        paths = [plan.path / "jobs" / curve_name(point, seed) for seed in range(curve.seeds)]
        accuracies = [
            100 * evaluate(load_run_network(path), test, device=plan.execution.device)["accuracy"]
            for path in paths
        ]
        splits = load_splits(plan.curve_data(point))
        images = round(len(splits.train) / len(splits.class_names), 1)
        over = metrics.over_seeds(accuracies)._asdict()
        rows.append({"images_per_class": images, "epochs": point.epochs, **over, "values": accuracies})
    return rows


STUDY: Study[ReproductionConfig, ReproductionPlan, None] = Study(
    recipe="reproduce-transfer",
    place=_place,
    plan=ReproductionPlan,
    check=ReproductionPlan.check,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=reproduction_page,
    answer=answer,
    table=findings_table,
    published=lambda config: f"transfer-{config.data.name}-{config.scale}",
)
