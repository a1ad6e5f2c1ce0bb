"""The page of `instar reproduce mnist`: the paper's figures and ours with intervals, and their curves."""

import re
from collections.abc import Sequence
from typing import Any

from instar.jobs import duration
from instar.recipes.distill.mnist_plan import CORRECTED, MnistPlan
from instar.recipes.distill.page import first_pair_curves
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import result_tables
from instar.recipes.study import Page, Result
from instar.reports import Bars, Details, Headline, Lines, Section, Table

Row = dict[str, Any]
COMPARED = ("small-net", "distilled-T20", "big-net")
"""The rows of the headline."""

_TEMPERATURE = re.compile(r"temperature-(\d+)-units-T([\d.]+)")
_ERRORS = {"y": "errors", "y_title": "test errors", "low": "low", "high": "high"}
_FRACTION = re.compile(r"fraction-(\d+)-percent-(hard|soft)(-views)?")


def answer(result: Result) -> Headline:
    """The result in a sentence."""
    rows = {row["name"]: row for row in result["rows"]}
    if not rows.keys() >= {*COMPARED}:
        first = [f"{row['name']} {row['mean']:.1f} {row.get('unit', 'errors')}" for row in result["rows"][:3]]
        return Headline(f"On test: {', '.join(first)}.", "A part of the study; the table has all of its rows.")
    alone, distilled, teacher = (rows[name] for name in COMPARED)
    sentence = (
        f"Alone the student makes {alone['mean']:.0f} test errors, with soft targets {distilled['mean']:.0f}; "
        f"the teacher makes {teacher['mean']:.0f}."
    )
    pairs = f"n = {distilled['n']} independent pairs of teacher and student, {result['num_test']:,} test images."
    return Headline(sentence, f"The paper: 146, 74 and 67. Here {pairs}")


def page(plan: MnistPlan, result: Result) -> Page:
    """The page."""
    config, details = plan.config, result["details"]
    sections: list[Section] = [
        *result_tables(result),
        *_temperature_curves(result["rows"]),
        *_fraction_curves(result["rows"]),
        *([first_pair_curves(details["training"])] if details["training"] else []),
        *(section for name in CORRECTED if config.makes(name) for section in _confusions(name, details)),
    ]
    return Page(
        f"Distillation as in the paper, on {config.data.name} ({config.scale})",
        "Hinton, Vinyals and Dean 2015, section 3, repeated; training took "
        f"{duration(result['fit_seconds'])} of one core",
        sections,
        again=repeat_command("mnist", config, plan.path),
    )


def _temperature_curves(rows: Sequence[Row]) -> list[Section]:
    by_units: dict[str, list[Row]] = {}
    for row in rows:
        if found := _TEMPERATURE.fullmatch(row["name"]):
            by_units.setdefault(found[1], []).append({"temperature": float(found[2]), **_errors(row)})
    axes: Row = {"x": "temperature", **_ERRORS, "log_x": True, "points": True}
    caption = "Test errors at each temperature; the bars are 95 % intervals over pairs."
    return [
        Lines(f"Temperature, {units} units a layer", points, **axes, caption=caption)
        for units, points in by_units.items()
    ]


def _fraction_curves(rows: Sequence[Row]) -> list[Section]:
    points = []
    for row in rows:
        if found := _FRACTION.fullmatch(row["name"]):
            way = f"{found[2]} targets" + (", with views" if found[3] else "")
            points.append({"percent": float(found[1]), "targets": way, **_errors(row)})
    axes: Row = {"x": "percent", "x_title": "percent of the images", **_ERRORS, "log_x": True, "log_y": True}
    caption = "Labels alone, stopped at their best validation epoch, against soft targets to the end."
    axes |= {"series": "targets", "points": True, "caption": caption}
    return [Lines("A fraction of the images", points, **axes)] if points else []


def _errors(row: Row) -> Row:
    """A row as a point with error bars; without an interval they have no length."""
    low, high = (row["mean"] if row[end] is None else row[end] for end in ("low", "high"))
    return {"errors": row["mean"], "low": low, "high": high}


def _confusions(name: str, details: Row) -> list[Section]:
    """Of a student that lacked classes: errors by class, and confusions, before and after the correction."""
    ways = {f"{name}-{way}": way for way in ("uncorrected", "bias-validation")}
    rows = [
        {**row, "student": ways[row["network"]]} for row in details["errors_by_class"] if row["network"] in ways
    ]
    names = [row["class"] for row in rows if row["student"] == "uncorrected"]
    caption = "Test errors by true class of the first pair, before and after the correction on validation."
    title = f"Errors by class: {name}"
    return [
        Bars(title, rows, category="class", value="errors", series="student", caption=caption),
        *(_confusion_table(f"{name}, {way}", names, details["confusions"][full]) for full, way in ways.items()),
    ]


def _confusion_table(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Section:
    rows = [{"true": name, **dict(zip(names, row, strict=True))} for name, row in zip(names, counts, strict=True)]
    caption = "Rows: the true class. Columns: the class that the student predicts."
    return Details(f"Confusion: {title}", [Table("", rows, caption=caption)])
