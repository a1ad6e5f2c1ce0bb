"""The page of the speech study: the paper's figures and ours, where the errors are, and sounds."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instar.data.readers.audio import wav_bytes
from instar.jobs import duration
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import result_tables
from instar.recipes.speech.data import load_recordings
from instar.recipes.speech.reproduction_plan import BASELINE, DISTILLED, Plan
from instar.recipes.study import Page
from instar.reports import Audio, Bars, Column, Details, Headline, Lines, Section, Sound, Span, Table, Text, Track
from instar.speech.features import log_mel

_NOTHING = "—"
_MOST_WORDS = 12  # in a table of confusions
_READING = (
    "n counts the speakers held out in turn; the networks of a fold are averaged first. Intervals over recordings "
    "are bootstrapped over test strings. baseline-longer is trained for as many steps as a distilled network: the "
    "equal budget. A share is undecided if the gain may be zero. The paper had 14,000 states and a large "
    "vocabulary. Temperatures are compared on the validation speaker of each fold, who is not its test speaker."
)
Result = Mapping[str, Any]


def answer(result: Result) -> Headline:
    """How much of the ensemble's gain one distilled network keeps."""
    share = result["details"]["shares"][0]
    row = next(row for row in result["rows"] if row["name"] == DISTILLED)
    gain = f"ensemble's gain is {share['gain']:.1f} points of frame accuracy"
    if share["share"] is None:
        sentence = f"Undecided: the {gain}, and its interval includes zero."
    else:
        kept = f"{share['share']:.0%} of it ({share['low']:.0%} to {share['high']:.0%})"
        sentence = f"The {gain}; one distilled network keeps {kept}."
    return Headline(
        sentence,
        f"The paper: 2.2 points, of which 86 % was kept. Here {row['n']} speakers were held out in turn, with "
        f"{row['num_networks']} distilled networks.",
    )


def result_table(result: Result) -> Table:
    """The rows of the result."""
    return result_tables(result)[0]


def page(plan: Plan, result: Result) -> Page:
    """The page of the study."""
    name, scale = plan.config.data.name, plan.config.scale
    sections: list[Section] = [
        *result_tables(result),
        Text(_READING),
        _sounds(plan, result),
        _temperature_lines(result),
        *_fraction_lines(result),
        *_noise_bars(result),
        _confusions(result),
    ]
    return Page(
        f"Speech: an ensemble distilled, on {name} ({scale})",
        "Hinton, Vinyals and Dean 2015, sections 4 and 6, repeated; training took "
        f"{duration(result['fit_seconds'])} of one core",
        sections,
        again=repeat_command("speech", plan.config, plan.path),
    )


def _sounds(plan: Plan, result: Result) -> Section:
    """The examples with their sound and spectrogram."""
    corpus = load_recordings(plan.source(0))["test"].corpus
    items = []
    for example in result["details"]["examples"]:
        samples = corpus.audio(example["id"])
        heard = " ".join(word for word, *_ in example["heard"])
        caption = (
            f"{example['speaker']}, {example['condition']}: “{' '.join(example['said'])}”, heard as “{heard}”"
        )
        tracks = [Track("states", _spans(example["units"])), Track("heard", _spans(example["heard"]))]
        picture = spectrogram(log_mel(samples, corpus.sample_rate))
        items.append(Sound(wav_bytes(samples, corpus.sample_rate), caption, picture, tracks))
    return Audio(
        "Examples to see and hear",
        items,
        caption="40 mel filters over time, low frequencies at the bottom. Below: the units of the alignment, and "
        "the words recognised by a distilled network that was not trained on this speaker.",
    )


def _spans(spans: Iterable[tuple[str, float, float]]) -> list[Span]:
    return [Span(*span) for span in spans]


def spectrogram(features: Tensor) -> NDArray[np.uint8]:
    """Features as a picture: time from left to right, low filters at the bottom, high energy dark.

    Args:
        features: (frames, filters).

    Returns: (filters, frames) uint8.

    Example:
        >>> import torch
        >>> spectrogram(torch.tensor([[0.0, 1.0], [2.0, 4.0]])).tolist()
        [[191, 0], [255, 127]]
    """
    values = features.numpy().T[::-1]
    low, high = np.percentile(values, [1, 99.8]) if values.size > 100 else (values.min(), values.max())
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    pixels: NDArray[np.uint8] = (255 - 255 * scaled).astype(np.uint8)
    return pixels


def _mean_of(result: Result, start: str) -> float:
    """The mean of the first row whose name begins like this."""
    return next(float(row["mean"]) for row in result["rows"] if row["name"].startswith(start))


def _temperature_lines(result: Result) -> Section:
    students = {row["temperature"]: row["mean"] for row in result["rows"] if "temperature" in row}
    constant = {BASELINE: _mean_of(result, BASELINE), "ensemble": _mean_of(result, "ensemble")}
    drawn = [
        {"temperature": temperature, "accuracy": accuracy, "system": system}
        for temperature, mean in students.items()
        for system, accuracy in ({DISTILLED: mean} | constant).items()
    ]
    return Lines(
        "Temperature",
        drawn,
        x="temperature",
        y="accuracy",
        series="system",
        log_x=True,
        points=True,
        y_title="frame accuracy on test, %",
        caption="Mean over the held-out speakers.",
    )


def _fraction_lines(result: Result) -> list[Section]:
    baseline, curves = _mean_of(result, BASELINE), result["details"]["curves"]
    if not curves:
        return []
    taught = [(row["percent"], row["mean"], row["targets"]) for row in result["rows"] if "percent" in row]
    taught += [(100, baseline, targets) for targets in ("hard", "soft")]
    drawn = [
        {"percent": percent, "accuracy": mean, "targets": f"{targets} targets"}
        for percent, mean, targets in taught
    ]
    return [
        Lines(
            "A fraction of the utterances",
            drawn,
            x="percent",
            y="accuracy",
            series="targets",
            log_x=True,
            points=True,
            x_title="percent of the utterances",
            y_title="frame accuracy on test, %",
            caption="Labels keep the best epoch on validation, soft targets the last one; 100 % is the baseline.",
        ),
        Lines(
            f"Peak and fall at {curves[0]['percent']:g} %",
            curves,
            x="epoch",
            y="validation_errors",
            series="targets",
            y_title="wrong validation frames",
            caption="The first network of the first fold after each epoch.",
        ),
    ]


def _noise_bars(result: Result) -> list[Section]:
    rows = result["details"]["by_speaker_and_noise"]
    columns = [*map(Column, ("speaker", "noise", "name", "words"))]
    columns += [Column("wer", "WER, %", "{:.1f}"), Column("frame_accuracy", "frame accuracy, %", "{:.1f}")]
    bars = Bars(
        "Word errors by speaker and noise",
        [row for row in rows if row["name"] == DISTILLED],
        category="speaker",
        value="wer",
        series="noise",
        value_title="WER of the distilled network, %",
        caption="Each speaker by networks that were not trained on this speaker.",
    )
    return [bars, Details("By speaker and noise, three systems", [Table("", rows, columns=columns)])]


def _confusions(result: Result) -> Section:
    found = result["details"]["confusions"]
    counts = {(pair["said"] or _NOTHING, pair["heard"] or _NOTHING): pair["times"] for pair in found}
    words = sorted({word for pair in counts for word in pair} - {_NOTHING})
    if len(words) > _MOST_WORDS:
        wrong = sorted(((times, *pair) for pair, times in counts.items() if pair[0] != pair[1]), reverse=True)
        worst = [{"said": said, "heard": heard, "times": times} for times, said, heard in wrong[:20]]
        return Table("Most confused words", worst) if worst else Text("No word was confused.")
    order = [*words, _NOTHING]
    table = [{"said": said, **{heard: counts.get((said, heard), 0) for heard in order}} for said in order]
    caption = (
        "Rows: the words said. Columns: the words recognised by the distilled networks of all folds; "
        f"{_NOTHING} stands for no word (a deletion or an insertion)."
    )
    return Table("Confusion of words", table, caption=caption)
