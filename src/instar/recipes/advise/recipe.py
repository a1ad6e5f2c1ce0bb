"""`instar advise`: which layers of a trained network to keep, and whether to freeze them.

Validation chooses everything. Test is read once, after that, for all treatments with full fits. The result:

- `rows`: the treatments with full fits; the mean is test accuracy in percent over seeds. `chosen` is true for
  the advice. `interval`: what the interval is over; with one seed it is Wilson's, over test examples. `cut`:
  how many layers are copied; `layer`: the last of them; `copied`: their weights; `usual`: a name in use for it.
- `differences`: the advice minus each other row in points; with one seed, bootstrapped over test examples.
- `tuning`: the treatments of the first round, with the settings of a row. `validation_by_round`: accuracy in
  percent after each short fit; `validation_errors`: of the longest fits, of `epochs` each; `multiplications` and
  `seconds` of all its fits.
- `details`: `scores` of the features at each cut; `cost` of the advice and, about, of the full study; `layers`;
  `num_train` and `num_validation` examples of `num_classes` classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import intervals, metrics
from instar.evaluation import predict_logits
from instar.recipes.advise.checks import check
from instar.recipes.advise.costs import cost_of_advice
from instar.recipes.advise.page import advise_page, answer, result_table
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.search import Fitted, Search, advice_rounds, fewest_errors, num_failed, num_rounds
from instar.recipes.advise.settings import AdviseConfig
from instar.recipes.learning import if_any
from instar.recipes.loading import load_run_network
from instar.recipes.rows import ACCURACY
from instar.recipes.rows import row as row_of
from instar.recipes.shipping.use_it import use_lines
from instar.recipes.study import Place, Result, Study
from instar.transfer import wilson_interval


def place(config: AdviseConfig) -> Place:
    """`runs/advise/DATA-NETWORK-HASH`; other weights are another run."""
    plan = Plan(config, Path())
    slug = "-".join(Path(name.replace(":", "-")).name for name in (plan.target.name, plan.architecture))
    return Place("advise", slug, {"base": plan.base_identity})


def measure(plan: Plan, search: Search) -> dict[str, Any]:
    """The result of the search, with the test accuracy of all that was fitted in full."""
    chosen = fewest_errors(search.full)
    names = [name for name in search.tried if name in search.full]
    right = {name: [right_on_test(plan, plan.full_name(name, seed)) for seed in plan.seeds] for name in names}
    rows = [accuracy_row(plan, name, right[name]) for name in names]
    for row in rows:
        row["chosen"] = row["name"] == chosen
        row["validation_accuracy"] = validation_accuracy(plan, search.full[row["name"]])
        row |= if_any(num_failed(search.full[row["name"]]))
    best = next(row for row in rows if row["chosen"])
    needed = search.finalists if chosen in search.finalists else names  # a control was chosen from all of them
    cost = cost_of_advice(plan, search, {name: search.full[name] for name in needed})
    about = {"accuracy": "mean", "accuracy_low": "low", "accuracy_high": "high"}
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {
            **{key: best[column] for key, column in about.items()},
            "validation_accuracy": best["validation_accuracy"],
            "multiplications": cost["advice"]["multiplications"],
            "study_multiplications": cost["study"]["multiplications"],
        },
        "rows": rows,
        "differences": [
            {"name": chosen, "minus": name, **_difference(right[chosen], right[name])}
            for name in names
            if name != chosen
        ],
        "tuning": [_tried(plan, search, name) for name in search.tried],
        "num_test": len(plan.splits.test),
        "seeds": list(plan.seeds),
        "details": {
            "scores": [{**score, "layer": plan.layers[score["cut"] - 1].name} for score in search.scored["rows"]],
            "cost": cost,
            "layers": [layer._asdict() for layer in plan.layers],
            "num_classes": len(plan.splits.class_names),
            "num_train": len(plan.splits.train),
            "num_validation": len(plan.splits.validation),
        },
    }


def right_on_test(plan: Plan, job: str) -> Tensor:
    """Which test examples a network classifies correctly; nothing else reads the test data."""
    test = plan.splits.test
    logits = predict_logits(load_run_network(plan.path / "jobs" / job), test)
    return ~metrics.example_errors(logits, test.labels(test.ids))


def percent(right: Tensor) -> float:
    """The accuracy in percent."""
    return 100 * float(right.double().mean())


def accuracy_row(plan: Plan, name: str, right: Sequence[Tensor]) -> dict[str, Any]:
    """A row of test accuracy, with an interval over seeds where there are several, else over the test examples."""
    found = row_of(name, [percent(one) for one in right], **describe(plan, name))
    if len(right) > 1:
        bounds = {"low": max(found["low"], 0.0), "high": min(found["high"], 100.0)}
        return {**found, **bounds, "interval": f"95 % t interval over {len(right)} seeds"}
    share, low, high, n = wilson_interval(int(right[0].sum()), len(right[0]))
    bounds = {"mean": 100 * share, "low": 100 * low, "high": 100 * high}
    return {**found, **bounds, "interval": f"95 % Wilson interval over {n:,} test examples"}


def describe(plan: Plan, name: str) -> dict[str, Any]:
    """The settings of a treatment."""
    treatment = plan.treatments[name]
    usual = {"usual": plan.usual[name]} if name in plan.usual else {}
    if treatment is None:
        return {"cut": 0, "fine_tune": True, "copied": 0, **usual}
    layer = plan.layers[treatment.n - 1]
    fine_tune, copied = treatment.fine_tune, layer.copied
    return {"cut": treatment.n, "layer": layer.name, "fine_tune": fine_tune, "copied": copied, **usual}


def _difference(best: Sequence[Tensor], other: Sequence[Tensor]) -> dict[str, Any]:
    """Points of accuracy between two treatments, paired by seed, or with one seed by test example."""
    if len(best) > 1:
        pairs = zip(best, other, strict=True)
        return intervals.over_seeds(
            [100 * float(a.double().mean() - b.double().mean()) for a, b in pairs]
        )._asdict()
    wrong = [~torch.stack(list(right)) for right in (other, best)]
    shift = intervals.bootstrap_difference(*wrong, seed=0)
    bounds = {"mean": 100 * shift.mean, "sd": None, "n": 1, "low": 100 * shift.low, "high": 100 * shift.high}
    return {**bounds, "interval": f"95 % bootstrap interval over {shift.n:,} test examples"}


def _tried(plan: Plan, search: Search, name: str) -> dict[str, Any]:
    """The row of a treatment in `tuning`."""
    short = [fits[name] for fits in search.rounds if name in fits]
    fits = [*short, *search.full.get(name, [])]
    found = {
        "name": name,
        **describe(plan, name),
        "validation_by_round": [validation_accuracy(plan, [fit]) for fit in short],
        "multiplications": sum(plan.fit_cost(name, fit.epochs, cached=fit.cached) for fit in fits),
        "seconds": round(sum(fit.seconds for fit in fits), 2),
    }
    if name in search.failed:
        return {**found, "failed": search.failed[name]}
    last = search.full.get(name, short[-1:])
    errors = intervals.over_seeds([fit.errors for fit in last])
    nll = sum(fit.nll for fit in last) / len(last)
    about = {"validation_errors": errors.mean, "sd": errors.sd, "n": errors.n, "validation_nll": nll}
    return {**found, "epochs": last[0].epochs, **about, **if_any(num_failed(last))}


def validation_accuracy(plan: Plan, fits: Sequence[Fitted]) -> float:
    """The accuracy on validation in percent, mean over the fits."""
    errors = sum(fit.errors for fit in fits) / len(fits)
    return 100 * (1 - errors / len(plan.splits.validation))


def use_it(path: str, result: Result) -> list[str]:
    """The commands that use the network that was advised."""
    chosen = next(row["name"] for row in result["rows"] if row["chosen"])
    return use_lines(f"{path}:final/{chosen}", comment=f"the advice, {chosen}")


STUDY = Study(
    recipe="advise",
    place=place,
    plan=Plan,
    check=check,
    rounds=advice_rounds,
    num_rounds=num_rounds,
    measure=measure,
    page=advise_page,
    answer=answer,
    table=result_table,
    published=lambda config: config.published_as,
    use=use_it,
)
