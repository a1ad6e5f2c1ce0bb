"""`instar reproduce texts`: what an ensemble reaches, and a small network of a tenth of its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.evaluation import predict_logits, score
from instar.jobs import duration
from instar.recipes.distill.scoring import cost_row
from instar.recipes.learning import about_failures
from instar.recipes.loading import load_run_network
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import accuracy_bars, differences_table, rows_table
from instar.recipes.rows import ACCURACY, difference, row, with_interval
from instar.recipes.study import Page, Place, Result, Round, Rounds, Study
from instar.recipes.texts.plan import (
    ALONE,
    DISTILLED,
    ENSEMBLE,
    FEW,
    STUDENTS,
    TFIDF,
    TextsConfig,
    TextsPlan,
    check,
)
from instar.recipes.texts.tfidf import latency_of, load_tfidf, mean_logits
from instar.reports import Headline, Table
from instar.runs import Run

OUTSIDE = "oos"
"""The class of CLINC150 that is of none of its intents."""

Row = dict[str, Any]


def _place(config: TextsConfig) -> Place:
    return Place("reproduce", f"texts-{config.data.name}-{config.scale}".replace(":", "-").replace("/", "-"))


def _rounds(plan: TextsPlan) -> Rounds[None]:
    yield Round(plan.jobs())


def _measure(plan: TextsPlan, _: None) -> dict[str, Any]:
    """The result: rows in test accuracy, in percent, over seeds; differences paired by seed.

    A row also has likelihood and calibration on test, weights and latency; with an out-of-scope class also the
    accuracy within the others and the share of that class that is found. `details` has `weights_of_ensemble`: how
    many times the student's weights.
    """
    rows, values = [], {}
    for few in ("", FEW):
        logits = _logits(plan, few)
        for name, several in logits.items():
            values[few + name] = _accuracies(plan, several)
            rows.append(_row(plan, few, name, several, values[few + name]))
    pairs = [(few + name, few + other) for few in ("", FEW) for name, other in _PAIRS]
    pairs += [(FEW + DISTILLED, ALONE)]
    weights = {one["name"]: one["parameters"] for one in rows}
    test = plan.splits.test
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {one["name"]: one["mean"] for one in rows},
        "rows": rows,
        "differences": [difference(*pair, *(values[name] for name in pair)) for pair in pairs],
        "num_test": len(test),
        "seeds": list(range(plan.config.seeds)),
        "details": {
            "weights_of_ensemble": weights[ENSEMBLE] / weights[ALONE],
            "num_train": len(plan.splits.train),
            "preparation": "" if plan.splits.preparation is None else plan.splits.preparation.in_words(),
        },
    }


_PAIRS = ((DISTILLED, ALONE), (DISTILLED, ENSEMBLE), (ENSEMBLE, TFIDF))


def _logits(plan: TextsPlan, few: str) -> dict[str, list[Tensor]]:
    """The logits on test by row and seed: members, ensemble, students."""
    test, jobs = plan.splits.test, plan.path / "jobs"
    found: dict[str, list[Tensor]] = {name: [] for name in (*plan.teachers, TFIDF, ENSEMBLE, *STUDENTS)}
    linear: dict[str, Tensor] = {}
    for seed in range(plan.config.seeds):
        *networks, model = plan.members(few, seed)
        members = [predict_logits(load_run_network(jobs / name), test) for name in networks]
        if model not in linear:
            linear[model] = predict_logits(load_tfidf(jobs / model, test), test)
        for name, one in zip(plan.teachers, members, strict=True):
            found[name].append(one)
        found[TFIDF].append(linear[model])
        found[ENSEMBLE].append(mean_logits([*members, linear[model]]))
        for name in STUDENTS:
            found[name].append(predict_logits(load_run_network(plan.fits(few, name)[seed]), test))
    return found


def _accuracies(plan: TextsPlan, several: Sequence[Tensor]) -> list[float]:
    labels = plan.splits.test.labels(plan.splits.test.ids)
    return [100 * score(one, labels)["accuracy"] for one in several]


def _row(plan: TextsPlan, few: str, name: str, several: Sequence[Tensor], values: list[float]) -> Row:
    test = plan.splits.test
    labels = test.labels(test.ids)
    scores = [score(one, labels) for one in several]
    about: Row = {f"test_{key}": _mean([one[key] for one in scores]) for key in ("nll", "calibration_error")}
    about |= _scope(several, labels, test.class_names)
    fits = plan.fits(few, name) if name in (*plan.teachers, *STUDENTS) else []
    if fits:
        about |= about_failures(fits)
    is_once = name == TFIDF and not few  # it has no seed: one model for all
    return row(few + name, values[:1] if is_once else values, **about, **_cost(plan, few, name))


def _scope(several: Sequence[Tensor], labels: Tensor, class_names: Sequence[str]) -> Row:
    if OUTSIDE not in class_names:
        return {}
    is_outside = labels == list(class_names).index(OUTSIDE)
    right = [(one.argmax(-1) == labels).double() for one in several]
    return {
        "in_scope_accuracy": _mean([float(one[~is_outside].mean()) for one in right]),
        "out_of_scope_recall": _mean([float(one[is_outside].mean()) for one in right]),
    }


def _cost(plan: TextsPlan, few: str, name: str) -> Row:
    """Weights and latency, of the first seed; of the ensemble the sums of its members."""
    shape, jobs = plan.splits.test.example_shape, plan.path / "jobs"
    *networks, model = (jobs / one for one in plan.members(few, 0))
    linear = {
        "parameters": Run.read(model).result()["num_weights"],
        "latency_ms": latency_of(model, plan.splits.test),
    }
    if name == TFIDF:
        return linear
    keys = ("parameters", "latency_ms")
    if name == ENSEMBLE:
        several = [*(cost_row([path], shape) for path in networks), linear]
        return {key: round(sum(one[key] for one in several), 4) for key in keys}
    path: Path = plan.fits(few, name)[0]
    cost = cost_row([path], shape)
    return {key: cost[key] for key in keys}


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())


def answer(result: Result) -> Headline:
    """What distilling adds with all labels and with few."""
    rows = {one["name"]: one for one in result["rows"]}
    gains = {(one["name"], one["minus"]): one for one in result["differences"]}
    full, few = (gains[few + DISTILLED, few + ALONE] for few in ("", FEW))
    times, config = result["details"]["weights_of_ensemble"], result["config"]
    sentence = (
        f"Distilled, a network with {1 / times:.0%} of the ensemble's weights reaches "
        f"{rows[DISTILLED]['mean']:.1f} %, {with_interval(full)} points over the same network on labels alone; "
        f"the ensemble reaches {rows[ENSEMBLE]['mean']:.1f} %."
    )
    detail = (
        f"With the labels of {config['labelled']:.0%} and the rest of the texts without: "
        f"{rows[FEW + DISTILLED]['mean']:.1f} %, {with_interval(few)} points over the labelled ones alone. "
        f"95 % intervals, paired by seed, n = {full['n']} seeds."
    )
    return Headline(sentence, detail)


def _table(result: Result) -> Table:
    caption = (
        f"{result['details']['num_train']:,} training texts, {result['details']['preparation']}. The ensemble is "
        "the mean of the probabilities of the networks and of the linear model."
    )
    return rows_table(result, "Texts", caption)


def page(plan: TextsPlan, result: Result) -> Page:
    """The report of `instar reproduce texts`."""
    config = plan.config
    return Page(
        f"Texts: an ensemble into {config.student.network} on {config.data.name}",
        f"{duration(result['fit_seconds'])} of training",
        [
            accuracy_bars(result, caption="95 % intervals over seeds; the differences below are paired."),
            _table(result),
            differences_table(result, caption="Paired by seed."),
        ],
        again=repeat_command("texts", config, plan.path),
    )


STUDY: Study[TextsConfig, TextsPlan, None] = Study(
    recipe="reproduce-texts",
    place=_place,
    plan=TextsPlan,
    check=check,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=page,
    answer=answer,
    table=_table,
    published=lambda config: f"texts-{config.data.name}-{config.scale}",
)
"""The study."""
