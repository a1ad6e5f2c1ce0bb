"""The answer of `instar specialists`, its table and its page."""

from collections.abc import Mapping
from typing import Any

from instar.jobs import duration
from instar.recipes.learning import FAILED
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import failed_columns, result_tables
from instar.recipes.rows import interval, mean_sd
from instar.recipes.specialists.figures import (
    answer_pictures,
    class_set_pictures,
    cost_figure,
    coverage_figure,
    error_pictures,
    gain_figure,
)
from instar.recipes.specialists.plan import AS_LONG, DISTILLED, GENERALIST, LONGER, WITH, WITH_RANDOM, Plan
from instar.recipes.study import Page
from instar.reports import Column, Headline, Section, Table, Text

Result = Mapping[str, Any]

_NOTES = (
    "Costs are multiplications relative to the generalist: in use per example, in training of all fits, where a "
    "backward pass counts as two forward passes. Seconds are of all fits one after the other, and in parallel "
    "with a machine for each. The accuracy among special classes is on their test examples, with predictions "
    "restricted to these classes.",
    "labels-as-long has the first weights of the distilled network and its epochs, and learns from labels alone.",
    "Section 6.1 of the paper proposes specialists with a full softmax that learn the other classes from the "
    "generalist's soft targets, so as not to forget them; here each is also tested alone, not combined.",
)


def answer(result: Result) -> Headline:
    """What specialists gain, in a sentence."""
    differences = {(one["name"], one["minus"]): one for one in result["differences"]}
    gain, details = differences[WITH, GENERALIST], result["details"]
    n, generalist = gain["n"], result["rows"][0]["mean"]
    relative = f" ({details['relative_gain']['mean']:+.1f} % relative)" if "relative_gain" in details else ""
    points = f"{gain['mean']:+.2f} points{relative} on {generalist:.1f} %"
    if not gain["sd"]:  # an sd of 0 is chance: a few test examples, the same number twice
        what = "one generalist" if n == 1 else f"{n} generalists with the same gain"
        sentence = f"Specialists: {points}; {what}, so the spread is not known."
    elif gain["low"] > 0:
        sentence = f"Specialists help: {points}."
    elif gain["high"] < 0:
        sentence = f"Specialists do harm here: {points}."
    else:
        sentence = f"No significant gain over {n} generalists: {points}."
    words = [f"95 % interval {gain['low']:+.2f} to {gain['high']:+.2f}"] if gain["sd"] else []
    for control, what in ((LONGER, "a generalist trained longer"), (WITH_RANDOM, "specialists for random sets")):
        if (WITH, control) in differences:
            words.append(f"against {what} {_signed(differences[WITH, control])}")
    if "kept" in details:
        percent = details["kept"]["percent"]
        share = "" if percent is None else f", {max(percent, 0):.0f} % of the specialists' gain"
        words.append(f"distilled back into one network {_signed(differences[DISTILLED, GENERALIST])}{share}")
    if (DISTILLED, AS_LONG) in differences:
        against = _signed(differences[DISTILLED, AS_LONG])
        words.append(f"that network against one trained on labels alone for as many epochs {against}")
    words.append(f"n = {n} generalist{'s' if n > 1 else ''}, paired")
    detail = "; ".join(words)
    return Headline(sentence, f"{detail[0].upper()}{detail[1:]}.")


def _signed(difference: Mapping[str, Any]) -> str:
    """`+1.20 [+0.40, +2.00]`; without an interval where there is no spread."""
    bounds = interval(difference, 2, sign=True) if difference["sd"] else None
    return f"{difference['mean']:+z.2f}" + (f" {bounds}" if bounds else "")


def result_table(result: Result) -> Table:
    """Every row, with its gain and its costs."""
    base, details = result["rows"][0], result["details"]
    minus = {one["name"]: _signed(one) for one in result["differences"] if one["minus"] == GENERALIST}
    rows = [
        {
            "name": row["name"],
            "accuracy": mean_sd(row, 2),
            "minus": minus.get(row["name"]),
            "inference": row["inference_cost"] / base["inference_cost"],
            "training": row["training_cost"] / base["training_cost"],
            **{key: row[key] for key in ("n", FAILED) if key in row},
        }
        for row in result["rows"]
    ]
    top = "most probable class" if details["top_n"] == 1 else f"{details['top_n']} most probable classes"
    caption = (
        f"Class sets {details['sets']}, activated by the generalist's {top}. They contain "
        f"{details['covered']['classes']:.0f} % of the classes, and both classes of "
        f"{details['covered']['errors']:.0f} % of the generalist's errors."
    )
    if "student" in details:
        temperature, hard_weight = (float(details["student"][key]) for key in ("temperature", "hard_weight"))
        caption += f" Distilled back at T = {temperature:g} with label weight {hard_weight:g}."
    return Table(
        "Specialists",
        rows,
        columns=[
            Column("name", "network"),
            Column("accuracy", "accuracy", note="on test, percent, mean ± sd over generalists"),
            Column("minus", "minus generalist", note="points, paired, 95 % interval"),
            Column("inference", "use", "{:.2f}x", note="multiplications per example, relative to the generalist"),
            Column(
                "training", "training", "{:.2f}x", note="multiplications of all fits, relative to the generalist"
            ),
            *failed_columns(rows),
        ],
        highlight=next(place for place, row in enumerate(rows) if row["name"] == WITH),
        caption=caption,
    )


def page(plan: Plan, result: Result) -> Page:
    """The page of a result."""
    config = plan.config
    again = f"instar specialists --config {plan.path / 'config.toml'} --run-dir runs/again"
    sections: list[Section] = [
        result_table(result),
        gain_figure(result),
        cost_figure(result),
        *class_set_pictures(result, plan.splits.train),
        coverage_figure(result),
        error_pictures(result),
        answer_pictures(result, plan.splits.test),
        Text(_NOTES, title="How to read the tables"),
        *result_tables(result),
    ]
    return Page(
        f"Specialists for {config.generalist.network} on {config.data.name}",
        f"Hinton, Vinyals and Dean 2015, section 5; {duration(result['seconds'])}",
        sections,
        again=repeat_command("specialists", config, plan.path) if config.scale else again,
    )
