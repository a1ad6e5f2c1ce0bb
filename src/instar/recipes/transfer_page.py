"""The page of a transfer study: what was copied, the paper's figures 2 and 3, drops, boosts, one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.transfer_plan import Plan
from instar.reports import (
    Bars,
    Code,
    Column,
    Details,
    Headline,
    Lines,
    Section,
    Table,
    Text,
    write_page,
)
from instar.runs import REPORT, Run, without_none


def answer(result: Mapping[str, Any]) -> Headline:
    """Which layers to keep, in a sentence: the best treatment that transfers, beside the base."""
    rows = [row for row in result["rows"] if row["treatment"] in ("AnB", "AnB+")]
    base = next(row for row in result["rows"] if row["treatment"] == "base")
    if not rows:
        return Headline(f"A base reaches {base['mean']:.1f} %.", "No network with copied layers was asked for.")
    best = max(rows, key=lambda row: row["minus_base"])
    name = best["treatment"].replace("n", str(best["cut"]))
    how = "and let them learn on" if best["treatment"] == "AnB+" else "and freeze them"
    layer = result["layers"][best["cut"] - 1]["name"]
    n = f"n = {best['n']} split{'s' if best['n'] > 1 else ''}"
    if best["low"] is None:
        sure = f"One split says nothing of chance; take --splits 3 or more ({n})."
    elif best["low"] > 0:
        sure = f"95 % interval {best['low']:+.1f} to {best['high']:+.1f}, {n}."
    else:
        sure = f"Undecided: the 95 % interval {best['low']:+.1f} to {best['high']:+.1f} holds 0 ({n})."
    if best["minus_base"] <= 0:
        sentence = f"Copying layers does not help here: the best, {name}, makes {best['minus_base']:+.1f} points."
    else:
        kept = f"the first {best['cut']} layers (to {layer})" if best["cut"] > 1 else f"the first layer ({layer})"
        gain = f"{best['minus_base']:+.1f} points over a base of {base['mean']:.1f} %"
        sentence = f"Copy {kept} {how}: {name} makes {gain}."
    return Headline(sentence, sure)


def result_table(result: Mapping[str, Any]) -> Table:
    """Accuracy of every treatment at every cut."""
    rows = []
    for row in result["rows"]:
        sd = f" ± {row['sd']:.1f}" if row["sd"] is not None else ""
        interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]" if row.get("low") is not None else None
        shown = {"name": _name(row), "ours": f"{row['mean']:.1f}{sd}", "interval": interval}
        rows.append({**row, **shown})
    return Table(
        "Accuracy on the target's test examples",
        rows,
        columns=[
            Column("name", "treatment"),
            Column("ours", "accuracy", note="percent, mean ± sd over splits"),
            Column("minus_base", "minus base", "{:+.1f}", note="points, paired on the same target"),
            Column("interval", "95 % interval"),
            Column("n", "n", note="splits; each is the mean of its directions"),
        ],
    )


def _name(row: Mapping[str, Any]) -> str:
    return str(row["treatment"]).replace("n", str(row["cut"]), 1) if row["cut"] else str(row["treatment"])


def write_transfer_page(run: Run, plan: Plan, result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = plan.config
    tasks = config.data.name if config.source is None else f"{config.source.name} to {config.data.name}"
    sections: list[Section] = [
        answer(result),
        _accuracies(result),
        _differences(result),
        *_drops(result),
        result_table(result),
        *_boosts(result),
        *_transition(result),
        layer_table(result["layers"]),
        _splits(plan),
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
    )


def _accuracies(result: Mapping[str, Any]) -> Section:
    base = next(row for row in result["rows"] if row["treatment"] == "base")
    rows = [_bounded(row, row["mean"], row["sd"]) for row in result["rows"] if row["cut"]]
    cuts = sorted({row["cut"] for row in rows})
    rows += [_bounded({**base, "cut": cut}, base["mean"], None) for cut in (0, *cuts)]
    return Lines(
        "Accuracy",
        rows,
        x="cut",
        y="mean",
        series="treatment",
        low="from",
        high="to",
        points=True,
        x_title="layers copied, n",
        y_title="accuracy on test, %",
        caption="The paper's figure 2: mean and standard deviation over splits. AnB: copied from the other half, "
        "frozen; BnB: from the own half; +: copied layers learn on; RnB: random and frozen.",
    )


def _bounded(row: Mapping[str, Any], mean: float, sd: float | None) -> dict[str, Any]:
    return {**row, "from": mean - (sd or 0), "to": mean + (sd or 0)}


def _differences(result: Mapping[str, Any]) -> Section:
    rows = [row for row in result["rows"] if row["cut"] and row["treatment"] != "RnB"]
    rows = [
        {**row, "from": row["low"] or row["minus_base"], "to": row["high"] or row["minus_base"]} for row in rows
    ]
    zero = [
        {"cut": cut, "minus_base": 0.0, "treatment": "base", "from": 0.0, "to": 0.0}
        for cut in sorted({0, *(row["cut"] for row in rows)})
    ]
    return Lines(
        "Accuracy minus base",
        rows + zero,
        x="cut",
        y="minus_base",
        series="treatment",
        low="from",
        high="to",
        points=True,
        x_title="layers copied, n",
        y_title="points over the base of the same target",
        caption="The paper's figure 3: paired on the same target, 95 % intervals over splits.",
    )


def _drops(result: Mapping[str, Any]) -> list[Section]:
    rows = [row for row in result["drops"] if row["difference"].endswith("drop")]
    if not rows:
        return []
    return [
        Bars(
            "Where accuracy is lost",
            [{**row, "place": f"n = {row['cut']}"} for row in rows],
            category="place",
            value="mean",
            series="difference",
            low="low",
            high="high",
            value_title="points",
            caption="Co-adaptation: BnB - base, what a frozen copy of the own layers loses. Specificity: AnB - "
            "BnB, what layers of the other task lose beyond that. Both together are AnB - base.",
        )
    ]


def _boosts(result: Mapping[str, Any]) -> list[Section]:
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
                Column("low", "from", "{:+.2f}"),
                Column("high", "to", "{:+.2f}"),
                Column("as_in_paper", "as the paper pooled", "{:+.2f}", note="see below"),
            ],
            caption="The paper's Table 1 set AnB+ towards the halves B beside BnB+ of the halves A and beside the "
            "mean of all bases. Where one half is easier, that difference is partly the task's; the column on the "
            "same target is free of it.",
        )
    ]


def _transition(result: Mapping[str, Any]) -> list[Section]:
    words = []
    for kind, found in result["transition"].items():
        drop = found["drop"]
        if found["half"] is None:
            words.append(f"{kind}: no drop at the deepest cut that an interval would exclude 0 from.")
            continue
        half, width = found["half"], found["width"]
        interval = f" [{half['low']:.1f}, {half['high']:.1f}]" if half["low"] is not None else ""
        words.append(
            f"{kind}: {drop['mean']:+.1f} points at the deepest cut; half of it is lost by layer "
            f"{half['mean']:.1f}{interval}, and from a tenth to nine tenths it takes {width['mean']:.1f} layers."
        )
    return [Text(words, title="Sudden or spread")] if words else []


def layer_table(layers: Sequence[Mapping[str, Any]]) -> Table:
    """The layers that a cut may follow."""
    rows = [{"n": n, **layer, "shape": " x ".join(map(str, layer["shape"]))} for n, layer in enumerate(layers, 1)]
    columns = [
        Column("n", "n"),
        Column("name", "layer"),
        Column("shape", "gives"),
        Column("parameters", "weights", "{:,}"),
    ]
    return Table("Layers", rows, columns=columns, caption="Cut n is after layer n; the last one always learns.")


def _splits(plan: Plan) -> Section:
    rows = []
    for split in plan.splits:
        halves = plan.halves(split)
        for letter in "AB":
            task = plan.task(split, letter)
            named = ", ".join(halves.classes(letter)[:12]) if halves else "all"
            more = (
                f" and {len(halves.classes(letter)) - 12} more"
                if halves and len(halves.classes(letter)) > 12
                else ""
            )
            rows.append({"split": split, "task": letter, "data": task.name, "classes": named + more})
    return Details("Splits", [Table("Tasks", rows, caption="In full, with label maps, in manifest.json.")])
