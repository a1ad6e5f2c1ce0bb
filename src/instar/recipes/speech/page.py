"""A trained recogniser in a sentence, a table and a page."""

from collections.abc import Mapping
from typing import Any

from instar.jobs import duration
from instar.recipes.result_tables import failed_columns
from instar.recipes.speech.plan import Plan
from instar.recipes.study import Page
from instar.reports import Code, Column, Details, Headline, Lines, Section, Table, Text

_MOST_CONFUSIONS, _MOST_SKIPPED = 20, 50


def answer(result: Mapping[str, Any]) -> Headline:
    """The word error rate, on which speakers, and the speed."""
    row, details = result["rows"][0], result["details"]
    rate = f"Word error rate {row['mean']:.1f} % [{row['bootstrap_low']:.1f}, {row['bootstrap_high']:.1f}]"
    speakers = details["speakers"]
    seen = "also in" if {*speakers["train"]} & {*speakers["test"]} else "not in"
    detail = (
        f"{row['num_words']} words in {row['num_recordings']} recordings of {', '.join(speakers['test'][:3])}, "
        f"{seen} the training data; 95 % interval over recordings. Frame accuracy {row['frame_accuracy']:.1f} % "
        f"of {details['num_states']} states. Real-time factor {result['metrics']['real_time_factor']:.3f}."
    )
    others = ", ".join(f"{other['name']}: {other['mean']:.1f} %" for other in result["rows"][1:])
    return Headline(f"{rate}.", f"{detail} {others[:1].upper()}{others[1:]}." if others else detail)


def result_table(result: Mapping[str, Any]) -> Table:
    """All tested networks."""
    return Table(
        "Recognisers",
        result["rows"],
        columns=[
            Column("name", "recogniser"),
            Column("network"),
            Column("parameters", "weights", "{:si}"),
            Column("mean", "WER", "{:.1f} [{bootstrap_low:.1f}, {bootstrap_high:.1f}]", note="on test, percent"),
            Column("substitutions"),
            Column("insertions"),
            Column("deletions"),
            Column("frame_accuracy", "frames", "{:.1f}", note="frame accuracy on test, percent"),
            *failed_columns(result["rows"]),
        ],
        highlight=0,
    )


def page(plan: Plan, result: Mapping[str, Any]) -> Page:
    """The page of a recogniser."""
    details = result["details"]
    confusions = [
        {**row, "said": row["said"] or "(nothing)", "heard": row["heard"] or "(nothing)"}
        for row in details["confusions"][:_MOST_CONFUSIONS]
    ]
    sections: list[Section] = [
        result_table(result),
        Lines(
            "Validation during training",
            details["curves"],
            x="epoch",
            y="validation_nll",
            series="network",
            y_title="negative log-likelihood, nats per frame",
        ),
        Table(
            "By speaker",
            details["by_speaker"],
            columns=[Column("speaker"), Column("recordings"), Column("words"), Column("wer", "WER, %", "{:.1f}")],
        ),
    ]
    if confusions:
        sections.append(Table("Confused words", confusions, caption=f"The {len(confusions)} most frequent."))
    if details["skipped"]:
        skipped = Table("Skipped", details["skipped"][:_MOST_SKIPPED])
        sections.append(Details(f"{len(details['skipped'])} utterances were not aligned", [skipped]))
    columns = [
        *map(Column, ("name", "acoustic_scale", "word_penalty")),
        Column("validation_errors", "word errors"),
    ]
    sections.append(Details("Decoders compared on validation", [Table("", result["tuning"], columns=columns)]))
    speakers = [f"{part}: {', '.join(names)}" for part, names in details["speakers"].items()]
    sections += [
        Text(speakers, title="Speakers"),
        Code("Use it", f"instar speech decode {plan.path} recording.wav"),
    ]
    return Page(
        f"A recogniser of {details['num_words']} words: {plan.config.data.name}",
        f"Hinton, Vinyals and Dean 2015, section 4, on your recordings; {duration(result['seconds'])}",
        sections,
        series=plan.kinds,
        again=f"instar speech train --config {plan.path / 'config.toml'} --run-dir runs/again",
    )
