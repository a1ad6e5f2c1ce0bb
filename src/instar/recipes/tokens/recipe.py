"""`instar distill --task causal-lm`, `instar reproduce tokens`: a language model into one of fewer weights."""

import math
from typing import Any

from instar.data import TokenDataset
from instar.jobs import duration
from instar.recipes.reproductions import CUSTOM, repeat_command
from instar.recipes.result_tables import differences_table, rows_table
from instar.recipes.rows import Measure
from instar.recipes.study import Page, Place, Result, Study
from instar.recipes.tokens.measuring import Row, headline, measured, networks_in_words, place_of, rounds
from instar.recipes.tokens.plan import TokensConfig, TokensPlan, check
from instar.reports import Bars, Headline, Table

NLL = Measure("nll", "NLL of a test token", "nats", "lower")


def _place(config: TokensConfig) -> Place:
    return place_of(config, "tokens") if config.scale == CUSTOM else Place("reproduce", f"tokens-{config.scale}")


def _measure(plan: TokensPlan, _: None) -> dict[str, Any]:
    """The result: rows in nats a test token, over the students' seeds, which share one teacher.

    A row has the perplexity of a token and of a byte, the interval over documents, accuracy, calibration, and how
    near it is to the teacher: the share of tokens with the same likeliest, and the KL. Differences are paired by
    seed, and have an interval over documents too. `details` has what the data are.
    """
    test = plan.splits.test
    assert isinstance(test, TokenDataset)
    result = measured(plan, NLL, lambda one: one.nll)
    for row in result["rows"]:
        row["perplexity"] = math.exp(row["mean"])
        row["perplexity_per_byte"] = math.exp(row["mean"] * result["num_test"] / float(test.num_bytes.sum()))
    return {**result, "details": _about_data(plan, test)}


def _about_data(plan: TokensPlan, test: TokenDataset) -> Row:
    train, preparation = plan.splits.train, plan.splits.preparation
    assert isinstance(train, TokenDataset)
    return {
        "num_train_tokens": train.num_positions,
        "num_train_documents": len(train.num_bytes),
        "num_test_documents": len(test.num_bytes),
        "num_test_bytes": int(test.num_bytes.sum()),
        "preparation": "" if preparation is None else preparation.in_words(),
        "documents": ". ".join(plan.splits.notes),
    }


def answer(result: Result) -> Headline:
    """What the first kind of targets adds to labels alone."""

    def said(distilled: Row, alone: Row, teacher: Row | None, verdict: str) -> str:
        taught = f"; the teacher has {teacher['perplexity']:.1f}" if teacher else ""
        return (
            f"Distilled ({distilled['name']}), the student reaches a perplexity of {distilled['perplexity']:.1f} "
            f"a token after {alone['perplexity']:.1f} on labels alone, {verdict}{taught}."
        )

    return headline(result, said, unit="nats a token", digits=3)


def _table(result: Result) -> Table:
    details = result["details"]
    caption = (
        f"{details['num_train_tokens']:,} training tokens, {details['preparation']}; {result['num_test']:,} "
        f"tokens of {details['num_test_documents']:,} test documents. {details['documents']}."
    )
    return rows_table(result, "Language models", caption)


def page(plan: TokensPlan, result: Result) -> Page:
    """The report."""
    config = plan.config
    bars = Bars(
        "Test tokens",
        result["rows"],
        category="name",
        value="mean",
        low="low",
        high="high",
        value_title="nats a token",
        caption="95 % intervals over seeds of the students, which share one teacher.",
    )
    again = f"instar distill --task causal-lm --config {plan.path / 'config.toml'} --run-dir runs/again"
    return Page(
        f"Tokens: {networks_in_words(config)}",
        f"{duration(result['fit_seconds'])} of training",
        [bars, _table(result), differences_table(result, caption="Paired by seed; over documents by bootstrap.")],
        again=again if config.scale == CUSTOM else repeat_command("tokens", config, plan.path),
    )


STUDY: Study[TokensConfig, TokensPlan, None] = Study(
    recipe="tokens",
    place=_place,
    plan=TokensPlan,
    check=check,
    rounds=rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=page,
    answer=answer,
    table=_table,
    published=lambda config: f"tokens-{config.scale}",
)
"""The study."""
