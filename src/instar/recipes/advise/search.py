"""The search: cheap scores of every cut, successive halving over short fits, and full fits of the finalists.

Successive halving fits all treatments for few epochs, keeps the best on validation, and repeats with more epochs
(Jamieson and Talwalkar 2016, arXiv 1502.07943). Nothing here reads the test data.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from instar.recipes import halving
from instar.recipes.advise.plan import Plan, treatments_at
from instar.recipes.choosing import ranking_of
from instar.recipes.learning import FAILED
from instar.recipes.study import Round, Rounds
from instar.runs import Run
from instar.transfer import promising_cuts, survivors


class Fitted(NamedTuple):
    """One fit of a treatment: validation errors and negative log-likelihood, and what it took."""

    errors: int
    nll: float
    epochs: int
    """that were run"""
    seconds: float
    cached: bool
    """whether the features of the frozen layers were computed once"""
    learned: bool = True
    """whether it is better than guessing on what it learned from"""


class Search(NamedTuple):
    """What the search found."""

    scored: Mapping[str, Any]
    """the result of the job that scores the features at every cut"""
    tried: Sequence[str]
    """the treatments of the first round"""
    rounds: Sequence[Mapping[str, Fitted]]
    """the short fits of each round, by treatment"""
    failed: Mapping[str, str]
    """treatments with a failed short fit, and the reason"""
    finalists: Sequence[str]
    """the best treatments of the last round"""
    full: Mapping[str, Sequence[Fitted]] = {}
    """full fits by treatment, one for each seed"""


def successive_halving(plan: Plan) -> Rounds[Search]:
    """Score every cut, then fit the treatments of promising cuts in rounds, each longer and with fewer of them."""
    yield Round([plan.base_job, plan.scores_job])
    scored = Run.read(plan.path / "jobs" / plan.scores_job.name).result()
    accuracies = {row["cut"]: row["probe_accuracy"] for row in scored["rows"]}
    tried = list(treatments_at(promising_cuts(accuracies, plan.config.num_cuts)))
    lengths, keep = plan.round_epochs, plan.config.keep
    found = yield from halving.successive_halving(
        tried,
        lambda number, name: [plan.fit(_job(plan, number, name), name, lengths[number - 1], plan.config.seed)],
        lambda number, ranking: survivors(ranking, keep) if number < len(lengths) else [],
        plan.path,
        needs=[plan.base_job],
    )
    rankings = [ranking_of(one) for one in found]
    failed = {one.candidate: one.failed for judged in found for one in judged if one.failed}
    rounds = [
        {name: read_fit(plan, _job(plan, number, name)) for name in ranking}
        for number, ranking in enumerate(rankings, 1)
    ]
    return Search(scored, tried, rounds, failed, rankings[-1][: plan.config.finalists])


def _job(plan: Plan, number: int, name: str) -> str:
    """The short fit of a treatment in a round."""
    return f"{plan.folder}round-{number}/{name}"


def advice_rounds(plan: Plan) -> Rounds[Search]:
    """The search with full fits of the finalists, and of the usual ways where they are controls."""
    search = yield from successive_halving(plan)
    names = [*search.finalists, *(plan.usual if plan.config.controls else ())]
    return (yield from full_fits(plan, search, names))


def full_fits(plan: Plan, search: Search, names: Iterable[str]) -> Rounds[Search]:
    """Fit treatments in full, with every seed."""
    epochs = plan.config.fit.epochs
    jobs = {
        name: [plan.fit(plan.full_name(name, seed), name, epochs, seed) for seed in plan.seeds] for name in names
    }
    yield Round([plan.base_job, *(job for fits in jobs.values() for job in fits)])
    return search._replace(full={name: [read_fit(plan, job.name) for job in fits] for name, fits in jobs.items()})


def num_rounds(plan: Plan) -> int:
    """The rounds of `advice_rounds`: scores, short fits, full fits."""
    return len(plan.config.rounds) + 2


def fewest_errors(fits: Mapping[str, Sequence[Fitted]]) -> str:
    """The treatment with the fewest validation errors, mean over its fits; the likelihood breaks ties.

    One with a fit that failed to learn comes after all others.
    """

    def order(name: str) -> tuple[bool, int, float]:
        found = fits[name]
        return num_failed(found) > 0, sum(fit.errors for fit in found), sum(fit.nll for fit in found)

    return min(fits, key=order)


def num_failed(fits: Sequence[Fitted]) -> int:
    """How many fits failed to learn."""
    return sum(not fit.learned for fit in fits)


def read_fit(plan: Plan, job: str) -> Fitted:
    """A finished fit, from its run directory."""
    run = Run.read(plan.path / "jobs" / job)
    result, seconds = run.result(), float(run.metrics()[-1]["seconds"])
    found = result["metrics"]
    cached = bool(found.get("prefix_cached", False))
    errors, nll = found["validation_errors"], found["validation_nll"]
    return Fitted(errors, nll, len(result["rows"]), seconds, cached, FAILED not in result)
