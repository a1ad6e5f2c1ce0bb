"""What `instar runs` and `instar report` show of any recipe's runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instar.errors import UsageError
from instar.files import write_bytes
from instar.jobs import duration
from instar.recipes.result_tables import is_study, measure_title, result_tables
from instar.reports import Bars, Code, Column, Section, Table, Text, write_page
from instar.runs import CONFIG, REPORT, Run, find_run, list_runs


def runs_table(root: Path) -> Table | None:
    """The runs below a folder, or None where there are none."""
    rows = []
    for path in list_runs(root):
        run = Run.read(path)
        jobs = list((path / "jobs").rglob("DONE"))
        state = "done" if run.is_done else "not finished"
        about = {"run": str(path), "state": state, "fits": len(jobs), "took": None, "difference": None}
        if run.is_done:
            result = run.result()
            about["took"] = duration(result.get("seconds", 0.0))
            about["difference"] = _interval(result["metrics"])
        rows.append(about)
    note = "distilled minus alone, in test errors, with its 95 % interval over seeds"
    columns = [*map(Column, ("run", "state", "fits", "took")), Column("difference", note=note)]
    return Table("Runs", rows, columns=columns) if rows else None


def _interval(metrics: Mapping[str, Any]) -> str | None:
    if metrics.get("difference_low") is None:
        return None
    return "{difference:+.1f} [{difference_low:+.1f}, {difference_high:+.1f}]".format(**metrics)


def run_tables(path: Path) -> list[Table]:
    """The tables of a study, or the last epochs of a fit; and the settings."""
    run = Run.read(path)
    if not run.is_done:
        fits = sorted(str(done.parent.relative_to(path / "jobs")) for done in (path / "jobs").rglob("DONE"))
        raise UsageError(
            f"{path} is not finished ({len(fits)} fits are done): run the same command again to go on"
        )
    result = run.result()
    settings = [{"setting": key, "value": _short(value)} for key, value in _flat(result["config"]).items()]
    if is_study(result):
        return [*result_tables(result), Table("Settings", settings)]
    rows = result["rows"][-12:] or [result["metrics"]]
    caption = f"the last {len(rows)} of {len(result['rows'])}" if len(rows) < len(result["rows"]) else ""
    found = [Table(str(path), _upright(rows), caption=caption)] if any(rows) else []  # a store has no metrics
    return [*found, Table("Settings", settings)]


def _upright(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with many fields stand upright: a line a field, a column a row."""
    rounded = [{key: _short(value) for key, value in row.items()} for row in rows]
    if len(rounded[0]) <= 6 or "name" not in rounded[0]:
        return rounded
    keys = list(dict.fromkeys(key for row in rounded for key in row if key != "name"))
    return [{"": key, **{row["name"]: row.get(key) for row in rounded}} for key in keys]


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value if value is None else str(value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def comparison_tables(specs: Sequence[str]) -> list[Table]:
    """The rows of several runs beside each other, and the settings in which they differ.

    Raises:
        UsageError: fewer than two runs, or one that is not finished.
    """
    if len(specs) < 2:
        raise UsageError("compare takes two or more runs")
    runs = {str(spec): Run.read(find_run(spec)) for spec in specs}
    results = {name: run.result() for name, run in runs.items()}
    letters = {name: chr(ord("A") + number) for number, name in enumerate(results)}
    shown = ("test_errors", "mean", "sd", "n", "difference", "difference_low", "difference_high")
    rows = []
    for name, result in results.items():
        for row in result["rows"] or [{"name": "metrics", **result["metrics"]}]:
            kept = {key: _short(row.get(key)) for key in shown}
            rows.append({"run": letters[name], "name": row.get("name", f"epoch {row.get('epoch')}"), **kept})
    table = Table("Rows", rows, caption="; ".join(f"{letter} = {name}" for name, letter in letters.items()))
    flats = {letters[name]: _flat(run.config) for name, run in runs.items()}
    keys = list(dict.fromkeys(key for flat in flats.values() for key in flat))
    differing = [
        {"setting": key, **{letter: _short(flat.get(key)) for letter, flat in flats.items()}}
        for key in keys
        if len({json.dumps(flat.get(key)) for flat in flats.values()}) > 1
    ]
    same = Table("Settings", [{"setting": "all", "value": "the same"}])
    return [table, Table("Settings that differ", differing) if differing else same]


def write_report(specs: Sequence[str], out: Path) -> Path:
    """One page about several runs; for one run a copy of its own page, where it has one.

    Raises:
        UsageError: a run is not there, or not finished.
    """
    paths = [find_run(spec) for spec in specs]
    for path in paths:
        if not Run.read(path).is_done:
            raise UsageError(f"{path} is not finished: run the same command again to go on")
    if len(paths) == 1 and (paths[0] / REPORT).exists():
        write_bytes(out, (paths[0] / REPORT).read_bytes())
        return out
    tables = comparison_tables(specs) if len(specs) > 1 else run_tables(paths[0])
    sections: list[Section] = [*tables, *_bars(paths)]
    sections += [Code(str(path), (path / CONFIG).read_text()) for path in paths]
    title = f"{len(paths)} runs" if len(paths) > 1 else str(paths[0])
    return write_page(out, title, sections, subtitle=", ".join(map(str, paths)))


def _bars(paths: Sequence[Path]) -> list[Section]:
    """The means of the runs' rows, a chart for each thing that they measure."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, path in enumerate(paths):
        result = Run.read(path).result()
        title = measure_title(result["measure"]) if is_study(result) else "Means"
        for row in result["rows"]:
            if row.get("mean") is not None and "name" in row:
                sd = row.get("sd") or 0.0
                low, high = max(row["mean"] - sd, 0), row["mean"] + sd
                label = chr(ord("A") + number)
                about = {"name": row["name"], "run": label, "mean": row["mean"], "low": low, "high": high}
                rows.setdefault(title, []).append(about)
    if not rows:
        return [Text("These runs have no rows with a mean to draw.")]
    return [
        Bars(
            title,
            means,
            category="name",
            value="mean",
            series="run",
            low="low",
            high="high",
            caption="Mean over seeds; the line is one sd to each side.",
        )
        for title, means in rows.items()
    ]
