"""Distillation or transfer: the answer in a sentence, a table and a page."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.transfer_or_distil.plan import Plan
from instar.reports import Bars, Code, Column, Details, Headline, Section, Table, write_page
from instar.runs import REPORT, Run, without_none


def answer(result: Mapping[str, Any]) -> Headline:
    """Which of the four students is best, and what each way adds."""
    students = result["rows"][1:]
    best = max(students, key=lambda row: row["mean"])
    n = f"n = {best['n']} seeds"
    if "difference" not in best:
        sentence = (
            f"Neither transfer nor distillation helps this student: from scratch it makes {best['mean']:.1f} %."
        )
    else:
        gain = _interval(best["difference"], best["difference_low"], best["difference_high"])
        sentence = f"Best is {best['name']}: {best['mean']:.1f} % on test, {gain} points over scratch."
    words = [
        f"{one['name'].replace(' - ', ' minus ')}: {_interval(one['mean'], one['low'], one['high'])}"
        for one in result["differences"]
    ]
    return Headline(sentence, f"{'; '.join(words)} points, paired by seed, 95 % intervals, {n}.")


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def result_table(result: Mapping[str, Any]) -> Table:
    """The teacher and the four students."""
    rows = []
    for row in result["rows"]:
        minus = None
        if "difference" in row:
            minus = _interval(row["difference"], row["difference_low"], row["difference_high"])
        rows.append({**row, "accuracy": f"{row['mean']:.1f} ± {row['sd']:.1f}", "minus": minus})
    return Table(
        "Distillation or transfer?",
        rows,
        columns=[
            Column("name", "network"),
            Column("accuracy", "accuracy", note="on test, percent, mean ± sd over seeds"),
            Column("minus", "minus scratch", note="points, paired by seed, 95 % interval"),
            Column("n", "n", note="seeds"),
        ],
        caption=f"{result['num_train']:,} training examples. Transferred is {result['treatment']}; the teacher is "
        "bigger and learns from the same examples; both: transferred, and distilled from the teacher.",
    )


def write_compare_page(run: Run, plan: Plan, result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = plan.config
    sections: list[Section] = [
        answer(result),
        Bars(
            "Accuracy",
            result["rows"],
            category="name",
            value="mean",
            low="low",
            high="high",
            value_title="% on test",
            caption="95 % intervals over seeds; the differences in the table are paired and narrower.",
        ),
        result_table(result),
        Code("Get it again", f"instar reproduce transfer-or-distil --scale {config.scale} --run-dir runs/again"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"Distillation or transfer: {config.student.network} on {config.data.name}",
        sections,
        subtitle=f"{config.examples_per_class} examples a class; {duration(result['fit_seconds'])} of fits",
    )
