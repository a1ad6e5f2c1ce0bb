"""What validation decides in `instar distill`: the teachers' learning rates, and a candidate for each student.

Where no learning rate is given, it is found at the middle temperature; then the temperatures are compared at that
rate. The student alone has as many fits of as many epochs: those by which the distilled one chooses
a temperature it spends on more rates and seeds. So do several losses: each has as many fits as the others.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from instar.jobs import Job, JobReport
from instar.recipes.choosing import TUNING_SEED, Tried, as_good_as_best, judge, ranked, ranking_of, tuning_rows
from instar.recipes.distill.plan import SAME_COST, Member, Plan
from instar.recipes.distill.same_cost import lengths
from instar.recipes.distill.settings import Candidate, Variant
from instar.recipes.distill.students import Chosen, Student, choose, fit_options
from instar.recipes.fitting import fit_job
from instar.recipes.halving import shortened, side_by_side, successive_halving
from instar.recipes.rates import LONG, Found, finalists, find_rate, first_rates, neighbours
from instar.recipes.settings import FitSettings, as_text
from instar.recipes.study import Round, Rounds

_FEWEST, _MOST_RATES = 3, 4
"""Candidates of the last round at least, and learning rates of the student alone there at most."""

_MOST_MISSES = 2
"""Numbers of epochs in a row that are no better than the best before them, until longer ones are not tried."""

Row = dict[str, Any]


def search(plan: Plan) -> Rounds[tuple[Chosen, list[Job]]]:
    """The candidate of each student with the rows of `tuning`, and the jobs of the teachers."""
    alone, *distilled = plan.students
    (rows, teachers, ours), theirs = yield from side_by_side(_taught(plan, distilled), _alone(plan, alone))
    return _together([Chosen({}, rows), theirs, *ours]), teachers


def _together(several: Sequence[Chosen]) -> Chosen:
    candidates = {name: candidate for one in several for name, candidate in one.candidates.items()}
    longer_epochs = next((one.longer_epochs for one in several if one.longer_epochs), None)
    return Chosen(candidates, [row for one in several for row in one.tuning], longer_epochs)


def _taught(plan: Plan, students: Sequence[Student]) -> Rounds[tuple[list[Row], list[Job], list[Chosen]]]:
    """The distilled students, after their teachers."""
    members = plan.searched_members
    found = yield from side_by_side(*(_teacher_rate(plan, member) for member in members))
    rates = {member.settings.network: one.rate for member, one in zip(members, found, strict=True)}
    teachers = plan.teacher_jobs(rates)
    chosen = yield from side_by_side(*(_chosen(plan, student, teachers) for student in students))
    return [row for one in found for row in one.rows], teachers, chosen


def _alone(plan: Plan, student: Student) -> Rounds[Chosen]:
    """The student alone; and how long it trains where it may for the teacher's cost too.

    Its fits in the result begin as soon as it is chosen, while the teacher still learns.
    """
    chosen = yield from _chosen(plan, student)
    yield Round(plan.reported_jobs(student, chosen.candidates[student.name]))
    if not plan.config.same_cost:
        return chosen
    longer = yield from _longer(plan, chosen.candidates[student.name])
    return _together([chosen, longer])


def _longer(plan: Plan, candidate: Candidate) -> Rounds[Chosen]:
    """The number of epochs with the fewest validation errors, each so many times the last.

    It ends where two in a row are no better, or at the cost of teacher and student: a small student that has
    learned what it can gains nothing from the thousands of epochs that a large teacher's cost allows.
    """
    tried: list[Tried[int]] = []
    best, misses, several = 0, 0, _lengths(plan)
    for part in [several[:2], *([epochs] for epochs in several[2:])]:
        fits = {epochs: _longer_jobs(plan, candidate, epochs) for epochs in part}
        names = {epochs: [job.name for job in jobs] for epochs, jobs in fits.items()}
        report = yield Round([job for jobs in fits.values() for job in jobs], may_fail=True)
        tried += judge(part, names.__getitem__, report, plan.path)
        best = ranked(tried, report)[0]
        misses = 0 if best == part[-1] else misses + 1
        if misses == _MOST_MISSES:
            break
    rows = [one.row(SAME_COST, {"epochs": one.candidate, **as_text(candidate.settings)}) for one in tried]
    rows = [{**row, "chosen": True} if row["epochs"] == best else row for row in rows]
    return Chosen({SAME_COST: candidate}, rows, best)


def _lengths(plan: Plan) -> list[int]:
    return lengths(plan.student_settings.epochs, plan.allowance.epochs)


def _longer_jobs(plan: Plan, candidate: Candidate, epochs: int) -> list[Job]:
    student, name = plan.longer(epochs), f"tuning/{SAME_COST}/epochs-{epochs}"
    return [student.job(plan.path, name, candidate, seed, plan.execution) for seed in plan.tuning_seeds]


def _teacher_rate(plan: Plan, member: Member) -> Rounds[Found]:
    """The learning rate of a teacher, by short fits."""
    seed, num_validation = member.seed + TUNING_SEED, len(plan.splits.validation)
    name = member.job if len(plan.searched_members) > 1 else "teacher"

    def job(name: str, settings: FitSettings) -> Job:
        return fit_job(plan.path, name, settings, plan.config.data, seed=seed, **fit_options(plan.execution))

    return find_rate(name, member.settings, job, plan.path, plan.teacher_lengths, num_validation)


def _chosen(plan: Plan, student: Student, teachers: Sequence[Job] = ()) -> Rounds[Chosen]:
    """The candidate of a student: the best of those that were given, or one that is found."""
    if plan.is_searched:
        return (yield from _found(plan, student, teachers))
    jobs = [*teachers, *student.tuning_jobs(plan.path, plan.tuning_seeds, plan.execution)]
    report = (yield Round(jobs, may_fail=True)) if jobs else JobReport()
    return choose([student], plan.tuning_seeds, report, plan.path)


def _found(plan: Plan, student: Student, teachers: Sequence[Job]) -> Rounds[Chosen]:
    """A candidate by a search: the learning rate at the middle variant, then all variants at the best rate.

    Every student has as many fits in every round: what one has no variants for it spends on rates and seeds.
    """
    config, lengths, first_seed = plan.config, plan.lengths, plan.tuning_seeds[0]
    num_validation = len(plan.splits.validation)
    variants = {row: config.variants(loss) for loss, row in plan.rows_of_losses.items()}
    count = max(_FEWEST, *(len(several) + 1 for several in variants.values()))
    middle, *others = variants.get(student.name, [Variant()])
    num_rates = min(count - len(others), _MOST_RATES)
    num_seeds = math.ceil(count * config.tuning_seeds / (num_rates + len(others)))

    def jobs_of(number: int, candidate: Candidate) -> list[Job]:
        shorter = dataclasses.replace(student, settings=shortened(student.settings, lengths[number - 1]))
        name = f"tuning/{student.name}/round-{number}/{candidate.slug(candidate.settings)}"
        seeds = range(first_seed, first_seed + num_seeds)
        if number < len(lengths) or number == 1:
            seeds = range(first_seed + number - 1, first_seed + number)  # no seed decides twice
        return [shorter.job(plan.path, name, candidate, seed, plan.execution) for seed in seeds]

    def at(rates: Sequence[float]) -> list[Candidate]:
        return [middle.at(rate) for rate in rates]

    def following(number: int, ranking: list[Candidate]) -> list[Candidate]:
        rates = [one.learning_rate for one in ranking]
        if number == len(lengths):
            return []
        if number < len(lengths) - 1:
            return at(neighbours(rates))
        best = [one.at(rates[0]) for one in others]
        return at(finalists(rates, num_rates, is_long=student.settings.epochs >= LONG * lengths[-2])) + best

    decades = at(first_rates(student.settings.optimiser, len(lengths)))
    rounds = yield from successive_halving(
        decades, jobs_of, following, plan.path, needs=teachers, num_validation=num_validation
    )
    best = ranking_of(rounds[-1], num_validation)[0] if len(lengths) == 1 else _lowest(rounds[-1], num_validation)
    rows = tuning_rows(student.name, rounds, lengths, lambda one: as_text(one.settings), best)
    return Chosen({student.name: best}, rows)


def _lowest(tried: Sequence[Tried[Candidate]], num_validation: int) -> Candidate:
    """Of the candidates as good as the best that with the lowest rate: a longer fit bears less, and needs less."""
    good = {one.candidate for one in as_good_as_best(tried, num_validation)}
    return min((one for one in ranking_of(tried) if one in good), key=lambda one: one.learning_rate)
