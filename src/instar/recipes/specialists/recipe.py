"""A generalist, specialists for what it confuses, and one network distilled from all of them; with controls.

Each seed has its own generalist, class sets, specialists and controls, so all differences are paired. Class sets,
top-n and the student's settings are chosen on validation, with a generalist that is never reported.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from instar import metrics
from instar.errors import UsageError
from instar.intervals import over_seeds
from instar.jobs import Job, JobReport
from instar.recipes.choosing import TUNING_SEED, Tried, best, failure, fit_score, judge
from instar.recipes.learning import failed_to_learn
from instar.recipes.loading import build_for, refuse_weights, try_network
from instar.recipes.shipping.use_it import python_line, use_lines
from instar.recipes.specialists.jobs import specialist_splits
from instar.recipes.specialists.page import answer, page, result_table
from instar.recipes.specialists.plan import (
    DISTILLED,
    GENERALIST,
    WITH,
    Choice,
    Plan,
    Replicate,
    job_name,
    make_plan,
)
from instar.recipes.specialists.scoring import Found, measure
from instar.recipes.specialists.settings import SpecialistsConfig
from instar.recipes.splits import load_splits
from instar.recipes.study import Place, Result, Round, Rounds, Study
from instar.specialists import ClassSet, add_dustbin_correction_, start_from_generalist_
from instar.specialists.clustering import check_set_sizes
from instar.specialists.combining import check_top_n

Row = dict[str, Any]


def place(config: SpecialistsConfig) -> Place:
    """`runs/specialists/DATA-NETWORK-HASH`, with the scale of a reproduction."""
    splits = load_splits(config.data)
    names = [splits.name, config.generalist.network, *([config.scale] if config.scale else [])]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    return Place("specialists", slug)


def published(config: SpecialistsConfig) -> str:
    """`specialists-DATA-SCALE`."""
    return "-".join(["specialists", config.data.name, *([config.scale] if config.scale else [])])


def check(plan: Plan) -> None:
    """Refuse a plan that cannot be finished.

    Raises:
        UsageError: a class has no training example, there are too few classes for the class sets or top_n, or the
            tuning seed is among the seeds that are reported.
    """
    config, class_names = plan.config, plan.splits.class_names
    refuse_weights(config.generalist, "a study of specialists", "generalist")
    num_classes = len(class_names)
    unseen = [name for name, count in zip(class_names, plan.costs.class_counts, strict=True) if not count]
    if unseen:
        raise UsageError(
            f"{len(unseen)} of {num_classes} classes have no training example, the first {unseen[0]!r}: leave "
            "them out of the data"
        )
    for sets in config.sets:
        check_set_sizes(num_classes, **sets.model_dump())
        _try_specialist(plan, ClassSet(range(sets.classes_per_set), num_classes))
    for top_n in config.top_n:
        check_top_n(top_n, num_classes)
    if config.is_tuned and TUNING_SEED in plan.seeds:
        raise UsageError(
            f"seeds {plan.seeds[0]} to {plan.seeds[-1]} include {TUNING_SEED}, the seed of the tuning generalist, "
            "which is never reported; choose another seed"
        )


def _try_specialist(plan: Plan, class_set: ClassSet) -> None:
    """Do to an untrained generalist what is done to turn it into a specialist of so many classes."""
    settings, splits = plan.config.generalist, plan.splits
    specialist = try_network(settings, specialist_splits(splits, class_set))
    start_from_generalist_(specialist, build_for(settings, splits, seed=0), class_set)
    add_dustbin_correction_(specialist, 1.0, splits.train.gather(splits.train.ids[:2], 0))


def num_rounds(plan: Plan) -> int:
    """Class sets and all fits that are reported; before these, if there is a choice, the same for tuning."""
    return 2 + 2 * plan.config.is_tuned + plan.config.is_student_tuned


def rounds(plan: Plan) -> Rounds[Found]:
    """Choose on validation, then find the class sets of all generalists, then train all that is reported."""
    config = plan.config
    generalists = [plan.fit_job(plan.generalist(seed)) for seed in plan.seeds]
    student = None if config.distill is None else config.distill.candidates[0]
    choice, tuning = Choice(config.sets[0], config.top_n[0], student), list[Row]()
    if config.is_tuned:
        # All generalists are trained here: a small one alone would not use all cores.
        first = [plan.fit_job(plan.generalist(TUNING_SEED)), *generalists]
        first += [plan.class_sets_job(TUNING_SEED, sets) for sets in config.sets]
        yield Round(first)
        choice, tuning = yield from _choose(plan, first)
    first = [*generalists, *(plan.class_sets_job(seed, choice.sets) for seed in plan.seeds)]
    yield Round(first)
    replicates = [plan.replicate(seed, choice.sets) for seed in plan.seeds]
    yield Round([*first, *(job for replicate in replicates for job in replicate.jobs(choice))])
    return Found(choice, replicates, tuning)


def _choose(plan: Plan, done: list[Job]) -> Generator[Round, JobReport, tuple[Choice, list[Row]]]:
    """Class sets and top-n with the fewest validation errors, then the student's settings; and what was tried."""
    replicates = [plan.replicate(TUNING_SEED, sets) for sets in plan.config.sets]
    specialists = [job for replicate in replicates for job in replicate.specialist_jobs(WITH)]
    report = yield Round([*done, *specialists], may_fail=True)
    tried = [_try(replicate, top_n, report) for replicate in replicates for top_n in plan.config.top_n]
    choice = best([candidate for candidate, _ in tried], report)
    alone = fit_score(plan.job_path(plan.generalist(TUNING_SEED).name))
    rows = [Tried(None, over_seeds([alone.errors]), alone.nll).row(GENERALIST, {})]
    rows += [candidate.row(WITH, about) for candidate, about in tried]
    if plan.config.distill is None:
        return choice, rows
    students = plan.config.distill.candidates
    choice = choice._replace(student=students[0])
    if len(students) > 1:
        replicate = next(found for found in replicates if found.sets == choice.sets)
        jobs = [*done, *replicate.specialist_jobs(WITH), replicate.ensemble_job(choice.top_n)]
        jobs += map(replicate.student_job, students)
        report = yield Round(jobs, may_fail=True)
        judged = judge(students, lambda student: [replicate.student(student).name], report, plan.path)
        choice = choice._replace(student=best(judged, report))
        about = {"sets": choice.sets.slug, "top_n": choice.top_n}
        rows += [one.row(DISTILLED, {**about, **one.candidate.chosen}) for one in judged]
    return choice, rows


def _try(replicate: Replicate, top_n: int, report: JobReport) -> tuple[Tried[Choice], Row]:
    """The validation scores of class sets at a top-n, and the settings for their row."""
    plan, choice = replicate.plan, Choice(replicate.sets, top_n)
    about: Row = {"sets": choice.sets.slug, "top_n": top_n}
    if reason := failure(report, replicate.specialists(WITH)):
        return Tried(choice, failed=reason), about
    validation = plan.splits.validation.to(plan.device)
    labels = validation.labels(validation.ids).cpu()
    combined = replicate.assemble(WITH, top_n=top_n).predict(validation)
    log_probs = combined.probs.cpu().clamp_min(1e-30).log()
    errors = over_seeds([float(metrics.errors(log_probs, labels))])
    nll = metrics.negative_log_likelihood(log_probs, labels)
    used = float(combined.num_specialists.double().mean())
    failed = any(failed_to_learn(plan.job_path(name)) for name in replicate.specialists(WITH))
    return Tried(choice, errors, nll, num_failed_to_learn=int(failed)), {**about, "specialists_used": used}


def use_it(path: str, result: Result) -> list[str]:
    """The commands that use the network distilled back, or without one the generalist; then all together."""
    ensemble = f"{path}/jobs/{job_name('ensemble', result['config']['seed'])}"
    names = {row["name"] for row in result["rows"]}
    which, comment = GENERALIST, "the generalist alone"
    if DISTILLED in names:
        which, comment = DISTILLED, "distilled back"
    code = f"import instar; print(instar.SpecialistEnsemble.load({ensemble!r}).class_names)"
    return [*use_lines(f"{path}:{which}", comment=comment), python_line(code)]


STUDY = Study(
    recipe="specialists",
    place=place,
    plan=make_plan,
    check=check,
    rounds=rounds,
    num_rounds=num_rounds,
    measure=measure,
    page=page,
    answer=answer,
    table=result_table,
    published=published,
    use=use_it,
)
