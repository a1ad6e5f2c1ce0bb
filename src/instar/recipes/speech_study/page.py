"""The page of the speech study: the paper's figures and ours, where the errors are, and recordings to hear."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tomli_w

from instar.jobs import duration
from instar.recipes.speech_study.plan import BASELINE, distilled_name, fraction_name
from instar.recipes.speech_study.sounds import sounds_of
from instar.reports import Bars, Code, Column, Details, Headline, Lines, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none

if TYPE_CHECKING:
    from instar.recipes.speech_study.plan import Study
    from instar.recipes.speech_study.recipe import Findings

_NOTHING = "—"


def answer(result: Mapping[str, Any]) -> Headline:
    """What the study found, in a sentence."""
    share = result["shares"][0]
    rows = {row["name"]: row for row in result["rows"]}
    one = rows["distilled"]
    gain = f"The ensemble's gain is {share['gain']:.1f} points"
    if share["share"] is None:
        sentence = f"Undecided: {gain[0].lower()}{gain[1:]} of frame accuracy, and its interval includes zero."
    else:
        sentence = (
            f"{gain} of frame accuracy; one distilled net keeps {share['share']:.0%} of it "
            f"({share['low']:.0%} to {share['high']:.0%})."
        )
    return Headline(
        sentence,
        f"The paper: 2.2 points, of which 86 % was kept. Here {one['n']} speakers were held out in turn, with "
        f"{one['num_nets']} distilled nets.",
    )


def result_table(result: Mapping[str, Any]) -> Table:
    """Every row of `result.json` beside the paper's figures."""
    rows = []
    for row in result["rows"]:
        spread = "" if row["sd"] is None else f" ± {row['sd']:.1f}"
        rows.append(
            {
                **row,
                "frames": f"{row['frame_accuracy']:.1f}{spread}",
                "words": f"{row['wer']:.1f} [{row['wer_low']:.1f}, {row['wer_high']:.1f}]",
                "theirs": _theirs(row),
            }
        )
    return Table(
        "The paper and ours",
        rows,
        columns=[
            Column("name", "system"),
            Column("theirs", "paper", note="frames right / WER, %, with 14,000 states and a large vocabulary"),
            Column("frames", "frames", note="right of the test's, %, mean ± sd over the speakers held out"),
            Column("train_frame_accuracy", "train", "{:.1f}", note="frames right of those learned from, %"),
            Column("words", "WER", note="of connected words, %, with its bootstrap interval over recordings"),
            Column("n", note="speakers held out in turn; the single nets of a fold are averaged first"),
        ],
        caption=f"Test: {result['test']}; {result['num_words']:,} words, {result['num_frames']:,} frames.",
    )


def _theirs(row: Mapping[str, Any]) -> str | None:
    if row["paper"] is None:
        return None
    return f"{row['paper']:g}" + ("" if row["paper_wer"] is None else f" / {row['paper_wer']:g}")


def write_speech_page(run: Run, study: "Study", findings: "Findings", result: dict[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = study.config
    sections: list[Section] = [
        answer(result),
        result_table(result),
        _shares_table(result),
        _differences_table(result),
        *sounds_of(study),
        _temperatures(study, result),
        *_fraction_curves(study, result),
        *_noise_bars(result),
        *_confusions(findings),
        Table(
            "Temperature chosen on validation",
            result["tuning"],
            caption="Errors on the validation speaker of each fold, who is not its test speaker; the fewest win.",
        ),
        Code("Get it again", f"instar reproduce speech --scale {config.scale} --data {config.data.name}"),
        Details(
            "Configuration", [Code("config.toml", tomli_w.dumps(without_none(config.model_dump(mode="json"))))]
        ),
    ]
    write_page(
        run.path / REPORT,
        f"Speech: an ensemble distilled, on {config.data.name} ({config.scale})",
        sections,
        subtitle="Hinton, Vinyals and Dean 2015, sections 4 and 6, repeated; all its fits took "
        f"{duration(result['fit_seconds'])} of one core",
    )


def _shares_table(result: Mapping[str, Any]) -> Table:
    rows = []
    for share in result["shares"]:
        has = share["share"] is not None
        interval = f"[{share['low']:.0%}, {share['high']:.0%}]" if has else None
        kept = f"{share['share']:.0%}" if has else "undecided"
        rows.append({**share, "kept": kept, "interval": interval})
    return Table(
        "How much of a gain is kept",
        rows,
        columns=[
            Column("name", "system"),
            Column("of", "of the gain"),
            Column("gain", "gain, points", "{:.2f}"),
            Column("kept", "kept", note="share of the gain in right frames; undecided where the gain may be zero"),
            Column("interval", "95 % interval", note="bootstrap over recordings"),
            Column("paper", "paper", "{:.0%}"),
        ],
    )


def _differences_table(result: Mapping[str, Any]) -> Table:
    rows = []
    for one in result["differences"]:
        row = {"name": one["name"], "n": one["n"]}
        for key in ("frame_accuracy", "wer"):
            low, high = one[f"{key}_low"], one[f"{key}_high"]
            row[key] = one[key]
            row[f"{key}_folds"] = None if low is None else f"[{low:+.2f}, {high:+.2f}]"
            row[f"{key}_recordings"] = f"[{one[f'{key}_bootstrap_low']:+.2f}, {one[f'{key}_bootstrap_high']:+.2f}]"
        rows.append(row)
    return Table(
        "Differences",
        rows,
        columns=[
            Column("name", "difference"),
            Column("frame_accuracy", "frames, points", "{:+.2f}"),
            Column("frame_accuracy_folds", "over speakers", note="paired t interval over the speakers held out"),
            Column("frame_accuracy_recordings", "over recordings", note="bootstrap interval over test recordings"),
            Column("wer", "WER, points", "{:+.2f}"),
            Column("wer_folds", "over speakers"),
            Column("wer_recordings", "over recordings"),
            Column("n", "n"),
        ],
        caption="baseline-longer learns for as many steps as the distilled net does: the equal budget.",
    )


def _temperatures(study: "Study", result: Mapping[str, Any]) -> Section:
    rows = {row["name"]: row for row in result["rows"]}
    ensemble = f"ensemble-{study.config.ensemble_size}"
    drawn = []
    for temperature in study.config.temperatures:
        for name in (distilled_name(temperature), BASELINE, ensemble):
            label = "distilled" if name.startswith("distilled") else name
            accuracy = rows[name]["frame_accuracy"]
            drawn.append({"temperature": temperature, "accuracy": accuracy, "system": label})
    return Lines(
        "Temperature",
        drawn,
        x="temperature",
        y="accuracy",
        series="system",
        log_x=True,
        points=True,
        y_title="test frames right, %",
        caption="Mean over the speakers held out.",
    )


def _fraction_curves(study: "Study", result: Mapping[str, Any]) -> list[Section]:
    rows = {row["name"]: row for row in result["rows"]}
    curve, peak = [], []
    for one in study.config.fractions:
        for way in ("hard", "soft"):
            accuracy = rows[fraction_name(way, one.percent)]["frame_accuracy"]
            curve.append({"percent": one.percent, "accuracy": accuracy, "targets": f"{way} targets"})
    for way in ("hard", "soft"):
        curve.append({"percent": 100, "accuracy": rows[BASELINE]["frame_accuracy"], "targets": f"{way} targets"})
    percent = study.config.fractions[0].percent
    for way in ("hard", "soft"):
        path = study.path / "jobs" / "fold-0" / fraction_name(way, percent) / "0"
        lines = Run.read(path).result()["rows"]
        peak += [{**line, "targets": f"{way} targets"} for line in lines]
    return [
        Lines(
            "A share of the utterances",
            curve,
            x="percent",
            y="accuracy",
            series="targets",
            log_x=True,
            points=True,
            x_title="percent of the utterances",
            y_title="test frames right, %",
            caption="Labels stopped at their best validation epoch, soft targets to the end; 100 % is baseline.",
        ),
        Lines(
            f"Peak and fall at {percent:g} %",
            peak,
            x="epoch",
            y="validation_errors",
            series="targets",
            y_title="validation frames wrong",
            caption="The first net of the first fold, after each epoch.",
        ),
    ]


def _noise_bars(result: Mapping[str, Any]) -> list[Section]:
    rows = result["by_speaker_and_noise"]
    distilled = [row for row in rows if row["name"] == "distilled"]
    columns = [
        Column("speaker"),
        Column("noise"),
        Column("name", "system"),
        Column("wer", "WER, %", "{:.1f}"),
        Column("frame_accuracy", "frames right, %", "{:.1f}"),
        Column("words", "words"),
    ]
    return [
        Bars(
            "Word errors by speaker and noise",
            distilled,
            category="speaker",
            value="wer",
            series="noise",
            value_title="WER of the distilled net, %",
            caption="Each speaker as heard by nets that never heard them.",
        ),
        Details("By speaker and noise, three systems", [Table("", rows, columns=columns)]),
    ]


def _confusions(findings: "Findings") -> list[Section]:
    counts: dict[tuple[str, str], int] = {}
    for test in findings.tests:
        for row in test["rows"]:
            if row["name"] == "distilled":
                for said, heard, count in row["confusion"]:
                    pair = said or _NOTHING, heard or _NOTHING
                    counts[pair] = counts.get(pair, 0) + count
    words = sorted({word for pair in counts for word in pair} - {_NOTHING})
    if len(words) > 12:
        wrong = sorted(((count, *pair) for pair, count in counts.items() if pair[0] != pair[1]), reverse=True)
        worst = [{"said": said, "heard": heard, "times": count} for count, said, heard in wrong[:20]]
        return [Table("Words confused most", worst)] if worst else [Text("No word was confused.")]
    order = [*words, _NOTHING]
    table = [{"said": said, **{heard: counts.get((said, heard), 0) for heard in order}} for said in order]
    caption = (
        f"Rows: what was said. Columns: what the distilled nets of all folds heard; {_NOTHING} is nothing: a word "
        "that was missed, or one that nobody said."
    )
    return [Table("Confusion of words", table, caption=caption)]
