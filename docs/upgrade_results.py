"""Rewrite results/*.json of schema 1 to schema 2, with the same numbers: `python docs/upgrade_results.py`.

Schema 2 is described in `instar.recipes.rows`. What schema 1 did not keep stays absent: the values of the single
replicates of some studies, the spread of some differences, and the classes of each half.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instar.errors import UsageError
from instar.recipes.reading_settings import checked
from instar.recipes.rows import ACCURACY, ERRORS, SCHEMA
from instar.recipes.settings import Settings
from instar.runs import without_none

ROOT = Path(__file__).parents[1]
Result = Mapping[str, Any]
Row = Mapping[str, Any]
Rows = list[dict[str, Any]]


def main() -> None:
    """Rewrite the files."""
    for path in sorted((ROOT / "results").glob("*.json")):
        result = json.loads(path.read_text())
        if "rows" in result and "schema" not in result:
            path.write_text(json.dumps(upgrade(result), indent=2, allow_nan=False) + "\n")


def upgrade(result: Result) -> dict[str, Any]:
    """The same result in schema 2.

    Raises:
        UsageError: there is no rule for its recipe.
    """
    recipe = result["recipe"]
    if recipe == "reproduce":  # the name of two studies
        recipe = "reproduce-transfer" if "findings" in result else "reproduce-mnist"
    if recipe not in RULES:
        raise UsageError(f"{result['name']}: no rule upgrades a result of {recipe}; run it again")
    return RULES[recipe](result)


def framed(result: Result, recipe: str, config: Settings, **content: Any) -> dict[str, Any]:
    """A result with the keys that all have, in their order."""
    head = {"name": result["name"], "schema": SCHEMA, "recipe": recipe}
    kept = only(result, "num_test", "seconds", "fit_seconds", "environment")
    return {**head, "config": without_none(config.model_dump()), "metrics": result["metrics"], **content, **kept}


def only(row: Row, *keys: str) -> dict[str, Any]:
    """Some keys of a row, in this order."""
    return {key: row[key] for key in keys if key in row}


def without(row: Row, *keys: str) -> dict[str, Any]:
    """The other keys of a row."""
    return {key: value for key, value in row.items() if key not in keys}


def with_single_rates(config: Any) -> Any:
    """A configuration whose learning rates are numbers, where schema 1 had lists of one."""
    if not isinstance(config, Mapping):
        return config
    rates = only(config, "learning_rate")
    if isinstance(rates.get("learning_rate"), list):
        (rates["learning_rate"],) = rates["learning_rate"]
    return {**{key: with_single_rates(value) for key, value in config.items()}, **rates}


def differences_in(rows: Sequence[Row], minus: str, *more: str) -> Rows:
    """The differences that schema 1 had in the rows."""
    keys = ("sd", "low", "high", *more)
    return [
        {"name": row["name"], "minus": minus, "mean": row["difference"], "n": row["n"]}
        | {key: row[f"difference_{key}"] for key in keys if f"difference_{key}" in row}
        for row in rows
        if "difference" in row
    ]


def named_pair(row: Row) -> dict[str, Any]:
    """A difference whose name was `NAME - MINUS`."""
    name, minus = row["name"].split(" - ")
    return {"name": name, "minus": minus, **without(row, "name")}


def interval_of(mean: float, row: Row) -> dict[str, Any]:
    """The 95 % t interval of a mean, which follows from sd and n."""
    if row["n"] == 1:
        return {"low": None, "high": None}
    from scipy.special import stdtrit

    half = float(stdtrit(row["n"] - 1, 0.975)) * row["sd"] / math.sqrt(row["n"])
    return {"low": mean - half, "high": mean + half}


def distill(result: Result) -> dict[str, Any]:
    """The difference of a row becomes one of `differences`; `test_errors` was the mean once more."""
    from instar.recipes.distill.plan import ALONE
    from instar.recipes.distill.settings import DistillConfig

    config = {**result["config"], "teacher": with_single_rates(result["config"]["teacher"])}
    over_examples = ("low_examples", "high_examples")
    details = only(result, "members", "class_bias")
    if "num_transfer" in result:
        details["transfer"] = {"num_examples": result["num_transfer"], **only(result, "missing_classes")}
    return framed(
        result,
        "distill",
        checked(DistillConfig, config),
        measure=ERRORS._asdict(),
        rows=[
            {key: value for key, value in without(row, "test_errors").items() if not key.startswith("difference")}
            | interval_of(row["mean"], row)
            for row in result["rows"]
        ],
        differences=differences_in(result["rows"], ALONE, *over_examples),
        tuning=result["tuning"],
        seeds=result["seeds"],
        details=details,
    )


def reproduce_mnist(result: Result) -> dict[str, Any]:
    """The rows keep their values; a student that learns from labels alone has a learning rate and no loss."""
    from instar.recipes.distill.mnist import config_for

    def candidate(name: str, row: Row) -> dict[str, Any]:
        soft = ("temperature", "hard_weight", "label_weight") if name == "small-net" or "-hard" in name else ()
        return without(row, *soft)

    def row_of(row: Row) -> dict[str, Any]:
        unit = {"unit": "%"} if row["unit"] == "percent" else {}
        return {**without(row, "unit", "paper"), **unit, **without_none(only(row, "paper"))}

    return framed(
        result,
        "reproduce-mnist",
        config_for(result["config"]["scale"], result["config"]["data"]["name"]),
        measure=ERRORS._asdict(),
        rows=[row_of(row) for row in result["rows"]],
        tuning=[candidate(row["name"], row) for row in result["tuning"]],
        details={
            "choices": {name: candidate(name, row) for name, row in result["choices"].items()},
            "recovered": [without(row, "views") for row in result["recovered"]],
        },
    )


def transfer(result: Result) -> dict[str, Any]:
    """Rows and differences follow from the accuracies of the networks, which the file has."""
    from instar.recipes.transfer.settings import TransferConfig
    from instar.transfer import filter_verdict

    rows, differences, details = _transfer_part(result, result["rows"][0]["split"])
    if "filters" in result:
        details["filters"] = {"scores": result["filters"], "verdict": filter_verdict(result["filters"])}
    return framed(
        result,
        "transfer",
        checked(TransferConfig, with_single_rates(result["config"])),
        metrics={row["name"]: row["mean"] for row in rows},
        measure=ACCURACY._asdict(),
        rows=rows,
        differences=differences,
        seeds=details.pop("seeds"),
        details=without(details, "num_test"),
    )


def reproduce_transfer(result: Result) -> dict[str, Any]:
    """Rows and differences of all parts."""
    from instar.recipes.transfer.reproduction import config_for
    from instar.transfer import filter_verdict

    halves = {row["part"]: row["split"] for row in result["rows"]}
    parts = {name: _transfer_part(part, halves[name]) for name, part in result["parts"].items()}
    filters = {"scores": result["filters"], "verdict": filter_verdict(result["filters"])}
    return framed(
        result,
        "reproduce-transfer",
        config_for(result["config"]["scale"], result["config"]["data"]["name"]),
        measure=ACCURACY._asdict(),
        rows=[{"part": name, **row} for name, (rows, _, _) in parts.items() for row in rows],
        differences=[{"part": name, **row} for name, (_, rows, _) in parts.items() for row in rows],
        details={
            **only(result, "findings", "curve"),
            "parts": {name: details for name, (_, _, details) in parts.items()},
            "filters": filters,
        },
    )


def _transfer_part(part: Row, halves: str) -> tuple[Rows, Rows, dict[str, Any]]:
    from instar.recipes.transfer.results import rows_of, study_of, transitions
    from instar.transfer import boost_rows, difference_rows

    networks = [without_none(network) for network in part["networks"]]
    study, about = study_of(networks), {"network": part["network"], "halves": halves}
    rows = [{"name": row["name"], **about, **row} for row in rows_of(networks)]
    boosts = [
        {**row, "pooled": stored["as_in_paper"]}  # another Python summed in another order
        for row, stored in zip(boost_rows(study), part["boosts"], strict=True)
    ]
    details = {
        **about,
        "seeds": part["splits"],
        **only(part, "num_test", "layers"),
        "boosts": boosts,
        "transition": transitions(study),
        "networks": networks,
    }
    return rows, difference_rows(study), details


def transfer_or_distil(result: Result) -> dict[str, Any]:
    """The difference of a row becomes one of `differences`."""
    from instar.recipes.transfer.comparison import SCRATCH, config_for

    over_scratch = differences_in(result["rows"], SCRATCH)
    return framed(
        result,
        "reproduce-transfer-or-distil",
        config_for(result["config"]["scale"]),
        measure=ACCURACY._asdict(),
        rows=[only(row, "name", "mean", "sd", "n", "low", "high") for row in result["rows"]],
        differences=[*over_scratch, *map(named_pair, result["differences"])],
        seeds=list(range(result["config"]["seeds"])),
        details=only(result, "treatment", "num_train"),
    )


def advise(result: Result) -> dict[str, Any]:
    """Rows are the treatments with full fits; all that were tried are the tuning."""
    from instar.recipes.advise.settings import AdviseConfig

    def settings(row: Row) -> dict[str, Any]:
        return without_none(only(row, "name", "cut", "layer", "fine_tune", "copied", "usual"))

    config = checked(AdviseConfig, with_single_rates(result["config"]))
    full = [row for row in result["rows"] if row["mean"] is not None]
    best = next(row for row in full if row["chosen"])
    statistics = ("chosen", "validation_accuracy", "mean", "sd", "n", "low", "high", "interval")
    accuracy = {"accuracy": best["mean"], "accuracy_low": best["low"], "accuracy_high": best["high"]}
    metrics = ("validation_accuracy", "multiplications", "study_multiplications")
    over = {"mean": "advice_minus", "n": "n", "low": "advice_minus_low", "high": "advice_minus_high"}
    return framed(
        result,
        "advise",
        config,
        metrics=accuracy | only(result["metrics"], *metrics),
        measure=ACCURACY._asdict(),
        rows=[settings(row) | only(row, *statistics) for row in full],
        differences=[
            {"name": best["name"], "minus": row["name"]} | {key: row[old] for key, old in over.items()}
            for row in full
            if row is not best
        ],
        tuning=[settings(row) | _tried(row, result["num_validation"]) for row in result["rows"]],
        seeds=list(range(config.seed, config.seed + config.seeds)),
        details=only(result, "scores", "cost", "layers", "num_train", "num_validation"),
    )


def _tried(row: Row, num_validation: int) -> dict[str, Any]:
    """What `tuning` says of a treatment; its errors follow from its accuracy."""
    found = only(row, "validation_by_round", "multiplications", "seconds")
    if row.get("failed"):
        return {**found, "failed": row["failed"]}
    n, errors = row["n"], num_validation * (1 - row["validation_accuracy"] / 100)
    return {**found, "epochs": row["epochs"], "n": n, "validation_errors": round(errors * n) / n}


def reproduce_advise(result: Result) -> dict[str, Any]:
    """The usual ways are differences over the pairs, as the advice is."""
    from instar.intervals import over_seeds
    from instar.recipes.advise.reproduction import MEASURE, THE_CHOICE
    from instar.recipes.advise.reproduction_plan import config_for

    def cost(row: Row) -> dict[str, Any]:
        return {"advice": row["advice"], "study": {"fits": row["fits"], **row["study"]}}

    over_pairs = {"advice": over_seeds([row["mean"] for row in result["rows"]])._asdict(), **result["usual"]}
    words = {"tuned": "fine-tuned", "frozen": "frozen"}
    return framed(
        result,
        "reproduce-advise",
        config_for(result["config"]["scale"]),
        measure=MEASURE._asdict(),
        rows=[{**row, "cost": cost(row["cost"])} for row in result["rows"]],
        differences=[{"name": name, "minus": THE_CHOICE, **over} for name, over in over_pairs.items()],
        details={
            "correlations": [{**row, "with": words[row["with"]]} for row in result["correlations"]],
            "study": [{"name": row["treatment"], **without(row, "treatment")} for row in result["study"]],
            "scores_by_pair": result["scores"],
        },
    )


def specialists(result: Result) -> dict[str, Any]:
    """What only specialists have goes into `details`; `tuning` gets names and n."""
    from instar.recipes.specialists.plan import DISTILLED, GENERALIST, WITH
    from instar.recipes.specialists.settings import SpecialistsConfig

    names = {"generalist alone": GENERALIST, DISTILLED: DISTILLED}
    config = {**result["config"], "generalist": with_single_rates(result["config"]["generalist"])}
    pairs = [named_pair(row) for row in result["differences"]]
    known = [(row["name"], row["minus"]) for row in pairs]
    over_generalist = differences_in(result["rows"], GENERALIST)
    redundant = ("test_accuracy", "unit", "difference", "difference_low", "difference_high")
    details = ("sets", "top_n", "student", "num_sets", "relative_gain", "kept")
    return framed(
        result,
        "specialists",
        checked(SpecialistsConfig, config),
        measure=ACCURACY._asdict(),
        rows=[without(row, *redundant) for row in result["rows"]],
        differences=[*(row for row in over_generalist if (row["name"], GENERALIST) not in known), *pairs],
        tuning=[
            {"name": names.get(row["sets"], WITH), "n": 1}
            | without_none(without(row, "sets") if row["sets"] in names else row)
            for row in result["tuning"]
        ],
        details=only(result, *details, "by_coverage", "covered", "forgetting"),
        seeds=result["seeds"],
    )


def speech_study(result: Result) -> dict[str, Any]:
    """Frame accuracy becomes the mean of rows and differences; its interval over folds follows from sd and n."""
    from instar.recipes.speech.reproduction import FRAMES, config_for

    def row_of(row: Row) -> dict[str, Any]:
        return without(row, "frame_accuracy", "test", "wer_low", "wer_high", "num_nets") | {
            "wer_bootstrap_low": row["wer_low"],
            "wer_bootstrap_high": row["wer_high"],
            "num_networks": row["num_nets"],
            "mean": row["frame_accuracy"],
            **interval_of(row["frame_accuracy"], row),
        }

    def difference(row: Row) -> dict[str, Any]:
        renamed = {key.removeprefix("frame_accuracy_"): value for key, value in row.items()}
        renamed["mean"] = renamed.pop("frame_accuracy")
        return {**renamed, **only(named_pair(row), "name", "minus")}

    config = config_for(result["config"]["scale"], result["config"]["data"]["name"])
    details = ("shares", "smallest_fraction", "temperatures", "test", "num_recordings", "num_words")
    return framed(
        {**result, "num_test": result["num_frames"]},
        "reproduce-speech",
        config,
        measure=FRAMES._asdict(),
        rows=[row_of(row) for row in result["rows"]],
        differences=[difference(row) for row in result["differences"]],
        tuning=[{"name": "distilled", **row, "n": config.seeds} for row in result["tuning"]],
        details=only(result, *details, "by_speaker_and_noise"),
    )


RULES: dict[str, Callable[[Result], dict[str, Any]]] = {
    "distill": distill,
    "reproduce-mnist": reproduce_mnist,
    "transfer": transfer,
    "reproduce-transfer": reproduce_transfer,
    "transfer-or-distil": transfer_or_distil,
    "advise": advise,
    "reproduce-advise": reproduce_advise,
    "specialists": specialists,
    "speech-study": speech_study,
}


if __name__ == "__main__":
    main()
