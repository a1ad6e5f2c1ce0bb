"""`instar distill --task causal-lm`, `instar reproduce tokens`: a language model into one of fewer weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.data import TokenDataset
from instar.intervals import bootstrap_mean
from instar.jobs import duration
from instar.recipes.distill.scoring import cost_row
from instar.recipes.learning import about_failures
from instar.recipes.loading import load_run_network
from instar.recipes.reproductions import CUSTOM, repeat_command
from instar.recipes.result_tables import differences_table, rows_table
from instar.recipes.rows import Measure, difference, excludes_zero, interval, row
from instar.recipes.study import Page, Place, Result, Round, Rounds, Study
from instar.recipes.tokens.plan import ALONE, TEACHER, TokensConfig, TokensPlan, check
from instar.recipes.tokens.scoring import Scores, score_all
from instar.reports import Bars, Headline, Table

NLL = Measure("nll", "NLL of a test token", "nats", "lower")
_BOOTSTRAP_SEED = 0

Row = dict[str, Any]


def _place(config: TokensConfig) -> Place:
    if config.scale != CUSTOM:
        return Place("reproduce", f"tokens-{config.scale}")
    names = (config.teacher.network, config.student.network)
    return Place("distill", "tokens-" + "-".join(Path(name.replace(":", "-")).name for name in names))


def _rounds(plan: TokensPlan) -> Rounds[None]:
    yield Round(plan.jobs())


def _measure(plan: TokensPlan, _: None) -> dict[str, Any]:
    """The result: rows in nats a test token, over the students' seeds, which share one teacher.

    A row has the perplexity of a token and of a byte, the interval over documents, accuracy, calibration, and how
    near it is to the teacher: the share of tokens with the same likeliest, and the KL. Differences are paired by
    seed, and have an interval over documents too. `details` has what the data are.
    """
    test = plan.splits.test
    assert isinstance(test, TokenDataset)
    teacher = load_run_network(plan.fits(TEACHER)[0])
    paths = {f"{kind}/{number}": path for kind in plan.kinds for number, path in enumerate(plan.fits(kind))}
    networks = {TEACHER: teacher} | {name: load_run_network(path) for name, path in paths.items()}
    scores, counts = score_all(networks, teacher, test)
    by_row = {TEACHER: [scores[TEACHER]]}
    by_row |= {kind: [scores[f"{kind}/{number}"] for number in range(len(plan.seeds))] for kind in plan.kinds}
    values = {name: [float(one.nll.sum() / counts.sum()) for one in several] for name, several in by_row.items()}
    rows = [_row(plan, name, several, values[name], counts) for name, several in by_row.items()]
    pairs = [(kind, ALONE) for kind in plan.kinds[1:]]
    pairs += [(kind, plan.kinds[1]) for kind in plan.kinds[2:]]
    return {
        "measure": NLL._asdict(),
        "metrics": {one["name"]: one["mean"] for one in rows},
        "rows": rows,
        "differences": [_difference(*pair, by_row, values, counts) for pair in pairs],
        "num_test": int(counts.sum()),
        "seeds": list(plan.seeds),
        "details": _about_data(plan, test),
    }


def _row(plan: TokensPlan, name: str, several: list[Scores], values: list[float], counts: Tensor) -> Row:
    total, num_bytes = float(counts.sum()), float(plan.splits.test.num_bytes.sum())  # type: ignore[attr-defined]
    nats = sum(values) / len(values) * total
    over = bootstrap_mean(torch.stack([one.nll for one in several]), counts, seed=_BOOTSTRAP_SEED)
    config, path = plan.config, plan.fits(name)[0]
    about: Row = {
        "network": (config.teacher if name == TEACHER else config.student).network,
        "perplexity": math.exp(nats / total),
        "perplexity_per_byte": math.exp(nats / num_bytes),
        "low_documents": over.low,
        "high_documents": over.high,
        "test_accuracy": _mean([one.right for one in several], total),
        "test_calibration_error": sum(one.calibration_error for one in several) / len(several),
        **about_failures(plan.fits(name)),
        "parameters": cost_row([path], plan.splits.test.example_shape)["parameters"],
    }
    if name != TEACHER:
        about["teacher_agreement"] = _mean([one.agrees for one in several], total)
        about["kl_from_teacher"] = _mean([one.kl for one in several], total)
    return row(name, values, **about)


def _difference(
    name: str, minus: str, by_row: Mapping[str, list[Scores]], values: Mapping[str, list[float]], counts: Tensor
) -> Row:
    pairs = zip(by_row[name], by_row[minus], strict=True)
    sums = torch.stack([one.nll - other.nll for one, other in pairs])
    over = bootstrap_mean(sums, counts, seed=_BOOTSTRAP_SEED)
    about = {"low_documents": over.low, "high_documents": over.high}
    return difference(name, minus, values[name], values[minus], **about)


def _mean(several: list[Tensor], total: float) -> float:
    return float(torch.stack(several).sum() / len(several) / total)


def _about_data(plan: TokensPlan, test: TokenDataset) -> Row:
    train, preparation = plan.splits.train, plan.splits.preparation
    assert isinstance(train, TokenDataset)
    return {
        "num_train_tokens": train.num_positions,
        "num_train_documents": len(train.num_bytes),
        "num_test_documents": len(test.num_bytes),
        "num_test_bytes": int(test.num_bytes.sum()),
        "preparation": "" if preparation is None else preparation.in_words(),
        "documents": ". ".join(plan.splits.notes),
    }


def answer(result: Result) -> Headline:
    """What the first kind of targets adds to labels alone."""
    rows = {one["name"]: one for one in result["rows"]}
    first = result["differences"][0]
    teacher, alone, distilled = rows[TEACHER], rows[ALONE], rows[first["name"]]
    verb = "undecided" if not excludes_zero(first) else "better" if first["mean"] < 0 else "worse"
    sentence = (
        f"Distilled ({first['name']}), the student reaches a perplexity of {distilled['perplexity']:.1f} a token "
        f"after {alone['perplexity']:.1f} on labels alone, {verb}; the teacher has {teacher['perplexity']:.1f}."
    )
    over = interval(first, 3, sign=True)
    about = f"Difference in nats a token {first['mean']:+.3f}"
    detail = f"{about} {over}, 95 % interval, paired, n = {first['n']} seeds." if over else f"{about}, one seed."
    return Headline(sentence, detail)


def _table(result: Result) -> Table:
    details = result["details"]
    caption = (
        f"{details['num_train_tokens']:,} training tokens, {details['preparation']}; {result['num_test']:,} "
        f"tokens of {details['num_test_documents']:,} test documents. {details['documents']}."
    )
    return rows_table(result, "Language models", caption)


def page(plan: TokensPlan, result: Result) -> Page:
    """The report."""
    config = plan.config
    bars = Bars(
        "Test tokens",
        result["rows"],
        category="name",
        value="mean",
        low="low",
        high="high",
        value_title="nats a token",
        caption="95 % intervals over seeds of the students, which share one teacher.",
    )
    again = f"instar distill --task causal-lm --config {plan.path / 'config.toml'} --run-dir runs/again"
    return Page(
        f"Tokens: {config.teacher.network} into {config.student.network}",
        f"{duration(result['fit_seconds'])} of training",
        [bars, _table(result), differences_table(result, caption="Paired by seed; over documents by bootstrap.")],
        again=again if config.scale == CUSTOM else repeat_command("tokens", config, plan.path),
    )


STUDY: Study[TokensConfig, TokensPlan, None] = Study(
    recipe="tokens",
    place=_place,
    plan=TokensPlan,
    check=check,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=page,
    answer=answer,
    table=_table,
    published=lambda config: f"tokens-{config.scale}",
)
"""The study."""
