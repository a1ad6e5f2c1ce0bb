"""The page of `instar reproduce advise`: how good the advice is, and what it costs."""

from collections.abc import Mapping
from typing import Any

from instar.jobs import duration
from instar.recipes.advise.reproduction_plan import JudgeConfig, Plans
from instar.recipes.reading_settings import checked
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import result_tables
from instar.recipes.rows import interval
from instar.recipes.study import Page, Result
from instar.reports import Bars, Column, Details, Headline, Lines, Table, Text


def answer(result: Result) -> Headline:
    """How often the advice is good, and what it costs beside the full study."""
    found, (advice, *usual) = result["metrics"], result["differences"]
    others = ", ".join(f"{row['name']} {row['mean']:+.1f}" for row in usual)
    bounds = interval(advice, sign=True)
    return Headline(
        f"The advice is within 1 point of the choice of the full study on {found['within_one_point']} of "
        f"{found['pairs']} pairs of tasks, at {found['cost_ratio']:.3f} of its multiplications.",
        f"Mean difference {advice['mean']:+.1f} points{f' {bounds}' if bounds else ''}, n = {found['pairs']} "
        f"pairs; within 1 point at a tenth of the cost on {found['within_goal']}. One treatment for all pairs "
        f"instead: {others} points. The advice costs {found['cost_ratio_one_seed']:.2f} of a study with one seed.",
    )


def size_table(result: Result) -> Table:
    """Every treatment of every pair."""
    return Table(
        "How the answer depends on the size of the target",
        [{**row, "kind": _kind(row)} for row in result["details"]["study"]],
        columns=[
            Column("pair"),
            Column("examples_per_class", "examples a class"),
            Column("cut", "n"),
            Column("copied", "weights copied", "{:,}"),
            Column("kind"),
            Column("mean", "accuracy", "{:.1f}", note="on test, percent, mean over seeds"),
            Column("minus_scratch", "minus scratch", "{:+.1f}", note="points"),
            Column("n", "seeds"),
        ],
    )


def _kind(row: Mapping[str, Any]) -> str:
    return "scratch" if row["cut"] == 0 else "fine-tuned" if row["fine_tune"] else "frozen"


def reproduction_page(plans: Plans, result: Result) -> Page:
    """The report of a run."""
    config = result["config"]
    differences = Bars(
        "Advice minus the choice of the full study",
        [_with_bounds(row) for row in result["rows"]],
        category="name",
        value="mean",
        low="low",
        high="high",
        value_title="points on test",
        caption="0 where both are the same treatment. 95 % intervals over seeds.",
    )
    how = Text(
        "The pairs were written down before the first of them was run. The full study fits every cut, frozen and "
        f"fine-tuned, and one network from scratch, with {config['seeds']} seeds each; its choice has the fewest "
        "validation errors. The advice is compared with it on the same networks. Training the networks whose "
        "layers are copied counts for neither.",
        title="How it was judged",
    )
    return Page(
        "Is the advice any good?",
        f"{len(result['rows'])} pairs of tasks; {duration(result['fit_seconds'])} of fits",
        [
            differences,
            how,
            *result_tables(result),
            *_curves(result),
            Details("All treatments of all pairs", [size_table(result)]),
        ],
        again=repeat_command("advise", checked(JudgeConfig, config), next(iter(plans.values())).path),
    )


def _with_bounds(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with an interval of no width where it has none."""
    return {**row, **{key: row["mean"] for key in ("low", "high") if row[key] is None}}


def _curves(result: Result) -> list[Lines]:
    """Accuracy minus scratch against n, for tasks at several sizes: a line for each size, frozen or fine-tuned."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for row in result["details"]["study"]:
        if row["cut"]:
            line = f"{row['examples_per_class']} a class, {_kind(row)}"
            tasks.setdefault(row["pair"].rpartition(",")[0], []).append({**row, "line": line})
    return [
        Lines(
            f"{task}: size, n, frozen or fine-tuned",
            rows,
            x="cut",
            y="minus_scratch",
            series="line",
            points=True,
            x_title="layers copied, n",
            y_title="points over a network from scratch",
        )
        for task, rows in tasks.items()
        if len({row["examples_per_class"] for row in rows}) > 1
    ]
