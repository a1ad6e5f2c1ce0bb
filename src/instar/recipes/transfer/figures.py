"""The figures and tables of one plan: its treatments, the paper's figures 2 and 3, drops and boosts.

Each function draws a part of a result: its `rows` and `differences`, and the keys of its details (see
`results.Part`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instar.recipes.result_tables import failed_columns
from instar.recipes.rows import mean_sd
from instar.reports import Bars, Box, Boxes, BoxRow, Column, Lines, Section, Table, Text
from instar.transfer import KINDS

SERIES = ("base", *KINDS)
"""The order in which kinds take their colours."""

_DODGE = 0.09  # layers
_WORDS = {
    "base": "trained on B from random weights",
    "BnB": "the control: layers of its own base, frozen; the rest trained anew",
    "BnB+": "the same, with the copied layers fine-tuned",
    "AnB": "layers of the other base, frozen: are they general?",
    "AnB+": "the same, with the copied layers fine-tuned",
    "RnB": "random layers, frozen",
}

PartOfResult = Mapping[str, Any]


def part_figures(part: PartOfResult) -> list[Section]:
    """The figures and short tables of one plan."""
    return [
        *accuracy_figure(part),
        *difference_figure({"": part}),
        *drops_figure(part),
        *random_figure(part),
        *transition_words(part),
    ]


def treatment_boxes(part: PartOfResult) -> Boxes:
    """Which half each layer comes from, and which layers are frozen, drawn at the middle cut."""
    kinds = ["base", *(kind for kind in KINDS if kind in _kinds(part))]
    cuts = _cuts(part) or [1]
    n = cuts[len(cuts) // 2]
    names = [layer["name"] for layer in part["layers"]]
    rows = [_treatment_row(kind, n, names) for kind in kinds]
    if any(kind.startswith("A") for kind in kinds):
        boxes = [Box(f"{name}: trained on A", "A", "light") for name in names]
        rows.insert(0, BoxRow("base A", boxes, "trained on A from random weights"))
    return Boxes(
        "The treatments",
        rows,
        looks={"solid": "copied or random, frozen", "light": "trained, or copied and fine-tuned", "empty": "new"},
        groups={"A": "from task A", "B": "from task B", "random": "random"},
        caption=f"Layers from left to right, n = {n}, for target B. For target A the letters change places; both "
        "directions of a split count as one value.",
    )


def _treatment_row(kind: str, n: int, names: Sequence[str]) -> BoxRow:
    if kind == "base":
        return BoxRow("base B", [Box(f"{name}: trained on B", "B", "light") for name in names], _WORDS[kind])
    group = {"A": "A", "B": "B", "R": "random"}[kind[0]]
    source = "random" if group == "random" else f"copied from {group}"
    fine_tuned = kind.endswith("+")
    copied = f"{source}, fine-tuned" if fine_tuned else f"{source}, frozen"
    boxes = [Box(f"{name}: {copied}", group, "light" if fine_tuned else "solid") for name in names[:n]]
    boxes += [Box(f"{name}: new, trained on B", "B", "empty") for name in names[n:]]
    return BoxRow(kind.replace("n", str(n)), boxes, _WORDS[kind])


def accuracy_figure(
    part: PartOfResult, kinds: Iterable[str] = KINDS[:-1], title: str = "Accuracy"
) -> list[Section]:
    """The paper's figure 2: accuracy of the treatments over n, with every split as a small point."""
    rows = [row for row in part["rows"] if row["treatment"] in kinds]
    if not rows:
        return []
    base = next(row for row in part["rows"] if row["treatment"] == "base")
    level = [{**base, "cut": cut} for cut in (0, *_cuts(part))]
    singles = [{**row, "mean": value} for row in (base, *rows) for value in row["values"]]
    return [
        Lines(
            title,
            [*level, *rows],
            x="cut",
            y="mean",
            series="treatment",
            points=True,
            singles=singles,
            dodge=_DODGE,
            x_title="layers copied, n",
            y_title="accuracy on test, %",
            caption=f"Means over n = {base['n']} splits, and each split as a small point.",
        )
    ]


def random_figure(part: PartOfResult) -> list[Section]:
    """Random frozen layers beside copied frozen layers."""
    return accuracy_figure(part, ("AnB", "RnB"), "Random features") if "RnB" in _kinds(part) else []


def difference_figure(parts: Mapping[str, PartOfResult], title: str = "Accuracy minus base") -> list[Section]:
    """The paper's figure 3: accuracy minus that of the base with the same target, with intervals.

    Args:
        parts: by the name that stands before the treatment; a single part has the empty name.
        title: of the chart.
    """
    rows = [
        {**row, "series": f"{name}: {row['treatment']}" if name else row["treatment"]}
        for name, part in parts.items()
        for row in part["differences"]
        if row["minus"] == "base" and row["cut"] and row["treatment"] != "RnB"
    ]
    if not rows:
        return []
    last = max(row["cut"] for row in rows)
    zero = [{"cut": cut, "mean": 0.0, "series": "base", "low": None, "high": None} for cut in (0, last)]
    return [
        Lines(
            title,
            [*zero, *rows],
            x="cut",
            y="mean",
            series="series",
            low="low",
            high="high",
            points=True,
            dodge=_DODGE,
            x_title="layers copied, n",
            y_title="points over the base of the same target",
            caption="Paired on the same target half; bars are 95 % intervals over splits.",
        )
    ]


def drops_figure(part: PartOfResult) -> list[Section]:
    """The loss of frozen transfer, stacked: what layers of the own half lose too, and the rest."""
    rows = [
        {**row, "layer": f"n = {row['cut']}"}
        for row in part["differences"]
        if row.get("effect") in ("co-adaptation drop", "specificity drop")
    ]
    if not rows:
        return []
    rows.sort(key=lambda row: (row["cut"], row["effect"]))
    return [
        Bars(
            "Where accuracy is lost",
            rows,
            category="layer",
            value="mean",
            series="effect",
            value_title="points",
            stacked=True,
            caption="Co-adaptation: BnB - base, the loss with frozen layers of the same task. Specificity: AnB - "
            "BnB, the further loss with layers of the other task. Together they are AnB - base. The tables have "
            "their intervals.",
        )
    ]


def transition_words(part: PartOfResult) -> list[Section]:
    """Where features stop being general, and how suddenly."""
    words = []
    for kind, found in part["transition"].items():
        if found["half"] is None:
            words.append(f"{kind}: no drop at the deepest cut whose interval is below 0.")
            continue
        half, width = found["half"], found["width"]
        interval = f" [{half['low']:.1f}, {half['high']:.1f}]" if half["low"] is not None else ""
        words.append(
            f"{kind} loses {-found['drop']['mean']:.1f} points at the deepest cut; half of the loss is reached at "
            f"layer {half['mean']:.1f}{interval}, and it takes {width['mean']:.1f} layers from 10 to 90 %."
        )
    return [Text(words, title="Sudden or gradual")] if words else []


def layer_table(layers: Sequence[Mapping[str, Any]]) -> Table:
    """The layers that a cut may follow."""
    rows = [{"n": n, **layer, "shape": " x ".join(map(str, layer["shape"]))} for n, layer in enumerate(layers, 1)]
    columns = [
        Column("n", "n"),
        Column("name", "layer"),
        Column("shape", "output"),
        Column("parameters", "weights", "{:,}"),
    ]
    caption = "Cut n is after layer n; the last layer is always trained."
    return Table("Layers", rows, columns=columns, caption=caption)


def treatment_table(part: PartOfResult) -> Table:
    """Accuracy of every treatment at every cut, and its difference from the base."""
    over_base = {row["name"]: row for row in part["differences"] if row["minus"] == "base"}
    rows = []
    for row in part["rows"]:
        over = over_base.get(row["name"], dict.fromkeys(("mean", "low", "high")))
        minus = {"minus_base": over["mean"], "low": over["low"], "high": over["high"]}
        rows.append({**row, **minus, "accuracy": mean_sd(row)})
    columns = [
        Column("name", "treatment"),
        Column("accuracy", "accuracy", note="percent, mean ± sd over splits"),
        Column("minus_base", "minus base", "{:+.1f}", note="points, paired on the same target"),
        Column("low", "95 % interval", "[{low:+.1f}, {high:+.1f}]", note="of the difference"),
        Column("n", "n", note="splits; each is the mean of its directions"),
    ]
    if any("ten_best_validation" in row for row in rows):
        note = "as in the paper: mean of the ten best of at least 100 epochs, chosen and measured on validation"
        columns.append(Column("ten_best_validation", "ten best", "{:.1f}", note=note))
    columns += failed_columns(rows)
    caption = (
        "A3B: the first 3 layers of base A, frozen, and the rest trained on B; B3B: of base B; R3B: random ones. "
        "With +: fine-tuned. base-long: a base trained for twice as many epochs, as long as a copy and its base."
    )
    return Table("Accuracy on the test examples of the target", rows, columns=columns, caption=caption)


def task_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """Which classes are task A and task B in each split."""
    rows = [{**task, "classes": _listed(task.get("classes"))} for task in tasks]
    return Table("Tasks", rows, caption="manifest.json has all classes and the label maps.")


def _listed(names: Sequence[str] | None) -> str:
    if names is None:
        return "all"
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _kinds(part: PartOfResult) -> set[str]:
    return {row["treatment"] for row in part["rows"]}


def _cuts(part: PartOfResult) -> list[int]:
    return sorted({row["cut"] for row in part["rows"]} - {0})
