"""The page of the study: the paper's figures and ours side by side, with intervals, and the curves behind them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
import torch

from instar import metrics
from instar.jobs import duration
from instar.recipes.fitting import load_splits
from instar.reports import Bars, Code, Column, Details, Headline, Lines, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none

if TYPE_CHECKING:
    from instar.recipes.mnist.plan import Study
    from instar.recipes.mnist.recipe import Findings

_TEMPERATURE = re.compile(r"temperature-(\d+)-units-T([\d.]+)")


def answer(result: Mapping[str, Any]) -> Headline:
    """What the study found, in a sentence."""
    rows = {row["name"]: row for row in result["rows"]}
    alone, distilled, teacher = (rows[name] for name in ("small-net", "distilled-T20", "big-net"))
    sentence = (
        f"Alone the student makes {alone['mean']:.0f} test errors, with soft targets {distilled['mean']:.0f}; "
        f"the teacher makes {teacher['mean']:.0f}."
    )
    return Headline(
        sentence, f"The paper: 146, 74 and 67. Here n = {distilled['n']} independent pairs of teacher and student."
    )


def result_table(result: Mapping[str, Any]) -> Table:
    """Every row of `result.json` beside the paper's figure."""
    rows = []
    for row in result["rows"]:
        is_percent = row["unit"] == "percent"
        number = "{:.1f} %" if is_percent else "{:.1f}"
        shown = number.format(row["mean"]) + (f" ± {row['sd']:.1f}" if row["sd"] is not None else "")
        interval = f"[{row['low']:.1f}, {row['high']:.1f}]" if row["low"] is not None else None
        paper = None if row["paper"] is None else f"{row['paper']:g}" + (" %" if is_percent else "")
        rows.append({**row, "ours": shown, "interval": interval, "paper": paper})
    return Table(
        "The paper and ours",
        rows,
        columns=[
            Column("name", "row"),
            Column("paper", "paper"),
            Column("ours", "ours", note=f"errors of {result['num_test']:,} test examples, mean ± sd over n pairs"),
            Column("interval", "95 % interval"),
            Column("n", "n"),
            Column("num_train", "train", "{:,}", note="examples learned from"),
        ],
    )


def write_mnist_page(run: Run, study: "Study", findings: "Findings", result: dict[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = study.config
    sections: list[Section] = [
        answer(result),
        result_table(result),
        *_temperature_curves(result),
        *_fraction_curves(result),
        *_peak_and_fall(run.path, study),
        *_confusions(study, findings),
        *_tuning_table(result),
        Code("Get it again", f"instar reproduce mnist --scale {config.scale} --data {config.data.name}"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"Distillation as in the paper, on {config.data.name} ({config.scale})",
        sections,
        subtitle="Hinton, Vinyals and Dean 2015, section 3, repeated; all its fits took "
        f"{duration(result['fit_seconds'])} of one core",
    )


def _temperature_curves(result: Mapping[str, Any]) -> list[Section]:
    rows = []
    for row in result["rows"]:
        if found := _TEMPERATURE.fullmatch(row["name"]):
            bounds = {key: row[key] if row[key] is not None else row["mean"] for key in ("low", "high")}
            units = f"{found[1]} units a layer"
            rows.append({"units": units, "temperature": float(found[2]), "errors": row["mean"], **bounds})
    caption = "Test errors of students of three sizes; the bars are 95 % intervals over pairs."
    return [
        Lines(
            f"Temperature, {units}",
            [row for row in rows if row["units"] == units],
            x="temperature",
            y="errors",
            low="low",
            high="high",
            log_x=True,
            points=True,
            y_title="test errors",
            caption=caption,
        )
        for units in dict.fromkeys(row["units"] for row in rows)
    ]


def _fraction_curves(result: Mapping[str, Any]) -> list[Section]:
    rows = []
    for row in result["rows"]:
        if found := re.fullmatch(r"fraction-(\d+)-percent-(hard|soft)(-views)?", row["name"]):
            way = f"{found[2]} targets" + (", with views" if found[3] else "")
            bounds = {key: row[key] if row[key] is not None else row["mean"] for key in ("low", "high")}
            rows.append({"percent": float(found[1]), "targets": way, "errors": row["mean"], **bounds})
    sections: list[Section] = []
    if rows:
        sections.append(
            Lines(
                "A fraction of the images",
                rows,
                x="percent",
                y="errors",
                series="targets",
                low="low",
                high="high",
                log_x=True,
                log_y=True,
                points=True,
                x_title="percent of the images",
                y_title="test errors",
                caption="Labels alone, stopped at their best validation epoch, against soft targets to the end.",
            )
        )
    if result["recovered"]:
        columns = [
            Column("percent", "percent of the images", "{:g}"),
            Column(
                "share",
                "recovered",
                "{:.0%}",
                note="(hard - soft) / (hard - small-net), without views; the paper: 87 %",
            ),
            Column("low", "from", "{:.0%}"),
            Column("high", "to", "{:.0%}"),
            Column("n", "n"),
        ]
        sections.append(Table("What soft targets win back", result["recovered"], columns=columns))
    return sections


def _peak_and_fall(path: Path, study: "Study") -> list[Section]:
    """Validation errors after each epoch on a small fraction: labels alone turn, soft targets do not."""
    percents = list(study.config.fractions)
    percent = percents[min(1, len(percents) - 1)]
    rows = []
    for way in ("hard", "soft"):
        lines = Run.read(path / "jobs" / f"fraction-{percent}-percent-{way}" / "0").result()["rows"]
        rows += [{"epoch": one["epoch"], "errors": one["validation_errors"], "targets": way} for one in lines]
    ceiling = 3 * min(row["errors"] for row in rows)
    shown = [row for row in rows if row["errors"] <= ceiling]
    caption = f"The first pair, {percent} % of the images; epochs above {ceiling} errors are left out."
    return [
        Lines(
            "Peak and fall",
            shown,
            x="epoch",
            y="errors",
            series="targets",
            y_title="validation errors",
            caption=caption,
        )
    ]


def _confusions(study: "Study", findings: "Findings") -> list[Section]:
    names = load_splits(study.config.data).class_names
    sections: list[Section] = []
    for name in ("omit-3", "only-7-8"):
        ways = {way: findings.logits[f"{name}-{way}"] for way in ("uncorrected", "bias-validation")}
        rows = [
            {"class": one, "student": way, "errors": count}
            for way, logits in ways.items()
            for one, count in zip(
                names, metrics.errors_by_class(logits, findings.labels, len(names)).tolist(), strict=True
            )
        ]
        caption = "Test errors by true class of the first pair, before and after the correction by validation."
        sections.append(
            Bars(
                f"Errors by class: {name}",
                rows,
                category="class",
                value="errors",
                series="student",
                caption=caption,
            )
        )
        for way, logits in ways.items():
            counts = metrics.confusion(logits, findings.labels, len(names))
            sections.append(_confusion_table(f"{name}, {way}", counts, names))
    return sections


def _confusion_table(title: str, counts: torch.Tensor, names: tuple[str, ...]) -> Section:
    rows = [
        {"true": name, **dict(zip(names, row, strict=True))}
        for name, row in zip(names, counts.tolist(), strict=True)
    ]
    caption = "Rows: the true class. Columns: what the student says."
    return Details(f"Confusion: {title}", [Table("", rows, caption=caption)])


def _tuning_table(result: Mapping[str, Any]) -> list[Section]:
    if not result["tuning"]:
        return [Text("Every row has one candidate: nothing was chosen.", title="Chosen on validation")]
    caption = "Of several candidates the one with the fewest validation errors; teacher and seed are not reported."
    return [Table("Chosen on validation", result["tuning"], caption=caption)]
