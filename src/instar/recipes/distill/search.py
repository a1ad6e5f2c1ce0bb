"""What validation decides in `instar distill`: the teachers' learning rates, and a candidate for each student.

Where no learning rate is given, it is found at the middle temperature; then the temperatures are compared at that
rate. The student alone has as many fits of as many epochs: those by which the distilled one chooses
a temperature it spends on more rates and seeds.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from instar.jobs import Job, JobReport
from instar.recipes.choosing import TUNING_SEED, Tried, as_good_as_best, ranking_of, tuning_rows
from instar.recipes.distill.plan import DISTILLED, Member, Plan
from instar.recipes.distill.settings import Candidate
from instar.recipes.distill.students import Chosen, Student, choose, fit_options
from instar.recipes.fitting import fit_job
from instar.recipes.halving import shortened, side_by_side, successive_halving
from instar.recipes.rates import Found, finalists, find_rate, first_rates, neighbours
from instar.recipes.settings import FitSettings, as_text
from instar.recipes.study import Round, Rounds

_FEWEST, _MOST_RATES = 3, 4
"""Candidates of the last round at least, and learning rates of the student alone there at most."""

Row = dict[str, Any]


def search(plan: Plan) -> Rounds[tuple[Chosen, list[Job]]]:
    """The candidate of each student with the rows of `tuning`, and the jobs of the teachers."""
    alone, distilled = plan.students
    (rows, teachers, ours), theirs = yield from side_by_side(_taught(plan, distilled), _fitted(plan, alone))
    chosen = Chosen({**theirs.candidates, **ours.candidates}, [*rows, *theirs.tuning, *ours.tuning])
    return chosen, teachers


def _fitted(plan: Plan, student: Student) -> Rounds[Chosen]:
    """The student alone: its fits in the result begin as soon as it is chosen, while the teacher still learns."""
    chosen = yield from _chosen(plan, student)
    yield Round(plan.reported_jobs(student, chosen.candidates[student.name]))
    return chosen


def _taught(plan: Plan, student: Student) -> Rounds[tuple[list[Row], list[Job], Chosen]]:
    """The distilled student, after its teachers."""
    members = plan.searched_members
    found = yield from side_by_side(*(_teacher_rate(plan, member) for member in members))
    rates = {member.settings.network: one.rate for member, one in zip(members, found, strict=True)}
    teachers = plan.teacher_jobs(rates)
    chosen = yield from _chosen(plan, student, teachers)
    return [row for one in found for row in one.rows], teachers, chosen


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
    """A candidate by a search: the learning rate at the middle loss, then all losses at the best rate."""
    config, lengths, first_seed = plan.config, plan.lengths, plan.tuning_seeds[0]
    num_validation = len(plan.splits.validation)
    middle = config.middle_loss if student.name == DISTILLED else None
    others = [loss for loss in config.losses if loss != middle] if middle else []
    count = max(_FEWEST, len(config.losses) + 1)
    num_rates = count - len(others) if middle else min(count, _MOST_RATES)
    num_seeds = math.ceil(count * config.tuning_seeds / (num_rates + len(others)))

    def jobs_of(number: int, candidate: Candidate) -> list[Job]:
        shorter = dataclasses.replace(student, settings=shortened(student.settings, lengths[number - 1]))
        name = f"tuning/{student.name}/round-{number}/{candidate.slug(candidate.settings)}"
        seeds = range(first_seed, first_seed + num_seeds)
        if number < len(lengths) or number == 1:
            seeds = range(first_seed + number - 1, first_seed + number)  # no seed decides twice
        return [shorter.job(plan.path, name, candidate, seed, plan.execution) for seed in seeds]

    def at(rates: Sequence[float]) -> list[Candidate]:
        return [Candidate(learning_rate=rate, loss=middle) for rate in rates]

    def following(number: int, ranking: list[Candidate]) -> list[Candidate]:
        rates = [one.learning_rate for one in ranking]
        if number == len(lengths):
            return []
        if number < len(lengths) - 1:
            return at(neighbours(rates))
        best = [Candidate(learning_rate=rates[0], loss=loss) for loss in others]
        return at(finalists(rates, num_rates)) + best

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
