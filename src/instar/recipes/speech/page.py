"""A trained recogniser in a sentence, a table and a page."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tomli_w

from instar.jobs import duration
from instar.reports import Code, Column, Details, Headline, Lines, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none

if TYPE_CHECKING:
    from instar.recipes.speech.plan import Plan


def answer(result: Mapping[str, Any]) -> Headline:
    """How many words are wrong, of whom, and how fast it hears them."""
    row = result["rows"][0]
    rate = f"{row['wer']:.1f} % of the words are wrong [{row['low']:.1f}, {row['high']:.1f}]"
    who = ", ".join(result["speakers"]["test"][:3])
    factor = result["metrics"]["real_time_factor"]
    detail = (
        f"{row['num_words']} words in {row['num_recordings']} recordings of {who}, whom training "
        f"{'heard too' if _are_shared(result) else 'never heard'}; 95 % interval over recordings. Frame accuracy "
        f"{row['frame_accuracy']:.1f} % of {result['num_states']} states. Real-time factor {factor:.3f}."
    )
    others = {other["name"]: other for other in result["rows"][1:]}
    if others:
        detail += " " + ", ".join(f"{name}: {other['wer']:.1f} %" for name, other in others.items()) + "."
    return Headline(f"{rate}.", detail)


def _are_shared(result: Mapping[str, Any]) -> bool:
    return bool(set(result["speakers"]["train"]) & set(result["speakers"]["test"]))


def result_table(result: Mapping[str, Any]) -> Table:
    """Every network that was tested."""
    return Table(
        "Recognisers",
        result["rows"],
        columns=[
            Column("name", "recogniser"),
            Column("network"),
            Column("num_parameters", "weights", "{:si}"),
            Column("wer", "WER", "{:.1f} [{low:.1f}, {high:.1f}]", note="word error rate on test, percent"),
            Column("substitutions", "wrong"),
            Column("insertions", "inserted"),
            Column("deletions", "missing"),
            Column("frame_accuracy", "frames", "{:.1f}", note="frame accuracy on test, percent"),
        ],
        highlight=0,
    )


def write_recogniser_page(run: Run, plan: "Plan", result: Mapping[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = plan.config
    confusions = result["confusions"][:20]
    for row in confusions:
        row["said"], row["heard"] = row["said"] or "(nothing)", row["heard"] or "(nothing)"
    sections: list[Section] = [
        answer(result),
        result_table(result),
        Lines(
            "Validation while it learns",
            result["curves"],
            x="epoch",
            y="validation_nll",
            series="network",
            y_title="negative log-likelihood, nats a frame",
        ),
        Table(
            "By speaker",
            result["by_speaker"],
            columns=[Column("speaker"), Column("recordings"), Column("words"), Column("wer", "WER, %", "{:.1f}")],
        ),
    ]
    if confusions:
        sections.append(Table("What was heard as what", confusions, caption="The most frequent twenty."))
    if result["skipped"]:
        skipped = Table("Skipped", result["skipped"][:50])
        sections.append(Details(f"{len(result['skipped'])} utterances were not aligned", [skipped]))
    sections += [
        Text(
            [f"{part}: {', '.join(speakers)}" for part, speakers in result["speakers"].items()], title="Who speaks"
        ),
        Code("Use it", f"instar speech decode {run.path} recording.wav"),
        Code("Get it again", f"instar speech train --config {run.path / 'config.toml'} --run-dir runs/again"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"A recogniser of {result['num_words']} words: {config.data.name}",
        sections,
        subtitle=f"Hinton, Vinyals and Dean 2015, section 4, on your recordings; {duration(result['seconds'])}",
        series=plan.kinds,
    )
