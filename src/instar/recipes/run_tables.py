"""What `instar runs` and `instar report` show of the runs of any experiment."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instar.errors import UsageError
from instar.files import write_bytes
from instar.recipes.observations import OBSERVATIONS
from instar.recipes.result_tables import is_study, measure_title, result_tables
from instar.recipes.words import where_to_read, words_section
from instar.reports import Bars, Code, Column, Section, Table, Text, write_page
from instar.runs import CONFIG, REPORT, Run, find_run, list_runs
from instar.transfer import treatment_name


def run_records(root: Path) -> list[dict[str, Any]]:
    """The runs below a folder: `run`, `recipe`, `done`, `fits`; if it is done also `seconds` and `difference`."""
    return [_record(path) for path in list_runs(root)]


def _record(path: Path) -> dict[str, Any]:
    run = Run.read(path)
    fits = len(list((path / "jobs").rglob("DONE")))
    record = {"run": str(path), "recipe": run.recipe, "done": run.is_done, "fits": fits}
    if not run.is_done:
        return record
    result = run.result()
    found = _main_difference(result)
    return record | {"seconds": result.get("seconds")} | ({"difference": found} if found else {})


def _main_difference(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The difference that is one of the metrics, or the first, with its unit; None where there is none."""
    metrics = result["metrics"]
    if is_study(result):
        unit, differences = result["measure"]["unit"], result.get("differences", [])
        found = next(
            (one for one in differences if one["mean"] in metrics.values()), next(iter(differences), None)
        )
        return None if found is None else {"unit": "points" if unit == "%" else unit, **found}
    if metrics.get("difference_low") is None:
        return None
    of = {"name": "student-distilled", "minus": "student-alone", "unit": "errors"}  # schema 1 had no others
    return {
        **of,
        "mean": metrics["difference"],
        "low": metrics["difference_low"],
        "high": metrics["difference_high"],
    }


def run_tables(path: Path) -> list[Table]:
    """The tables of a study, or the last epochs of a fit; and the settings."""
    run = Run.read(path)
    if not run.is_done:
        fits = sorted(str(done.parent.relative_to(path / "jobs")) for done in (path / "jobs").rglob("DONE"))
        raise UsageError(
            f"{path} is not finished ({len(fits)} fits are done): run the same command again to resume it"
        )
    result = run.result()
    settings = [{"setting": key, "value": _short(value)} for key, value in _flat(result["config"]).items()]
    if is_study(result):
        seen = [{"seen": one} for one in result.get("details", {}).get(OBSERVATIONS, [])]
        look = [Table("What to look at", seen, columns=[Column("seen", "in this result")])] if seen else []
        return [*look, *result_tables(result), Table("Settings", settings)]
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
    """The rows and differences of several runs beside each other, and the settings in which they differ.

    Raises:
        UsageError: fewer than two runs, or one that is not finished.
    """
    if len(specs) < 2:
        raise UsageError("compare takes two or more runs")
    runs = {str(spec): Run.read(find_run(spec)) for spec in specs}
    results = {_letter(number): run.result() for number, run in enumerate(runs.values())}
    names = "; ".join(f"{letter} = {name}" for letter, name in zip(results, runs, strict=True))
    rows = [_compared(letter, result, row) for letter, result in results.items() for row in _rows_of(result)]
    differences = [
        _compared(letter, result, {**one, "name": f"{one['name']} - {one['minus']}"})
        for letter, result in results.items()
        for one in result.get("differences", [])
    ]
    tables = [Table("Rows", rows, caption=names)]
    tables += [Table("Differences", differences)] if differences else []
    return [
        *tables,
        _differing_settings({letter: run.config for letter, run in zip(results, runs.values(), strict=True)}),
    ]


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _rows_of(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return result["rows"] or [{"name": "metrics", **result["metrics"]}]


def _compared(letter: str, result: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("test_errors", "mean", "sd", "n", "low", "high", "difference", "difference_low", "difference_high")
    of = {"of": measure_title(result["measure"])} if is_study(result) else {}
    found = {key: _short(row[key]) for key in shown if row.get(key) is not None}
    return {"run": letter, "name": _name_of(row), **of, **found}


def _name_of(row: Mapping[str, Any]) -> str:
    """What a row is of; rows of transfer had a treatment and a cut in place of a name in schema 1."""
    if "name" not in row and "treatment" not in row:
        return f"epoch {row.get('epoch')}"
    name = row["name"] if "name" in row else treatment_name(row["treatment"], row["cut"])
    return f"{row['part']}: {name}" if "part" in row else str(name)


def _differing_settings(configs: Mapping[str, Mapping[str, Any]]) -> Table:
    flats = {letter: _flat(config) for letter, config in configs.items()}
    keys = list(dict.fromkeys(key for flat in flats.values() for key in flat))
    differing = [
        {"setting": key, **{letter: _short(flat.get(key)) for letter, flat in flats.items()}}
        for key in keys
        if len({json.dumps(flat.get(key)) for flat in flats.values()}) > 1
    ]
    same = Table("Settings", [{"setting": "all", "value": "the same"}])
    return Table("Settings that differ", differing) if differing else same


def write_report(specs: str | Sequence[str], out: Path | str) -> Path:
    """One page about several runs; for one run a copy of its own page, where it has one.

    Raises:
        UsageError: a run is not there, or not finished.
    """
    specs, out = [specs] if isinstance(specs, str | Path) else specs, Path(out)
    paths = [find_run(spec) for spec in specs]
    for path in paths:
        if not Run.read(path).is_done:
            raise UsageError(f"{path} is not finished: run the same command again to resume it")
    if len(paths) == 1 and (paths[0] / REPORT).exists():
        write_bytes(out, (paths[0] / REPORT).read_bytes())
        return out
    tables = comparison_tables(specs) if len(specs) > 1 else run_tables(paths[0])
    sections: list[Section] = [*tables, *bars(paths)]
    sections += [Code(str(path), (path / CONFIG).read_text()) for path in paths]
    title = f"{len(paths)} runs" if len(paths) > 1 else str(paths[0])
    sections += words_section(sections)
    subtitle = ", ".join(map(str, paths))
    return write_page(out, title, sections, subtitle=subtitle, footer=where_to_read(__name__))


def bars(paths: Sequence[Path]) -> list[Section]:
    """The means of the runs' rows, a chart for each thing that they measure."""
    rows: dict[str, list[dict[str, Any]]] = {}
    has_sd = False
    for number, path in enumerate(paths):
        result = Run.read(path).result()
        title = measure_title(result["measure"]) if is_study(result) else "Means"
        for row in result["rows"]:
            if row.get("mean") is not None and "name" in row:
                sd = row.get("sd") or 0.0
                has_sd |= row.get("sd") is not None
                low = row["mean"] - sd
                if row["mean"] >= 0 and not _is_difference(result):
                    low = max(low, 0)  # no error or accuracy is below 0
                bar = {"name": row["name"], "run": _letter(number), "mean": row["mean"]}
                rows.setdefault(title, []).append({**bar, "low": low, "high": row["mean"] + sd})
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
            caption="Mean over seeds; the line is one sd to each side, where n is more than 1." if has_sd else "",
        )
        for title, means in rows.items()
    ]


def _is_difference(result: Mapping[str, Any]) -> bool:
    """Whether the rows of a result are differences of accuracies, which may be negative."""
    return is_study(result) and result["measure"]["unit"] == "points"
