"""Transfer or distillation: the answer in a sentence, the table and the page."""

from collections.abc import Mapping
from typing import Any

from instar.jobs import duration
from instar.recipes.rows import ACCURACY, difference_table, interval, row_table
from instar.recipes.study import Page
from instar.recipes.transfer.comparison_plan import SCRATCH, STUDENTS, ComparisonPlan
from instar.reports import Bars, Headline, Table

Result = Mapping[str, Any]


def answer(result: Result) -> Headline:
    """Which of the four students is best, and what each way adds."""
    means = {row["name"]: row["mean"] for row in result["rows"] if row["name"] in STUDENTS}
    best = max(means, key=lambda name: means[name])
    over_scratch = {row["name"]: row for row in result["differences"] if row["minus"] == SCRATCH}
    if best == SCRATCH:
        sentence = (
            f"Neither transfer nor distillation helps: from scratch this student reaches {means[best]:.1f} %."
        )
    else:
        gain = f"{_with_interval(over_scratch[best])} points over {SCRATCH}"
        sentence = f"Best is {best}: {means[best]:.1f} % on test, {gain}."
    others = [row for row in result["differences"] if row["minus"] != SCRATCH]
    words = "; ".join(f"{row['name']} minus {row['minus']}: {_with_interval(row)}" for row in others)
    return Headline(sentence, f"{words} points, paired by seed, 95 % intervals, n = {others[0]['n']} seeds.")


def _with_interval(row: Result) -> str:
    return f"{row['mean']:+.1f} {interval(row, sign=True)}"


def comparison_table(result: Result) -> Table:
    """The teacher and the four students."""
    about = result["details"]
    return row_table(
        "Transfer or distillation?",
        result["rows"],
        ACCURACY,
        replicates="seeds",
        caption=f"{about['num_train']:,} training examples. Transferred is {about['treatment']}. The teacher is "
        "larger and learns from the same examples; both: transferred, and distilled from the teacher.",
    )


def comparison_page(plan: ComparisonPlan, result: Result) -> Page:
    """The report of `instar reproduce transfer-or-distil`."""
    config = plan.config
    caption = "95 % intervals over seeds; the differences below are paired, and their intervals narrower."
    return Page(
        f"Transfer or distillation: {config.student.network} on {config.data.name}",
        f"{config.examples_per_class} examples per class; {duration(result['fit_seconds'])} of training",
        [
            answer(result),
            Bars(
                "Accuracy",
                result["rows"],
                category="name",
                value="mean",
                low="low",
                high="high",
                value_title="% on test",
                caption=caption,
            ),
            comparison_table(result),
            difference_table("Differences", result["differences"], "points", caption="Paired by seed."),
        ],
        again=f"instar reproduce transfer-or-distil --scale {config.scale} --run-dir runs/again",
    )
