"""The rows of networks of tokens: means over seeds, intervals over documents, nearness to the teacher."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.distillation import SoftTargetStore
from instar.intervals import bootstrap_mean
from instar.recipes.distill.scoring import cost_row
from instar.recipes.learning import about_failures
from instar.recipes.loading import load_run_network
from instar.recipes.rows import Measure, about_likelihood, difference, excludes_zero, interval, row
from instar.recipes.study import Place, Result, Round, Rounds
from instar.recipes.tokens.plan import ALONE, TEACHER, TokensConfig, TokensPlan
from instar.recipes.tokens.scoring import Scores, score_all
from instar.reports import Headline

_BOOTSTRAP_SEED = 0

Row = dict[str, Any]
Sums = Callable[[Scores], Tensor]
"""What is measured, summed over the tokens of each document."""


def place_of(config: TokensConfig, prefix: str) -> Place:
    """`runs/distill/PREFIX-TEACHER-STUDENT-HASH`; a store of soft targets counts by its content."""
    store = None if config.store is None else SoftTargetStore.open(config.store).identity
    names = [str(config.store) if config.teacher is None else config.teacher.network, config.student.network]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    return Place("distill", f"{prefix}-{slug}", {} if store is None else {"store": store})


def networks_in_words(config: TokensConfig) -> str:
    """What was distilled into what."""
    teacher = (
        "stored soft targets" if config.store is not None or config.teacher is None else config.teacher.network
    )
    return f"{teacher} into {config.student.network}"


def headline(
    result: Result, said: Callable[[Row, Row, Row | None, str], str], *, unit: str, digits: int
) -> Headline:
    """What the first kind of targets adds to labels alone.

    Args:
        result: of `measured`.
        said: the sentence, of the rows distilled, on labels alone and of the teacher, and the verdict in a word.
        unit: of the difference.
        digits: behind its point.
    """
    rows, first = {one["name"]: one for one in result["rows"]}, result["differences"][0]
    is_better = (first["mean"] < 0) == (result["measure"]["better"] == "lower")
    verdict = "undecided" if not excludes_zero(first) else "better" if is_better else "worse"
    over = interval(first, digits, sign=True)
    about = f"Difference in {unit} {first['mean']:+.{digits}f}"
    about = f"{about} {over}, 95 % interval, paired, n = {first['n']} seeds." if over else f"{about}, one seed."
    distilled, alone = rows[first["name"]], rows[ALONE]
    if likelihood := result["details"].get("likelihood"):
        about += f" {about_likelihood(likelihood, distilled['test_nll'], alone['test_nll'])}".rstrip()
    return Headline(said(distilled, alone, rows.get(TEACHER), verdict), about)


def rounds(plan: TokensPlan) -> Rounds[None]:
    """One: nothing is chosen."""
    yield Round(plan.jobs())


def measured(
    plan: TokensPlan, measure: Measure, sums_of: Sums, more: Callable[[Scores], Row] = lambda _: {}
) -> Row:
    """The result; `details` has the difference in likelihood beside that in another measure.

    Args:
        plan: whose networks are trained.
        measure: what the mean of a row is, of a token.
        sums_of: the same, by document.
        more: further scores of one network, of which a row has the mean.
    """
    test, kinds = plan.splits.test, [*([TEACHER] if plan.has_teacher else []), *plan.kinds]
    paths = {f"{kind}/{number}": path for kind in kinds for number, path in enumerate(plan.fits(kind))}
    networks = {name: load_run_network(path) for name, path in paths.items()}
    scores, counts = score_all(networks, networks.get(f"{TEACHER}/0"), test)
    by_row = {kind: [scores[f"{kind}/{number}"] for number in range(len(plan.fits(kind)))] for kind in kinds}
    values = {
        name: [float(sums_of(one).sum() / counts.sum()) for one in several] for name, several in by_row.items()
    }
    about = {name: _about(plan, name, several, sums_of, more, counts) for name, several in by_row.items()}
    rows = [row(name, values[name], **about[name]) for name in by_row]
    pairs = [(kind, ALONE) for kind in plan.kinds[1:]]
    pairs += [(kind, plan.kinds[1]) for kind in plan.kinds[2:]]
    nll = ([float(one.nll.sum() / counts.sum()) for one in by_row[kind]] for kind in pairs[0])
    return {
        "measure": measure._asdict(),
        "metrics": {one["name"]: one["mean"] for one in rows},
        "rows": rows,
        "differences": [_difference(*pair, by_row, sums_of, values, counts) for pair in pairs],
        "details": {} if measure.unit == "nats" else {"likelihood": difference(*pairs[0], *nll)},
        "num_test": int(counts.sum()),
        "seeds": list(plan.seeds),
    }


def _about(
    plan: TokensPlan,
    name: str,
    several: list[Scores],
    sums_of: Sums,
    more: Callable[[Scores], Row],
    counts: Tensor,
) -> Row:
    total = float(counts.sum())
    over = bootstrap_mean(torch.stack([sums_of(one) for one in several]), counts, seed=_BOOTSTRAP_SEED)
    config, paths = plan.config, plan.fits(name)
    network = config.teacher if name == TEACHER and config.teacher is not None else config.student
    others = [more(one) for one in several]
    about: Row = {
        "network": network.network,
        "low_documents": over.low,
        "high_documents": over.high,
        "test_accuracy": _mean([one.right for one in several], total),
        **{key: sum(one[key] for one in others) / len(others) for key in others[0]},
        "test_calibration_error": sum(one.calibration_error for one in several) / len(several),
        **about_failures(paths),
        "parameters": cost_row(paths[:1], plan.splits.test.example_shape)["parameters"],
    }
    if name != TEACHER and plan.has_teacher:
        about["teacher_agreement"] = _mean([one.agrees for one in several], total)
        about["kl_from_teacher"] = _mean([one.kl for one in several], total)
    return about


def _difference(
    name: str,
    minus: str,
    by_row: Mapping[str, list[Scores]],
    sums_of: Sums,
    values: Mapping[str, list[float]],
    counts: Tensor,
) -> Row:
    pairs = zip(by_row[name], by_row[minus], strict=True)
    sums = torch.stack([sums_of(one) - sums_of(other) for one, other in pairs])
    over = bootstrap_mean(sums, counts, seed=_BOOTSTRAP_SEED)
    about = {"low_documents": over.low, "high_documents": over.high}
    return difference(name, minus, values[name], values[minus], **about)


def _mean(several: list[Tensor], total: float) -> float:
    return float(torch.stack(several).sum() / len(several) / total)
