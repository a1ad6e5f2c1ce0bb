"""`instar reproduce transfer-or-distil`: one student on few examples, transferred, distilled, both, neither.

Nothing is chosen: every network is trained as configured, and evaluated on test once, after its last epoch.
"""

from typing import Any

from instar.evaluation import evaluate
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.rows import ACCURACY, difference, row
from instar.recipes.study import Place, Round, Rounds, Study
from instar.recipes.transfer.comparison_page import answer, comparison_page, comparison_table
from instar.recipes.transfer.comparison_plan import (
    PAIRS,
    STUDENTS,
    TEACHER,
    ComparisonConfig,
    ComparisonPlan,
    job_name,
)


def _place(config: ComparisonConfig) -> Place:
    return Place("reproduce", f"transfer-or-distil-{config.scale}", load_splits(config.data).fingerprint)


def _rounds(plan: ComparisonPlan) -> Rounds[None]:
    yield Round(plan.jobs())


def _measure(plan: ComparisonPlan, _: None) -> dict[str, Any]:
    """The result; `details` has the `treatment` of the transferred students, and `num_train` examples."""
    splits, seeds = load_splits(plan.target), range(plan.config.seeds)
    accuracies = {
        kind: [
            100 * evaluate(load_run_network(path), splits.test, device=plan.execution.device)["accuracy"]
            for path in (plan.path / "jobs" / job_name(kind, seed) for seed in seeds)
        ]
        for kind in (TEACHER, *STUDENTS)
    }
    rows = [row(kind, values) for kind, values in accuracies.items()]
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {row["name"]: row["mean"] for row in rows},
        "rows": rows,
        "differences": [difference(kind, other, accuracies[kind], accuracies[other]) for kind, other in PAIRS],
        "num_test": len(splits.test),
        "seeds": list(seeds),
        "details": {"treatment": plan.treatment.name, "num_train": len(splits.train)},
    }


STUDY: Study[ComparisonConfig, ComparisonPlan, None] = Study(
    recipe="reproduce-transfer-or-distil",
    place=_place,
    plan=ComparisonPlan,
    check=lambda plan: None,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=comparison_page,
    answer=answer,
    table=comparison_table,
    published=lambda config: f"transfer-or-distil-{config.scale}",
)
