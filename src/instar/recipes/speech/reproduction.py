"""`instar reproduce speech`: train all systems, choose the temperature on validation, read the test speakers once.

The mean of a row is the frame accuracy over folds. Rows and differences also have the word error rate, `wer`, and
bootstrap intervals over the test strings, `..._bootstrap_low` and `..._bootstrap_high`. `details`:

- `shares`: how much of a gain is kept. `gain`, points of frame accuracy; `share` with its interval `low` to
  `high`, null where the `verdict` is `undecided`; `paper`.
- `smallest_fraction`: the smallest percentage of the utterances whose soft targets win back as large a share as
  the paper's 3 %.
- `temperatures`: chosen on validation, by fold.
- `test`: what the test data are, in words. `num_recordings`, `num_words`: their size; `num_test` counts frames.
- `by_speaker_and_noise`: of the baseline, the ensemble and the distilled network.
- `confusions`: how many `times` the distilled networks recognised (`heard`) a word that was `said` as which word;
  an empty word is none.
- `curves`: validation errors by epoch of the first networks of the smallest fraction.
- `examples`: test strings with the `units` of their alignment and the words `heard`, each `[text, begin, end]` as
  shares of the recording.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from instar.recipes.choosing import Tried, best, judge
from instar.recipes.rows import Measure
from instar.recipes.speech.data import load_recordings
from instar.recipes.speech.examples import examples
from instar.recipes.speech.findings import Findings
from instar.recipes.speech.fit_jobs import described_network
from instar.recipes.speech.reproduction_page import answer, page, result_table
from instar.recipes.speech.reproduction_plan import (
    BASELINE,
    DISTILLED,
    LONGER,
    UNLABELLED,
    FractionSettings,
    Plan,
    ReproductionConfig,
    config_for,
    distilled_name,
    fraction_name,
    scores_name,
    unlabelled_name,
)
from instar.recipes.study import Place, Round, Rounds, Study
from instar.runs import Run

__all__ = ["STUDY", "config_for"]

FRAMES = Measure("frame_accuracy", "frame accuracy", "%", "higher")
PAPER = {  # frame accuracy and word error rate, percent
    "baseline": (58.9, 10.9),
    "ensemble-10": (61.1, 10.7),
    "distilled": (60.8, 10.7),
    "hard-3-percent": (44.5, None),
    "soft-3-percent": (57.0, None),
}
PAPER_SHARES = {"distilled": 0.86, "soft-3-percent": 0.87, f"{UNLABELLED}-T1": 0.28}


class Chosen(NamedTuple):
    """The temperature of a fold, and the candidates it was chosen from."""

    temperature: float
    tried: list[Tried[float]]

    @property
    def failed(self) -> list[float]:
        """The temperatures whose students could not be trained."""
        return [tried.candidate for tried in self.tried if tried.failed]


def _place(config: ReproductionConfig) -> Place:
    plan = Plan(config, Path())
    source, networks = plan.source(0), {"network": config.network, "aligner": config.aligner}
    described = {key: described_network(one, source, plan.models) for key, one in networks.items()}
    code = {key: one["network_identity"] for key, one in described.items()}
    return Place("reproduce", _published(config), {"recordings": load_recordings(source).fingerprint, **code})


def _published(config: ReproductionConfig) -> str:
    return f"speech-{Path(config.data.name.removeprefix('kaldi:')).name}-{config.scale}"


def _rounds(plan: Plan) -> Rounds[list[Chosen]]:
    jobs, candidates = plan.jobs(), plan.candidates()
    yield Round(jobs)
    report = yield Round([*jobs, *candidates], may_fail=True)
    chosen = []
    for fold in range(plan.config.folds):
        students = {t: plan.networks(fold, distilled_name(t)) for t in plan.config.temperatures}
        tried = judge(students, students.__getitem__, report, plan.path)
        chosen.append(Chosen(best(tried, report), tried))
    trained = [job for job in candidates if job.name not in report.failed | report.kept_back]
    tests = [plan.test(fold, choice.temperature, choice.failed) for fold, choice in enumerate(chosen)]
    yield Round([*jobs, *trained, *tests])
    return chosen


def read_findings(plan: Plan) -> Findings:
    """The test results of all folds."""
    jobs = [plan.path / "jobs" / scores_name(fold) for fold in range(plan.config.folds)]
    return Findings([Run.read(job).result() for job in jobs])


def _measure(plan: Plan, chosen: Sequence[Chosen]) -> dict[str, Any]:
    config, findings = plan.config, read_findings(plan)
    ensemble, *varied = plan.ensembles
    order = [BASELINE, LONGER, ensemble, *varied, DISTILLED, *findings.names]
    rows = [
        findings.row(name, **(plan.kinds[name].row if name in plan.kinds else {}), **_paper(name))
        for name in dict.fromkeys(order)
        if name in findings.names
    ]
    shares = _shares(config, findings, ensemble)
    return {
        "measure": FRAMES._asdict(),
        "metrics": {row["name"]: row["mean"] for row in rows},
        "rows": rows,
        "differences": [findings.difference(*pair) for pair in _pairs(config, findings, ensemble, varied)],
        "tuning": [
            tried.row(DISTILLED, {"fold": fold, "temperature": tried.candidate})
            for fold, choice in enumerate(chosen)
            for tried in choice.tried
        ],
        "details": {
            "shares": shares,
            "smallest_fraction": _smallest_fraction(config, shares),
            "temperatures": [choice.temperature for choice in chosen],
            "test": _test_in_words(config),
            "num_recordings": len(findings.recordings),
            "num_words": int(findings.words.sum()),
            "by_speaker_and_noise": findings.by_speaker_and_noise([BASELINE, ensemble, DISTILLED]),
            "confusions": findings.confusions(DISTILLED),
            "curves": _curves(plan),
            "examples": examples(plan),
        },
        "num_test": int(findings.frames.sum()),
    }


def _paper(name: str) -> dict[str, Any]:
    frame_accuracy, wer = PAPER.get(name, (None, None))
    return {"paper": frame_accuracy, "paper_wer": wer}


def _pairs(
    config: ReproductionConfig, findings: Findings, ensemble: str, varied: Sequence[str]
) -> list[tuple[str, str]]:
    """Which systems are compared."""
    pairs = [(DISTILLED, BASELINE), (ensemble, BASELINE), *((name, ensemble) for name in varied)]
    if LONGER in findings.names:  # the control with the training budget of a student
        pairs += [(DISTILLED, LONGER), (LONGER, BASELINE)]
    pairs += [(DISTILLED, ensemble), *([(UNLABELLED, BASELINE)] if config.unlabelled_temperatures else [])]
    return [*pairs, *((_soft(fraction), _hard(fraction)) for fraction in config.fractions)]


def _hard(fraction: FractionSettings) -> str:
    return fraction_name("hard", fraction.percent)


def _soft(fraction: FractionSettings) -> str:
    return fraction_name("soft", fraction.percent)


def _shares(config: ReproductionConfig, findings: Findings, ensemble: str) -> list[dict[str, Any]]:
    """How much of the ensemble's gain students keep, and of the baseline's gain over a fraction of the data."""
    students = [DISTILLED, *(distilled_name(temperature) for temperature in config.temperatures)]
    students += [unlabelled_name(config, temperature) for temperature in config.unlabelled_temperatures]
    shares = [(name, ensemble, BASELINE) for name in students if name in findings.names]
    shares += [(_soft(fraction), BASELINE, _hard(fraction)) for fraction in config.fractions]
    return [{**findings.share(*names), "paper": PAPER_SHARES.get(names[0])} for names in shares]


def _smallest_fraction(
    config: ReproductionConfig,
    shares: Sequence[Mapping[str, Any]],
    *,
    wanted: float = PAPER_SHARES["soft-3-percent"],
) -> float | None:
    won = {share["name"]: share["share"] for share in shares}
    kept = {fraction.percent: won[_soft(fraction)] for fraction in config.fractions}
    return min((percent for percent, share in kept.items() if share is not None and share >= wanted), default=None)


def _test_in_words(config: ReproductionConfig) -> str:
    noises = ", ".join("clean" if ratio == "clean" else f"{ratio:g} dB" for ratio in config.data.test_noise)
    return f"{config.folds} speakers, each held out in turn; {config.data.name}; noise: {noises}"


def _curves(plan: Plan) -> list[dict[str, Any]]:
    """Validation errors by epoch: first fold, first fraction, first networks."""
    if not plan.config.fractions:
        return []
    percent, curves = plan.config.fractions[0].percent, []
    for targets in ("hard", "soft"):
        job = plan.networks(0, fraction_name(targets, percent))[0]
        for line in Run.read(plan.path / "jobs" / job).result()["rows"]:
            errors = {"epoch": line["epoch"], "validation_errors": line["validation_errors"]}
            curves.append({"targets": f"{targets} targets", "percent": percent, **errors})
    return curves


STUDY = Study(
    recipe="reproduce-speech",
    place=_place,
    plan=lambda config, path, execution: Plan(config, path, execution.device),
    check=lambda plan: plan.check(),
    rounds=_rounds,
    num_rounds=lambda plan: 3,
    measure=_measure,
    page=page,
    answer=answer,
    table=result_table,
    published=_published,
)
"""`instar reproduce speech`."""
