"""What the judged advisor is worth: a sentence, a table of pairs, and a page."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.advise.page import SCORES
from instar.recipes.advise_study.scales import JudgeConfig
from instar.reports import Bars, Code, Column, Details, Headline, Lines, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none


def answer(result: Mapping[str, Any]) -> Headline:
    """How often the advice is good, and what it costs beside the full study."""
    found = result["metrics"]
    interval = ""
    if found["difference_low"] is not None:
        interval = f" [{found['difference_low']:+.1f}, {found['difference_high']:+.1f}]"
    usual = ", ".join(f"{way} {one['mean']:+.1f}" for way, one in result["usual"].items())
    return Headline(
        f"The advice is within 1 point of the full study's choice on {found['within_one_point']} of "
        f"{found['pairs']} pairs of tasks, at {found['cost_ratio']:.3f} of its multiplications.",
        f"Mean difference {found['difference']:+.1f} points{interval}, n = {found['pairs']} pairs; within 1 point "
        f"and a tenth of the cost on {found['within_goal']}. Always the same instead: {usual} points. Beside a "
        f"study of one seed the advice costs {found['cost_ratio_one_seed']:.2f}.",
    )


def result_table(result: Mapping[str, Any]) -> Table:
    """A row for each pair of tasks."""
    rows = [{**row, "difference": _with_interval(row)} for row in result["rows"]]
    return Table(
        "The advice beside the full study",
        rows,
        columns=[
            Column("name", "pair", note="source to target, examples of each class of the target"),
            Column("advice", "advice"),
            Column("best", "best", note="by validation, mean over seeds, all treatments fitted to the end"),
            Column("difference", "minus best", note="points on test, paired by seed, and their 95 % interval"),
            Column("cost_ratio", "cost", "{:.3f}", note="the advice's multiplications over the study's"),
        ],
    )


def _with_interval(row: Mapping[str, Any]) -> str:
    interval = _interval(row, "{:+.1f}")
    return f"{row['mean']:+.1f}" + (f" {interval}" if interval else "")


def _interval(row: Mapping[str, Any], form: str) -> str | None:
    return None if row["low"] is None else f"[{form.format(row['low'])}, {form.format(row['high'])}]"


def correlation_table(result: Mapping[str, Any]) -> Table:
    """How well each cheap score ranks the cuts."""
    rows = [
        {
            **row,
            "title": SCORES[row["score"]][0],
            "interval": _interval({"low": None, "high": None, **row}, "{:.2f}"),
        }
        for row in result["correlations"]
    ]
    return Table(
        "How the cheap scores rank the cuts",
        rows,
        columns=[
            Column("title", "score"),
            Column("with", "copied layers"),
            Column("mean", "rank correlation", "{:.2f}", note="Spearman's, over the cuts, with accuracy on test"),
            Column("interval", "95 % interval"),
            Column("lowest", "worst pair", "{:.2f}"),
            Column("n", "n", note="pairs where neither was constant"),
        ],
    )


def size_table(result: Mapping[str, Any]) -> Table:
    """Every treatment of every pair: target's size, layers copied, frozen or tuned."""
    rows = [
        {**row, "kind": "scratch" if row["cut"] == 0 else "tuned" if row["fine_tune"] else "frozen"}
        for row in result["study"]
    ]
    return Table(
        "How the answer moves with the size of the target",
        rows,
        columns=[
            Column("pair"),
            Column("examples_per_class", "examples a class"),
            Column("cut", "n"),
            Column("copied", "weights copied", "{:,}"),
            Column("kind", ""),
            Column("mean", "accuracy", "{:.1f}", note="on test, percent, mean over seeds"),
            Column("minus_scratch", "minus scratch", "{:+.1f}", note="points"),
            Column("n", "seeds"),
        ],
    )


def write_study_page(run: Run, config: JudgeConfig, result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    sections: list[Section] = [
        answer(result),
        result_table(result),
        Bars(
            "Advice minus the full study's choice",
            [
                {**row, "from": _or(row["low"], row["mean"]), "to": _or(row["high"], row["mean"])}
                for row in result["rows"]
            ],
            category="name",
            value="mean",
            low="from",
            high="to",
            value_title="points on test",
            caption="0 where both are the same treatment. 95 % intervals over seeds.",
        ),
        correlation_table(result),
        *_curves(result),
        Text(
            "The pairs were written down before the first was run. The study fits every cut, frozen and tuned, "
            f"and one network from scratch, {config.seeds} seeds each; its choice has the fewest validation "
            "errors. The advice is compared with it on the same networks. Training the networks that layers are "
            "copied from counts for neither.",
            title="How it was judged",
        ),
        Details("All treatments of all pairs", [size_table(result)]),
        Code("Get it again", f"instar reproduce advise --scale {config.scale} --run-dir runs/again"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        "Is the advice any good?",
        sections,
        subtitle=f"{len(config.pairs)} pairs of tasks; {duration(result['fit_seconds'])} of fits",
    )


def _or(value: float | None, instead: float) -> float:
    return instead if value is None else value


def _curves(result: Mapping[str, Any]) -> list[Section]:
    """For pairs of tasks at several sizes: accuracy over scratch against n, a line for each size and way."""
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["study"]:
        if row["cut"]:
            way = "tuned" if row["fine_tune"] else "frozen"
            line = {**row, "line": f"{row['examples_per_class']} a class, {way}"}
            tasks.setdefault(row["pair"].rpartition(",")[0], []).append(line)
    return [
        Lines(
            f"{task}: size, n, frozen or tuned",
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
