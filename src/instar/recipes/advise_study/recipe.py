"""The advisor judged: its advice against every treatment fitted to the end, on pairs of tasks named before."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from instar import metrics
from instar.jobs import Engine, open_engine, run_jobs
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.recipe import cost_of_advice, judged, read_final, right_on_test, search
from instar.recipes.advise_study.scales import JudgeConfig
from instar.recipes.fitting import load_splits
from instar.recipes.publishing import time_spent
from instar.runs import Run, run_hash
from instar.transfer import SCRATCH, Treatment

SCORES = ("probe_accuracy", "h_score", "logme")
GOAL_POINTS, GOAL_COST = 1.0, 0.1


def run_path(config: JudgeConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/advise-SCALE-HASH`."""
    sources = {pair.data.name: load_splits(pair.data).fingerprint for pair in config.pairs.values()}
    hashed = run_hash("reproduce-advise", config.model_dump(), data_fingerprint=str(sorted(sources.items())))
    return root / "reproduce" / f"advise-{config.scale}-{hashed}"


def main(
    config: JudgeConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Ask for advice and run the full study on every pair, or go on: the content of `result.json`."""
    from instar.recipes.advise_study.page import write_study_page

    plans = {name: Plan(pair, path, device, folder=f"{_slug(name)}/") for name, pair in config.pairs.items()}
    for plan in plans.values():
        plan.check()
    with Run(path, recipe="reproduce-advise", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            found = {name: _judge(plan, config, workers, quiet) for name, plan in plans.items()}
        result = study_result([{"name": name, **one} for name, one in found.items()])
        result |= time_spent(path, started)
        write_study_page(run, config, result)
        run.finish(result)
        return run.result()


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _judge(plan: Plan, config: JudgeConfig, workers: Engine, quiet: bool) -> dict[str, Any]:
    """The advice for one pair, then the full study, then both on test: what to keep of each."""
    seeds = range(plan.config.seed, plan.config.seed + config.seeds)
    found = search(plan, workers, quiet)
    treatments = plan.candidates(plan.cuts)
    jobs = plan.final_jobs(treatments, seeds)
    run_jobs(jobs, plan.path, engine=workers, title=plan.part(-1), quiet=quiet).raise_if_failed()
    fits = {name: [read_final(plan, name, seed) for seed in seeds] for name in treatments}
    best = min(fits, key=lambda name: judged(fits[name]))
    advice = min(found.finalists, key=lambda name: judged(fits[name][:1]))  # the advisor has one seed
    right = {name: [right_on_test(plan, plan.place(name, seed)) for seed in seeds] for name in treatments}
    accuracy = {name: _percent(several) for name, several in right.items()}
    behind = {
        name: metrics.paired_difference(accuracy[name], accuracy[best])
        for name in dict.fromkeys([advice, *plan.usual])
    }
    spent = cost_of_advice(plan, found, [fits[name][0] for name in found.finalists])["advice"]
    study = {
        "multiplications": sum(
            plan.fit_cost(treatments[name], one.epochs, cached=one.cached) for name in fits for one in fits[name]
        ),
        "seconds": round(sum(one.seconds for several in fits.values() for one in several), 2),
    }
    means = {name: sum(values) / len(values) for name, values in accuracy.items()}
    return {
        "advice": advice,
        "best": best,
        **behind[advice]._asdict(),
        "advice_accuracy": means[advice],
        "best_accuracy": means[best],
        "usual": {plan.usual[name]: behind[name].mean for name in plan.usual},
        "cost": {"advice": spent, "study": study, "fits": len(treatments) * len(seeds), "seeds": len(seeds)},
        "cost_ratio": spent["multiplications"] / study["multiplications"],
        "cost_ratio_one_seed": len(seeds) * spent["multiplications"] / study["multiplications"],
        "seconds_ratio": spent["seconds"] / study["seconds"],
        "correlations": [
            {"score": score, "with": kind, "rho": _correlation(found.scores, score, means, fine_tune)}
            for score in SCORES
            for kind, fine_tune in (("frozen", False), ("tuned", True))
        ],
        "scores": found.scores,
        "study": [
            {
                "examples_per_class": plan.config.examples_per_class,
                "treatment": name,
                "cut": one.n if one else 0,
                "fine_tune": one is None or one.fine_tune,
                "copied": plan.layers[one.n - 1]["copied"] if one else 0,
                **metrics.over_seeds(accuracy[name])._asdict(),
                "minus_scratch": means[name] - means[SCRATCH],
            }
            for name, one in treatments.items()
        ],
    }


def _percent(right: Sequence[Tensor]) -> list[float]:
    return [100 * float(one.double().mean()) for one in right]


def _correlation(
    scores: Sequence[dict[str, Any]], score: str, means: dict[str, float], fine_tune: bool
) -> float | None:
    """Spearman's rank correlation of a score with test accuracy over the cuts; None where one is constant."""
    from scipy.stats import spearmanr

    pairs = [(row[score], means[Treatment("A", "B", row["cut"], fine_tune).name]) for row in scores]
    values, accuracies = zip(*pairs, strict=True)
    if len(set(values)) < 2 or len(set(accuracies)) < 2:
        return None
    return float(spearmanr(values, accuracies).statistic)


def study_result(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of `result.json` from what was found of each pair.

    A row is a pair: `mean` is the advice's test accuracy minus that of the treatment that validation finds best in
    the full study, in points, over seeds.
    """
    differences = metrics.over_seeds([one["mean"] for one in found])
    usual = {way: metrics.over_seeds([one["usual"][way] for one in found])._asdict() for way in found[0]["usual"]}
    apart = ("study", "scores", "correlations", "usual")
    rows = [
        {
            **{key: value for key, value in one.items() if key not in apart},
            "within_goal": one["mean"] >= -GOAL_POINTS and one["cost_ratio"] <= GOAL_COST,
        }
        for one in found
    ]
    return {
        "metrics": {
            "pairs": len(rows),
            "within_one_point": sum(row["mean"] >= -GOAL_POINTS for row in rows),
            "within_goal": sum(row["within_goal"] for row in rows),
            "difference": differences.mean,
            "difference_low": differences.low,
            "difference_high": differences.high,
            "largest_cost_ratio": max(row["cost_ratio"] for row in rows),
            "cost_ratio_one_seed": sum(row["cost_ratio_one_seed"] for row in rows) / len(rows),
            "cost_ratio": sum(row["cost_ratio"] for row in rows) / len(rows),
            "seconds_ratio": sum(row["seconds_ratio"] for row in rows) / len(rows),
        },
        "rows": rows,
        "usual": usual,
        "correlations": _correlations(found),
        "study": [{"pair": one["name"], **row} for one in found for row in one["study"]],
        "scores": [{"pair": one["name"], **row} for one in found for row in one["scores"]],
    }


def _correlations(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each score, mean over the pairs with its t interval."""
    rows = []
    for index, about in enumerate(found[0]["correlations"]):
        values = [one["correlations"][index]["rho"] for one in found]
        there = [value for value in values if value is not None]
        over = metrics.over_seeds(there)._asdict() if there else {"mean": None, "n": 0}
        worst = {"lowest": min(there, default=None)}
        rows.append({"score": about["score"], "with": about["with"], **over, **worst})
    return rows
