"""Run the study of section 3, choose on validation, read test once, and set our figures beside the paper's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.distillation import fit_class_bias
from instar.evaluation import predict_logits
from instar.jobs import JobReport, open_engine, run_jobs
from instar.recipes.fitting import load_run_network, load_splits, training_data
from instar.recipes.mnist.plan import Candidate, Kind, MnistConfig, Study, kinds_of, tuning_name
from instar.recipes.publishing import time_spent
from instar.runs import Run, run_hash

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


@dataclass(frozen=True)
class Findings:
    """What the table and the page are made of."""

    chosen: dict[str, Candidate]
    tried: list[dict[str, Any]]
    wrong: dict[str, list[float]]
    """errors (percent for only-7-8) by row, one for each pair"""
    num_train: dict[str, int]
    logits: dict[str, Tensor]
    """of the first pair's students that lacked classes, before and after the correction by validation"""
    labels: Tensor


def run_path(config: MnistConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/DATA-SCALE-HASH`."""
    fingerprint = load_splits(config.data).fingerprint
    hashed = run_hash("reproduce", config.model_dump(), data_fingerprint=fingerprint)
    return root / "reproduce" / f"{config.data.name}-{config.scale}-{hashed}"


def main(
    config: MnistConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Run the whole study, or go on with it, or read what it found: the content of `result.json`.

    Raises:
        UsageError: the data lacks a class that the study names.
    """
    from instar.recipes.mnist.page import write_mnist_page

    study = Study(config, path, device)
    study.check()
    with Run(path, recipe="reproduce", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            report = run_jobs(study.tuning_jobs(), path, engine=workers, title="part 1 of 2", quiet=quiet)
            chosen, tried = choose(study, report)
            final = study.final_jobs(chosen)
            run_jobs(final, path, engine=workers, title="part 2 of 2", quiet=quiet).raise_if_failed()
        findings = _read_test(study, chosen, tried)
        result = _result(study, findings)
        result |= time_spent(path, started)
        write_mnist_page(run, study, findings, result)
        run.finish(result)
        return run.result()


def choose(study: Study, report: JobReport) -> tuple[dict[str, Candidate], list[dict[str, Any]]]:
    """For each row the candidate with the fewest validation errors, and all that was tried.

    A candidate whose fit failed (too high a learning rate) is out, as long as another one of its row is left.
    """
    lost = report.kept_back | report.failed
    kinds = kinds_of(study.config)
    chosen = {kind.name: kind.candidates[0] for kind in kinds}
    tried = []
    for kind in study.tuned_kinds():
        left = [candidate for candidate in kind.candidates if tuning_name(kind, candidate) not in lost]
        if not left:
            report.raise_if_failed()
        judged = [_judged(study, kind, candidate) for candidate in left]
        chosen[kind.name] = left[min(range(len(judged)), key=lambda index: judged[index])]
        for candidate, (errors, nll) in zip(left, judged, strict=True):
            about = {"validation_errors": errors, "validation_nll": nll}
            tried.append({"name": kind.name, **candidate.model_dump(), **about})
        for candidate in kind.candidates:
            if (job := tuning_name(kind, candidate)) in lost:
                tried.append({"name": kind.name, **candidate.model_dump(), "failed": lost[job]})
    return chosen | {kind.name: chosen[kind.like] for kind in kinds if kind.like}, tried


def _judged(study: Study, kind: Kind, candidate: Candidate) -> tuple[int, float]:
    """Validation errors (after the correction, where there is one), and their log-likelihood to break ties."""
    job = study.path / "jobs" / tuning_name(kind, candidate)
    if not kind.corrected:
        found = Run.read(job).result()["metrics"]
        return found["validation_errors"], found["validation_nll"]
    validation = load_splits(study.config.data).validation
    logits, labels = predict_logits(load_run_network(job), validation), validation.labels(validation.ids)
    logits = logits + fit_class_bias(logits, labels, classes=kind.corrected, class_names=validation.class_names)
    return int(metrics.errors(logits, labels)), metrics.negative_log_likelihood(logits, labels)


def _read_test(study: Study, chosen: dict[str, Candidate], tried: list[dict[str, Any]]) -> Findings:
    """The only place that reads test."""
    config = study.config
    splits = load_splits(config.data)
    test, labels = splits.test, splits.test.labels(splits.test.ids)
    whole = len(splits.train) + len(splits.validation)

    def logits_of(name: str) -> Tensor:
        return predict_logits(load_run_network(study.path / "jobs" / name), test)

    def count(logits: Tensor) -> float:
        return float(metrics.errors(logits, labels))

    teachers = [logits_of(f"big-net/{number}") for number in range(study.num_teachers())]
    probs = torch.stack(teachers).softmax(-1)
    size = config.ensemble_size
    wrong = {
        "big-net": [count(one) for one in teachers],
        "ensemble": [count(probs[k * size : (k + 1) * size].mean(0)) for k in range(config.pairs)],
    }
    num_train = {"big-net": whole, "ensemble": whole}
    kept: dict[str, Tensor] = {}
    for kind in kinds_of(config):
        logits = [logits_of(f"{kind.name}/{pair}") for pair in range(kind.pairs)]
        num = len(training_data(load_splits(config.held_out if kind.is_held_out else config.data), kind.transfer))
        if kind.corrected:
            rows = _corrected_rows(study, kind, logits, labels, kept)
        else:
            rows = {kind.name: [count(one) for one in logits]}
        wrong |= rows
        num_train |= dict.fromkeys(rows, num)
    beyond = [study.beyond_teachers(pair) for pair in range(config.pairs)]
    together = [torch.stack([logits_of(name) for name in names]).softmax(-1).mean(0) for names in beyond]
    wrong["beyond-teachers"] = [count(one) for one in together]
    wrong["beyond-2x800"] = [count(logits_of(f"beyond-2x800/{pair}")) for pair in range(config.pairs)]
    num_train |= {"beyond-teachers": whole, "beyond-2x800": whole}
    for row, same in _SAME.items():
        wrong[row], num_train[row] = wrong[same], num_train[same]
    return Findings(chosen, tried, wrong, num_train, kept, labels)


def _corrected_rows(
    study: Study, kind: Kind, test_logits: Sequence[Tensor], labels: Tensor, kept: dict[str, Tensor]
) -> dict[str, list[float]]:
    """A student that lacked classes: as it is, corrected by validation, and corrected by test as in the paper."""
    validation = load_splits(study.config.held_out).validation
    names = validation.class_names
    rows: dict[str, list[float]] = {}
    missed = torch.tensor([names.index(name) for name in kind.corrected]) if len(kind.corrected) == 1 else None
    for pair, logits in enumerate(test_logits):
        network = load_run_network(study.path / "jobs" / kind.name / str(pair))
        on_validation = predict_logits(network, validation), validation.labels(validation.ids)
        ways = {
            "uncorrected": logits,
            "bias-validation": logits + fit_class_bias(*on_validation, classes=kind.corrected, class_names=names),
            "bias-test": logits + fit_class_bias(logits, labels, classes=kind.corrected, class_names=names),
        }
        if pair == 0:
            kept |= {f"{kind.name}-{way}": one for way, one in ways.items()}
        for way, one in ways.items():
            errors = metrics.errors_by_class(one, labels, len(names))
            whole = float(errors.sum())
            share = whole if missed is not None else 100 * whole / len(labels)
            rows.setdefault(f"{kind.name}-{way}", []).append(share)
            if missed is not None:
                rows.setdefault(f"{kind.name}-on-3s-{way}", []).append(float(errors[missed].sum()))
    return rows


def _result(study: Study, findings: Findings) -> dict[str, Any]:
    rows = []
    for name, values in findings.wrong.items():
        over = metrics.over_seeds(values)
        rows.append(
            {
                "name": name,
                "paper": PAPER.get(name),
                "mean": over.mean,
                "sd": over.sd,
                "n": over.n,
                "low": over.low,
                "high": over.high,
                "unit": "percent" if name.startswith("only-7-8") else "errors",
                "num_train": findings.num_train[name],
                "values": values,
            }
        )
    return {
        "metrics": {row["name"]: row["mean"] for row in rows},
        "rows": rows,
        "recovered": _recovered(study.config, findings),
        "choices": {name: one.model_dump() for name, one in findings.chosen.items()},
        "tuning": findings.tried,
        "num_test": len(findings.labels),
    }


def _recovered(config: MnistConfig, findings: Findings) -> list[dict[str, Any]]:
    """What soft targets win back of what labels lose on a fraction: (hard - soft) / (hard - all), without views.

    With views all is not known: no student sees all examples with views and labels alone.
    """
    everything = findings.wrong["small-net"]
    rows = []
    for percent in config.fractions:
        hard, soft = (findings.wrong[f"fraction-{percent}-percent-{way}"] for way in ("hard", "soft"))
        shares = [
            (h - s) / (h - all_of_it)
            for h, s, all_of_it in zip(hard, soft, everything, strict=True)
            if h > all_of_it
        ]
        if len(shares) == len(hard):
            over = metrics.over_seeds(shares)
            about = {"percent": float(percent)}
            rows.append({**about, "share": over.mean, "low": over.low, "high": over.high, "n": over.n})
    return rows
