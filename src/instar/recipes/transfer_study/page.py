"""The page of `instar reproduce transfer`: the paper's findings beside ours, then its figures for each network."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.transfer.figures import (
    INTERVAL,
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
    treatment_table,
)
from instar.recipes.transfer.filters import filter_sections, first_filters
from instar.recipes.transfer_study.plan import CONVNET, DISSIMILAR, RESNET, SIMILAR, TransferStudy
from instar.reports import Code, Column, Details, Headline, Lines, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none

Result = Mapping[str, Any]


def answer(result: Result) -> Headline:
    """How many of the paper's findings hold on each network."""
    sentences = []
    for network in dict.fromkeys(one["network"] for one in result["findings"]):
        holds = [one["holds"] for one in result["findings"] if one["network"] == network]
        counts = [
            (holds.count(True), "true"),
            (holds.count(False), "false"),
            (holds.count("undecided"), "undecided"),
        ]
        sentences.append(f"{network} " + ", ".join(f"{count} {words}" for count, words in counts if count))
    most = max(one["n"] for one in result["findings"])
    return Headline(
        "The paper's findings here: " + "; ".join(sentences) + ".",
        f"By rules that were written before the first run, from 95 % intervals over n = {most} splits.",
    )


def result_table(result: Result) -> Table:
    """One row for each finding and network."""
    rows = [
        {**one, "finding": f"{one['finding']}. {one['name']}", "holds": _said(one)} for one in result["findings"]
    ]
    return Table(
        "The paper's findings and ours",
        rows,
        columns=[
            Column("finding"),
            Column("network"),
            Column(
                "number", "points", "{:+.1f}", note="the finding's first claim; all claims and rules are below"
            ),
            Column("low", "95 % interval", INTERVAL.format(1)),
            Column("n", "n", note="splits"),
            Column("paper", "paper", "{:+.1f}", note="the same number from the paper's figures"),
            Column("holds"),
        ],
    )


def _said(row: Result) -> str:
    return {True: "yes", False: "no"}.get(row["holds"], "undecided")


def write_study_page(run: Run, study: TransferStudy, result: Result) -> None:
    """Write `report.html` into a run directory."""
    config, plans = study.config, study.plans
    parts = {name: part_of(result, name) for name in plans}
    unlike = {plural: parts[name] for plural, name in (("unlike halves", DISSIMILAR), ("random halves", SIMILAR))}
    sections: list[Section] = [
        answer(result),
        result_table(result),
        _claims(result),
        treatment_boxes(parts[CONVNET]),
        *_network_sections(parts[CONVNET]),
        *_network_sections(parts[RESNET]),
        *difference_figure(unlike, "Halves unlike each other, and random ones of their size"),
        _curve(result["curve"]),
        *filter_sections(first_filters(plans[CONVNET]), result["filters"]),
        *_numbers(parts),
        Details("Splits", [task_table(plan) for plan in plans.values()]),
        Code("Get it again", f"instar reproduce transfer --scale {config.scale} --data {config.data.name}"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"How transferable are features: the study on {config.data.name} ({config.scale})",
        sections,
        subtitle=f"Yosinski et al. 2014, repeated; its fits took {duration(result['fit_seconds'])} of one core",
        series=SERIES,
    )


def part_of(result: Result, name: str) -> dict[str, Any]:
    """One part with its rows."""
    return {**result["parts"][name], "rows": [row for row in result["rows"] if row["part"] == name]}


def _claims(result: Result) -> Section:
    rows = [
        {**claim, "network": one["network"], "holds": _said(claim)}
        for one in result["findings"]
        for claim in one["claims"]
    ]
    columns = [
        Column("claim"),
        Column("network"),
        Column("number", "points", "{:+.2f}"),
        Column("low", "95 % interval", INTERVAL.format(2)),
        Column("paper", "paper", "{:+.2f}"),
        Column("holds"),
        Column("rule"),
    ]
    words = "A finding holds if all of its claims do, and does not if one does not."
    return Details("Claims and rules", [Table("", rows, columns=columns, caption=words)])


def _network_sections(part: Result) -> list[Section]:
    network, split = part["network"], part["rows"][0]["split"]
    return [
        Text(f"{split}: {', '.join(layer['name'] for layer in part['layers'])}.", title=network),
        *accuracy_figure(part),
        *difference_figure({"": part}),
        *drops_figure(part),
        *random_figure(part),
        *boost_table(part),
        *transition_words(part),
    ]


def _curve(rows: Sequence[Result]) -> Section:
    return Lines(
        "Few images of every class",
        rows,
        x="images_per_class",
        y="mean",
        low="low" if rows[0]["low"] is not None else None,
        high="high" if rows[0]["low"] is not None else None,
        points=True,
        log_x=True,
        x_title="training images a class",
        y_title="accuracy on test, all classes, %",
        caption=f"The paper's supplement: from random weights, n = {rows[0]['n']} seeds, 95 % intervals.",
    )


def _numbers(parts: Mapping[str, Result]) -> list[Section]:
    sections: list[Section] = [
        Details(f"Every number: {part['network']}, {part['rows'][0]['split']}", [treatment_table(part)])
        for part in parts.values()
    ]
    for part in parts.values():
        sections += drop_table(part, f"Every drop and boost: {part['network']}")
    layers = {part["network"]: part["layers"] for part in parts.values()}
    return sections + [Details(f"Layers: {name}", [layer_table(several)]) for name, several in layers.items()]
