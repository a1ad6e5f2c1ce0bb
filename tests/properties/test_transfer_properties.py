"""What holds of halves and of a study's statistics for any classes and accuracies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.transfer import Measured, Study, boost_rows, difference_rows, parent_halves, random_halves, transition

quick = settings(deadline=None, max_examples=60)
names = st.lists(st.text("abcdef/_0", min_size=1, max_size=5), min_size=4, max_size=40, unique=True)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def studies(draw: st.DrawFn) -> list[Measured]:
    """Any accuracies of two kinds at some cuts, in two directions."""
    splits, cuts = draw(st.integers(2, 4)), draw(st.integers(1, 6))
    accuracies = st.floats(0, 100, allow_nan=False)
    measured = []
    for split in range(splits):
        for target in "AB":
            measured.append(Measured(split, target, "base", 0, draw(accuracies)))
            for kind in ("BnB", "AnB", "BnB+", "AnB+"):
                measured += [Measured(split, target, kind, n, draw(accuracies)) for n in range(1, cuts + 1)]
    return measured


@quick
@given(names, seeds)
def test_random_halves_share_no_class_and_lose_none(class_names: list[str], seed: int) -> None:
    halves = random_halves(class_names, seed=seed)
    assert sorted(halves.a + halves.b) == sorted(class_names)
    assert len(halves.a) == len(class_names) // 2
    for half in (halves.a, halves.b):
        assert [class_names.index(name) for name in half] == sorted(class_names.index(name) for name in half)
    manifest = halves.manifest(class_names)
    for letter in "AB":
        back = [
            manifest[letter]["label_of_whole_label"][whole] for whole in manifest[letter]["whole_label_of_label"]
        ]
        assert back == list(range(len(halves.classes(letter))))


@quick
@given(names, seeds, st.integers(2, 5))
def test_no_parent_is_divided(class_names: list[str], seed: int, num_parents: int) -> None:
    parents = {name: f"parent {number % num_parents}" for number, name in enumerate(sorted(class_names))}
    if min(list(parents.values()).count(parent) for parent in set(parents.values())) < 2:
        return
    halves = parent_halves(class_names, parents, seed=seed)
    assert {parents[name] for name in halves.a}.isdisjoint(parents[name] for name in halves.b)
    assert sorted(halves.a + halves.b) == sorted(class_names)


@quick
@given(studies(), st.floats(-20, 20), st.floats(-20, 20))
def test_how_hard_a_task_is_changes_no_difference(measured: list[Measured], a: float, b: float) -> None:
    """Points that every network of a half has more: the matched columns stay, the paper's pooled one moves."""
    ease = {"A": a, "B": b}
    easier = [one._replace(accuracy=one.accuracy + ease[one.target]) for one in measured]
    for row, same in zip(difference_rows(Study(measured)), difference_rows(Study(easier)), strict=True):
        assert [same[key] for key in ("mean", "low", "high")] == pytest.approx(
            [row[key] for key in ("mean", "low", "high")], abs=1e-6
        )
    for row, same in zip(boost_rows(Study(measured)), boost_rows(Study(easier)), strict=True):
        assert same["mean"] == pytest.approx(row["mean"], abs=1e-6)
        moved = (b - a) * (0.5 if row["minus"] == "base" else 1.0)
        assert same["pooled"] == pytest.approx(row["pooled"] + moved, abs=1e-6)


@quick
@given(studies())
def test_both_drops_together_are_what_a_frozen_transfer_loses(measured: list[Measured]) -> None:
    study = Study(measured)
    by_name = {(row.get("effect"), row["cut"]): row["mean"] for row in difference_rows(study)}
    for n in study.cuts:
        both = by_name["co-adaptation drop", n] + by_name["specificity drop", n]
        assert both == pytest.approx(study.difference("AnB", "base", [n]).mean, abs=1e-9)


@quick
@given(studies())
def test_the_place_of_a_fall_is_among_the_layers(measured: list[Measured]) -> None:
    study = Study(measured)
    found = transition(study)
    assert found["drop"] == study.difference("AnB", "base", study.cuts[-1:])._asdict()
    if found["half"] is not None:
        assert 0 <= found["half"]["mean"] <= study.cuts[-1]
        assert 0 <= found["width"]["mean"] <= study.cuts[-1]
