"""The page of `instar transfer`: one sentence of advice, the treatments drawn, the paper's figures 2 and 3."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.transfer.figures import (
    SERIES,
    accuracy_figure,
    boost_table,
    difference_figure,
    drop_table,
    drops_figure,
    layer_table,
    random_figure,
    task_table,
    transition_words,
    treatment_boxes,
    treatment_name,
    treatment_table,
)
from instar.recipes.transfer.filters import filter_sections, first_filters
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.recipe import study_of
from instar.reports import Code, Details, Headline, Section, write_page
from instar.runs import REPORT, Run, without_none

__all__ = ["answer", "layer_table", "treatment_table", "write_transfer_page"]


def answer(result: Mapping[str, Any]) -> Headline:
    """Which layers to keep, in a sentence: the best treatment that transfers, beside the base and one as long."""
    rows = [row for row in result["rows"] if row["treatment"] in ("AnB", "AnB+")]
    base = next(row for row in result["rows"] if row["treatment"] == "base")
    if not rows:
        return Headline(f"A base reaches {base['mean']:.1f} %.", "No network with copied layers was asked for.")
    best = max(rows, key=lambda row: row["minus_base"])
    name = treatment_name(best)
    gain = f"{name} makes {best['minus_base']:+.1f} points over a base of {base['mean']:.1f} %"
    n = f"n = {best['n']} split{'s' if best['n'] > 1 else ''}"
    chosen = f"It is the best of {len(rows)} treatments, looked at on test: expect a little less."
    if best["low"] is None:
        return Headline(f"{gain}; one split says nothing of chance.", f"Take --splits 3 or more ({n}). {chosen}")
    interval = f"95 % interval {best['low']:+.1f} to {best['high']:+.1f}, {n}."
    if best["high"] < 0:
        return Headline(f"Do not copy layers here: the best that does, {gain}.", interval)
    or_longer = ""
    study, of_best = study_of(result["networks"]), (best["treatment"], "base-long", [best["cut"]])
    if study.has_pair(*of_best):  # copying takes the training of two networks: the base may have as much
        over = study.difference(*of_best)._asdict()
        beside = f"{over['mean']:+.1f} points over a base trained as long"
        interval += f" Over the base trained as long: {over['low']:+.1f} to {over['high']:+.1f}."
        if over["high"] < 0:
            return Headline(f"Train longer, do not copy: the best that does, {gain}, but {beside}.", interval)
        gain = f"{gain}, and {beside}"
        or_longer = " or train longer (these splits cannot tell which is better)" if over["low"] <= 0 else ""
    if best["low"] <= 0:
        return Headline(
            f"Copy or not, it is the same as far as these splits can tell: the best, {gain}.", interval
        )
    layer = result["layers"][best["cut"] - 1]["name"]
    kept = f"the first {best['cut']} layers (to {layer})" if best["cut"] > 1 else f"the first layer ({layer})"
    how = "let them learn on" if best["treatment"] == "AnB+" else "freeze them"
    return Headline(f"Copy {kept} and {how}{or_longer}: {gain}.", f"{interval} {chosen}")


def write_transfer_page(run: Run, plan: Plan, result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = plan.config
    tasks = config.data.name if config.source is None else f"{config.source.name} to {config.data.name}"
    sections: list[Section] = [
        answer(result),
        treatment_boxes(result),
        *accuracy_figure(result),
        *difference_figure({"": result}),
        *drops_figure(result),
        *random_figure(result),
        treatment_table(result),
        *boost_table(result),
        *transition_words(result),
        *filter_sections(first_filters(plan), result["filters"]),
        layer_table(result["layers"]),
        *drop_table(result),
        Details("Splits", [task_table(plan)]),
        Code("Get it again", f"instar transfer --config {run.path / 'config.toml'} --run-dir runs/again"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"How transferable are the layers of {config.network.network}: {tasks}",
        sections,
        subtitle=f"Yosinski, Clune, Bengio and Lipson 2014, on your data; {duration(result['seconds'])}",
        series=SERIES,
    )
