"""The page of `instar advise`: the advice in a sentence, the treatments tried, the scores, the cost."""

from collections.abc import Mapping
from typing import Any

from instar.jobs import duration
from instar.recipes.advise.plan import Plan
from instar.recipes.result_tables import result_tables
from instar.recipes.rows import interval
from instar.recipes.study import Page, Result
from instar.reports import Bars, Column, Headline, Table, Text

SCORES = {
    "probe_accuracy": ("Linear probe", "accuracy on validation, %"),
    "h_score": ("H-score", "H-score, shrunk covariance"),
    "logme": ("LogME", "log evidence per example above the lowest, nats"),
}


def answer(result: Result) -> Headline:
    """Which layers to keep, frozen or fine-tuned, the expected accuracy, and what more certainty would cost."""
    best = next(row for row in result["rows"] if row["chosen"])
    expect = f"expect {best['mean']:.1f} % on test {interval(best)}"
    if best["cut"] == 0:
        sentence = f"Copy nothing, train from scratch: {expect}."
    else:
        kept = (
            f"first {best['cut']} layers (to {best['layer']})"
            if best["cut"] > 1
            else f"first layer ({best['layer']})"
        )
        what = "them" if best["cut"] > 1 else "it"
        how = f"fine-tune {what}" if best["fine_tune"] else f"freeze {what}"
        usual = f" ({best['usual']})" if "usual" in best else ""
        sentence = f"Keep the {kept} and {how}{usual}: {expect}."
    cost, num_validation = result["details"]["cost"], result["details"]["num_validation"]
    about = (
        f"{best['interval']}; chosen on {num_validation:,} validation examples. The advice took "
        f"{_cost(cost['advice'])}. For more certainty, full fits of all {cost['study']['fits']} treatments take "
        f"about {_cost(cost['study'])} per seed."
    )
    return Headline(sentence, " ".join([about, *_against(result)]))


def _cost(cost: Mapping[str, Any]) -> str:
    return f"{cost['multiplications']:.2g} multiplications and {duration(cost['seconds'])}"


def _against(result: Result) -> list[str]:
    """The advice minus the other treatments that were fitted in full, in points."""
    usual = {row["name"]: row.get("usual", row["name"]) for row in result["rows"]}
    return [
        f"Against {usual[row['minus']]}: {row['mean']:+.1f} points {interval(row, sign=True) or ''}".strip() + "."
        for row in result["differences"]
    ]


def result_table(result: Result) -> Table:
    """Every treatment that was tried."""
    fitted = {row["name"]: row for row in result["rows"]}
    rows = []
    for tried in result["tuning"]:
        row = fitted.get(tried["name"])
        last = [row["validation_accuracy"]] if row else []
        accuracies = " → ".join(f"{accuracy:.1f}" for accuracy in [*tried["validation_by_round"], *last])
        test = f"{row['mean']:.1f} {interval(row)}" if row else None
        failed = "failed" if "failed" in tried else None
        rows.append({"usual": None, **tried, "validation": failed or accuracies, "test": test})
    chosen = next(row["name"] for row in result["rows"] if row["chosen"])
    return Table(
        "Treatments tried",
        rows,
        columns=[
            Column("name", "treatment"),
            Column("usual", "also called"),
            Column("validation", note="accuracy after each short fit and after the full fit, percent"),
            Column("test", note="accuracy and its 95 % interval, percent; only after a full fit"),
            Column("multiplications", "cost", "{:.2g}", note="multiplications of its fits"),
        ],
        highlight=[row["name"] for row in rows].index(chosen),
        caption="AnB: the first n layers copied and frozen; +: fine-tuned; baseB: none copied.",
    )


def advise_page(plan: Plan, result: Result) -> Page:
    """The report of a run."""
    config, scores = plan.config, result["details"]["scores"]
    lowest = min(row["logme"] for row in scores)  # the evidence has no zero to draw bars from
    scored = [{**row, "place": f"{row['cut']} {row['layer']}", "logme": row["logme"] - lowest} for row in scores]
    bars = [
        Bars(title, scored, category="place", value=key, category_title="cut after layer", value_title=unit)
        for key, (title, unit) in SCORES.items()
    ]
    how = Text(
        "First the features that the network computes at every cut are scored, without training. Then "
        f"successive halving: short fits at the {config.num_cuts} cuts with the best linear probes (always with "
        "the deepest), frozen and fine-tuned, and of one network from scratch; each round keeps the best "
        f"{100 * config.keep:.0f} % on validation for longer fits. The best of the last round are fitted in full. "
        "Validation chooses; test is read once, after that. The full study, with which the cost is compared, fits "
        "every cut in full, frozen and fine-tuned, and one network from scratch. The training of the network "
        "whose layers are copied counts for neither.",
        title="How it was found",
    )
    return Page(
        f"What to keep of {config.network} for {config.data.name}",
        f"{result['details']['num_train']:,} training examples of {result['details']['num_classes']} classes; "
        f"{duration(result['seconds'])}",
        [result_table(result), how, *bars, *result_tables({**result, "tuning": []})],
        again=f"instar advise --config {plan.path / 'config.toml'} --run-dir runs/again",
    )
