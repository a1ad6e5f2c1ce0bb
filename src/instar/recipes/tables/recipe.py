"""`instar reproduce tables`: gradient boosting, a forest and both of them into one small network.

In-sample targets are what a teacher says of the rows that it was fitted on, out-of-fold ones what copies say that
were not. Test is read once, at the end.
"""

from pathlib import Path
from typing import Any

import torch

from instar.jobs import duration
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.distill import scoring
from instar.recipes.distill.students import Chosen, choose
from instar.recipes.learning import about_failures
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import result_tables, rows_table
from instar.recipes.rows import ERRORS, with_interval
from instar.recipes.settings import as_text
from instar.recipes.splits import load_splits
from instar.recipes.study import Page, Place, Result, Round, Rounds, Study
from instar.recipes.tables.plan import (
    ALONE,
    ENSEMBLE,
    IN_SAMPLE,
    OUT_OF_FOLD,
    SAMPLED,
    TablesConfig,
    TablesPlan,
    check,
)
from instar.reports import Bars, Headline


def name_of(config: TablesConfig) -> str:
    """The name of the data without where they are.

    Example:
        >>> from instar.recipes.tables.plan import config_for
        >>> name_of(config_for("small", "csv:tables/letter.csv"))
        'letter'
    """
    return Path(config.data.name.rpartition(":")[2]).stem


def rounds(plan: TablesPlan) -> Rounds[Chosen]:
    """Estimators and candidates; then, with the best of these, all students."""
    report = yield Round([*plan.teacher_jobs(), *plan.tuning_jobs()], may_fail=True)
    chosen = choose(plan.students, [TUNING_SEED], report, plan.path)
    yield Round(plan.final_jobs(chosen.candidates))
    return chosen


def measure(plan: TablesPlan, chosen: Chosen) -> dict[str, Any]:
    """The result; `details` has the `choices` by row, and the numbers of examples."""
    splits = load_splits(plan.config.data)
    test, seeds = splits.test, range(plan.config.seeds)
    labels, logits_of = test.labels(test.ids), scoring.on_test(plan.path, test)
    members = torch.stack([logits_of(teacher) for teacher in plan.config.teachers])
    logits = {name: [one] for name, one in zip(plan.config.teachers, members, strict=True)}
    logits[ENSEMBLE] = [scoring.ensemble_logits(members, "arithmetic")]
    rows = [scoring.scored_row(name, one, labels) for name, one in logits.items()]
    for student in plan.students:
        jobs = [f"{student.name}/seed-{seed}" for seed in seeds]
        logits[student.name] = [logits_of(job) for job in jobs]
        fits = [plan.path / "jobs" / job for job in jobs]
        about = {
            "network": plan.config.student.network,
            **about_failures(fits),
            **scoring.cost_row(fits[:1], test.example_shape),
            **as_text(chosen.candidates[student.name].settings),
        }
        rows.append(scoring.scored_row(student.name, logits[student.name], labels, **about))
    return {
        "measure": ERRORS._asdict(),
        "metrics": {one["name"]: one["mean"] for one in rows},
        "rows": rows,
        "differences": [scoring.error_difference(*pair, logits, labels) for pair in plan.pairs],
        "tuning": chosen.tuning,
        "num_test": len(labels),
        "seeds": list(seeds),
        "details": {
            "choices": {name: as_text(one.settings) for name, one in chosen.candidates.items()},
            "num_train": len(splits.train),
            "num_validation": len(splits.validation),
        },
    }


def answer(result: Result) -> Headline:
    """What the ensemble, the student alone and the distilled one make, and what out-of-fold targets change."""
    rows = {row["name"]: row for row in result["rows"]}
    differences = {(row["name"], row["minus"]): row for row in result["differences"]}
    distilled = f"{ENSEMBLE}-{OUT_OF_FOLD}"
    alone, taught = rows[ALONE], rows[distilled]
    sentence = (
        f"Alone the student makes {alone['mean']:.0f} test errors, taught by the ensemble {taught['mean']:.0f}; "
        f"the ensemble makes {rows[ENSEMBLE]['mean']:.0f}."
    )
    pairs = [(distilled, ALONE), (distilled, f"{ENSEMBLE}-{IN_SAMPLE}"), (f"{ENSEMBLE}-{SAMPLED}", distilled)]
    said = [
        f"{name} minus {minus}: {with_interval(one)}"
        for name, minus in pairs
        if (one := differences.get((name, minus)))
    ]
    of = f"errors of {result['num_test']:,}, paired, 95 % intervals over n = {alone['n']} students of one ensemble"
    return Headline(sentence, f"{'; '.join(said)} {of}.")


def page(plan: TablesPlan, result: Result) -> Page:
    """The page."""
    details = result["details"]
    bars: dict[str, Any] = {"category": "name", "value": "mean", "low": "low", "high": "high"}
    return Page(
        f"Tables: {' and '.join(plan.config.teachers)} into {plan.config.student.network}, {name_of(plan.config)}",
        f"{details['num_train']:,} training rows; training took {duration(result['fit_seconds'])} of one core",
        [
            Bars(
                "Test errors",
                result["rows"],
                **bars,
                value_title="test errors",
                caption="95 % intervals over students of the same teachers; the differences below are paired.",
            ),
            *result_tables(result),
        ],
        again=repeat_command("tables", plan.config, plan.path),
    )


STUDY: Study[TablesConfig, TablesPlan, Chosen] = Study(
    recipe="reproduce-tables",
    place=lambda config: Place("reproduce", f"tables-{name_of(config)}-{config.scale}"),
    plan=TablesPlan,
    check=check,
    rounds=rounds,
    num_rounds=lambda plan: 2,
    measure=measure,
    page=page,
    answer=answer,
    table=rows_table,
    published=lambda config: f"tables-{name_of(config)}-{config.scale}",
)
