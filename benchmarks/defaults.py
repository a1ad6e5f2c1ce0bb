"""Whether the defaults of `instar distill` learn on any network and data, and how far from the best learning rate.

Every pair of network and data is distilled at T = 1, 4 and 20 with all else at its default, but for the epochs and
the number of students, which are fewer. Then every rate of a full grid is fitted with two seeds, alone and at each
temperature, and read on test. What is done is kept: a second start goes on.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.defaults_cases import write_photos
from benchmarks.timing import RESULTS, provenance
from instar import intervals, metrics
from instar.jobs import run_jobs
from instar.recipes.distill.plan import ALONE, DISTILLED, Plan
from instar.recipes.distill.recipe import STUDY
from instar.recipes.distill.scoring import on_test
from instar.recipes.distill.settings import Candidate, read_config
from instar.recipes.rates import moved
from instar.recipes.settings import LossSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution, run_study
from instar.runs import write_bytes

WORK = Path(os.environ.get("INSTAR_DEFAULTS", "runs/defaults"))
"""Where the runs and the result of each pair are kept."""

TEMPERATURES = (1.0, 4.0, 20.0)
GRID = [moved(1.0, -steps) for steps in range(8, -1, -1)]
STUDENTS, GRID_SEEDS = 3, 2
AT_CHANCE = 0.95
"""A student with so large a part of the errors of predicting the commonest class has not learned."""

HERE = "python:benchmarks.defaults_cases:"


class Pair(NamedTuple):
    """A network and data."""

    student: str
    data: str
    epochs: int
    teacher_epochs: int = 20
    teacher: str = "mlp:1200x2"
    fraction: float = 1.0


PAIRS = (
    Pair("mlp:8x1", "digits", 30),
    Pair("mlp:800x2", "digits", 15, fraction=0.5),
    Pair("mlp:32x6", "digits", 20),
    Pair("convnet:8", "digits", 15, fraction=0.5),
    Pair("resnet:20", "digits", 15, fraction=0.2),
    Pair("mlp:30x2", HERE + "mnist_1000", 30),
    Pair("convnet:8x8", HERE + "mnist_1000", 15),
    Pair("mlp:64x2", HERE + "mnist_imbalanced", 30),
    Pair("convnet:8x8", HERE + "mnist_imbalanced", 15),
    Pair("convnet:8x16", HERE + "cifar100_4", 20),
    Pair(HERE + "vit", HERE + "cifar100_4", 20),
    Pair("convnet:8x8", HERE + "cifar100_20", 15),
    Pair("mlp:256x1", HERE + "cifar100_100", 20),
    Pair("convnet:8x8", "folder:photos", 40, teacher="resnet:20"),
    Pair("resnet:20x4", "folder:photos", 20),
    Pair(HERE + "lstm", HERE + "spoken_digits", 25),
)
"""Chosen before the first run. The first one was looked at while the rules were made."""


def main() -> None:
    """Run what is not done yet, and write `results/defaults.json`."""
    photos = WORK / "photos"
    if not photos.exists():
        write_photos(photos.with_suffix(".part"))
        photos.with_suffix(".part").rename(photos)
    torch.set_num_threads(1)
    found = [_pair(pair, WORK / f"{number:02d}") for number, pair in enumerate(PAIRS)]
    students = [one for pair in found for one in pair["students"]]
    result = {
        **provenance("defaults", "defaults"),
        "config": {
            "temperatures": TEMPERATURES,
            "grid": GRID,
            "seeds": STUDENTS,
            "grid_seeds": GRID_SEEDS,
            "at_chance": f"test errors of at least {AT_CHANCE:g} of those of the commonest class",
            "within_one_sd": "mean test errors at most one sd (of seeds, pooled) above those of the best rate",
        },
        "found": {
            "students": len(students),
            "at_chance_where_a_rate_learns": sum(one["at_chance"] and one["learns"] for one in students),
            "within_one_sd": sum(one["within_one_sd"] for one in students),
        },
        "counts": counts(found),
        "pairs": found,
    }
    write_bytes(RESULTS / "defaults.json", json.dumps(result, indent=1).encode() + b"\n")


def counts(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each student: the rate that was found, beside the best of the grid."""
    return [
        {
            "student": pair["student"].removeprefix(HERE),
            "data": pair["data"],
            "taught": f"T = {one['temperature']:g}" if one["kind"] == DISTILLED else "labels",
            "rate": f"{one['learning_rate']:g}",
            "errors": f"{one['mean']:.1f} ± {one['sd']:.1f}",
            "best of the grid": f"{one['best_mean']:.1f} at {one['best_rate']:g}",
            "pooled sd": f"{one['pooled_sd']:.1f}",
            "within one sd": "yes" if one["within_one_sd"] else "**no**",
        }
        for pair in pairs
        for one in pair["students"]
    ]


def _pair(pair: Pair, folder: Path) -> dict[str, Any]:
    """What was found for a pair, from the file of an earlier start if it is there."""
    kept = folder / "found.json"
    if kept.exists():
        about: dict[str, Any] = json.loads(kept.read_text())
        return about
    started, students = time.monotonic(), []
    for number, temperature in enumerate(TEMPERATURES):
        path = folder / f"T-{temperature:g}"
        if number and not path.exists():  # the same teacher and the same student alone
            _copy_jobs(folder / f"T-{TEMPERATURES[0]:g}", path)
        students += list(_students(pair, path, temperature, kinds=(ALONE, DISTILLED)[bool(number) :]))
    seconds = round(time.monotonic() - started, 1)
    about = {**pair._asdict(), "data": pair.data.removeprefix(HERE), "seconds": seconds, "students": students}
    write_bytes(kept, json.dumps(about).encode())
    sys.stderr.write(f"{folder.name} {pair.student} {pair.data}: {seconds:.0f} s\n")
    return about


def _copy_jobs(source: Path, path: Path) -> None:
    part = path.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("teacher", "teacher-logits", ALONE, "tuning/teacher", f"tuning/{ALONE}"):
        shutil.copytree(source / "jobs" / name, part / "jobs" / name)
    part.rename(path)


def _students(pair: Pair, path: Path, temperature: float, kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The students of a run with default learning rates, beside those of a full grid."""
    data = (
        {"name": f"folder:{WORK}/photos", "image_size": 32}
        if pair.data == "folder:photos"
        else {"name": pair.data}
    )
    config = read_config(
        {
            "data": {**data, "fraction": pair.fraction},
            "teacher": {"network": pair.teacher, "epochs": pair.teacher_epochs},
            "student": {"network": pair.student, "epochs": pair.epochs},
            "temperature": temperature,
            "seeds": STUDENTS,
        }
    )
    how = Execution(quiet=True)
    rows = {row["name"]: row for row in run_study(STUDY, config, path, how)["rows"]}
    plan = Plan(config, path, how)
    teachers = plan.teacher_jobs({pair.teacher: rows["teacher"]["learning_rate"]})
    test = load_splits(config.data).test
    labels = test.labels(test.ids)
    logits_of = on_test(path, test)
    chance = int(
        (labels != load_splits(config.data).train.labels(load_splits(config.data).train.ids).mode()[0]).sum()
    )
    for student in plan.students:
        if student.name not in kinds:
            continue
        loss = LossSettings(temperature=temperature, hard_weight=0.1) if student.name == DISTILLED else None
        jobs = {
            rate: [
                student.job(path, f"grid/{student.name}/learning-rate-{rate:g}", one, seed, how)
                for seed in range(GRID_SEEDS)
            ]
            for rate in GRID
            for one in [Candidate(learning_rate=rate, loss=loss)]
        }
        report = run_jobs([*teachers, *(job for several in jobs.values() for job in several)], path, quiet=True)
        grid = {
            rate: [int(metrics.errors(logits_of(job.name), labels)) for job in several]
            for rate, several in jobs.items()
            if not any(job.name in report.failed for job in several)
        }
        yield _compared(rows[student.name], grid, chance, {"kind": student.name, "temperature": temperature})


def _compared(
    row: dict[str, Any], grid: dict[float, list[int]], chance: int, about: dict[str, Any]
) -> dict[str, Any]:
    best_rate = min(grid, key=lambda rate: sum(grid[rate]))
    best = intervals.over_seeds(grid[best_rate])
    # The seeds of both, pooled: two alone often have no spread.
    sd = ((2 * row["sd"] ** 2 + (best.sd or 0.0) ** 2) / 3) ** 0.5
    return {
        **about,
        "learning_rate": row["learning_rate"],
        "mean": row["mean"],
        "sd": row["sd"],
        "values": row["values"],
        "best_rate": best_rate,
        "best_mean": best.mean,
        "pooled_sd": round(sd, 3),
        "within_one_sd": row["mean"] <= best.mean + sd,
        "commonest_class_errors": chance,
        "at_chance": any(value >= AT_CHANCE * chance for value in row["values"]),
        "learns": best.mean < AT_CHANCE * chance,
        "grid": {f"{rate:g}": errors for rate, errors in grid.items()},
    }


if __name__ == "__main__":
    main()
