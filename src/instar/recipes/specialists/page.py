"""The answer of `instar specialists` in a sentence, its table and its page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.specialists.charts import confusion_pictures, cost_figure, coverage_figure, difference_figure
from instar.recipes.specialists.jobs import UNIT
from instar.recipes.specialists.pictures import class_set_sections, three_opinions
from instar.recipes.specialists.plan import DISTILLED, GENERALIST, LONGER, WITH, WITH_RANDOM, Choice, Plan
from instar.recipes.specialists.scales import config_for
from instar.recipes.specialists.scoring import Trial
from instar.recipes.specialists.settings import SpecialistsConfig
from instar.reports import Code, Column, Details, Headline, Section, Table, write_page
from instar.runs import REPORT, Run, without_none

_TITLE = "Specialists"


def answer(result: Mapping[str, Any]) -> Headline:
    """What specialists gain, in a sentence: a gain, a loss, or none that these seeds can tell."""
    differences = {one["name"]: one for one in result["differences"]}
    gain, relative = differences[f"{WITH} - {GENERALIST}"], result["relative_gain"]
    generalist = next(row for row in result["rows"] if row["name"] == GENERALIST)
    n = f"n = {gain['n']} generalist{'s' if gain['n'] > 1 else ''}"
    points = f"{gain['mean']:+.2f} points ({relative['mean']:+.1f} % relative) on {generalist['mean']:.1f} %"
    if not gain["sd"]:  # 0: a few test examples, the same number by chance
        who = "one generalist says" if gain["n"] == 1 else f"{gain['n']} generalists that gain the same say"
        sentence = f"Specialists: {points}; {who} nothing of chance."
    elif gain["low"] > 0:
        sentence = f"Specialists help: {points}."
    elif gain["high"] < 0:
        sentence = f"Specialists do harm here: {points}."
    else:
        sentence = f"Specialists change nothing that {gain['n']} generalists can tell: {points}."
    words = [_interval_words("95 % interval", gain)] if gain["sd"] else []
    for other, what in ((LONGER, "a generalist trained longer"), (WITH_RANDOM, "specialists for random sets")):
        one = differences.get(f"{WITH} - {other}")
        if one is not None:
            words.append(f"against {what} {one['mean']:+.2f}{_interval(one)}")
    if "kept" in result:
        kept = result["kept"]["percent"]
        share = "" if kept is None else f", {max(kept, 0):.0f} % of the specialists' gain"
        words.append(f"back in one network {result['kept']['gain_distilled']:+.2f}{share}")
    return Headline(sentence, f"{'; '.join(words)}; {n}, paired.".capitalize() if words else n)


def _interval(one: Mapping[str, Any]) -> str:
    return "" if not one["sd"] else f" [{one['low']:+.2f}, {one['high']:+.2f}]"


def _interval_words(what: str, one: Mapping[str, Any]) -> str:
    return f"{what} {one['low']:+.2f} to {one['high']:+.2f}"


def result_table(result: Mapping[str, Any]) -> Table:
    """Every row, with what it gains and what it costs."""
    base = next(row for row in result["rows"] if row["name"] == GENERALIST)
    rows = [
        {
            **row,
            "accuracy": f"{row['mean']:.2f}" + ("" if row["sd"] is None else f" ± {row['sd']:.2f}"),
            "minus": _minus(row),
            "inference": row["inference_cost"] / base["inference_cost"],
            "training": row["training_cost"] / base["training_cost"],
        }
        for row in result["rows"]
    ]
    return Table(
        _TITLE,
        rows,
        columns=[
            Column("name", "network"),
            Column("accuracy", "accuracy", note="on test, percent, mean ± sd over generalists"),
            Column("minus", "minus generalist", note="points, paired, 95 % interval"),
            Column("inference", "use", "{:.2f}x", note="multiplications for an example, the generalist's = 1"),
            Column(
                "training", "training", "{:.2f}x", note="multiplications of all its fits, the generalist's = 1"
            ),
        ],
        highlight=next(place for place, row in enumerate(rows) if row["name"] == WITH),
        caption=f"Class sets {result['sets']}, asked by the generalist's {_top(result['top_n'])}. They hold "
        f"{result['covered']['classes']:.0f} % of the classes, and both classes of "
        f"{result['covered']['errors']:.0f} % of the generalist's errors.{_taught(result)}",
    )


def _taught(result: Mapping[str, Any]) -> str:
    if "student" not in result:
        return ""
    temperature, hard_weight = (float(result["student"][key]) for key in ("temperature", "hard_weight"))
    return f" Distilled back at T = {temperature:g}, with {hard_weight:g} times the loss of the labels."


def cost_table(result: Mapping[str, Any]) -> Table:
    """What the page says more of every row."""
    return Table(
        "Accuracy and costs",
        result["rows"],
        columns=[
            Column("name", "network"),
            Column(
                "conditional_accuracy",
                "conditional",
                "{:.2f}",
                note="percent on test examples of classes in confusable sets, with predictions among these alone",
            ),
            Column("test_nll", "nll", "{:.3f}", note="nats on test"),
            Column("specialists_used", "specialists used", "{:.2f}", note="for an example, mean"),
            Column("inference_cost", "in use", "{:si}", note="multiplications for an example"),
            Column(
                "training_cost",
                "in training",
                "{:si}",
                note="multiplications of all its fits; a backward pass is two",
            ),
            Column("training_seconds", "seconds", "{:.0f}", note="of all its fits, one after the other"),
            Column("parallel_seconds", "in parallel", "{:.0f}", note="seconds with a machine for each fit"),
            Column("n", "n", note="generalists"),
        ],
    )


def _top(number: int) -> str:
    return "most probable class" if number == 1 else f"{number} most probable classes"


def _minus(row: Mapping[str, Any]) -> str | None:
    if "difference" not in row:
        return None
    if row["difference_low"] is None:
        return f"{row['difference']:+.2f}"
    return f"{row['difference']:+.2f} [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"


def differences_table(result: Mapping[str, Any]) -> Table:
    """The paired differences."""
    rows = [
        {**one, "interval": None if one["low"] is None else f"{one['low']:+.2f} to {one['high']:+.2f}"}
        for one in result["differences"]
    ]
    relative = result["relative_gain"]
    return Table(
        "Differences",
        rows,
        columns=[
            Column("name", "difference"),
            Column("mean", "points", "{:+.2f}"),
            Column("interval", "95 % interval"),
            Column("n", "n"),
        ],
        caption=f"Relative gain of the specialists {relative['mean']:+.1f} %{_interval(relative)}; in the paper, "
        f"on 15,000 classes, {relative['paper']:+.1f} %.",
    )


def _forgetting_table(result: Mapping[str, Any]) -> list[Section]:
    if "forgetting" not in result:
        return []
    return [
        Table(
            "What a full softmax forgets",
            result["forgetting"],
            columns=[
                Column("name", "network"),
                Column("special", "special classes", "{:.2f}", note="accuracy in percent, test"),
                Column("rest", "other classes", "{:.2f}", note="accuracy in percent, test"),
                Column("n", "n", note="generalists; each is the mean over its specialists"),
            ],
            caption="Section 6.1 of the paper proposes specialists for all classes that learn the others from the "
            "generalist's soft targets, so as not to forget them. Each network alone, not combined.",
        )
    ]


def _tuning_table(result: Mapping[str, Any]) -> list[Section]:
    if not result["tuning"]:
        return []
    rows = [{"temperature": None, "hard_weight": None, **row} for row in result["tuning"]]
    students = [Column("temperature", "T of the student"), Column("hard_weight", "weight of labels")]
    table = Table(
        "Chosen on validation",
        rows,
        columns=[
            Column("sets", "class sets"),
            Column("top_n", "top-n"),
            *(students if any(row["temperature"] for row in rows) else []),
            Column("validation_errors", "errors"),
            Column("validation_nll", "nll", "{:.3f}"),
            Column("specialists_used", "specialists used", "{:.2f}"),
        ],
        caption="With a generalist of its own, which is not among those reported.",
    )
    return [Details("What was tried", [table])]


def write_specialists_page(run: Run, plan: Plan, choice: Choice, trial: Trial, result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = plan.config
    sections: list[Section] = [
        answer(result),
        result_table(result),
        *difference_figure(result),
        *cost_figure(result),
        *class_set_sections(plan, trial),
        *coverage_figure(result),
        *confusion_pictures(plan, trial),
        *three_opinions(plan, choice, trial),
        cost_table(result),
        differences_table(result),
        *_forgetting_table(result),
        *_tuning_table(result),
        Code("Get it again", f"{again(config, run.path)} --run-dir runs/again"),
        Code("Use it", _usage(plan)),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"Specialists for {config.generalist.network} on {config.data.name}",
        sections,
        subtitle=f"Hinton, Vinyals and Dean 2015, section 5; {duration(result['seconds'])}",
    )


def again(config: SpecialistsConfig, path: Path) -> str:
    """The command that does the same once more: of the scale, if nothing differs from it."""
    if config.scale is not None and config == config_for(config.scale, config.data.name):
        return f"instar reproduce specialists --data {config.data.name} --scale {config.scale}"
    return f"instar specialists --config {path / 'config.toml'}"


def _usage(plan: Plan) -> str:
    unit = plan.job_path(plan.unit(plan.config.seed)) / UNIT
    lines = [
        "from instar import SpecialistEnsemble",
        f'together = SpecialistEnsemble.load("{unit}")',
        "probs, num_specialists = together.predict_probs(inputs)",
    ]
    if plan.config.distill is not None:
        lines.append(f"# one network that was taught by them: {plan.path}:{DISTILLED}/seed-{plan.config.seed}")
    return "\n".join(lines)
