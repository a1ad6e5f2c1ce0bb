"""The paper's findings as rules: each true, false and undecided, on studies whose answer is known."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from instar.intervals import over_seeds
from instar.transfer import Measured, Study, findings, unpaired_difference

ROOT = Path(__file__).parents[2]
CUTS = range(1, 8)
DEEP, LITTLE, UNSURE = (-5.0, -5.2, -4.9), (-0.1, 0.1, 0.0), (-4.0, 4.0, -1.0)


def study(*, base: float = 60.0, **kinds: Any) -> Study:
    """Three splits with two directions; of each kind the points over the base, by split, or by cut and split."""
    measured = []
    for split in range(3):
        for target, easier in (("A", 3.0), ("B", 0.0)):
            measured.append(Measured(split, target, "base", 0, base + easier))
            for kind, points in kinds.items():
                name = kind.replace("plus", "+")
                for n in CUTS:
                    at_cut = points[n] if isinstance(points, Mapping) else points
                    measured.append(Measured(split, target, name, n, base + easier + at_cut[split]))
    return Study(measured)


def by_cut(default: tuple[float, ...], **others: tuple[float, ...]) -> dict[int, tuple[float, ...]]:
    return {n: others.get(f"n{n}", default) for n in CUTS}


def around(level: float) -> tuple[float, ...]:
    return level - 0.05, level, level + 0.05


Judge = Callable[[Any], findings.Claim]
CASES: dict[str, tuple[Judge, Any, Any, Any]] = {
    "dips": (
        lambda points: findings.dips(study(BnB=points)),
        by_cut(LITTLE, n3=DEEP, n4=DEEP, n5=DEEP),
        by_cut(DEEP, n3=LITTLE, n4=LITTLE, n5=LITTLE),  # a fall elsewhere is no dip in the middle
        UNSURE,
    ),
    "recovers": (lambda points: findings.recovers(study(BnBplus=points)), LITTLE, DEEP, UNSURE),
    "falls": (
        lambda points: findings.falls(study(AnB=points)),
        by_cut(LITTLE, n7=DEEP),
        by_cut(DEEP, n7=LITTLE),
        UNSURE,
    ),
    "early is free": (
        lambda points: findings.early_is_free(study(AnB=points)),
        by_cut(DEEP, n1=LITTLE, n2=LITTLE),
        by_cut(LITTLE, n1=DEEP, n2=DEEP),
        UNSURE,
    ),
    "boost over base": (
        lambda points: findings.boosts(study(AnBplus=points), "base"),
        around(2.0),
        LITTLE,
        UNSURE,
    ),
    "boost over BnB+": (
        lambda points: findings.boosts(study(AnBplus=points, BnBplus=around(1.0)[::-1]), "BnB+"),
        around(2.0),
        around(1.0),
        UNSURE,
    ),
    "falls faster": (
        lambda points: findings.falls_faster(study(AnB=points), study(AnB=around(-3.0))),
        around(-9.0),
        around(-3.0),
        (-9.0, 3.0, -3.0),
    ),
    "random is worse": (
        lambda points: findings.random_is_worse(study(RnB=points, AnB=around(-3.0)[::-1])),
        around(-9.0),
        around(-1.0),
        UNSURE,
    ),
    "random is bad": (
        lambda points: findings.random_is_bad(study(RnB=points)),
        by_cut(LITTLE, n3=around(-20.0)),
        by_cut(around(-30.0), n3=around(-9.0)),
        (-9.0, -10.0, -11.0),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_claim_is_true_false_and_undecided(name: str) -> None:
    judge, *answers = CASES[name]
    judged = [judge(points) for points in answers]
    assert [claim.holds for claim in judged] == [True, False, "undecided"]
    for claim in judged:
        assert claim.over.n == 3
        assert claim.over.low is not None
        assert claim.over.high is not None
        assert claim.over.low <= claim.over.mean <= claim.over.high


def test_the_number_is_the_mean_over_its_cuts() -> None:
    points = by_cut((0.0, 0.0, 0.0), n3=(-1.0, -2.0, -3.0), n4=(-4.0, -2.0, 0.0), n5=(-3.0, -1.0, -5.0))
    over = findings.dips(study(BnB=points)).over
    by_hand = over_seeds([-8 / 3, -5 / 3, -8 / 3])
    assert over == pytest.approx(by_hand)


def test_single_split_decides_nothing() -> None:
    one = Study([Measured(0, "B", "base", 0, 60.0), Measured(0, "B", "BnB", 1, 10.0)])
    assert findings.dips(one).holds == "undecided"
    assert unpaired_difference([1.0], [2.0, 3.0]) == (-1.5, None, 1, None, None)


@pytest.mark.parametrize("seed", range(5))
def test_welch_interval_is_that_of_the_formula(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, controls = random.normal(-3, 2, 5), random.normal(0, 0.5, 4 + seed)
    ours = unpaired_difference(values.tolist(), controls.tolist())
    parts = [(sample.var(ddof=1) / len(sample), len(sample) - 1) for sample in (values, controls)]
    squared = sum(part for part, _ in parts)
    freedom = squared**2 / sum(part**2 / degrees for part, degrees in parts)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(squared)
    difference = values.mean() - controls.mean()
    expected = (difference, math.sqrt(squared), 4 + min(seed, 1), difference - half, difference + half)
    assert ours == pytest.approx(expected, rel=1e-12)


def test_welch_interval_of_constant_samples() -> None:
    assert unpaired_difference([2.0, 2.0], [1.0, 1.0]) == (1.0, 0.0, 2, 1.0, 1.0)
    one_constant = unpaired_difference([2.0, 2.0], [1.0, 3.0])
    assert one_constant[:3] == (0.0, 1.0, 2)
    assert one_constant.high == pytest.approx(stats.t.ppf(0.975, 1))


@pytest.mark.parametrize(("num_cuts", "parts"), [(1, "1|1"), (2, "1|12"), (3, "1|2"), (4, "1|23"), (7, "12|345")])
def test_thirds_of_the_cuts(num_cuts: int, parts: str) -> None:
    cuts = list(range(1, num_cuts + 1))
    first, middle = ([int(cut) for cut in part] for part in parts.split("|"))
    assert findings.early(cuts) == first
    assert findings.middle(cuts) == middle


def test_finding_holds_if_all_its_claims_do_and_not_if_one_does_not() -> None:
    whole = study(
        BnB=LITTLE, BnBplus=around(1.0), AnB=by_cut(DEEP, n1=DEEP), AnBplus=around(2.0), RnB=around(-40.0)
    )
    found = {one["finding"]: one for one in findings.findings_of("net", whole)}
    assert {number: one["holds"] for number, one in found.items()} == {
        1: False,
        2: True,
        3: False,
        4: True,
        6: True,
    }
    assert [claim["holds"] for claim in found[3]["claims"]] == [True, False]
    assert found[3]["number"] == found[3]["claims"][0]["number"] == pytest.approx(np.mean(DEEP))
    assert 5 in {one["finding"] for one in findings.findings_of("net", whole, whole, whole)}


def test_the_papers_own_networks() -> None:
    """Means over its splits, from its logs: the rules give what the paper says, where its numbers can tell."""
    bnb = dict(zip(CUTS, (0.16, -0.16, -0.40, -2.03, -3.16, -0.63, -0.19), strict=True))
    anb = dict(zip(CUTS, (0.31, -0.12, -0.62, -2.53, -4.71, -4.45, -8.26), strict=True))
    paper = study(
        BnB={n: around(value) for n, value in bnb.items()}, AnB={n: around(value) for n, value in anb.items()}
    )
    for claim in (findings.dips(paper), findings.falls(paper), findings.early_is_free(paper)):
        assert claim.holds is True
        assert claim.over.mean == pytest.approx(claim.paper, abs=0.01)


def test_rules_stand_in_the_documentation() -> None:
    words = " ".join((ROOT / "docs" / "methods" / "transfer-study.md").read_text().split())
    whole = study(BnB=LITTLE, BnBplus=LITTLE, AnB=LITTLE, AnBplus=LITTLE, RnB=LITTLE)
    claims = [claim for one in findings.findings_of("net", whole, whole, whole) for claim in one["claims"]]
    assert len(claims) == 9
    for claim in claims:
        assert f"{claim['claim']} | {claim['rule']}" in words


@pytest.mark.parametrize("scale", ["small", "full"])
def test_published_findings_follow_from_the_published_accuracies(scale: str) -> None:
    published = json.loads((ROOT / "results" / f"transfer-cifar100-{scale}.json").read_text())
    parts = {
        name: Study(
            Measured(*(row[key] for key in ("split", "target", "kind", "n", "accuracy")))
            for row in part["networks"]
        )
        for name, part in published["details"]["parts"].items()
    }
    found = findings.findings_of("convnet:8x16", parts["convnet"], parts["dissimilar"], parts["similar"])
    found += findings.findings_of("resnet:8", parts["resnet"])
    assert rounded(found) == rounded(published["details"]["findings"])


def rounded(content: Any) -> Any:
    """Numbers to 12 decimals: Welch's interval was ours when these were published, now it is scipy's."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return round(content, 12) if isinstance(content, float) else content
