"""What the pages of transfer studies show of one plan: treatments drawn, the paper's figures, drops and boosts."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.recipe import study_of
from instar.reports import Bars, Box, Boxes, BoxRow, Column, Details, Lines, Section, Table, Text
from instar.transfer import KINDS

SERIES = ("base", *KINDS)
"""The order in which kinds take their colours."""

INTERVAL = "[{{low:+.{0}f}}, {{high:+.{0}f}}]"

_DODGE = 0.09  # layers
_SAID = {
    "base": "trained on B from random weights",
    "BnB": "the control: its own base's layers, frozen, the rest learned anew",
    "BnB+": "the same, and the copied layers learn on",
    "AnB": "the other base's layers, frozen: are they general?",
    "AnB+": "the same, and the copied layers learn on",
    "RnB": "random layers, frozen",
}

Result = Mapping[str, Any]


def treatment_boxes(result: Result) -> Boxes:
    """Which half each layer comes from, and which are frozen, at the middle one of the cuts."""
    kinds = ["base", *(kind for kind in KINDS if kind in _kinds(result))]
    cuts = _cuts(result) or [1]
    n = cuts[len(cuts) // 2]
    names = [layer["name"] for layer in result["layers"]]
    rows = [_treatment_row(kind, n, names) for kind in kinds]
    if any(kind.startswith("A") for kind in kinds):
        boxes = [Box(f"{name}: learned on A", "A", "light") for name in names]
        rows.insert(0, BoxRow("base A", boxes, "trained on A from random weights"))
    rows = [BoxRow("base B", row.boxes, row.words) if row.name == "base" else row for row in rows]
    return Boxes(
        "The treatments",
        rows,
        looks={"solid": "copied or random, frozen", "light": "learned, or copied and learning on", "empty": "new"},
        groups={"A": "from task A", "B": "from task B", "random": "random"},
        caption=f"Layers from left to right, n = {n}; towards B. Towards A the letters change places, and both "
        "directions of a split are one number.",
    )


def _treatment_row(kind: str, n: int, names: Sequence[str]) -> BoxRow:
    if kind == "base":
        return BoxRow(kind, [Box(f"{name}: learned on B", "B", "light") for name in names], _SAID[kind])
    group = {"A": "A", "B": "B", "R": "random"}[kind[0]]
    source = "random" if group == "random" else f"copied from {group}"
    copied = f"{source}, learns on" if kind.endswith("+") else f"{source}, frozen"
    boxes = [Box(f"{name}: {copied}", group, "light" if kind.endswith("+") else "solid") for name in names[:n]]
    boxes += [Box(f"{name}: new, learned on B", "B", "empty") for name in names[n:]]
    return BoxRow(kind.replace("n", str(n)), boxes, _SAID[kind])


def accuracy_figure(result: Result, kinds: Iterable[str] = KINDS[:-1], title: str = "Accuracy") -> list[Section]:
    """The paper's figure 2: all treatments over n, the single splits as points."""
    rows = [row for row in result["rows"] if row["treatment"] in kinds and row["cut"]]
    if not rows:
        return []
    base = next(row for row in result["rows"] if row["treatment"] == "base")
    level = [{**base, "cut": cut} for cut in (0, *_cuts(result))]
    study = study_of(result["networks"])
    singles = [
        {"treatment": kind, "cut": n, "mean": value}
        for kind in ("base", *kinds)
        for n in ([0] if kind == "base" else study.cuts)
        for value in _over_targets(study.values(kind, n))
    ]
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


def _over_targets(values: Mapping[tuple[int, str], float]) -> list[float]:
    """One number for each split: its directions are not independent."""
    of_split: dict[int, list[float]] = {}
    for (split, _), value in values.items():
        of_split.setdefault(split, []).append(value)
    return [statistics.fmean(parts) for parts in of_split.values()]


def difference_figure(results: Mapping[str, Result], title: str = "Accuracy minus base") -> list[Section]:
    """The paper's figure 3: relative to the base of the same target, with intervals.

    Args:
        results: by the name that stands before the treatment; one without a name.
        title: of the chart.
    """
    rows, last = [], 0
    for name, result in results.items():
        for row in result["rows"]:
            if row["cut"] and row["treatment"] != "RnB":
                series = f"{name}: {row['treatment']}" if name else row["treatment"]
                rows.append({"cut": row["cut"], "points": row["minus_base"], "series": series, **_ends(row)})
                last = max(last, row["cut"])
    if not rows:
        return []
    zero = [{"cut": cut, "points": 0.0, "series": "base", "low": None, "high": None} for cut in (0, last)]
    return [
        Lines(
            title,
            [*zero, *rows],
            x="cut",
            y="points",
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


def _ends(row: Result) -> dict[str, Any]:
    return {"low": row["low"], "high": row["high"]}


def random_figure(result: Result) -> list[Section]:
    """Random frozen layers beside transferred ones."""
    if "RnB" not in _kinds(result):
        return []
    return accuracy_figure(result, ("AnB", "RnB"), "Random features")


def drops_figure(result: Result) -> list[Section]:
    """How much of what a frozen transfer loses is lost with an own half too, stacked."""
    names = ("co-adaptation drop", "specificity drop")
    rows = [{**row, "layer": f"n = {row['cut']}"} for row in result["drops"] if row["difference"] in names]
    if not rows:
        return []
    rows.sort(key=lambda row: (row["cut"], row["difference"]))
    return [
        Bars(
            "Where accuracy is lost",
            rows,
            category="layer",
            value="mean",
            series="difference",
            value_title="points",
            stacked=True,
            caption="Co-adaptation: BnB - base, what a frozen copy of its own layers loses. Specificity: AnB - "
            "BnB, what layers of the other task lose beyond that. Together they are AnB - base. Their intervals "
            "are in the tables.",
        )
    ]


def drop_table(result: Result, title: str = "Every drop and boost") -> list[Section]:
    """Every difference at every cut, with its interval, folded away."""
    rows = [{**row, "n_splits": row["n"]} for row in result["drops"]]
    if not rows:
        return []
    columns = [
        Column("difference"),
        Column("cut", "n"),
        Column("mean", "points", "{:+.2f}"),
        Column("low", "95 % interval", INTERVAL.format(2)),
        Column("n_splits", "splits"),
    ]
    return [Details(title, [Table("", rows, columns=columns)])]


def boost_table(result: Result) -> list[Section]:
    """The paper's Table 1, on the same targets and as the paper pooled its networks."""
    if not result["boosts"]:
        return []
    return [
        Table(
            "What is gained by copying and learning on",
            result["boosts"],
            columns=[
                Column("layers", "layers kept"),
                Column("over", "AnB+ over"),
                Column("matched", "same target", "{:+.2f}", note="points, mean over the cuts"),
                Column("low", "95 % interval", INTERVAL.format(2)),
                Column("as_in_paper", "as the paper pooled", "{:+.2f}", note="see below"),
            ],
            caption="The paper's Table 1 set AnB+ towards the halves B beside BnB+ of the halves A and beside the "
            "mean of all bases. Where one half is easier, that difference is partly the task's; the column on the "
            "same target is free of it.",
        )
    ]


def transition_words(result: Result) -> list[Section]:
    """Where features stop being general, and how suddenly."""
    words = []
    for kind, found in result["transition"].items():
        if found["half"] is None:
            words.append(f"{kind}: no drop at the deepest cut whose interval is below 0.")
            continue
        half, width = found["half"], found["width"]
        interval = f" [{half['low']:.1f}, {half['high']:.1f}]" if half["low"] is not None else ""
        words.append(
            f"{kind} loses {-found['drop']['mean']:.1f} points at the deepest cut; half of it is lost by layer "
            f"{half['mean']:.1f}{interval}, and from a tenth to nine tenths it takes {width['mean']:.1f} layers."
        )
    return [Text(words, title="Sudden or spread")] if words else []


def layer_table(layers: Sequence[Result]) -> Table:
    """The layers that a cut may follow."""
    rows = [{"n": n, **layer, "shape": " x ".join(map(str, layer["shape"]))} for n, layer in enumerate(layers, 1)]
    columns = [
        Column("n", "n"),
        Column("name", "layer"),
        Column("shape", "gives"),
        Column("parameters", "weights", "{:,}"),
    ]
    return Table("Layers", rows, columns=columns, caption="Cut n is after layer n; the last one always learns.")


def treatment_table(result: Result) -> Table:
    """Accuracy of every treatment at every cut."""
    rows = []
    for row in result["rows"]:
        sd = f" ± {row['sd']:.1f}" if row["sd"] is not None else ""
        rows.append({**row, "name": treatment_name(row), "ours": f"{row['mean']:.1f}{sd}"})
    columns = [
        Column("name", "treatment"),
        Column("ours", "accuracy", note="percent, mean ± sd over splits"),
        Column("minus_base", "minus base", "{:+.1f}", note="points, paired on the same target"),
        Column("low", "95 % interval", INTERVAL.format(1)),
        Column("n", "n", note="splits; each is the mean of its directions"),
    ]
    if any(row["ten_best_validation"] is not None for row in rows):
        note = "as the paper: mean of the ten best of 100 epochs or more, chosen and measured on validation"
        columns.append(Column("ten_best_validation", "ten best", "{:.1f}", note=note))
    return Table("Accuracy on the target's test examples", rows, columns=columns)


def treatment_name(row: Result) -> str:
    """The kind with its cut: A3B+."""
    return str(row["treatment"]).replace("n", str(row["cut"]), 1) if row["cut"] else str(row["treatment"])


def task_table(plan: Plan) -> Table:
    """Which classes are task A and task B in each split."""
    rows = []
    for split in plan.splits:
        halves = plan.halves(split)
        for letter in "AB":
            names = halves.classes(letter) if halves else ()
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            about = {"split": split, "task": letter, "data": plan.task(split, letter).name}
            rows.append({**about, "classes": ", ".join(names[:12]) + more if halves else "all"})
    return Table("Tasks", rows, caption="In full, with label maps, in manifest.json.")


def _kinds(result: Result) -> set[str]:
    return {row["treatment"] for row in result["rows"]}


def _cuts(result: Result) -> list[int]:
    return sorted({row["cut"] for row in result["rows"]} - {0})
