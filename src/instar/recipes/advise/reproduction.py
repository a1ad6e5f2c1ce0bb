"""`instar reproduce advise`: the advice beside the full study, on pairs of tasks that were written down before.

The full study fits every cut, frozen and fine-tuned, and one network from scratch, with several seeds; its choice
has the fewest validation errors. The advisor has one seed. Both are compared on the same networks. The result:

- `rows`: the pairs of tasks; the mean is the test accuracy of the `advice` minus that of the `best` treatment, the
  choice of the full study, in points, paired by seed. `advice_accuracy`, `best_accuracy` in percent; `cost` of
  both; `cost_ratio`: multiplications of the advice over those of the study; `cost_ratio_one_seed`: over those of a
  study with one seed; `seconds_ratio`; `within_goal`: at most 1 point worse, for at most a tenth of the cost.
- `differences`: the advice, and each usual treatment, minus the choice of the full study, over the pairs.
- `details`: `study`: every treatment of every `pair`, `minus_scratch` in points; `scores_by_pair` of every cut;
  `correlations`: Spearman's, of each score with test accuracy over the cuts; `n` pairs where neither is constant.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from instar import metrics
from instar.recipes.advise.checks import check
from instar.recipes.advise.costs import cost_of_advice
from instar.recipes.advise.page import SCORES
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.recipe import describe, percent, right_on_test
from instar.recipes.advise.reproduction_page import answer, reproduction_page
from instar.recipes.advise.reproduction_plan import JudgeConfig, Plans, plans_for
from instar.recipes.advise.search import Search, fewest_errors, full_fits, num_rounds, successive_halving
from instar.recipes.fitting import load_splits
from instar.recipes.result_tables import result_tables
from instar.recipes.rows import Measure, row
from instar.recipes.study import Place, Rounds, Study
from instar.transfer import SCRATCH, Treatment

GOAL_POINTS, GOAL_COST = 1.0, 0.1
MEASURE = Measure("difference", "advice minus the choice of the full study", "points", "higher")
THE_CHOICE = "choice of the full study"


def _place(config: JudgeConfig) -> Place:
    fingerprints = {pair.data.name: load_splits(pair.data).fingerprint for pair in config.pairs.values()}
    return Place("reproduce", f"advise-{config.scale}", str(sorted(fingerprints.items())))


def _check(plans: Plans) -> None:
    for plan in plans.values():
        check(plan)


def _rounds(plans: Plans) -> Rounds[dict[str, Search]]:
    """For each pair the search, then the full study, whose fits are those of the finalists too."""
    found = {}
    for name, plan in plans.items():
        search = yield from successive_halving(plan)
        found[name] = yield from full_fits(plan, search, plan.treatments)
    return found


def _measure(plans: Plans, found: Mapping[str, Search]) -> dict[str, Any]:
    pairs = [_measure_pair(name, plan, found[name]) for name, plan in plans.items()]
    rows = [pair.row for pair in pairs]
    over_pairs = {"advice": [row["mean"] for row in rows]}
    over_pairs |= {way: [pair.usual[way] for pair in pairs] for way in pairs[0].usual}
    differences = [
        {"name": name, "minus": THE_CHOICE, **metrics.over_seeds(values)._asdict()}
        for name, values in over_pairs.items()
    ]
    ratios = ("cost_ratio", "cost_ratio_one_seed", "seconds_ratio")
    return {
        "measure": MEASURE._asdict(),
        "metrics": {
            "pairs": len(rows),
            "within_one_point": sum(row["mean"] >= -GOAL_POINTS for row in rows),
            "within_goal": sum(row["within_goal"] for row in rows),
            "difference": differences[0]["mean"],
            "difference_low": differences[0]["low"],
            "difference_high": differences[0]["high"],
            "largest_cost_ratio": max(row["cost_ratio"] for row in rows),
            **{key: sum(row[key] for row in rows) / len(rows) for key in ratios},
        },
        "rows": rows,
        "differences": differences,
        "details": {
            "correlations": _over_pairs([pair.correlations for pair in pairs]),
            "study": [treatment for pair in pairs for treatment in pair.study],
            "scores_by_pair": [score for pair in pairs for score in pair.scores],
        },
    }


class _Measured(NamedTuple):
    """One pair on test."""

    row: dict[str, Any]
    usual: dict[str, float]
    """points between each usual way and the choice of the full study"""
    study: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    correlations: dict[tuple[str, str], float | None]


def _measure_pair(pair: str, plan: Plan, search: Search) -> _Measured:
    best = fewest_errors(search.full)
    first_seed = {name: search.full[name][:1] for name in search.finalists}
    advice = fewest_errors(first_seed)
    accuracy = {
        name: [percent(right_on_test(plan, plan.full_name(name, seed))) for seed in plan.seeds]
        for name in plan.treatments
    }
    means = {name: sum(values) / len(values) for name, values in accuracy.items()}
    values = {
        name: [mine - theirs for mine, theirs in zip(accuracy[name], accuracy[best], strict=True)]
        for name in (advice, *plan.usual)
    }
    costs = _costs(plan, search, cost_of_advice(plan, search, first_seed)["advice"])
    chosen = {"advice": advice, "best": best, "advice_accuracy": means[advice], "best_accuracy": means[best]}
    found = row(pair, values[advice], **chosen, **costs)
    found["within_goal"] = found["mean"] >= -GOAL_POINTS and found["cost_ratio"] <= GOAL_COST
    study = [
        {
            "pair": pair,
            "examples_per_class": plan.config.examples_per_class,
            **row(name, accuracy[name], **describe(plan, name)),
            "minus_scratch": means[name] - means[SCRATCH],
        }
        for name in accuracy
    ]
    scores = search.scored["rows"]
    return _Measured(
        found,
        {called: statistics.fmean(values[name]) for name, called in plan.usual.items()},
        study,
        [{"pair": pair, **score} for score in scores],
        {
            (score, kind): _rank_correlation(scores, score, means, fine_tune)
            for score in SCORES
            for kind, fine_tune in (("frozen", False), ("fine-tuned", True))
        },
    )


def _costs(plan: Plan, search: Search, advice: Mapping[str, Any]) -> dict[str, Any]:
    """The cost of the advice, which has one seed, and of the full study, which has several; and their ratios."""
    fits = [(name, fit) for name, several in search.full.items() for fit in several]
    multiplications = sum(plan.fit_cost(name, fit.epochs, cached=fit.cached) for name, fit in fits)
    seconds = round(sum(fit.seconds for _, fit in fits), 2)
    study = {"fits": len(fits), "multiplications": multiplications, "seconds": seconds}
    return {
        "cost": {"advice": advice, "study": study},
        "cost_ratio": advice["multiplications"] / multiplications,
        "cost_ratio_one_seed": len(plan.seeds) * advice["multiplications"] / multiplications,
        "seconds_ratio": advice["seconds"] / seconds,
    }


def _rank_correlation(
    scores: Sequence[Mapping[str, Any]], score: str, means: Mapping[str, float], fine_tune: bool
) -> float | None:
    """Spearman's correlation of a score with test accuracy over the cuts; None where one of them is constant."""
    from scipy.stats import spearmanr

    pairs = [(row[score], means[Treatment("A", "B", row["cut"], fine_tune).name]) for row in scores]
    values, accuracies = zip(*pairs, strict=True)
    if len(set(values)) < 2 or len(set(accuracies)) < 2:
        return None
    return float(spearmanr(values, accuracies).statistic)


def _over_pairs(correlations: Sequence[Mapping[tuple[str, str], float | None]]) -> list[dict[str, Any]]:
    """The mean of each correlation over the pairs, with its t interval."""
    rows = []
    for score, kind in correlations[0]:
        found = [rho for one in correlations if (rho := one[score, kind]) is not None]
        over = metrics.over_seeds(found)._asdict() if found else {"mean": None, "n": 0, "low": None, "high": None}
        rows.append({"score": score, "with": kind, **over, "lowest": min(found, default=None)})
    return rows


STUDY = Study(
    recipe="reproduce-advise",
    place=_place,
    plan=plans_for,
    check=_check,
    rounds=_rounds,
    num_rounds=lambda plans: sum(map(num_rounds, plans.values())),
    measure=_measure,
    page=reproduction_page,
    answer=answer,
    table=lambda result: result_tables(result)[0],
    published=lambda config: f"advise-{config.scale}",
)
