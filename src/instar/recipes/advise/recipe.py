"""Which layers to keep, and whether to freeze them: cheap scores, a few short fits, one fit to the end.

Validation chooses everything; test is read once, after that, for all that was fitted to the end: the finalists,
and the three usual ways where they are asked for.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import Engine, open_engine, run_jobs
from instar.recipes.advise.plan import SCORES, Plan
from instar.recipes.advise.settings import AdviseConfig
from instar.recipes.fitting import load_run_network
from instar.runs import Run, run_hash
from instar.transfer import Treatment, promising_cuts, survivors, wilson_interval


@dataclass(frozen=True)
class Fitted:
    """One fit of a treatment: its job, and what validation says of it."""

    name: str
    job: str
    epochs: int
    errors: int
    nll: float
    seconds: float
    cached: bool


@dataclass(frozen=True)
class Search:
    """What the cheap part found: scores at each cut, the short fits of each round, the finalists."""

    scores: list[dict[str, Any]]
    rounds: list[list[Fitted]]
    treatments: dict[str, Treatment | None]
    finalists: list[str]
    seconds: float
    """of the scores alone"""
    num_scored: int
    failed: dict[str, str] = field(default_factory=dict)
    """treatments whose short fit ended in an error, and that"""

    def rounds_of(self, name: str) -> list[Fitted]:
        """The short fits of one treatment."""
        return [fitted for one in self.rounds for fitted in one if fitted.name == name]


def run_path(config: AdviseConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/advise/DATA-NETWORK-HASH`; other weights are another run."""
    plan = Plan(config, root)
    slug = "-".join(Path(name.replace(":", "-")).name for name in (plan.target.name, plan.architecture))
    fingerprint = f"{plan.splits.fingerprint} {plan.base_fingerprint}"
    hashed = run_hash("advise", config.model_dump(), data_fingerprint=fingerprint)
    return root / "advise" / f"{slug}-{hashed}"


def main(
    config: AdviseConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Ask for advice, or go on asking, or read what was answered.

    Args:
        config: what to do.
        path: the run directory.
        device: where to compute; does not belong to the configuration.
        engine: of the jobs.
        quiet: show no progress.

    Returns:
        The content of `result.json`.
    """
    from instar.recipes.advise.page import write_advise_page

    plan = Plan(config, path, device)
    plan.check()
    with Run(path, recipe="advise", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        seeds = range(config.seed, config.seed + config.seeds)
        with open_engine(engine) as workers:
            found = search(plan, workers, quiet)
            names = list(dict.fromkeys([*found.finalists, *(plan.usual if config.controls else ())]))
            last = plan.final_jobs({name: _treatment(plan, found, name) for name in names}, seeds)
            run_jobs(last, path, engine=workers, title=plan.part(-1), quiet=quiet).raise_if_failed()
        right = {name: [right_on_test(plan, plan.place(name, seed)) for seed in seeds] for name in names}
        result = advice_result(plan, found, right, seeds)
        result["seconds"] = round(time.monotonic() - started, 1)
        write_advise_page(run, plan, result)
        run.finish(result)
        return run.result()


def search(plan: Plan, workers: Engine, quiet: bool) -> Search:
    """Scores at every cut, then short fits at the promising ones: each round is longer and has fewer of them."""
    jobs = [plan.base_job, plan.scores_job()]
    run_jobs(jobs, plan.path, engine=workers, title=plan.part(0), quiet=quiet).raise_if_failed()
    scored = Run.read(plan.path / "jobs" / (plan.folder + SCORES)).result()
    cuts = promising_cuts({row["cut"]: row["probe_accuracy"] for row in scored["rows"]}, plan.config.num_cuts)
    treatments = plan.candidates(cuts)
    left, rounds = list(treatments), []
    failed: dict[str, str] = {}
    for number, epochs in enumerate(plan.round_epochs(), 1):
        places = {name: f"{plan.folder}round-{number}/{name}" for name in left}
        jobs = [
            plan.fit(place, treatments[name], epochs=epochs, seed=plan.config.seed)
            for name, place in places.items()
        ]
        jobs = [plan.base_job, *jobs]
        report = run_jobs(jobs, plan.path, engine=workers, title=plan.part(number), quiet=quiet)
        done = [name for name in left if places[name] not in {*report.failed, *report.kept_back}]
        if not done:
            report.raise_if_failed()
        failed |= {name: report.failed[places[name]] for name in left if places[name] in report.failed}
        rounds.append([read_fit(plan, name, places[name]) for name in done])
        ranking = [one.name for one in ranked(rounds[-1])]
        left = survivors(ranking, plan.config.keep)
    about = scored["metrics"]
    finalists = ranking[: plan.config.finalists]
    return Search(scored["rows"], rounds, treatments, finalists, about["seconds"], about["num_examples"], failed)


def ranked(fits: Sequence[Fitted]) -> list[Fitted]:
    """Best first: the fewest validation errors, and of equals the highest likelihood."""
    return sorted(fits, key=lambda one: (one.errors, one.nll))


def read_fit(plan: Plan, name: str, job: str) -> Fitted:
    """What validation says of a finished fit, and what it took: epochs that were run, and their seconds."""
    run = Run.read(plan.path / "jobs" / job)
    result, seconds = run.result(), float(run.metrics()[-1]["seconds"])
    found = result["metrics"]
    cached = bool(found.get("prefix_cached", False))
    errors, nll = found["validation_errors"], found["validation_nll"]
    return Fitted(name, job, len(result["rows"]), errors, nll, seconds, cached)


def _treatment(plan: Plan, found: Search, name: str) -> Treatment | None:
    return {**found.treatments, **plan.candidates([max(plan.cuts)])}[name]


def right_on_test(plan: Plan, job: str) -> Tensor:
    """The only place that reads test: which of its examples a network has right."""
    test = plan.splits.test
    logits = predict_logits(load_run_network(plan.path / "jobs" / job), test)
    return ~metrics.example_errors(logits, test.labels(test.ids))


def advice_result(plan: Plan, found: Search, right: Mapping[str, list[Tensor]], seeds: range) -> dict[str, Any]:
    """The content of `result.json`: a row for each treatment tried, the advice, its interval and its cost."""
    finals = {name: [read_final(plan, name, seed) for seed in seeds] for name in right}
    best = min(finals, key=lambda name: judged(finals[name]))
    rows = [_row(plan, found, name, finals.get(name, [])) for name in {**found.treatments, **right}]
    for row in rows:
        row["chosen"] = row["name"] == best
        if row["name"] in right:
            row |= expected_accuracy(right[row["name"]])
            if row["name"] != best:
                row |= _behind(right[best], right[row["name"]])
    chosen = next(row for row in rows if row["chosen"])
    chosen_from = found.finalists if best in found.finalists else list(finals)  # a usual way needed all of them
    cost = cost_of_advice(plan, found, [one for name in chosen_from for one in finals[name]])
    return {
        "metrics": {
            **{key: chosen[key] for key in ("mean", "low", "high", "n", "validation_accuracy")},
            "multiplications": cost["advice"]["multiplications"],
            "study_multiplications": cost["study"]["multiplications"],
        },
        "rows": rows,
        "advice": {key: chosen[key] for key in ("name", "cut", "layer", "fine_tune", "usual", "interval")},
        "scores": [{**row, "layer": plan.layers[row["cut"] - 1]["name"]} for row in found.scores],
        "cost": cost,
        "layers": plan.layers,
        "network": plan.config.network,
        "num_train": len(plan.splits.train),
        "num_validation": len(plan.splits.validation),
        "num_test": len(plan.splits.test),
    }


def read_final(plan: Plan, name: str, seed: int) -> Fitted:
    """What a fit to the end left."""
    return read_fit(plan, name, plan.place(name, seed))


def judged(fits: Sequence[Fitted]) -> tuple[float, float]:
    """Of one treatment's fits: mean validation errors, and their likelihood to break ties."""
    return sum(one.errors for one in fits) / len(fits), sum(one.nll for one in fits) / len(fits)


def _row(plan: Plan, found: Search, name: str, finals: Sequence[Fitted]) -> dict[str, Any]:
    treatment, tried = _treatment(plan, found, name), found.rounds_of(name)
    last = finals or tried[-1:]
    num_validation = len(plan.splits.validation)
    by_round = [100 * (1 - one.errors / num_validation) for one in tried]
    errors = sum(one.errors for one in last) / len(last) if last else None
    return {
        "name": name,
        "cut": treatment.n if treatment else 0,
        "layer": plan.layers[treatment.n - 1]["name"] if treatment else None,
        "fine_tune": treatment is None or treatment.fine_tune,
        "usual": plan.usual.get(name),
        "failed": found.failed.get(name),
        "copied": plan.layers[treatment.n - 1]["copied"] if treatment else 0,
        "epochs": last[0].epochs if last else 0,
        "validation_by_round": by_round,
        "validation_accuracy": None if errors is None else 100 * (1 - errors / num_validation),
        "multiplications": sum(
            plan.fit_cost(treatment, one.epochs, cached=one.cached) for one in [*tried, *finals]
        ),
        "seconds": round(sum(one.seconds for one in [*tried, *finals]), 2),
        "mean": None,
        "sd": None,
        "n": max(1, len(finals)),
        "low": None,
        "high": None,
    }


def expected_accuracy(right: Sequence[Tensor]) -> dict[str, Any]:
    """Accuracy on test in percent with its interval: over seeds where there are several, else over examples."""
    over = metrics.over_seeds([100 * float(one.double().mean()) for one in right])
    if over.low is not None and over.high is not None:
        bounds = {"low": max(over.low, 0.0), "high": min(over.high, 100.0)}
        return {**over._asdict(), **bounds, "interval": f"95 % t interval over {over.n} seeds"}
    share, low, high, n = wilson_interval(int(right[0].sum()), len(right[0]))
    about = f"95 % Wilson interval over {n:,} test examples"
    return {"mean": 100 * share, "sd": None, "n": 1, "low": 100 * low, "high": 100 * high, "interval": about}


def _behind(best: Sequence[Tensor], other: Sequence[Tensor]) -> dict[str, Any]:
    """By how many points the advice is above another treatment: paired over seeds, or over test examples."""
    if len(best) > 1:
        pairs = zip(best, other, strict=True)
        over = metrics.over_seeds([100 * float(a.double().mean() - b.double().mean()) for a, b in pairs])
        found = (over.mean, over.low, over.high)
    else:
        wrong = [~torch.stack(list(one)) for one in (other, best)]
        shift = metrics.bootstrap_difference(*wrong, seed=0)
        found = (100 * shift.mean, 100 * shift.low, 100 * shift.high)
    return dict(zip(("advice_minus", "advice_minus_low", "advice_minus_high"), found, strict=True))


def cost_of_advice(plan: Plan, found: Search, finals: Sequence[Fitted]) -> dict[str, Any]:
    """Multiplications and seconds of the advice, and about what the full study would take: every cut, both ways.

    The study's seconds are those of its multiplications at the rate of the advice's own fits, frozen ones and
    others apart where both are there.
    """
    fits = [*(one for of_round in found.rounds for one in of_round), *finals]
    cached = all(one.cached for one in fits if is_frozen(found.treatments[one.name]))
    spent, study = {True: 0, False: 0}, {True: 0, False: 0}
    took = {True: 0.0, False: 0.0}
    for one in fits:
        treatment = found.treatments[one.name]
        spent[is_frozen(treatment)] += plan.fit_cost(treatment, one.epochs, cached=one.cached)
        took[is_frozen(treatment)] += one.seconds
    for treatment in plan.candidates(plan.cuts).values():
        study[is_frozen(treatment)] += plan.fit_cost(treatment, plan.config.fit.epochs, cached=cached)
    whole = sum(took.values()) / sum(spent.values())
    rate = {kind: took[kind] / spent[kind] if spent[kind] else whole for kind in study}
    features = plan.layers[max(plan.cuts) - 1]["multiplications"] * found.num_scored
    return {
        "advice": {
            "fits": len(fits),
            "multiplications": sum(spent.values()) + features,
            "seconds": round(sum(took.values()) + found.seconds, 2),
        },
        "study": {
            "fits": 2 * len(plan.cuts) + 1,
            "multiplications": sum(study.values()),
            "seconds": round(sum(rate[kind] * study[kind] for kind in study), 2),
        },
    }


def is_frozen(treatment: Treatment | None) -> bool:
    """Whether layers are copied and stay as they are."""
    return treatment is not None and not treatment.fine_tune
