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
from typing import Any

from instar import intervals
from instar.recipes.advise.checks import check
from instar.recipes.advise.costs import cost_of_advice
from instar.recipes.advise.page import SCORES
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.recipe import describe, percent, right_on_test
from instar.recipes.advise.reproduction_page import answer, reproduction_page
from instar.recipes.advise.reproduction_plan import JudgeConfig, Plans, plans_for
from instar.recipes.advise.search import (
    Fitted,
    Search,
    fewest_errors,
    full_fits,
    num_failed,
    num_rounds,
    successive_halving,
)
from instar.recipes.learning import if_any
from instar.recipes.result_tables import rows_table
from instar.recipes.rows import Measure, row
from instar.recipes.study import Place, Rounds, Study
from instar.transfer import SCRATCH

GOAL_POINTS, GOAL_COST = 1.0, 0.1
MEASURE = Measure("difference", "advice minus the choice of the full study", "points", "higher")
THE_CHOICE = "choice of the full study"

Rows = list[dict[str, Any]]


def _place(config: JudgeConfig) -> Place:
    return Place("reproduce", f"advise-{config.scale}")


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
    study = {pair: _study(pair, plan, found[pair].full) for pair, plan in plans.items()}
    rows = [_row(pair, plan, found[pair], study[pair]) for pair, plan in plans.items()]
    scores = {pair: search.scored["rows"] for pair, search in found.items()}
    differences = _differences(plans, rows, study)
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
            "correlations": [
                _correlation([(scores[pair], study[pair]) for pair in plans], score, fine_tune)
                for score in SCORES
                for fine_tune in (False, True)
            ],
            "study": [row for rows in study.values() for row in rows],
            "scores_by_pair": [{"pair": pair, **score} for pair, rows in scores.items() for score in rows],
        },
    }


def _differences(plans: Plans, rows: Rows, study: Mapping[str, Rows]) -> Rows:
    """The advice, and each usual treatment, minus the choice of the full study."""
    over_pairs = {"advice": [row["mean"] for row in rows]}
    for pair in rows:
        for name, called in plans[pair["name"]].usual.items():
            minus_best = statistics.fmean(_minus(study[pair["name"]], name, pair["best"]))
            over_pairs.setdefault(called, []).append(minus_best)
    return [
        {"name": name, "minus": THE_CHOICE, **intervals.over_seeds(values)._asdict()}
        for name, values in over_pairs.items()
    ]


def _study(pair: str, plan: Plan, full: Mapping[str, Sequence[Fitted]]) -> Rows:
    """Every treatment of a pair on test."""
    accuracy = {
        name: [percent(right_on_test(plan, plan.full_name(name, seed))) for seed in plan.seeds]
        for name in plan.treatments
    }
    return [
        {
            "pair": pair,
            "examples_per_class": plan.config.examples_per_class,
            **row(name, values, **describe(plan, name), **if_any(num_failed(full[name]))),
            "minus_scratch": _mean(values) - _mean(accuracy[SCRATCH]),
        }
        for name, values in accuracy.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _minus(study: Rows, name: str, other: str) -> list[float]:
    """The accuracy of one treatment minus that of another, by seed."""
    values = {row["name"]: row["values"] for row in study}
    return [mine - theirs for mine, theirs in zip(values[name], values[other], strict=True)]


def _row(pair: str, plan: Plan, search: Search, study: Rows) -> dict[str, Any]:
    """The advice, which has one seed, beside the choice of the study, which has several."""
    best = fewest_errors(search.full)
    first_seed = {name: search.full[name][:1] for name in search.finalists}
    advice = fewest_errors(first_seed)
    accuracy = {row["name"]: _mean(row["values"]) for row in study}
    cost = cost_of_advice(plan, search, first_seed)["advice"]
    fits = [(name, fit) for name, several in search.full.items() for fit in several]
    multiplications = sum(plan.fit_cost(name, fit.epochs, cached=fit.cached) for name, fit in fits)
    seconds = round(sum(fit.seconds for _, fit in fits), 2)
    ratio = cost["multiplications"] / multiplications
    values = _minus(study, advice, best)
    compared = zip(search.full[advice], search.full[best], strict=True)
    return row(
        pair,
        values,
        advice=advice,
        best=best,
        advice_accuracy=accuracy[advice],
        best_accuracy=accuracy[best],
        cost={
            "advice": cost,
            "study": {"fits": len(fits), "multiplications": multiplications, "seconds": seconds},
        },
        cost_ratio=ratio,
        cost_ratio_one_seed=len(plan.seeds) * cost["multiplications"] / multiplications,
        seconds_ratio=cost["seconds"] / seconds,
        within_goal=statistics.fmean(values) >= -GOAL_POINTS and ratio <= GOAL_COST,
        **if_any(sum(num_failed(pair) > 0 for pair in compared)),
    )


def _correlation(pairs: Sequence[tuple[Rows, Rows]], score: str, fine_tune: bool) -> dict[str, Any]:
    """Spearman's correlation of a score with test accuracy over the cuts: over pairs where neither is constant.

    Args:
        pairs: scores and study of each.
        score: its name.
        fine_tune: whether the accuracy is that of fine-tuned or of frozen copies.
    """
    from scipy.stats import spearmanr

    found = []
    for scores, study in pairs:
        means = {row["cut"]: row["mean"] for row in study if row["cut"] and row["fine_tune"] == fine_tune}
        values, accuracies = [row[score] for row in scores], [means[row["cut"]] for row in scores]
        if len(set(values)) > 1 and len(set(accuracies)) > 1:
            found.append(float(spearmanr(values, accuracies).statistic))
    over = intervals.over_seeds(found)._asdict() if found else {"mean": None, "n": 0, "low": None, "high": None}
    return {
        "score": score,
        "with": "fine-tuned" if fine_tune else "frozen",
        **over,
        "lowest": min(found, default=None),
    }


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
    table=rows_table,
    published=lambda config: f"advise-{config.scale}",
)
