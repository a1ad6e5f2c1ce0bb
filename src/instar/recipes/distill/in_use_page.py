"""The files of a distillation on its page: a table, and errors over latency and over bytes."""

from typing import Any

from instar.reports import Column, Lines, Section, Table

Row = dict[str, Any]


def in_use_sections(about: Row) -> list[Section]:
    """A table of all files, and two curves through those of each network."""
    rows = about["rows"]
    said = [about["sentence"], *(one["sentence"] for one in about.get("at_one", {}).values())]
    caption = (
        f"{' '.join(said)} ONNX files by onnxruntime; milliseconds of the processor for one example, one thread; "
        "int8 is quantised with training data, and student-distilled-int8 was fine-tuned before with the same "
        "soft targets and all roundings in place. Files are chosen by their errors on validation. The teacher has "
        "one seed."
    )
    columns = [
        Column("name", "network"),
        Column("form"),
        Column("validation_errors", "on validation", "{:.1f}"),
        Column("mean", "test errors", "{mean:.1f}"),
        Column("sd", "sd", "{:.1f}"),
        Column("n", "seeds"),
        Column("latency_ms", "ms", "{:.3g}"),
        Column("bytes", "size", "{:si}B"),
    ]
    table = Table("In use", rows, columns=columns, caption=caption)
    by = [("latency_ms", "latency", "milliseconds for one example"), ("bytes", "size", "bytes of the file")]
    low, high = (key if any(one[key] is not None for one in rows) else None for key in ("low", "high"))
    charts = [
        Lines(
            f"Errors over {what}", rows, x=key, y="mean", series="name", x_title=title, y_title="test errors",
            low=low, high=high, points=True, log_x=True,
            caption="A line leads from a network in floating point to its eight bits.",
        )
        for key, what, title in by
    ]  # fmt: skip
    return [table, *charts]
