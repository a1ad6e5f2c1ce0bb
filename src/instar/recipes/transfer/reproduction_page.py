"""The page of `instar reproduce transfer`: the paper's findings beside ours, then its figures for each network."""

from collections.abc import Mapping, Sequence
from typing import Any

from instar.jobs import duration
from instar.recipes.reproductions import repeat_command
from instar.recipes.study import Page, Result
from instar.recipes.transfer.figures import (
    INTERVAL,
    SERIES,
    difference_figure,
    every_difference,
    layer_table,
    part_figures,
    task_table,
    treatment_boxes,
    treatment_table,
)
from instar.recipes.transfer.filters import filter_sections, first_filters
from instar.recipes.transfer.reproduction_plan import CONVNET, DISSIMILAR, RESNET, SIMILAR, ReproductionPlan
from instar.reports import Column, Details, Headline, Lines, Section, Table, Text


def answer(result: Result) -> Headline:
    """How many of the paper's findings hold on each network."""
    findings, sentences = result["details"]["findings"], []
    for network in dict.fromkeys(finding["network"] for finding in findings):
        holds = [finding["holds"] for finding in findings if finding["network"] == network]
        counts = {"true": holds.count(True), "false": holds.count(False), "undecided": holds.count("undecided")}
        sentences.append(f"{network} " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    most = max(finding["n"] for finding in findings)
    return Headline(
        "The paper's findings here: " + "; ".join(sentences) + ".",
        f"By rules that were written before the first run, from 95 % intervals over n = {most} splits.",
    )


def findings_table(result: Result) -> Table:
    """One row for each finding and network."""
    rows = [
        {**finding, "finding": f"{finding['finding']}. {finding['name']}", "holds": _yes_or_no(finding)}
        for finding in result["details"]["findings"]
    ]
    first = "of the first claim; all claims and rules are below"
    return Table(
        "The paper's findings and ours",
        rows,
        columns=[
            Column("finding"),
            Column("network"),
            Column("number", "points", "{:+.1f}", note=first),
            Column("low", "95 % interval", INTERVAL.format(1)),
            Column("n", "n", note="splits"),
            Column("paper", "paper", "{:+.1f}", note="the same number from the paper's figures"),
            Column("holds"),
        ],
    )


def _yes_or_no(row: Result) -> str:
    return {True: "yes", False: "no"}.get(row["holds"], "undecided")


def reproduction_page(plan: ReproductionPlan, result: Result) -> Page:
    """The report of `instar reproduce transfer`."""
    config = plan.config
    parts = {name: part_in(result, name) for name in result["details"]["parts"]}
    halves = {"dissimilar halves": parts[DISSIMILAR], "random halves": parts[SIMILAR]}
    filters = result["details"].get("filters", {})
    sections = [
        answer(result),
        findings_table(result),
        _claims(result),
        treatment_boxes(parts[CONVNET]),
        *_network_sections(parts[CONVNET]),
        *_network_sections(parts[RESNET]),
        *difference_figure(halves, "Dissimilar halves, and random halves of the same size"),
        _curve(result["details"]["curve"]),
        *filter_sections(first_filters(plan.plans[CONVNET]), filters),
        *_numbers(parts),
        Details("Splits", [task_table(part["tasks"]) for part in parts.values()]),
    ]
    return Page(
        f"How transferable are features: the study on {config.data.name} ({config.scale})",
        f"Yosinski et al. 2014, repeated; its fits took {duration(result['fit_seconds'])} of one core",
        sections,
        SERIES,
        again=repeat_command("transfer", config, plan.path),
    )


def part_in(result: Result, name: str) -> dict[str, Any]:
    """One part: its rows, differences and details."""
    rows = {key: [row for row in result[key] if row["part"] == name] for key in ("rows", "differences")}
    return {**result["details"]["parts"][name], **rows}


def _claims(result: Result) -> Section:
    rows = [
        {**claim, "network": finding["network"], "holds": _yes_or_no(claim)}
        for finding in result["details"]["findings"]
        for claim in finding["claims"]
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
    words = "A finding holds if all its claims hold, and is false if one claim is."
    return Details("Claims and rules", [Table("", rows, columns=columns, caption=words)])


def _network_sections(part: Result) -> list[Section]:
    layers = ", ".join(layer["name"] for layer in part["layers"])
    return [Text(f"{part['halves']}: {layers}.", title=part["network"]), *part_figures(part)]


def _curve(rows: Sequence[Result]) -> Section:
    has_interval = rows[0]["low"] is not None
    return Lines(
        "Few images of every class",
        rows,
        x="images_per_class",
        y="mean",
        low="low" if has_interval else None,
        high="high" if has_interval else None,
        points=True,
        log_x=True,
        x_title="training images per class",
        y_title="accuracy on test, all classes, %",
        caption=f"The paper's supplement: from random weights, n = {rows[0]['n']} seeds, 95 % intervals.",
    )


def _numbers(parts: Mapping[str, Result]) -> list[Section]:
    layers = {part["network"]: part["layers"] for part in parts.values()}
    return [
        *(
            Details(f"Every number: {part['network']}, {part['halves']}", [treatment_table(part)])
            for part in parts.values()
        ),
        *(
            section
            for part in parts.values()
            for section in every_difference(part, f"Every difference: {part['network']}, {part['halves']}")
        ),
        *(Details(f"Layers: {name}", [layer_table(several)]) for name, several in layers.items()),
    ]
