"""Statistics of a transfer study: drops, boosts, and the layer at which features stop being general.

Every difference is paired on the same target half. The replicate is the split: its two directions share networks,
so their mean counts as one value. Intervals are t intervals over splits.
"""

import math
import statistics
import warnings
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from instar.errors import UsageError
from instar.intervals import SeedStatistics, over_seeds

_Values = dict[tuple[int, str], float]


class Measured(NamedTuple):
    """The accuracy of one network in percent, on the test data of its target; n is 0 for a base."""

    split: int
    target: str
    kind: str
    n: int
    accuracy: float


class Study:
    """The accuracies of a study, by split, target, kind and cut.

    Args:
        measured: the networks; every split and target with a treatment needs its base (kind "base", n = 0).

    Raises:
        UsageError: no network, the same network twice, or a treatment without the base of its target.

    Example:
        >>> study = Study([Measured(0, "B", "base", 0, 60.0), Measured(0, "B", "AnB", 3, 57.5)])
        >>> study.difference("AnB", "base", [3]).mean
        -2.5
    """

    def __init__(self, measured: Iterable[Measured]) -> None:
        self._accuracy: dict[tuple[int, str, str, int], float] = {}
        for network in measured:
            key = network[:4]
            if key in self._accuracy:
                raise UsageError(
                    f"study: {network.kind} at n = {network.n} of split {network.split} and target "
                    f"{network.target} is there twice"
                )
            self._accuracy[key] = network.accuracy
        if not self._accuracy:
            raise UsageError("study: no network was measured")
        for split, target, kind, n in self._accuracy:
            if (split, target, "base", 0) not in self._accuracy:
                raise UsageError(f"study: {kind} at n = {n} of split {split} has no base of its target {target}")
        self.splits = sorted({key[0] for key in self._accuracy})
        self.cuts = sorted({key[3] for key in self._accuracy} - {0})
        self.kinds = list(dict.fromkeys(key[2] for key in self._accuracy))

    def values(self, kind: str, n: int) -> _Values:
        """Accuracy by split and target; a base has the same at every cut."""
        place = 0 if kind.startswith("base") else n
        return {key[:2]: value for key, value in self._accuracy.items() if key[2:] == (kind, place)}

    def by_split(self, kind: str, n: int) -> dict[int, float]:
        """Accuracy by split, mean over the targets."""
        return _means_of_splits(self.values(kind, n))

    def difference(self, kind: str, other: str, cuts: Sequence[int]) -> SeedStatistics:
        """Accuracy of one kind minus that of another on the same targets, mean over some cuts.

        Raises:
            UsageError: at one of the cuts the two kinds share no target.
        """
        return _over_splits([self._paired(kind, other, n) for n in cuts])

    def has_pair(self, kind: str, other: str, cuts: Sequence[int]) -> bool:
        """Whether at least one split has both kinds on a common target at each of some cuts."""
        splits = [{split for split, _ in self._paired(kind, other, n)} for n in cuts]
        return bool(splits and set.intersection(*splits))

    def curves(self, kind: str) -> dict[int, list[float]]:
        """Accuracy minus base at every cut, mean over targets, for each split that has all cuts."""
        means = [_means_of_splits(self._paired(kind, "base", n)) for n in self.cuts]
        whole = [split for split in self.splits if all(split in at_cut for at_cut in means)]
        return {split: [at_cut[split] for at_cut in means] for split in whole}

    def _paired(self, kind: str, other: str, n: int) -> _Values:
        values, controls = self.values(kind, n), self.values(other, n)
        return {key: values[key] - controls[key] for key in values if key in controls}


def _means_of_splits(values: _Values) -> dict[int, float]:
    of_split: dict[int, list[float]] = {}
    for (split, _), value in values.items():
        of_split.setdefault(split, []).append(value)
    return {split: sum(parts) / len(parts) for split, parts in of_split.items()}


def _over_splits(at_cuts: Sequence[_Values]) -> SeedStatistics:
    means = [_means_of_splits(values) for values in at_cuts]
    splits = [split for split in means[0] if all(split in at_cut for at_cut in means)] if means else []
    if not splits:
        raise UsageError("study: no two networks of the same split and target to compare")
    return over_seeds([sum(at_cut[split] for at_cut in means) / len(means) for split in splits])


def unpaired_difference(values: Sequence[float], controls: Sequence[float]) -> SeedStatistics:
    """Mean of values - mean of controls, of independent splits, with Welch's 95 % interval.

    Args:
        values: one for each split.
        controls: of other splits, not of the same ones.

    Returns:
        The difference, its standard error, the smaller number of splits, and the interval; no interval for a
        single split.

    Example:
        >>> round(unpaired_difference([1.0, 3.0], [0.0, 2.0]).mean, 2)
        1.0
    """
    difference = statistics.fmean(values) - statistics.fmean(controls)
    n = min(len(values), len(controls))
    if n == 1:
        return SeedStatistics(difference, None, n, None, None)
    from scipy.stats import ttest_ind

    error = math.sqrt(sum(statistics.variance(sample) / len(sample) for sample in (values, controls)))
    if error == 0:
        return SeedStatistics(difference, 0.0, n, difference, difference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns where one of the two samples is constant
        low, high = ttest_ind(values, controls, equal_var=False).confidence_interval(0.95)
    return SeedStatistics(difference, error, n, float(low), float(high))


def treatment_rows(study: Study) -> list[dict[str, Any]]:
    """One row for each kind and cut: accuracy in percent over the splits.

    Returns:
        `name` (A3B+), `treatment` (its kind, AnB+), `cut`, `mean`, `sd`, `n`, `low`, `high`, `values` by split.
    """
    rows = []
    for kind in study.kinds:
        for n in [0] if kind.startswith("base") else study.cuts:
            values = list(study.by_split(kind, n).values())
            if values:
                about = {"name": treatment_name(kind, n), "treatment": kind, "cut": n}
                rows.append({**about, **over_seeds(values)._asdict(), "values": values})
    return rows


def treatment_name(kind: str, n: int) -> str:
    """The name of a treatment of both directions at a cut.

    Example:
        >>> treatment_name("AnB+", 3), treatment_name("base-long", 0)
        ('A3B+', 'base-long')
    """
    return kind if kind.startswith("base") else kind.replace("n", str(n))


DIFFERENCES = {
    ("base-long", "base"): "",
    ("BnB", "base"): "co-adaptation drop",
    ("BnB+", "base"): "",
    ("AnB", "base"): "",
    ("AnB", "BnB"): "specificity drop",
    ("AnB", "base-long"): "",
    ("AnB+", "base"): "boost over base",
    ("AnB+", "BnB+"): "boost over BnB+",
    ("AnB+", "base-long"): "boost over a base trained as long",
    ("RnB", "base"): "",
}
"""What is subtracted from what on the same target, and what the paper calls the difference."""


def difference_rows(study: Study) -> list[dict[str, Any]]:
    """Every difference of `DIFFERENCES` at every cut that has both kinds, in points.

    Returns:
        `name`, `minus`, `treatment` (the kind of `name`), `cut`, `effect` (where the difference has a name),
        `mean`, `sd`, `n`, `low`, `high`.
    """
    rows = []
    for (kind, other), effect in DIFFERENCES.items():
        for n in [0] if kind == "base-long" else study.cuts:
            if not study.has_pair(kind, other, [n]):
                continue
            about = {
                "name": treatment_name(kind, n),
                "minus": treatment_name(other, n),
                "treatment": kind,
                "cut": n,
            }
            over = study.difference(kind, other, [n])
            rows.append({**about, **({"effect": effect} if effect else {}), **over._asdict()})
    return rows


def boost_rows(study: Study) -> list[dict[str, Any]]:
    """The paper's Table 1, on matched targets and pooled as in the paper.

    The paper compared AnB+ on halves B with BnB+ on halves A, and with the mean of all bases. One half is easier
    than the other, so part of that difference comes from the task. Both versions are given.

    Returns:
        `name` (AnB+), `minus`, `layers` (first and last cut), `mean`, `sd`, `n`, `low`, `high` on matched targets,
        and `pooled` as in the paper, all in points; None where networks are missing.

    References:
        Yosinski et al. 2014, Table 1.
    """
    if "AnB+" not in study.kinds:
        return []
    last = study.cuts[-1]
    rows = []
    for first in dict.fromkeys((study.cuts[0], *(n for n in (3, 5) if n in study.cuts))):
        cuts = [n for n in study.cuts if n >= first]
        on_b = _mean_of(study, "AnB+", cuts, "B")
        for other, targets in (("base", "AB"), ("BnB+", "A"), ("base-long", "")):
            if other not in study.kinds:
                continue
            level = _mean_of(study, other, cuts, targets)
            about = {"name": "AnB+", "minus": other, "layers": f"{first}-{last}"}
            matched = dict.fromkeys(SeedStatistics._fields) | {"n": 0}
            if study.has_pair("AnB+", other, cuts):
                matched = study.difference("AnB+", other, cuts)._asdict()
            rows.append({**about, **matched, "pooled": None if on_b is None or level is None else on_b - level})
    return rows


def _mean_of(study: Study, kind: str, cuts: Sequence[int], targets: str) -> float | None:
    values = [value for n in cuts for (_, target), value in study.values(kind, n).items() if target in targets]
    return sum(values) / len(values) if values else None


def transition(study: Study, kind: str = "AnB") -> dict[str, Any]:
    """Where and how suddenly accuracy falls: the cut at half of the drop, and the width from 10 to 90 % of it.

    For each split, d(n) = accuracy - base and d(0) = 0. The drop is d at the deepest cut; a minimum over the cuts
    would be below 0 by chance alone. The place of a share of the drop is where the running minimum of d, linearly
    interpolated between cuts, first reaches that share. Splits that end no lower than their base are left out.

    Returns:
        `drop` at the deepest cut, and `half` and `width` in layers, each with `mean`, `sd`, `n`, `low`, `high`;
        `half` and `width` are None where the drop's interval is not below 0.

    Raises:
        UsageError: no split has every cut.

    Example:
        >>> accuracies = [60.0, 60.0, 50.0, 40.0]
        >>> kinds = ["base", "AnB", "AnB", "AnB"]
        >>> measured = [Measured(s, "B", kinds[n], n, accuracies[n]) for s in (0, 1) for n in range(4)]
        >>> transition(Study(measured))["half"]["mean"]
        2.0
    """
    curves = list(study.curves(kind).values())
    drop = over_seeds([curve[-1] for curve in curves])
    found: dict[str, Any] = {"drop": drop._asdict(), "half": None, "width": None}
    if drop.high is None or drop.high >= 0:
        return found
    falling = [[0.0, *curve] for curve in curves if curve[-1] < 0]
    places = [0, *study.cuts]
    half = [_place(curve, places, 0.5) for curve in falling]
    width = [_place(curve, places, 0.9) - _place(curve, places, 0.1) for curve in falling]
    return found | {"half": over_seeds(half)._asdict(), "width": over_seeds(width)._asdict()}


def _place(curve: Sequence[float], places: Sequence[int], share: float) -> float:
    """Where the running minimum of a curve first reaches a share of its last value."""
    level, lowest = share * curve[-1], list(accumulate(curve, min))
    deep = next(index for index, value in enumerate(lowest) if value <= level)
    before, after = lowest[deep - 1], lowest[deep]
    return places[deep - 1] + (places[deep] - places[deep - 1]) * (before - level) / (before - after)
