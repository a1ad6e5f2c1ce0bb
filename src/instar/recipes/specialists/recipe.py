"""A generalist, specialists for what it confuses, and one network taught by them all; beside every control.

Each seed has a generalist of its own with class sets, specialists and controls, so every difference is paired.
Class sets and top-n are chosen on validation with a generalist that is never reported. Test is read once.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from instar import metrics
from instar.errors import UsageError
from instar.jobs import Engine, open_engine, run_jobs
from instar.recipes.fitting import load_splits
from instar.recipes.publishing import time_spent
from instar.recipes.settings import as_text
from instar.recipes.specialists.jobs import assemble
from instar.recipes.specialists.plan import DISTILLED, TUNING_SEED, WITH, Choice, Plan
from instar.recipes.specialists.scoring import read_test, specialists_result
from instar.recipes.specialists.settings import SpecialistsConfig, Teaching
from instar.runs import Run, run_hash


def run_path(config: SpecialistsConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/specialists/DATA-NETWORK-HASH`."""
    splits = load_splits(config.data)
    names = [splits.name, config.generalist.network, *([config.scale] if config.scale else [])]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    hashed = run_hash("specialists", config.model_dump(), data_fingerprint=splits.fingerprint)
    return root / "specialists" / f"{slug}-{hashed}"


def main(
    config: SpecialistsConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Run the whole experiment, or go on with it, or read what it found.

    Args:
        config: what to do.
        path: the run directory.
        device: where to compute; does not belong to the configuration.
        engine: of the jobs.
        quiet: show no progress.

    Returns:
        The content of `result.json`.
    """
    from instar.recipes.specialists.page import write_specialists_page

    plan = Plan(config, path, device)
    check(plan)
    with Run(path, recipe="specialists", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            choice, tried = choose(plan, workers, quiet=quiet)
            first = plan.first_jobs(choice.sets)
            run_jobs(first, path, engine=workers, title=plan.part(-2), quiet=quiet).raise_if_failed()
            jobs = [*first, *plan.final_jobs(choice)]
            run_jobs(jobs, path, engine=workers, title=plan.part(-1), quiet=quiet).raise_if_failed()
        trial = read_test(plan, choice)
        result = specialists_result(plan, choice, trial)
        result |= {"tuning": tried, **time_spent(path, started)}
        write_specialists_page(run, plan, choice, trial, result)
        run.finish(result)
        return run.result()


def check(plan: Plan) -> None:
    """Refuse what could not be run to its end.

    Raises:
        UsageError: a class without an example, class sets that these classes cannot be cut into, top-n beyond
            them, layers that are not there, the tuning generalist's seed among those reported, a mixture that is
            none.
    """
    config, splits = plan.config, load_splits(plan.config.data)
    num_classes = len(splits.class_names)
    labels = splits.train.labels(splits.train.ids)
    unseen = sorted(set(range(num_classes)) - set(labels.tolist()))
    if unseen:
        raise UsageError(
            f"{len(unseen)} of {num_classes} classes have no training example, the first "
            f"{splits.class_names[unseen[0]]!r}: leave them out of the data"
        )
    for one in config.sets:
        if one.num_sets > num_classes:
            raise UsageError(f"sets: {one.num_sets} sets, but {config.data.name} has {num_classes} classes")
        if one.classes_per_set >= num_classes:
            raise UsageError(
                f"sets: {one.classes_per_set} classes in a set, expected fewer than the {num_classes} of "
                f"{config.data.name}: nothing would be left for the dustbin"
            )
        if one.method == "balanced" and one.num_sets * one.classes_per_set > num_classes:
            raise UsageError(
                f"sets: {one.num_sets} balanced sets of {one.classes_per_set} share no class, but "
                f"{config.data.name} has {num_classes} classes; take fewer, or overlapping sets"
            )
    if max(config.top_n) > num_classes:
        raise UsageError(f"top_n is {max(config.top_n)}, but {config.data.name} has {num_classes} classes")
    if config.is_tuned and TUNING_SEED in plan.seeds:
        raise UsageError(
            f"seeds {plan.seeds[0]} to {plan.seeds[-1]} hold {TUNING_SEED}, that of the generalist for tuning, "
            "which is never reported; choose another seed"
        )
    _ = plan.num_frozen
    if "mixture" in config.controls:
        parts = config.mixture.removeprefix("mixture:")
        if parts == config.mixture or "mixture:" in parts or "python:" in parts:
            raise UsageError(
                f"mixture is {config.mixture!r}, expected mixture:EXPERTS/EXPERT/GATE of networks that are built "
                "in; or leave mixture out of controls"
            )
        _ = plan.mixture_cost


def choose(plan: Plan, workers: Engine, *, quiet: bool) -> tuple[Choice, list[dict[str, Any]]]:
    """What makes the fewest validation errors, sets and top-n, then the student's teaching; and what was tried."""
    config = plan.config
    candidates = [] if config.distill is None else config.distill.candidates
    student = candidates[0] if candidates else None
    if not config.is_tuned:
        return Choice(config.sets[0], config.top_n[0], student), []
    first = plan.first_jobs(None)
    run_jobs(first, plan.path, engine=workers, title=plan.part(0), quiet=quiet).raise_if_failed()
    jobs = [*first, *plan.tuning_jobs()]
    run_jobs(jobs, plan.path, engine=workers, title=plan.part(1), quiet=quiet).raise_if_failed()
    tried = _with_sets(plan, student)
    best = min(tried, key=_judged)[0]
    if config.is_student_tuned:
        jobs += plan.student_tuning_jobs(best)
        run_jobs(jobs, plan.path, engine=workers, title=plan.part(2), quiet=quiet).raise_if_failed()
        students = [_with_student(plan, best, one) for one in candidates]
        best = min(students, key=_judged)[0]
        tried += students
    alone = {"sets": "generalist alone", "top_n": None, **_on_validation(plan, plan.generalist(TUNING_SEED))}
    return best, [alone, *(row for _, row in tried)]


def _judged(tried: tuple[Choice, dict[str, Any]]) -> tuple[int, float]:
    return tried[1]["validation_errors"], tried[1]["validation_nll"]


def _on_validation(plan: Plan, name: str) -> dict[str, Any]:
    """What a network makes of validation."""
    kept = Run.read(plan.job_path(name)).result()["metrics"]
    return {"specialists_used": 0.0, **{key: kept[key] for key in ("validation_errors", "validation_nll")}}


def _with_student(plan: Plan, choice: Choice, student: Teaching) -> tuple[Choice, dict[str, Any]]:
    about = {"sets": DISTILLED, "top_n": choice.top_n, **as_text(student._asdict())}
    return replace(choice, student=student), about | _on_validation(plan, plan.candidate(student))


def _with_sets(plan: Plan, student: Teaching | None) -> list[tuple[Choice, dict[str, Any]]]:
    config = plan.config
    validation = load_splits(config.data).validation.to(plan.device)
    labels = validation.labels(validation.ids).cpu()
    tried: list[tuple[Choice, dict[str, Any]]] = []
    for sets in config.sets:
        paths = [plan.job_path(name) for name in plan.specialists(TUNING_SEED, sets, WITH)]
        together = assemble(plan.job_path(plan.generalist(TUNING_SEED)), paths).to(plan.device)
        for top_n in config.top_n:
            together.top_n = top_n
            combined = together.predict(validation)
            log_probs = combined.probs.cpu().clamp_min(1e-30).log()
            row = {
                "sets": sets.slug,
                "top_n": top_n,
                "validation_errors": int(metrics.errors(log_probs, labels)),
                "validation_nll": metrics.negative_log_likelihood(log_probs, labels),
                "specialists_used": float(combined.num_specialists.double().mean()),
            }
            tried.append((Choice(sets, top_n, student), row))
    return tried
