"""What the card of an exported network says of its run, in sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.data import Splits
from instar.data.kinds.table import TablePreparation
from instar.naming import is_of_library
from instar.recipes.rows import interval, mean_sd
from instar.runs import CONFIG, RESULT, Run, find_run, is_run
from instar.structures import form_in_words, is_plain, written_form
from instar.transfer import wilson_interval

Facts = dict[str, Any]


def facts_of(
    path: Path, splits: Splits, test: Mapping[str, float], machine: Mapping[str, Any], *, to: str
) -> Facts:
    """The facts of a fit's card; `card_text` says which.

    Args:
        path: the run directory of the fit.
        splits: its data.
        test: the scores of its network on test, and `num_examples`.
        machine: versions and processor.
        to: the format of the export.
    """
    run = Run.read(path)
    config, command = run.config, _command(path)
    form, name = splits.train.example_shape, _data_name(splits.name)
    shape = written_form(form)
    kind_of_rows = None if splits.preparation is None else splits.preparation.kind
    is_picture = is_plain(form) and len(form) == 3 and form[0] in (1, 3) and kind_of_rows in (None, "picture")
    right = int(test["num_examples"] - test["errors"])
    _, low, high, _ = wilson_interval(right, int(test["num_examples"]))
    kind = "distilled" if config.get("soft") else ""
    rows: Facts | None = None
    if splits.roles is not None and kind_of_rows is not None and kind_of_rows != "picture":
        rows = {"kind": kind_of_rows, "columns": list(splits.roles.inputs)}
        if isinstance(splits.preparation, TablePreparation):
            rows["row"] = splits.preparation.example
    facts: Facts = {
        "title": f"{_network_name(config)} for {name}" + (", distilled" if kind else ""),
        "tags": ["knowledge-distillation"] if kind else [],
        "to": to,
        "run": "/".join(path.parts[-4:]) if command else path.name,
        "network": _network_name(config),
        "data_name": name,
        "class_names": list(splits.class_names),
        "input_shape": shape,
        "colours": {1: "grey", 3: "rgb"}[shape[0]] if is_picture else None,
        "size": shape[1:] if is_picture else None,
        "normalisation": config.get("normalisation") or {},
        "scale": config.get("scale", 1 / 255),
        "example": "picture.png" if is_picture else _EXAMPLES.get(str(kind_of_rows), "arrays.npy"),
        "rows": rows,
        "tokenizer": sorted(name for name in config.get("described", {}) if name.startswith("tokenizer")),
        "versions": {key: machine[key] for key in ("instar", "torch", "python")},
        "machine": machine["processor"],
        "test": {**test, "low": low, "high": high},
        "data": _about_data(name, splits, config),
        "training": _about_training(config, command),
    }
    return {**facts, "results": _about_results(facts["test"], command, _name_of(path, command))}


_EXAMPLES = {"text": "rows.csv", "table": "rows.csv", "sound": "clip.wav"}


def _command(path: Path) -> Run | None:
    """The run of the command that a fit belongs to; None where it was moved."""
    places = [place for place, part in enumerate(path.parts) if part == "jobs"]
    folder = Path(*path.parts[: places[-1]]) if places else None
    return Run.read(folder) if folder is not None and (folder / CONFIG).is_file() else None


def _name_of(path: Path, command: Run | None) -> str:
    """The name of a fit in its command: `student-distilled`."""
    if command is None:
        return ""
    name = path.relative_to(command.path / "jobs")
    return str(name.parent if name.name.startswith("seed-") else name)


def _network_name(config: Mapping[str, Any]) -> str:
    name = str(config.get("adopted", config)["network"]).partition("@")[0]
    library, _, folder = name.partition(":") if is_of_library(name) else ("", "", name)
    is_here = folder.startswith(("/", ".", "~"))  # others are names in the hub
    return ":".join(filter(None, (library, Path(folder).name))) if is_here else name


def _data_name(name: str) -> str:
    """The name of data without the folders above it."""
    scheme, colon, place = name.partition(":")
    return f"{scheme}:{Path(place).name}" if colon and scheme != "python" else name


def _about_data(name: str, splits: Splits, config: Mapping[str, Any]) -> list[str]:
    parts = ((splits.train, "training"), (splits.validation, "validation"), (splits.test, "test"))
    counts = ", ".join(f"{len(part):,} {what}" for part, what in parts)
    said = [f"`{name}`: {len(splits.class_names)} classes; {counts} examples."]
    form = splits.train.example_shape
    if is_plain(form):
        scale = config.get("scale", 1 / 255)
        said.append(f"Examples have the shape {form_in_words(form)}; integers were multiplied by {scale:.6g}.")
    else:
        said.append(f"An example is {form_in_words(form)}.")
    if normalisation := config.get("normalisation"):
        numbers = ", ".join(f"{key} {[round(one, 4) for one in value]}" for key, value in normalisation.items())
        said.append(f"Inputs were normalised with {numbers} for each channel.")
    return said


def _about_training(config: Mapping[str, Any], command: Run | None) -> list[str]:
    fit, soft = config["fit"], config.get("soft")
    if "adopted" in config or config.get("weights"):
        return ["It was taken as it was, with its weights, and not trained by the run."]
    said = [f"{fit['epochs']} epochs, learning rate {fit['learning_rate']:g}, seed {config.get('seed', 0)}."]
    if soft:
        teachers = _teachers(soft, command)
        said.insert(
            0,
            f"Distilled (Hinton, Vinyals and Dean 2015) from {teachers} with soft targets at temperature "
            f"{float(soft['temperature']):g}, weights {soft['soft_weight']:g} (soft) and {soft['hard_weight']:g} "
            "(labels).",
        )
    else:
        said.insert(0, "Trained on labels.")
    if transfer := config.get("transfer"):
        said.append(f"What it learned from: {', '.join(f'{key} {value}' for key, value in transfer.items())}.")
    return said


def _teachers(soft: Mapping[str, Any], command: Run | None) -> str:
    """The networks that the soft targets come from, in words."""
    if soft.get("store"):
        return "the teachers of a store of soft targets"
    names = [f"{command.path}:{teacher}" for teacher in soft["teachers"]] if command else []
    known = [_network_name(Run.read(find_run(name)).config) for name in names if is_run(name)]
    found = sorted(set(known)) or ["its teacher"]
    which = " and ".join(f"`{name}`" if known else name for name in found)
    return which if len(soft["teachers"]) == 1 else f"an ensemble of {len(soft['teachers'])}, {which}"


def _about_results(test: Mapping[str, float], command: Run | None, name: str) -> list[str]:
    n, num_errors = int(test["num_examples"]), int(test["errors"])
    said = [
        f"On {n:,} test examples this network makes {num_errors} error{'s' * (num_errors != 1)}: accuracy "
        f"{100 * test['accuracy']:.2f} %, 95 % Wilson interval over test examples {100 * test['low']:.2f} to "
        f"{100 * test['high']:.2f}; calibration error {100 * test['calibration_error']:.1f} %."
    ]
    result = command.read_json(RESULT) if command is not None else None
    row = next((row for row in (result or {}).get("rows", []) if row["name"] == name), None)
    if result is None or row is None or "measure" not in result:
        return said
    unit = result["measure"]["unit"]
    over = f", 95 % interval {interval(row)}" if interval(row) else ""
    said.append(f"Over n = {row['n']} seeds of this kind: {mean_sd(row)} {unit} on test{over}.")
    for one in result.get("differences", []):
        if one["name"] == name:
            over = f", 95 % interval {interval(one, sign=True)}, n = {one['n']}" if interval(one) else ""
            said.append(f"Compared with {one['minus']}: {one['mean']:+.1f} {unit}{over}.")
    return said
