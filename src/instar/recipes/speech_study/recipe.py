"""Run the speech study, choose the temperature on validation, read the test speakers once, make the table."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar import metrics
from instar.jobs import open_engine, run_jobs
from instar.recipes.publishing import time_spent
from instar.recipes.speech_study.data import load_recordings, prepare_features
from instar.recipes.speech_study.plan import (
    BASELINE,
    LONGER,
    UNLABELLED,
    SpeechConfig,
    Study,
    distilled_name,
    fraction_name,
    unlabelled_name,
)
from instar.runs import Run, run_hash

PAPER = {  # frame accuracy and word error rate, percent
    "baseline": (58.9, 10.9),
    "ensemble-10": (61.1, 10.7),
    "distilled": (60.8, 10.7),
    "hard-3-percent": (44.5, None),
    "soft-3-percent": (57.0, None),
}
PAPER_SHARES = {"distilled": 0.86, "soft-3-percent": 0.87, f"{UNLABELLED}-T1": 0.28}
_RESAMPLES = 10_000
Numbers = NDArray[np.float64]


def run_path(config: SpeechConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/speech-fsdd-SCALE-HASH`."""
    fingerprint = load_recordings(config.data).fingerprint
    hashed = run_hash("speech", config.model_dump(), data_fingerprint=fingerprint)
    return root / "reproduce" / f"speech-{data_word(config)}-{config.scale}-{hashed}"


def data_word(config: SpeechConfig) -> str:
    """What the data is called in the names of files."""
    return Path(config.data.name).name.removeprefix("kaldi:")


def main(
    config: SpeechConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Run the whole study, or go on with it, or read what it found: the content of `result.json`."""
    from instar.recipes.speech_study.page import write_speech_page

    study = Study(config, path, device)
    with Run(path, recipe="speech-study", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        prepare_features(config.data)
        with open_engine(engine) as workers:
            fits = study.fits()
            run_jobs(fits, path, engine=workers, title="part 1 of 2", quiet=quiet).raise_if_failed()
            chosen, tried = choose_temperatures(study)
            jobs = [*fits, *study.tests(chosen)]
            run_jobs(jobs, path, engine=workers, title="part 2 of 2", quiet=quiet).raise_if_failed()
        findings = read_findings(study)
        result = study_result(study, findings, chosen, tried)
        result |= time_spent(path, started)
        write_speech_page(run, study, findings, result)
        run.finish(result)
        return run.result()


def choose_temperatures(study: Study) -> tuple[list[float], list[dict[str, Any]]]:
    """For each fold the temperature of the fewest errors on its own validation speaker, mean over the seeds."""
    chosen, tried = [], []
    for fold in range(study.config.folds):
        errors = {}
        for temperature in study.config.temperatures:
            names = study.distilled(fold, temperature)
            found = [Run.read(study.path / "jobs" / name).result()["metrics"] for name in names]
            errors[temperature] = float(np.mean([one["validation_errors"] for one in found]))
            tried.append({"fold": fold, "temperature": temperature, "validation_errors": errors[temperature]})
        chosen.append(min(errors, key=errors.__getitem__))
    return chosen, tried


class Findings:
    """What the folds' tests told, as arrays over all recordings of all folds.

    Args:
        tests: the result of each fold's test job.
    """

    def __init__(self, tests: Sequence[Mapping[str, Any]]) -> None:
        self.tests = tests
        self.names = list(dict.fromkeys(row["name"] for test in tests for row in test["rows"]))
        self.recordings = [{**one, "fold": fold} for fold, test in enumerate(tests) for one in test["recordings"]]
        self.frames, self.words = (
            np.array([one[key] for one in self.recordings], float) for key in ("frames", "words")
        )
        # A string in three noises is one draw of what is said: they go together.
        strings = [(one["fold"], one["id"]) for one in self.recordings]
        numbers = {string: number for number, string in enumerate(dict.fromkeys(strings))}
        self._string = np.array([numbers[string] for string in strings])

    def rows(self, name: str, fold: int) -> list[Mapping[str, Any]]:
        """The nets of a system in a fold."""
        return [row for row in self.tests[fold]["rows"] if row["name"] == name]

    def by_fold(self, name: str, key: str) -> list[float]:
        """A number of each fold, mean over its nets."""
        return [float(np.mean([row[key] for row in self.rows(name, fold)])) for fold in range(len(self.tests))]

    def by_recording(self, name: str, key: str) -> Numbers:
        """`right` frames or `errors` in words of each recording, mean over the nets of its fold."""
        means = [np.mean([row[key] for row in self.rows(name, fold)], 0) for fold in range(len(self.tests))]
        return np.concatenate(means)

    def draws(self, *columns: Numbers) -> Numbers:
        """Sums of some columns over strings drawn with replacement: (resamples, columns)."""
        sums = np.stack([np.bincount(self._string, one) for one in columns], 1)
        n = len(sums)
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
        totals: Numbers = drawn.astype(float) @ sums
        return totals

    def difference(self, one: str, other: str) -> dict[str, Any]:
        """Frame accuracy and word error rate of one minus another: over folds, and over recordings."""
        about: dict[str, Any] = {"name": f"{one} - {other}"}
        for key, count, total in (("frame_accuracy", "right", self.frames), ("wer", "errors", self.words)):
            over = metrics.paired_difference(self.by_fold(one, key), self.by_fold(other, key))
            change = self.by_recording(one, count) - self.by_recording(other, count)
            sums = self.draws(change, total)
            low, high = np.quantile(100 * sums[:, 0] / sums[:, 1], [0.025, 0.975])
            about |= {
                key: over.mean,
                f"{key}_low": over.low,
                f"{key}_high": over.high,
                f"{key}_bootstrap_low": float(low),
                f"{key}_bootstrap_high": float(high),
                "n": over.n,
            }
        return about

    def share(self, part: str, whole: str, base: str) -> dict[str, Any]:
        """(part - base) / (whole - base) of the right frames, with its bootstrap interval over recordings.

        Where the interval of the gain itself (whole - base) includes zero, over recordings or over folds, there is
        no share to speak of.
        """
        a, b, c = (self.by_recording(name, "right") for name in (part, whole, base))
        sums = self.draws(a - c, b - c, self.frames)
        gain_low, gain_high = np.quantile(100 * sums[:, 1] / sums[:, 2], [0.025, 0.975])
        about = {"name": part, "of": f"{whole} - {base}", "gain_low": gain_low, "gain_high": gain_high}
        folds = metrics.paired_difference(
            self.by_fold(whole, "frame_accuracy"), self.by_fold(base, "frame_accuracy")
        )
        lows = [low for low in (float(gain_low), folds.low) if low is not None]
        is_decided = min(lows) > 0
        gain = float((b - c).sum())
        low, high = np.quantile(sums[:, 0] / np.where(sums[:, 1] == 0, np.nan, sums[:, 1]), [0.025, 0.975])
        return {
            **{key: value if isinstance(value, str) else float(value) for key, value in about.items()},
            "gain": 100 * gain / float(self.frames.sum()),
            "share": float((a - c).sum()) / gain if is_decided else None,
            "low": float(low) if is_decided else None,
            "high": float(high) if is_decided else None,
            "verdict": "decided" if is_decided else "undecided",
            "paper": PAPER_SHARES.get(part),
        }


def read_findings(study: Study) -> Findings:
    """What the test jobs of all folds have written."""
    folds = range(study.config.folds)
    return Findings([Run.read(study.path / "jobs" / f"fold-{fold}" / "test").result() for fold in folds])


def study_result(
    study: Study, findings: Findings, chosen: Sequence[float], tried: list[dict[str, Any]]
) -> dict[str, Any]:
    """The rows of the table, the differences and the shares."""
    config = study.config
    ensemble = f"ensemble-{config.ensemble_size}"
    order = [BASELINE, LONGER, ensemble, f"{ensemble}-varied", "distilled", *findings.names]
    rows = [_row(findings, name) for name in dict.fromkeys(order) if name in findings.names]
    pairs = [("distilled", BASELINE), (ensemble, BASELINE), (f"{ensemble}-varied", ensemble)]
    if LONGER in findings.names:  # the budget of the student's own training
        pairs += [("distilled", LONGER), (LONGER, BASELINE)]
    pairs += [("distilled", ensemble), (UNLABELLED, BASELINE)]
    shares = [findings.share(distilled_name(one), ensemble, BASELINE) for one in config.temperatures]
    shares = [findings.share("distilled", ensemble, BASELINE), *shares]
    shares += [
        findings.share(unlabelled_name(config, one), ensemble, BASELINE) for one in config.unlabelled_temperatures
    ]
    for one in config.fractions:
        hard, soft = (fraction_name(way, one.percent) for way in ("hard", "soft"))
        pairs.append((soft, hard))
        shares.append(findings.share(soft, BASELINE, hard))
    return {
        "metrics": {row["name"]: row["frame_accuracy"] for row in rows},
        "rows": rows,
        "differences": [findings.difference(*pair) for pair in pairs],
        "shares": shares,
        "smallest_fraction": _smallest(config, shares),
        "temperatures": list(chosen),
        "tuning": tried,
        "num_recordings": len(findings.recordings),
        "num_words": int(findings.words.sum()),
        "num_frames": int(findings.frames.sum()),
        "test": _test_words(study),
        "by_speaker_and_noise": _by_speaker_and_noise(findings, [BASELINE, ensemble, "distilled"]),
    }


def _row(findings: Findings, name: str) -> dict[str, Any]:
    accuracy, rate = (metrics.over_seeds(findings.by_fold(name, key)) for key in ("frame_accuracy", "wer"))
    trained = [
        row["train_frame_accuracy"] for test in findings.tests for row in test["rows"] if row["name"] == name
    ]
    sums = findings.draws(findings.by_recording(name, "errors"), findings.words)
    low, high = np.quantile(100 * sums[:, 0] / sums[:, 1], [0.025, 0.975])
    frame_accuracy, word_errors = PAPER.get(name, (None, None))
    return {
        "name": name,
        "paper": frame_accuracy,
        "paper_wer": word_errors,
        "frame_accuracy": accuracy.mean,
        "train_frame_accuracy": None if None in trained else float(np.mean(trained)),
        "wer": rate.mean,
        "sd": accuracy.sd,
        "wer_sd": rate.sd,
        "wer_low": float(low),
        "wer_high": float(high),
        "n": accuracy.n,
        "num_nets": len(trained),
        "test": "held-out speakers, connected words in noise",
    }


def _smallest(config: SpeechConfig, shares: Sequence[Mapping[str, Any]], *, wanted: float = 0.87) -> float | None:
    """The smallest percentage of the utterances whose soft targets win back as much as the paper's 3 % did."""
    won = {share["name"]: share["share"] for share in shares}
    names = {one.percent: fraction_name("soft", one.percent) for one in config.fractions}
    enough = [percent for percent, name in names.items() if won[name] is not None and won[name] >= wanted]
    return min(enough, default=None)


def _test_words(study: Study) -> str:
    data = study.config.data
    noises = ", ".join("clean" if one == "clean" else f"{one:g} dB" for one in data.test_noise)
    return f"{study.config.folds} speakers, each held out in turn; {data.name}; noise: {noises}"


def _by_speaker_and_noise(findings: Findings, names: Sequence[str]) -> list[dict[str, Any]]:
    keys = [(one["speaker"], one["condition"]) for one in findings.recordings]
    rows = []
    for speaker, condition in dict.fromkeys(keys):
        here = np.array([key == (speaker, condition) for key in keys])
        for name in names:
            errors, right = (findings.by_recording(name, key)[here].sum() for key in ("errors", "right"))
            rows.append(
                {
                    "speaker": speaker,
                    "noise": condition,
                    "name": name,
                    "wer": 100 * float(errors / findings.words[here].sum()),
                    "frame_accuracy": 100 * float(right / findings.frames[here].sum()),
                    "words": int(findings.words[here].sum()),
                }
            )
    return rows
