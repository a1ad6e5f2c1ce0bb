"""The test results of all folds as arrays over recordings, and the rows, differences and shares made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar import intervals
from instar.recipes import rows
from instar.recipes.learning import FAILED, if_any

Numbers = NDArray[np.float64]
_NUM_RESAMPLES = 10_000


class Findings:
    """The test results of all folds.

    Args:
        tests: the results of the folds' scoring jobs.
    """

    def __init__(self, tests: Sequence[Mapping[str, Any]]) -> None:
        self.tests = tests
        names = [dict.fromkeys(row["name"] for row in test["rows"]) for test in tests]
        self.names = [name for name in names[0] if all(name in others for others in names)]
        """the systems of all folds: a system that failed in one has no row"""
        self.recordings = [
            {**recording, "fold": fold} for fold, test in enumerate(tests) for recording in test["recordings"]
        ]
        self.frames = np.array([recording["frames"] for recording in self.recordings], float)
        self.words = np.array([recording["words"] for recording in self.recordings], float)
        # A string is drawn with all its noises: they are not independent.
        strings = [(recording["fold"], recording["id"]) for recording in self.recordings]
        numbers = {string: number for number, string in enumerate(dict.fromkeys(strings))}
        self._string = np.array([numbers[string] for string in strings])

    def networks(self, name: str, fold: int) -> list[Mapping[str, Any]]:
        """The results of a system's networks in a fold."""
        return [row for row in self.tests[fold]["rows"] if row["name"] == name]

    def by_fold(self, name: str, key: str) -> list[float]:
        """A number for each fold, the mean over its networks."""
        folds = range(len(self.tests))
        return [float(np.mean([row[key] for row in self.networks(name, fold)])) for fold in folds]

    def by_recording(self, name: str, key: str) -> Numbers:
        """`right` frames or word `errors` for each recording, the mean over the networks of its fold."""
        folds = range(len(self.tests))
        return np.concatenate([np.mean([row[key] for row in self.networks(name, fold)], 0) for fold in folds])

    def draws(self, *columns: Numbers) -> Numbers:
        """Sums of columns over strings drawn with replacement: (resamples, columns)."""
        sums = np.stack([np.bincount(self._string, column) for column in columns], 1)
        n = len(sums)
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_NUM_RESAMPLES)
        totals: Numbers = drawn.astype(float) @ sums
        return totals

    def bootstrap(self, column: Numbers, total: Numbers) -> tuple[float, float]:
        """The 95 % interval of a percentage over strings."""
        sums = self.draws(column, total)
        low, high = np.quantile(100 * sums[:, 0] / sums[:, 1], [0.025, 0.975])
        return float(low), float(high)

    def row(self, name: str, **described: Any) -> dict[str, Any]:
        """The row of a system: frame accuracy over folds, word error rate."""
        networks = [row for fold in range(len(self.tests)) for row in self.networks(name, fold)]
        trained = [row["train_frame_accuracy"] for row in networks]
        wer = intervals.over_seeds(self.by_fold(name, "wer"))
        low, high = self.bootstrap(self.by_recording(name, "errors"), self.words)
        failed = sum(any(FAILED in one for one in self.networks(name, fold)) for fold in range(len(self.tests)))
        return rows.row(
            name,
            self.by_fold(name, "frame_accuracy"),
            **described,
            **if_any(failed),
            train_frame_accuracy=None if None in trained else float(np.mean(trained)),
            wer=wer.mean,
            wer_sd=wer.sd,
            wer_bootstrap_low=low,
            wer_bootstrap_high=high,
            num_networks=len(networks),
        )

    def difference(self, name: str, minus: str) -> dict[str, Any]:
        """One system minus another: frame accuracy and word error rate, over folds and over recordings."""
        wer = intervals.paired_difference(self.by_fold(name, "wer"), self.by_fold(minus, "wer"))
        frames = self.by_recording(name, "right") - self.by_recording(minus, "right")
        words = self.by_recording(name, "errors") - self.by_recording(minus, "errors")
        low, high = self.bootstrap(frames, self.frames)
        wer_low, wer_high = self.bootstrap(words, self.words)
        return rows.difference(
            name,
            minus,
            self.by_fold(name, "frame_accuracy"),
            self.by_fold(minus, "frame_accuracy"),
            bootstrap_low=low,
            bootstrap_high=high,
            wer=wer.mean,
            wer_low=wer.low,
            wer_high=wer.high,
            wer_bootstrap_low=wer_low,
            wer_bootstrap_high=wer_high,
        )

    def share(self, name: str, whole: str, base: str) -> dict[str, Any]:
        """(name - base) / (whole - base) of the correct frames, with its bootstrap interval over strings.

        If the interval of the gain itself (whole - base), over strings or over folds, includes zero, the share is
        undecided.
        """
        part, all_of_it, nothing = (self.by_recording(system, "right") for system in (name, whole, base))
        sums = self.draws(part - nothing, all_of_it - nothing, self.frames)
        gain_low, gain_high = map(float, np.quantile(100 * sums[:, 1] / sums[:, 2], [0.025, 0.975]))
        over_folds = intervals.paired_difference(
            self.by_fold(whole, "frame_accuracy"), self.by_fold(base, "frame_accuracy")
        )
        is_decided = gain_low > 0 and (over_folds.low is None or over_folds.low > 0)
        gain = float((all_of_it - nothing).sum())
        low, high = np.quantile(sums[:, 0] / np.where(sums[:, 1] == 0, np.nan, sums[:, 1]), [0.025, 0.975])
        return {
            "name": name,
            "of": f"{whole} - {base}",
            "gain": 100 * gain / float(self.frames.sum()),
            "gain_low": gain_low,
            "gain_high": gain_high,
            "share": float((part - nothing).sum()) / gain if is_decided else None,
            "low": float(low) if is_decided else None,
            "high": float(high) if is_decided else None,
            "verdict": "decided" if is_decided else "undecided",
        }

    def by_speaker_and_noise(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Word error rate and frame accuracy of some systems for each speaker and noise."""
        keys = [(recording["speaker"], recording["condition"]) for recording in self.recordings]
        found = []
        for speaker, condition in dict.fromkeys(keys):
            here = np.array([key == (speaker, condition) for key in keys])
            for name in names:
                errors, right = (self.by_recording(name, key)[here].sum() for key in ("errors", "right"))
                found.append(
                    {
                        "speaker": speaker,
                        "noise": condition,
                        "name": name,
                        "wer": 100 * float(errors / self.words[here].sum()),
                        "frame_accuracy": 100 * float(right / self.frames[here].sum()),
                        "words": int(self.words[here].sum()),
                    }
                )
        return found

    def confusions(self, name: str) -> list[dict[str, Any]]:
        """How many times a said word was heard as another or as itself; empty words are none."""
        counts: dict[tuple[str, str], int] = {}
        for fold in range(len(self.tests)):
            for row in self.networks(name, fold):
                for said, heard, count in row["confusion"]:
                    counts[said, heard] = counts.get((said, heard), 0) + count
        return [{"said": said, "heard": heard, "times": times} for (said, heard), times in counts.items()]
