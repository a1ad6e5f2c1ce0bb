"""The tables in the `details` of results: which key has which table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from instar.recipes.rows import Row
from instar.reports import Column

INTERVAL = "95 % interval"
DIFFERENCE = Column("name", "difference", "{name} - {minus}")


class Detail(NamedTuple):
    """A table in the details of a result."""

    key: str
    title: str
    columns: Sequence[Column]
    rows: Callable[[Any], Iterable[Row]] = iter


def _claims(findings: Sequence[Row]) -> Iterable[Row]:
    """A row for each claim of the paper's findings."""
    for finding in findings:
        for claim in finding["claims"]:
            yield {**claim, "finding": finding["finding"], "network": finding["network"]}


def _boosts(parts: Mapping[str, Row]) -> Iterable[Row]:
    return ({"network": part["network"], **boost} for part in parts.values() for boost in part["boosts"])


def _parts(parts: Mapping[str, Row]) -> Iterable[Row]:
    for name, part in parts.items():
        yield {**part, "part": name, "layers": ", ".join(layer["name"] for layer in part["layers"])}


def _costs(cost: Mapping[str, Row]) -> Iterable[Row]:
    return ({"name": name, **about} for name, about in cost.items())


def _correlations(rows: Sequence[Row]) -> Iterable[Row]:
    return ({**row, "score": row["score"].replace("_", " ")} for row in rows)


def _single(row: Row) -> Iterable[Row]:
    return [row]


_POINTS = (Column("mean", "points", "{:+.2f}"), Column("low", INTERVAL, "[{low:+.2f}, {high:+.2f}]"))
_BOOSTS = (
    Column("network"),
    DIFFERENCE,
    Column("layers"),
    *_POINTS,
    Column("pooled", "pooled", "{:+.2f}"),
    Column("n"),
)
FINDINGS = Detail(
    "findings",
    "The paper's findings",
    (
        Column("finding", "claim", "{finding}. {claim}"),
        Column("network"),
        Column("paper", "paper", "{:+.1f}"),
        Column("number", "points", "{:+.2f}"),
        _POINTS[1],
        Column("n"),
        Column("holds"),
        Column("rule"),
    ),
    _claims,
)
DETAILS = (
    Detail("parts", "Boosts (pooled: as in the paper)", _BOOSTS, _boosts),
    Detail("boosts", "Boosts (pooled: as in the paper)", _BOOSTS[1:]),
    Detail(
        "curve",
        "Accuracy by the number of images",
        (
            Column("images_per_class", "images per class", "{:g}"),
            Column("mean", "accuracy, %", "{:.2f}"),
            Column("low", INTERVAL, "[{low:.2f}, {high:.2f}]"),
            Column("n"),
        ),
    ),
    Detail("parts", "Parts", (Column("part"), Column("network"), Column("halves"), Column("layers")), _parts),
    Detail(
        "relative_gain",
        "Gain of the specialists, % of the accuracy of the generalist",
        (
            Column("mean", "gain", "{:+.2f}"),
            Column("low", INTERVAL, "[{low:+.2f}, {high:+.2f}]"),
            Column("n"),
            Column("paper", "paper", "{:+.1f}"),
        ),
        _single,
    ),
    Detail(
        "by_coverage",
        "By the number of specialists that cover the class",
        (
            Column("num_specialists", "specialists"),
            Column("examples", "examples", "{:,.0f}"),
            Column("change", "more right", "{:+.1f}"),
            Column("relative_change", "relative", "{:+.1f} %"),
        ),
    ),
    Detail(
        "forgetting",
        "Full softmax: accuracy on the special classes and on the others, %",
        (
            Column("name", "trained on"),
            Column("special", "special", "{:.2f}"),
            Column("rest", "others", "{:.2f}"),
            Column("n"),
        ),
    ),
    Detail(
        "kept",
        "What one network keeps of the gain",
        (
            Column("gain", "gain, points", "{:+.2f}"),
            Column("gain_distilled", "distilled", "{:+.2f}"),
            Column("percent", "kept", "{:.0f} %"),
            Column("n"),
        ),
        _single,
    ),
    Detail(
        "members",
        "The teachers of the ensemble",
        (
            Column("name", "teacher"),
            Column("network"),
            Column("test_errors", "test errors", "{:.0f}"),
            Column("test_nll", "NLL", "{:.4f}"),
            Column("test_calibration_error", "calibration error", "{:.2%}"),
        ),
    ),
    Detail(
        "hint_layers",
        "Layers that teach",
        (
            Column("loss"),
            Column("teacher"),
            Column("teacher_layer", "layer of the teacher"),
            Column("student_layer", "layer of the student"),
        ),
    ),
    Detail("sensitivity", "Whether settings matter", (Column("sentence", "on validation"),)),
    Detail(
        "recovered",
        "Share of the loss on few images that soft targets recover",
        (
            Column("percent", "images", "{:g} %"),
            Column("share", "recovered", "{:.0%}"),
            Column("low", INTERVAL, "[{low:.0%}, {high:.0%}]"),
            Column("n"),
        ),
    ),
    Detail(
        "shares",
        "Shares of a gain",
        (
            Column("name", "system"),
            Column("of", "gain"),
            Column("gain", "points", "{:.2f} [{gain_low:.2f}, {gain_high:.2f}]"),
            Column("verdict"),
            Column("share", "kept", "{:.0%} [{low:.0%}, {high:.0%}]"),
            Column("paper", "paper", "{:.0%}"),
        ),
    ),
    Detail(
        "correlations",
        "Rank correlations of the cheap scores with test accuracy",
        (
            Column("score"),
            Column("with", "copied layers"),
            Column("mean", "mean", "{:+.2f}", note="Spearman's, over the cuts"),
            Column("low", INTERVAL, "[{low:+.2f}, {high:+.2f}]"),
            Column("lowest", "worst pair", "{:+.2f}"),
            Column("n", "pairs", note="where neither was constant"),
        ),
        _correlations,
    ),
    Detail(
        "scores",
        "Scores of the features at every cut",
        (
            Column("cut", "n"),
            Column("layer", "to layer"),
            Column("num_features", "features", note="large maps are averaged over areas first"),
            Column("probe_accuracy", "linear probe, %", "{:.1f}", note="accuracy on validation"),
            Column("h_score", "H-score", "{:.3f}"),
            Column("logme", "LogME", "{:.3f}"),
        ),
    ),
    Detail(
        "cost",
        "Cost",
        (
            Column("name", "of"),
            Column("fits"),
            Column("multiplications", "", "{:.3g}", note="a backward pass counts as two forward passes"),
            Column("seconds", "seconds", "{:,.0f}"),
        ),
        _costs,
    ),
)
"""The tables in the details, in their order."""
