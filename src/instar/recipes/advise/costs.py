"""What the advice costs, and about what full fits of all treatments would."""

from collections.abc import Mapping, Sequence
from typing import Any

from instar.recipes.advise.plan import Plan
from instar.recipes.advise.search import Fitted, Search


def cost_of_advice(plan: Plan, search: Search, full: Mapping[str, Sequence[Fitted]]) -> dict[str, Any]:
    """`fits`, `multiplications` and `seconds` of the `advice`, and of the full `study` with one seed.

    The seconds of the study are its multiplications at the rates of the advice's own fits, frozen and others.

    Args:
        plan: of the advice.
        search: its scores and short fits.
        full: the full fits that the advice took, by treatment.
    """
    fits = [(name, fit) for fits in search.rounds for name, fit in fits.items()]
    fits += [(name, fit) for name, several in full.items() for fit in several]
    spent, study = {True: 0, False: 0}, {True: 0, False: 0}  # frozen, and not
    seconds = {True: 0.0, False: 0.0}
    for name, fit in fits:
        spent[plan.is_frozen(name)] += plan.fit_cost(name, fit.epochs, cached=fit.cached)
        seconds[plan.is_frozen(name)] += fit.seconds
    cached = all(fit.cached for name, fit in fits if plan.is_frozen(name))
    for name in plan.treatments:
        study[plan.is_frozen(name)] += plan.fit_cost(name, plan.config.fit.epochs, cached=cached)
    overall = sum(seconds.values()) / sum(spent.values())
    rate = {frozen: seconds[frozen] / spent[frozen] if spent[frozen] else overall for frozen in study}
    scored = search.scored["metrics"]
    features = plan.layers[max(plan.cuts) - 1].multiplications * scored["num_examples"]
    return {
        "advice": {
            "fits": len(fits),
            "multiplications": sum(spent.values()) + features,
            "seconds": round(sum(seconds.values()) + scored["seconds"], 2),
        },
        "study": {
            "fits": len(plan.treatments),
            "multiplications": sum(study.values()),
            "seconds": round(sum(rate[frozen] * study[frozen] for frozen in study), 2),
        },
    }
