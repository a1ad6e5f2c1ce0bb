"""`instar distill --task token-classification`: a class of each word, of names in sentences or parts of speech."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.metrics import f1_score

from instar.data import TaggedSequences
from instar.errors import UsageError
from instar.jobs import duration
from instar.recipes.reading_settings import checked, merge, read_config_file
from instar.recipes.result_tables import accuracy_bars, differences_table, rows_table
from instar.recipes.rows import ACCURACY
from instar.recipes.study import Page, Result, Study
from instar.recipes.tokens.measuring import Row, headline, measured, networks_in_words, place_of, rounds
from instar.recipes.tokens.plan import TokensConfig, TokensPlan, check_networks, with_defaults
from instar.recipes.tokens.scoring import Scores
from instar.reports import Headline, Table
from instar.structures import is_tagged

NO_NAME = "O"
"""The tag of words that are no part of a name, in the forms IOB and BIO."""


class TagsConfig(TokensConfig):
    """The configuration of `instar distill --task token-classification`."""


_NETWORK = {"optimiser": "adamw", "weight_decay": 0.01, "gradient_clip": 1.0, "batch_size": 16, "epochs": 10}
_DEFAULTS: dict[str, Any] = {
    "teacher": {"network": "transformer:2x128", "learning_rate": 2e-3, **_NETWORK},
    "student": {"network": "textconv:32-32", "learning_rate": 5e-3, **_NETWORK},
}


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> TagsConfig:
    """The configuration: defaults, a TOML file over them, `typed` over both.

    Raises:
        UsageError: a key is unknown or its value is wrong, or no data are named.
    """
    content = merge(read_config_file(config_file), typed)
    data = content.get("data")
    if not isinstance(data, Mapping) or data.get("name") is None:
        raise UsageError("which words and tags? --data conll:FILE, jsonl:FILE, parquet:FILE or hf:PATH")
    return checked(TagsConfig, with_defaults(content, _DEFAULTS))


def check(plan: TokensPlan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: the data has no class at each word, or a network cannot learn from it.
    """
    if not is_tagged(plan.splits.train.example_shape):
        raise UsageError(
            f"{plan.splits.name} has no class of each word: expected a column with lists of words and one with as "
            "many tags, --text COLUMN --label COLUMN, or conll:FILE"
        )
    check_networks(plan)


def _measure(plan: TokensPlan, _: None) -> dict[str, Any]:
    """The result: rows in percent of the test words that are right, over the students' seeds.

    A row has the interval over sentences, F1 over the tags of names (micro, of words, not of whole names) where
    one tag is `O`, NLL, calibration, and how near it is to the teacher. Differences are paired by seed, and have
    an interval over sentences too.
    """
    names, test = plan.splits.class_names, plan.splits.test
    assert isinstance(test, TaggedSequences)
    others = [number for number, name in enumerate(names) if name != NO_NAME]

    def more(one: Scores) -> Row:
        found: Row = {"test_nll": float(one.nll.sum() / len(one.labels))}
        if len(others) < len(names):
            about: dict[str, Any] = {"labels": others, "average": "micro", "zero_division": 0.0}
            found["f1_of_names"] = 100 * float(f1_score(one.labels.numpy(), one.found.numpy(), **about))
        return found

    result = measured(plan, ACCURACY, lambda one: 100 * one.right, more)
    for row in result["rows"]:
        del row["test_accuracy"]  # the mean
    return {**result, "details": result["details"] | _about_data(plan)}


def _about_data(plan: TokensPlan) -> Row:
    train, test = plan.splits.train, plan.splits.test
    labels = train.labels(train.ids)
    return {
        "num_train_words": int((labels >= 0).sum()),
        "num_train_sentences": len(train),
        "num_test_sentences": len(test),
        "tags": ", ".join(plan.splits.class_names),
        "preparation": "" if plan.splits.preparation is None else plan.splits.preparation.in_words(),
    }


def answer(result: Result) -> Headline:
    """What the first kind of targets adds to labels alone."""

    def said(distilled: Row, alone: Row, teacher: Row | None, verdict: str) -> str:
        taught = f"; the teacher on {teacher['mean']:.2f} %" if teacher else ""
        return (
            f"Distilled ({distilled['name']}), the student is right on {distilled['mean']:.2f} % of the words "
            f"after {alone['mean']:.2f} % on labels alone, {verdict}{taught}."
        )

    return headline(result, said, unit="points", digits=2)


def _table(result: Result) -> Table:
    details = result["details"]
    caption = (
        f"{details['num_train_words']:,} training words in {details['num_train_sentences']:,} sentences, "
        f"{details['preparation']}; {result['num_test']:,} words of {details['num_test_sentences']:,} test "
        "sentences. F1 is of single words that are a part of a name, not of whole names."
    )
    return rows_table(result, "A class of each word", caption)


def page(plan: TokensPlan, result: Result) -> Page:
    """The report."""
    return Page(
        f"Words: {networks_in_words(plan.config)}",
        f"{duration(result['fit_seconds'])} of training",
        [
            accuracy_bars(result, caption="95 % intervals over seeds of the students, which share one teacher."),
            _table(result),
            differences_table(result, caption="Paired by seed; over sentences by bootstrap."),
        ],
        again=(
            f"instar distill --task token-classification --config {plan.path / 'config.toml'} --run-dir runs/again"
        ),
    )


STUDY: Study[TagsConfig, TokensPlan, None] = Study(
    recipe="token-classification",
    place=lambda config: place_of(config, "words"),
    plan=TokensPlan,
    check=check,
    rounds=rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=page,
    answer=answer,
    table=_table,
    published=lambda config: f"words-{config.data.name.partition(':')[0]}",
)
"""The study."""
