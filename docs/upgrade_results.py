"""Rewrite results/*.json of schema 1 to schema 2, with the same numbers: `python docs/upgrade_results.py`.

Schema 2 is described in `instar.recipes.rows`. What schema 1 did not keep stays absent: the values of the single
replicates of some studies, and the classes of each half.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.recipes.rows import ACCURACY, ERRORS, SCHEMA
from instar.recipes.settings import Settings
from instar.runs import without_none

ROOT = Path(__file__).parents[1]
Result = Mapping[str, Any]


def main() -> None:
    """Rewrite the files."""
    for path in sorted((ROOT / "results").glob("*.json")):
        result = json.loads(path.read_text())
        if "rows" in result and "schema" not in result:
            path.write_text(json.dumps(upgrade(result), indent=2, allow_nan=False) + "\n")


def upgrade(result: Result) -> dict[str, Any]:
    """The same result in schema 2; as it is where no rule for it is written yet."""
    if "findings" in result:
        return reproduce_transfer(result)
    if result["recipe"] == "transfer-or-distil":
        return transfer_or_distil(result)
    if result["recipe"] == "advise":
        return advise(result)
    if result["recipe"] == "reproduce-advise":
        return reproduce_advise(result)
    if result["recipe"] == "specialists":
        return specialists(result)
    if result["recipe"] == "speech-study":
        return speech(result)
    if result["recipe"] == "distill":
        return distill(result)
    if "recovered" in result:
        return reproduce_mnist(result)
    return dict(result)


def framed(result: Result, recipe: str, config: Settings, **content: Any) -> dict[str, Any]:
    """A result with the keys that all have, in their order."""
    head = {"name": result["name"], "schema": SCHEMA, "recipe": recipe}
    kept = {key: result[key] for key in ("num_test", "seconds", "fit_seconds", "environment") if key in result}
    return {**head, "config": without_none(config.model_dump()), "metrics": result["metrics"], **content, **kept}


def reproduce_transfer(result: Result) -> dict[str, Any]:
    """Rows and differences follow from the accuracies of the networks, which the file has."""
    from instar.recipes.transfer.reproduction import config_for
    from instar.recipes.transfer.results import rows_of, study_of, transitions
    from instar.transfer import boost_rows, difference_rows, filter_verdict

    rows, differences, parts = [], [], {}
    for name, part in result["parts"].items():
        networks = [{key: value for key, value in one.items() if value is not None} for one in part["networks"]]
        study = study_of(networks)
        halves = next(row["split"] for row in result["rows"] if row["part"] == name)
        about = {"network": part["network"], "halves": halves}
        rows += [{"part": name, "name": row["name"], **about, **row} for row in rows_of(networks)]
        differences += [{"part": name, **row} for row in difference_rows(study)]
        parts[name] = {
            **about,
            "seeds": part["splits"],
            "num_test": part["num_test"],
            "layers": part["layers"],
            "boosts": [
                {**row, "pooled": stored["as_in_paper"]}  # another Python summed in another order
                for row, stored in zip(boost_rows(study), part["boosts"], strict=True)
            ],
            "transition": transitions(study),
            "networks": networks,
        }
    filters = {"scores": result["filters"], "verdict": filter_verdict(result["filters"])}
    details = {"findings": result["findings"], "curve": result["curve"], "parts": parts, "filters": filters}
    config = config_for(result["config"]["scale"], result["config"]["data"]["name"])
    content = {"measure": ACCURACY._asdict(), "rows": rows, "differences": differences, "details": details}
    return framed(result, "reproduce-transfer", config, **content)


def transfer_or_distil(result: Result) -> dict[str, Any]:
    """The difference of a row becomes one of `differences`."""
    from instar.recipes.transfer.comparison import SCRATCH, config_for

    statistics = ("name", "mean", "sd", "n", "low", "high")
    over_scratch = [
        {
            "name": row["name"],
            "minus": SCRATCH,
            "mean": row["difference"],
            "n": row["n"],
            "low": row["difference_low"],
            "high": row["difference_high"],
        }
        for row in result["rows"]
        if "difference" in row
    ]
    pairs = [
        {**dict(zip(("name", "minus"), row["name"].split(" - "), strict=True)), **_without(row, "name")}
        for row in result["differences"]
    ]
    return framed(
        result,
        "reproduce-transfer-or-distil",
        config_for(result["config"]["scale"]),
        measure=ACCURACY._asdict(),
        rows=[{key: row[key] for key in statistics} for row in result["rows"]],
        differences=[*over_scratch, *pairs],
        seeds=list(range(result["config"]["seeds"])),
        details={key: result[key] for key in ("treatment", "num_train")},
    )


def specialists(result: Result) -> dict[str, Any]:
    """What only specialists have goes into `details`; `tuning` gets names and n."""
    from instar.recipes.settings import checked
    from instar.recipes.specialists.plan import DISTILLED, GENERALIST, WITH
    from instar.recipes.specialists.settings import SpecialistsConfig

    config = dict(result["config"])
    config["generalist"] = config["generalist"] | {"learning_rate": config["generalist"]["learning_rate"][0]}
    compared = [
        dict(zip(("name", "minus"), row["name"].split(" - "), strict=True)) for row in result["differences"]
    ]
    pairs = [
        {**names, **_without(row, "name")} for names, row in zip(compared, result["differences"], strict=True)
    ]
    over_generalist = [
        {
            "name": row["name"],
            "minus": GENERALIST,
            "mean": row["difference"],
            "n": row["n"],
            "low": row["difference_low"],
            "high": row["difference_high"],
        }
        for row in result["rows"]
        if "difference" in row and {"name": row["name"], "minus": GENERALIST} not in compared
    ]
    redundant = ("test_accuracy", "unit", "difference", "difference_low", "difference_high")
    names = {"generalist alone": GENERALIST, DISTILLED: DISTILLED}
    tuning = [
        {
            "name": names.get(row["sets"], WITH),
            "n": 1,
            **{key: value for key, value in row.items() if value is not None},
        }
        for row in result["tuning"]
    ]
    details = (
        "sets",
        "top_n",
        "student",
        "num_sets",
        "relative_gain",
        "kept",
        "by_coverage",
        "covered",
        "forgetting",
    )
    return framed(
        result,
        "specialists",
        checked(SpecialistsConfig, config),
        measure=ACCURACY._asdict(),
        rows=[_without(row, *redundant) for row in result["rows"]],
        differences=[*over_generalist, *pairs],
        tuning=[_without(row, "sets") if row["sets"] in names else row for row in tuning],
        details={key: result[key] for key in details if key in result},
        seeds=result["seeds"],
    )


def advise(result: Result) -> dict[str, Any]:
    """Rows are the treatments with full fits; all that were tried are the tuning."""
    from instar.recipes.advise.settings import AdviseConfig
    from instar.recipes.settings import checked

    config = checked(AdviseConfig, with_single_rates(result["config"]))
    best = next(row for row in result["rows"] if row["chosen"])
    full = [row for row in result["rows"] if row["mean"] is not None]
    settings = ("name", "cut", "layer", "fine_tune", "copied", "usual")
    statistics = ("chosen", "validation_accuracy", "mean", "sd", "n", "low", "high", "interval")
    about = {"accuracy": "mean", "accuracy_low": "low", "accuracy_high": "high"}
    metrics = ("validation_accuracy", "multiplications", "study_multiplications")
    return framed(
        result,
        "advise",
        config,
        metrics={key: best[column] for key, column in about.items()} | _only(result["metrics"], *metrics),
        measure=ACCURACY._asdict(),
        rows=[without_none(_only(row, *settings)) | _only(row, *statistics) for row in full],
        differences=[
            {
                "name": best["name"],
                "minus": row["name"],
                "mean": row["advice_minus"],
                "n": row["n"],
                "low": row["advice_minus_low"],
                "high": row["advice_minus_high"],
            }
            for row in full
            if row is not best
        ],
        tuning=[
            without_none(_only(row, *settings)) | _tried(row, result["num_validation"]) for row in result["rows"]
        ],
        seeds=list(range(config.seed, config.seed + config.seeds)),
        details=_only(result, "scores", "cost", "layers", "num_train", "num_validation"),
    )


def _tried(row: Result, num_validation: int) -> dict[str, Any]:
    """What `tuning` says of a treatment; its errors follow from its accuracy."""
    found = _only(row, "validation_by_round", "multiplications", "seconds")
    if row.get("failed"):
        return {**found, "failed": row["failed"]}
    errors = num_validation * (1 - row["validation_accuracy"] / 100)
    return {
        **found,
        "epochs": row["epochs"],
        "n": row["n"],
        "validation_errors": round(errors * row["n"]) / row["n"],
    }


def reproduce_advise(result: Result) -> dict[str, Any]:
    """The usual ways are differences over the pairs, as the advice is."""
    from instar.metrics import over_seeds
    from instar.recipes.advise.reproduction import MEASURE, THE_CHOICE
    from instar.recipes.advise.reproduction_plan import config_for

    def cost(row: Result) -> dict[str, Any]:
        return {"advice": row["advice"], "study": {"fits": row["fits"], **row["study"]}}

    over_pairs = {"advice": over_seeds([row["mean"] for row in result["rows"]])._asdict(), **result["usual"]}
    words = {"tuned": "fine-tuned"}
    return framed(
        result,
        "reproduce-advise",
        config_for(result["config"]["scale"]),
        measure=MEASURE._asdict(),
        rows=[{**row, "cost": cost(row["cost"])} for row in result["rows"]],
        differences=[{"name": name, "minus": THE_CHOICE, **over} for name, over in over_pairs.items()],
        details={
            "correlations": [
                {**row, "with": words.get(row["with"], row["with"])} for row in result["correlations"]
            ],
            "study": [{"name": row["treatment"], **_without(row, "treatment")} for row in result["study"]],
            "scores_by_pair": result["scores"],
        },
    )


def with_single_rates(config: Any) -> Any:
    """A configuration whose learning rates are numbers, where schema 1 had lists of one."""
    if not isinstance(config, Mapping):
        return config
    rates = {"learning_rate": config["learning_rate"]} if "learning_rate" in config else {}
    if isinstance(rates.get("learning_rate"), list):
        (rates["learning_rate"],) = rates["learning_rate"]
    return {**{key: with_single_rates(value) for key, value in config.items()}, **rates}


def _only(row: Result, *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys if key in row}


def speech(result: Result) -> dict[str, Any]:
    """Frame accuracy becomes the mean of rows and differences; its interval over folds follows from sd and n."""
    from scipy.stats import t

    from instar.recipes.speech.reproduction import FRAMES, config_for

    config = config_for(result["config"]["scale"], result["config"]["data"]["name"])
    rows = []
    for row in result["rows"]:
        half = float(t.ppf(0.975, row["n"] - 1)) * row["sd"] / row["n"] ** 0.5
        mean = row["frame_accuracy"]
        named = {
            "wer_bootstrap_low": row["wer_low"],
            "wer_bootstrap_high": row["wer_high"],
            "num_networks": row["num_nets"],
            "mean": mean,
            "low": mean - half,
            "high": mean + half,
        }
        rows.append({**_without(row, "frame_accuracy", "test", "wer_low", "wer_high", "num_nets"), **named})
    differences = [
        {
            **{key.removeprefix("frame_accuracy_"): value for key, value in row.items()},
            "mean": row["frame_accuracy"],
            **dict(zip(("name", "minus"), row["name"].split(" - "), strict=True)),
        }
        for row in result["differences"]
    ]
    tuning = [{"name": "distilled", **row, "n": config.seeds} for row in result["tuning"]]
    details = ("shares", "smallest_fraction", "temperatures", "test", "num_recordings", "num_words")
    return framed(
        {**result, "num_test": result["num_frames"]},
        "reproduce-speech",
        config,
        measure=FRAMES._asdict(),
        rows=rows,
        differences=[_without(row, "frame_accuracy") for row in differences],
        tuning=tuning,
        details={key: result[key] for key in (*details, "by_speaker_and_noise")},
    )


def distill(result: Result) -> dict[str, Any]:
    """The difference of a row becomes one of `differences`; `test_errors` was the mean once more."""
    from instar.recipes.distill.plan import ALONE
    from instar.recipes.distill.settings import DistillConfig

    keys = {key: f"difference_{key}" for key in ("sd", "low", "high", "low_examples", "high_examples")}
    differences = [
        {
            "name": row["name"],
            "minus": ALONE,
            "mean": row["difference"],
            "n": row["n"],
            **{key: row[old] for key, old in keys.items()},
        }
        for row in result["rows"]
        if "difference" in row
    ]
    config = {
        **result["config"],
        "teacher": with_single_rates(result["config"]["teacher"]),
    }  # a student's are candidates
    return framed(
        result,
        "distill",
        DistillConfig.model_validate(config),
        measure=ERRORS._asdict(),
        rows=[_without(row, "test_errors", "difference", *keys.values()) for row in result["rows"]],
        differences=differences,
        tuning=result["tuning"],
        seeds=result["seeds"],
        details={},
    )


def reproduce_mnist(result: Result) -> dict[str, Any]:
    """The rows keep their values; a student that learns from labels alone has a learning rate and no loss."""
    from instar.recipes.distill.mnist import config_for

    def candidate(name: str, row: Result) -> dict[str, Any]:
        soft = ("temperature", "hard_weight", "label_weight") if name == "small-net" or "-hard" in name else ()
        return _without(row, *soft)

    rows = []
    for row in result["rows"]:
        unit = {"unit": "%"} if row["unit"] == "percent" else {}
        paper = {} if row["paper"] is None else {"paper": row["paper"]}
        rows.append({**_without(row, "unit", "paper"), **unit, **paper})
    return framed(
        result,
        "reproduce-mnist",
        config_for(result["config"]["scale"], result["config"]["data"]["name"]),
        measure=ERRORS._asdict(),
        rows=rows,
        tuning=[candidate(row["name"], row) for row in result["tuning"]],
        details={
            "choices": {name: candidate(name, row) for name, row in result["choices"].items()},
            "recovered": [_without(row, "views") for row in result["recovered"]],
        },
    )


def _without(row: Result, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


if __name__ == "__main__":
    main()
