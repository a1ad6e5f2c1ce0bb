"""`instar reproduce mnist`: choose on validation, read test once, and set our figures beside the paper's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import intervals, metrics
from instar.distillation import fit_class_bias
from instar.recipes.choosing import TUNING_SEED, Score, fit_score
from instar.recipes.distill.correction import bias_on_validation
from instar.recipes.distill.mnist_page import COMPARED, answer, page
from instar.recipes.distill.mnist_plan import BEYOND, CORRECTED, LIKE, MnistConfig, MnistPlan, check
from instar.recipes.distill.scoring import errors_by_class, on_test, training_curve
from instar.recipes.distill.settings import Candidate
from instar.recipes.distill.students import Chosen, Student, choose
from instar.recipes.learning import FAILED, about_failures, failures_in_words
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import checked, merge
from instar.recipes.result_tables import rows_table
from instar.recipes.rows import ERRORS, row
from instar.recipes.scales import choose_scale
from instar.recipes.settings import as_text
from instar.recipes.splits import load_splits, training_data
from instar.recipes.study import Place, Round, Rounds, Study

PAPER = {
    "big-net": 67.0,
    "small-net": 146.0,
    "distilled-T20": 74.0,
    "omit-3-uncorrected": 206.0,
    "omit-3-bias-test": 109.0,
    "omit-3-on-3s-uncorrected": 133.0,
    "omit-3-on-3s-bias-test": 14.0,
    "only-7-8-uncorrected": 47.3,
    "only-7-8-bias-test": 13.2,
}
"""Test errors; of only-7-8 percent."""

_SAME = {"labelled-0-percent": "distilled-T20-soft-only", "labelled-100-percent": "distilled-T20"}
"""Rows that are another row by definition: the same networks."""

Row = dict[str, Any]


def config_for(scale: str, data: str = "mnist") -> MnistConfig:
    """The configuration of a scale.

    Raises:
        UsageError: no such scale.

    Example:
        >>> config_for("full").pairs
        3
    """
    name = {"name": data}
    return checked(MnistConfig, merge(choose_scale("mnist", data, scale), {"data": name, "held_out": name}))


def place(config: MnistConfig) -> Place:
    """`runs/reproduce/DATA-SCALE-HASH`."""
    return Place("reproduce", f"{config.data.name}-{config.scale}")


def rounds(plan: MnistPlan) -> Rounds[Chosen]:
    """A teacher and candidates; then, with the best of these, all pairs."""
    report = yield Round(plan.tuning_jobs(), may_fail=True)
    chosen = choose(plan.tuned(), [TUNING_SEED], report, plan.path, score=_score)
    made = {student.name for student in plan.students}
    chosen.candidates.update({name: chosen.candidates[other] for name, other in LIKE.items() if name in made})
    yield Round(plan.final_jobs(chosen.candidates))
    return chosen


def _score(student: Student, candidate: Candidate, job: Path) -> Score:
    """On validation, after the correction where there is one."""
    if student.name not in CORRECTED:
        return fit_score(job)
    validation = load_splits(student.data).validation
    logits, bias = bias_on_validation(load_run_network(job), validation, CORRECTED[student.name])
    logits, labels = logits + bias, validation.labels(validation.ids)
    return Score(int(metrics.errors(logits, labels)), metrics.negative_log_likelihood(logits, labels))


def measure(plan: MnistPlan, chosen: Chosen) -> dict[str, Any]:
    """The result.

    A row has `num_train`, the number of examples that its networks learned from, and `paper`, the paper's figure
    where there is one. `details` has the `choices` by row; `recovered` (see there); and of the first pair
    `training`, validation errors by epoch on a small fraction, and `errors_by_class` and `confusions` (rows: the
    true class) of the students that lacked classes.
    """
    test = load_splits(plan.config.data).test
    labels, names = test.labels(test.ids), test.class_names
    kept: dict[str, Tensor] = {}
    rows = list(_rows(plan, on_test(plan.path, test), labels, kept))
    by_name = {one["name"]: one for one in rows}
    for name, same in _SAME.items():
        if plan.config.makes(name) and (of := by_name.get(same)):
            failed = {key: of[key] for key in (FAILED,) if key in of}
            rows.append(result_row(name, of["values"], of["num_train"], **failed))
    percents = [one for one in plan.config.fractions if {*_of_fraction(one).values()} <= by_name.keys()]
    shown = percents[:2][-1:]
    training = [
        {**line, "percent": percent}
        for percent in shown
        for way, student in _of_fraction(percent).items()
        for line in training_curve(way, [plan.path / "jobs" / student / "seed-0"])
    ]
    return {
        "measure": ERRORS._asdict(),
        "metrics": {one["name"]: one["mean"] for one in rows},
        "rows": rows,
        "tuning": chosen.tuning,
        "num_test": len(labels),
        "details": {
            "choices": {name: as_text(one.settings) for name, one in chosen.candidates.items()},
            "recovered": recovered(percents, {name: one["values"] for name, one in by_name.items()}),
            "training": training,
            "errors_by_class": errors_by_class({name: [one] for name, one in kept.items()}, labels, names),
            "confusions": {
                name: metrics.confusion(one, labels, len(names)).tolist() for name, one in kept.items()
            },
        },
    }


def _of_fraction(percent: str) -> dict[str, str]:
    """The two students that learn from a fraction of the images without views, by way."""
    return {way: f"fraction-{percent}-percent-{way}" for way in ("hard", "soft")}


def result_row(name: str, values: Sequence[float], num_train: int, **more: Any) -> Row:
    """A row of the result, beside the paper's figure where there is one."""
    about: Row = {**more, "paper": PAPER[name]} if name in PAPER else more
    if name.startswith("only-7-8"):
        about["unit"] = "%"
    return row(name, values, **about, num_train=num_train)


def _rows(
    plan: MnistPlan, logits_of: Callable[[str], Tensor], labels: Tensor, kept: dict[str, Tensor]
) -> Iterator[Row]:
    """The rows; the logits of the first pair's students that lacked classes go to `kept`."""

    def count(logits: Tensor) -> float:
        return float(metrics.errors(logits, labels))

    def together(ensembles: Sequence[Sequence[str]]) -> list[float]:
        return [count(torch.stack([logits_of(job) for job in jobs]).softmax(-1).mean(0)) for jobs in ensembles]

    def learned(ensembles: Sequence[Sequence[str]]) -> dict[str, int]:
        return about_failures([[plan.path / "jobs" / job for job in jobs] for jobs in ensembles])

    splits, pairs = load_splits(plan.config.data), range(plan.config.pairs)
    whole = len(splits.train) + len(splits.validation)
    teachers = [f"big-net/{one}" for one in range(plan.num_teachers)]
    ensembles = [*map(plan.ensemble, pairs)]
    if teachers:
        about = learned([[one] for one in teachers])
        yield result_row("big-net", [count(logits_of(one)) for one in teachers], whole, **about)
    if plan.has_ensembles:
        yield result_row("ensemble", together(ensembles), whole, **learned(ensembles))
    for student in plan.students:
        if student.name == BEYOND:
            ensembles = [*map(plan.beyond_teachers, pairs)]
            yield result_row("beyond-teachers", together(ensembles), whole, **learned(ensembles))
        fits = [f"{student.name}/seed-{seed}" for seed in student.seeds]
        logits, about = [logits_of(fit) for fit in fits], learned([[fit] for fit in fits])
        num_train = len(training_data(load_splits(student.data), student.transfer))
        if student.name in CORRECTED:
            networks = [load_run_network(plan.path / "jobs" / fit) for fit in fits]
            ways = [_ways(student, network, one, labels) for network, one in zip(networks, logits, strict=True)]
            kept |= {f"{student.name}-{way}": ways[0][way] for way in ("uncorrected", "bias-validation")}
            for name, values in _corrected(student.name, ways, labels, splits.class_names).items():
                yield result_row(name, values, num_train, **about)
        else:
            yield result_row(student.name, [count(one) for one in logits], num_train, **about)


def _ways(student: Student, network: torch.nn.Module, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Logits of a student that lacked classes: as it is, corrected on validation, and on test as in the paper."""
    validation, classes = load_splits(student.data).validation, CORRECTED[student.name]
    _, bias = bias_on_validation(network, validation, classes)
    paper_bias = fit_class_bias(logits, labels, classes=classes, class_names=validation.class_names)
    return {"uncorrected": logits, "bias-validation": logits + bias, "bias-test": logits + paper_bias}


def _corrected(
    name: str, pairs: Sequence[Mapping[str, Tensor]], labels: Tensor, class_names: Sequence[str]
) -> dict[str, list[float]]:
    """Test errors of all pairs and, where one class was missing, those on it; where many were, percent."""
    values: dict[str, list[float]] = {}
    for way in pairs[0]:
        wrong = [pair[way].argmax(-1) != labels for pair in pairs]
        if name == "omit-3":
            values[f"{name}-{way}"] = [float(one.sum()) for one in wrong]
            values[f"{name}-on-3s-{way}"] = [float(one[labels == class_names.index("3")].sum()) for one in wrong]
        else:
            values[f"{name}-{way}"] = [100 * float(one.sum()) / len(labels) for one in wrong]
    return values


def recovered(percents: Sequence[str], values: Mapping[str, Sequence[float]]) -> list[Row]:
    """The share of the loss on a fraction of the images that soft targets recover, without views.

    share = (hard - soft) / (hard - all),  by pair; all: the student alone on all images

    With views it is unknown: no student sees all images with views and labels alone. A fraction on which labels
    alone lose nothing in some pair has no share.
    """
    rows: list[Row] = []
    for percent in percents if "small-net" in values else ():
        hard, soft = (values[name] for name in _of_fraction(percent).values())
        shares = [(h - s) / (h - a) for h, s, a in zip(hard, soft, values["small-net"], strict=True) if h > a]
        if len(shares) == len(hard):
            over = intervals.over_seeds(shares)
            about = {"percent": float(percent), "share": over.mean}
            rows.append({**about, "low": over.low, "high": over.high, "n": over.n})
    return rows


STUDY: Study[MnistConfig, MnistPlan, Chosen] = Study(
    recipe="reproduce-mnist",
    place=place,
    plan=MnistPlan,
    check=check,
    rounds=rounds,
    num_rounds=lambda plan: 2,
    measure=measure,
    page=page,
    answer=answer,
    table=rows_table,
    published=lambda config: f"{config.data.name}-{config.scale}",
    failures=lambda result: failures_in_words(
        [row for row in result["rows"] if row["name"] in COMPARED] or result["rows"]
    ),
)
