"""The tables of any result: what docs/results.md, `instar report` and `instar runs show` have in common."""

from collections.abc import Sequence
from typing import Any

from instar.recipes.choosing import tuning_table
from instar.recipes.detail_tables import DETAILS, DIFFERENCE, FINDINGS, INTERVAL, Detail
from instar.recipes.learning import FAILED
from instar.recipes.rows import SCHEMA, Row, mean_sd
from instar.reports import Bars, Column, Table
from instar.reports.formats import MINUS

_LABELS = (
    Column("part"),
    Column("name"),
    Column("network"),
    Column("loss"),
    Column("usual", "also called"),
    Column("advice"),
    Column("best"),
    Column("effect"),
)
"""What rows and differences are of."""

_FAILED = Column(FAILED, "failed to learn", "{} of {n}", note="no better than guessing on what it learned from")
_ABOUT_ROWS = (
    _FAILED,
    Column("chosen"),
    Column("advice_accuracy", "advice, %", "{:.2f}"),
    Column("best_accuracy", "best, %", "{:.2f}"),
    Column("cost_ratio", "cost", "{:.3f}", note="multiplications of the advice over those of the full study"),
    Column("within_goal"),
    Column("bootstrap_low", "95 % over recordings", "[{bootstrap_low:.2f}, {bootstrap_high:.2f}]"),
    Column("frame_accuracy", "frames, %", "{:.1f}"),
    Column("train_frame_accuracy", "on training frames, %", "{:.1f}"),
    Column("paper_wer", "WER of the paper, %", "{:g}"),
    Column("wer", "WER, %", "{wer:.2f}"),
    Column("wer_bootstrap_low", "95 % of WER", "[{wer_bootstrap_low:.2f}, {wer_bootstrap_high:.2f}]"),
    Column("num_networks", "networks"),
    Column("perplexity", "perplexity", "{:.2f}", note="of a token"),
    Column("perplexity_per_byte", "per byte", "{:.4f}", note="perplexity: whatever the tokens are"),
    Column("low_documents", "95 % over documents", "[{low_documents:.3f}, {high_documents:.3f}]"),
    Column("test_accuracy", "accuracy", "{:.2%}"),
    Column("f1_of_names", "F1 of names, %", "{:.2f}", note="micro, over the words whose tag is not O"),
    Column("test_nll", "NLL", "{:.3f}", note="negative log-likelihood, nats"),
    Column("test_calibration_error", "calibration error", "{:.2%}", note="adaptive, 15 bins"),
    Column("in_scope_accuracy", "within the intents", "{:.2%}", note="accuracy on what is of one of them"),
    Column("out_of_scope_recall", "outside found", "{:.2%}", note="of what is of none of the intents"),
    Column("teacher_agreement", "agrees", "{:.2%}", note="predicts the same class as the teacher"),
    Column("kl_from_teacher", "KL from the teacher", "{:.4f}", note="nats"),
    Column("epochs", "epochs", "{:,}"),
    Column("specialists_used", "specialists per example", "{:.2f}"),
    Column("conditional_accuracy", "among special classes, %", "{:.2f}"),
    Column("inference_times", "cost in use", "{:.2f}x"),
    Column("training_times", "cost of training", "{:.2f}x"),
    Column("training_seconds", "seconds", "{:,.0f}"),
    Column("parallel_seconds", "seconds in parallel", "{:,.0f}"),
    Column("multiplications", "multiplications", "{:si}"),
    Column("parameters", "weights", "{:,}"),
    Column("bytes", "size", "{:si}B", note="float32"),
    Column("latency_ms", "latency", "{:.3f} ms", note="median, batch 1, one CPU thread"),
    Column("num_train", "training examples"),
)
_ABOUT_DIFFERENCES = (
    Column("low_examples", "95 % over test examples", "[{low_examples:+.1f}, {high_examples:+.1f}]"),
    Column("low_documents", "95 % over documents", "[{low_documents:+.3f}, {high_documents:+.3f}]"),
    Column("bootstrap_low", "95 % over recordings", "[{bootstrap_low:+.2f}, {bootstrap_high:+.2f}]"),
    Column("wer", "WER, points", "{:+.2f}"),
    Column("wer_bootstrap_low", "95 % over recordings", "[{wer_bootstrap_low:+.2f}, {wer_bootstrap_high:+.2f}]"),
)
"""What else a row or a difference may have; a table has the columns that its result has."""


def is_study(result: Row) -> bool:
    """Whether a result is that of a study, in the schema that is described in `instar.recipes.rows`."""
    return result.get("schema") == SCHEMA


def result_tables(result: Row) -> list[Table]:
    """The tables of a result of schema 2: findings, rows, differences, details, what validation compared.

    Example:
        >>> row = {"name": "student", "mean": 72.0, "sd": 2.8, "n": 2, "low": 46.6, "high": 97.4}
        >>> measure = {"title": "test errors", "unit": "errors"}
        >>> [table.title for table in result_tables({"measure": measure, "rows": [row]})]
        ['Test errors']
    """
    details = result.get("details", {})
    found = [
        _detail_table(FINDINGS, details),
        rows_table(result) if result["rows"] else None,
        differences_table(result) if result.get("differences") else None,
        *(_detail_table(detail, details) for detail in DETAILS),
        _numbers_table(details),
        tuning_table(result["tuning"]) if result.get("tuning") else None,
    ]
    return [table for table in found if table is not None]


def rows_table(result: Row, title: str = "", caption: str = "") -> Table:
    """The rows: what they are of, the paper's figure, mean ± sd, the interval, n, and what else they have."""
    measure, rows = result["measure"], _without_chance(result["rows"])
    digits = _digits(measure["unit"])
    for row in rows:
        row["mean_sd"] = mean_sd(row, digits).replace("-", MINUS) + (f" {row['unit']}" if "unit" in row else "")
        for cost in ("inference", "training"):
            if f"{cost}_cost" in row:
                row[f"{cost}_times"] = row[f"{cost}_cost"] / rows[0][f"{cost}_cost"]
    number = f".{digits}f"
    columns = [
        *_telling(rows, _LABELS),
        Column("paper", "paper", "{:g}"),
        Column("mean_sd", "mean ± sd"),
        Column("low", INTERVAL, f"[{{low:{number}}}, {{high:{number}}}]"),
        Column("n"),
        *_ABOUT_ROWS,
    ]
    return _table(title or measure_title(measure), rows, columns, caption)


def _without_chance(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Copies; without an interval where several seeds gave the same number, which is chance and no certainty."""
    return [{**row, "low": None, "high": None} if row.get("sd") == 0 else dict(row) for row in rows]


def measure_title(measure: Row) -> str:
    """What the mean of a row is, with its unit.

    Example:
        >>> from instar.recipes.rows import ACCURACY, ERRORS
        >>> [measure_title(measure._asdict()) for measure in (ACCURACY, ERRORS)]
        ['Test accuracy, %', 'Test errors']
    """
    title, unit = str(measure["title"]), measure["unit"]
    return title[0].upper() + title[1:] + ("" if title.endswith(unit) else f", {unit}")


def failed_columns(rows: Sequence[Row]) -> list[Column]:
    """The column of how many networks failed to learn, for tables of rows of which some did."""
    return [_FAILED] if any(FAILED in row for row in rows) else []


def accuracy_bars(result: Row, *, caption: str) -> Bars:
    """The rows of a result in test accuracy, with their intervals."""
    return Bars(
        "Accuracy",
        result["rows"],
        category="name",
        value="mean",
        low="low",
        high="high",
        value_title="% on test",
        caption=caption,
    )


def differences_table(result: Row, title: str = "Differences", caption: str = "") -> Table:
    """The differences: what is compared, the mean, the interval, n, and what else they have."""
    unit, rows = result["measure"]["unit"], _without_chance(result["differences"])
    number = f"+z.{_digits(unit)}f"
    labels = [DIFFERENCE if label.key == "name" else label for label in _telling(rows, _LABELS)]
    columns = [
        *labels,
        Column("mean", "points" if unit == "%" else unit, f"{{:{number}}}"),
        Column("low", INTERVAL, f"[{{low:{number}}}, {{high:{number}}}]"),
        Column("n"),
        *_ABOUT_DIFFERENCES,
    ]
    return _table(title, rows, columns, caption)


_WORDS = {
    "num_train": "training examples",
    "num_validation": "validation examples",
    "num_classes": "classes",
    "num_recordings": "test recordings",
    "num_words": "words in them",
    "commonest_class_errors": "errors of always predicting the commonest class",
    "weights_of_ensemble": "weights of the ensemble over the student's",
    "top_n": "best guesses that decide which specialists are asked",
}
"""Keys of details, in words."""


def _numbers_table(details: Row) -> Table | None:
    """The single numbers and words of the details."""
    single = {key: "none" if value is None else value for key, value in details.items() if _is_single(value)}
    rows = [{"what": _WORDS.get(key, key.replace("_", " ")), "value": value} for key, value in single.items()]
    return _table("Details", rows, [Column("what"), Column("value")]) if rows else None


def _detail_table(detail: Detail, details: Row) -> Table | None:
    rows = list(detail.rows(details[detail.key])) if detail.key in details else []
    return _table(detail.title, rows, detail.columns) if rows else None


def _is_single(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _digits(unit: str) -> int:
    return 1 if unit == "errors" else 3 if unit == "nats" else 2


def _telling(rows: Sequence[Row], labels: Sequence[Column]) -> list[Column]:
    """The labels without a network that all rows share."""
    networks = {row.get("network") for row in rows}
    return [label for label in labels if label.key != "network" or len(networks) > 1]


def _table(title: str, rows: Sequence[Row], columns: Sequence[Column], caption: str = "") -> Table:
    """A table of the columns that have a value in some row."""
    shown = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    return Table(title, rows, columns=shown, caption=caption)
