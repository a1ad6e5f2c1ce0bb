"""The advice in a sentence, a table and a page."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from instar.jobs import duration
from instar.recipes.advise.plan import Plan
from instar.reports import Bars, Code, Column, Details, Headline, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none

SCORES = {
    "probe_accuracy": ("Linear probe", "accuracy on validation, %"),
    "h_score": ("H-score", "H-score, shrunk covariance"),
    "logme": ("LogME", "log evidence per example above the lowest, nats"),
}


def answer(result: Mapping[str, Any]) -> Headline:
    """Which layers to keep, frozen or not, what to expect, and what it would cost to know better."""
    best = next(row for row in result["rows"] if row["chosen"])
    expect = f"expect {best['mean']:.1f} % on test [{best['low']:.1f}, {best['high']:.1f}]"
    how = "let them learn on" if best["fine_tune"] else "freeze them"
    usual = f" ({best['usual']})" if best["usual"] else ""
    if best["cut"] == 0:
        sentence = f"Copy nothing, train from scratch: {expect}."
    else:
        kept = f"first {best['cut']} layers (to {best['layer']})" if best["cut"] > 1 else f"layer {best['layer']}"
        sentence = f"Keep the {kept} and {how}{usual}: {expect}."
    cost = result["cost"]
    about = (
        f"{best['interval']}; chosen on {result['num_validation']:,} validation examples. The advice took "
        f"{_cost(cost['advice'])}. To know better, all {cost['study']['fits']} treatments fitted to the end "
        f"take about {_cost(cost['study'])} for each seed."
    )
    return Headline(sentence, " ".join([about, *_against(result)]))


def _cost(cost: Mapping[str, Any]) -> str:
    return f"{cost['multiplications']:.2g} multiplications and {duration(cost['seconds'])}"


def _against(result: Mapping[str, Any]) -> list[str]:
    """What the advice is worth beside the usual ways, where they were fitted to the end."""
    words = []
    for row in result["rows"]:
        if row.get("advice_minus") is not None:
            low, high = row["advice_minus_low"], row["advice_minus_high"]
            interval = f" [{low:+.1f}, {high:+.1f}]" if low is not None else ""
            words.append(f"Against {row['usual'] or row['name']}: {row['advice_minus']:+.1f} points{interval}.")
    return words


def result_table(result: Mapping[str, Any]) -> Table:
    """Every treatment that was tried."""
    rows = []
    for row in result["rows"]:
        last = [row["validation_accuracy"]] if row["mean"] is not None else []
        rounds = " → ".join(f"{accuracy:.1f}" for accuracy in [*row["validation_by_round"], *last])
        test = None if row["mean"] is None else f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
        rows.append({**row, "rounds": "failed" if row.get("failed") else rounds or None, "test": test})
    return Table(
        "Treatments tried",
        rows,
        columns=[
            Column("name", "treatment"),
            Column("usual", "also called"),
            Column("rounds", "validation", note="accuracy after each short fit and that to the end, percent"),
            Column(
                "test", "test", note="accuracy and its 95 % interval, percent; read where it was fitted to the end"
            ),
            Column("multiplications", "cost", "{:.2g}", note="multiplications of its fits"),
        ],
        highlight=next(number for number, row in enumerate(rows) if row["chosen"]),
        caption="AnB: the first n layers copied and frozen; +: they learn on; baseB: none copied.",
    )


def score_table(result: Mapping[str, Any]) -> Table:
    """The cheap scores of the features at every cut."""
    return Table(
        "Scores of the features at every cut",
        result["scores"],
        columns=[
            Column("cut", "n"),
            Column("layer", "to layer"),
            Column("num_features", "features", note="large maps are averaged over areas first"),
            Column("probe_accuracy", "linear probe", "{:.1f}", note="accuracy on validation, percent"),
            Column("h_score", "H-score", "{:.3f}"),
            Column("logme", "LogME", "{:.3f}"),
        ],
    )


def write_advise_page(run: Run, plan: Plan, result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    lowest = min(row["logme"] for row in result["scores"])  # evidence has no zero to draw bars from
    scored = [
        {**row, "place": f"{row['cut']} {row['layer']}", "logme": row["logme"] - lowest}
        for row in result["scores"]
    ]
    bars = [
        Bars(title, scored, category="place", value=key, category_title="cut after layer", value_title=unit)
        for key, (title, unit) in SCORES.items()
    ]
    sections: list[Section] = [
        answer(result),
        result_table(result),
        Text(
            "First the features that the network gives at every cut are computed once and scored, with no "
            f"training. At {plan.config.num_cuts} cuts that the linear probe does best at, the deepest among "
            "them, short fits are tried, frozen and learning on, beside one from scratch; the best "
            f"{100 * plan.config.keep:.0f} % of each round go on to a longer one. The best of the last round are "
            "fitted to the end. Validation chooses; test is read once, after that.",
            title="How it was found",
        ),
        *bars,
        score_table(result),
        _cost_table(result),
        Code("Get it again", f"instar advise --config {run.path / 'config.toml'} --run-dir runs/again"),
        Details(
            "Configuration",
            [Code("config.toml", tomli_w.dumps(without_none(plan.config.model_dump(mode="json"))))],
        ),
    ]
    write_page(
        run.path / REPORT,
        f"What to keep of {plan.config.network} for {plan.target.name}",
        sections,
        subtitle=f"{result['num_train']:,} training examples of {len(plan.splits.class_names)} classes; "
        f"{duration(result['seconds'])}",
    )


def _cost_table(result: Mapping[str, Any]) -> Section:
    names = {"advice": "this advice", "study": "the full study, one seed, about"}
    rows = [{"what": names[key], **cost} for key, cost in result["cost"].items()]
    return Table(
        "What it costs",
        rows,
        columns=[
            Column("what", ""),
            Column("fits", "fits"),
            Column(
                "multiplications", "multiplications", "{:.3g}", note="a backward pass counts as two forward ones"
            ),
            Column("seconds", "seconds", "{:.1f}"),
        ],
        caption="The study fits every cut, frozen and learning on, and one network from scratch, to the end. "
        "Training the network that layers are copied from is in neither.",
    )
