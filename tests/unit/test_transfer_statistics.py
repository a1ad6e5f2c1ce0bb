"""What a study says of its accuracies: paired on the same target, one number a split, and the paper's Table 1."""

import random
from typing import Any

import pytest

from instar.errors import UsageError
from instar.transfer import Measured, Study, boost_rows, difference_rows, transition, treatment_rows

EASIER = {"A": 0.0, "B": 1.9}  # points, as the paper's half 0B beside its half 0A


def made_up(
    gains: dict[str, list[float]], *, splits: int = 3, noise: float = 0.0, targets: str = "AB"
) -> list[Measured]:
    """Bases of 60 % and a gain over them for each kind at n = 1, 2, ...; half B is easier, split 1 harder."""
    measured = []
    for split in range(splits):
        for target in targets:
            base = 60 + EASIER[target] - 3.0 * (split == 1)
            measured.append(Measured(split, target, "base", 0, base))
            for kind, values in gains.items():
                if kind == "base-long":
                    measured.append(Measured(split, target, kind, 0, base + values[0]))
                    continue
                for n, gain in enumerate(values, 1):
                    measured.append(
                        Measured(split, target, kind, n, base + gain + noise * (split - (splits - 1) / 2))
                    )
    return measured


def effects(study: Study) -> dict[tuple[str, int], dict[str, Any]]:
    """The differences that have a name, by name and cut."""
    return {(row["effect"], row["cut"]): row for row in difference_rows(study) if "effect" in row}


def test_differences_are_paired_on_the_target_and_one_number_a_split() -> None:
    """The tasks' own difficulty, 1.9 points between halves and 3 between splits, is in none of them."""
    study = Study(made_up({"BnB": [0.0, -2.0], "AnB": [-1.0, -6.0]}))
    rows = effects(study)
    expected = {
        ("co-adaptation drop", 1): 0.0,
        ("co-adaptation drop", 2): -2.0,
        ("specificity drop", 1): -1.0,
        ("specificity drop", 2): -4.0,
    }
    assert {key: row["mean"] for key, row in rows.items()} == pytest.approx(expected, abs=1e-12)
    for row in rows.values():
        assert row["n"] == 3  # splits, not the six networks
        assert row["sd"] == pytest.approx(0, abs=1e-12)
        assert row["high"] - row["low"] == pytest.approx(0, abs=1e-12)
    spread = treatment_rows(study)[0]
    assert (spread["name"], spread["n"], spread["mean"]) == ("base", 3, pytest.approx(59.95))
    assert spread["sd"] > 1


def test_a_network_towards_the_other_half_is_no_control() -> None:
    measured = [Measured(0, "A", "base", 0, 60.0), Measured(0, "B", "base", 0, 62.0)]
    measured += [Measured(0, "A", "BnB", 1, 59.0), Measured(0, "B", "AnB", 1, 62.5)]
    study = Study(measured)
    assert study.difference("AnB", "base", [1]).mean == 0.5
    assert not study.has_pair("AnB", "BnB", [1])
    with pytest.raises(UsageError, match="no two networks of the same split and target to compare"):
        study.difference("AnB", "BnB", [1])
    assert list(effects(study)) == [("co-adaptation drop", 1)]


def test_rows_of_treatments() -> None:
    study = Study(made_up({"AnB+": [1.0, 2.0], "base-long": [0.5]}, noise=0.1))
    rows = treatment_rows(study)
    assert [(row["treatment"], row["cut"], row["n"]) for row in rows] == [
        ("base", 0, 3), ("AnB+", 1, 3), ("AnB+", 2, 3), ("base-long", 0, 3),
    ]  # fmt: skip
    assert [row["name"] for row in rows] == ["base", "A1B+", "A2B+", "base-long"]
    assert rows[0]["values"] == pytest.approx([60.95, 57.95, 60.95])  # by split, mean over both targets
    over_base = {row["name"]: row for row in difference_rows(study) if row["minus"] == "base"}
    assert {name: row["mean"] for name, row in over_base.items()} == pytest.approx(
        {"base-long": 0.5, "A1B+": 1.0, "A2B+": 2.0}
    )
    assert over_base["A1B+"]["low"] < 1.0 < over_base["A1B+"]["high"]


def test_a_single_split_has_no_spread_and_no_interval() -> None:
    study = Study(made_up({"AnB": [-1.0]}, splits=1))
    for row in (*treatment_rows(study), *difference_rows(study)):
        assert [row[key] for key in ("n", "sd", "low", "high")] == [1, None, None, None]


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ([], "no network was measured"),
        ([Measured(0, "A", "base", 0, 1.0)] * 2, "base at n = 0 of split 0 and target A is there twice"),
        (
            [Measured(0, "A", "base", 0, 1.0), Measured(0, "B", "AnB", 2, 1.0)],
            "AnB at n = 2 of split 0 has no base",
        ),
    ],
)
def test_a_study_that_cannot_be_is_refused(measured: list[Measured], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Study(measured)


# Table 1, both ways


def test_boosts_on_matched_targets_are_free_of_the_tasks_difficulty() -> None:
    """True boosts of 1.2 over base and 0.3 over BnB+; pooled as in the paper, B's ease comes on top: PAPERS A8."""
    study = Study(made_up({"AnB+": [1.2] * 7, "BnB+": [0.9] * 7, "base-long": [0.7]}))
    rows = {(row["layers"], row["minus"]): row for row in boost_rows(study)}
    assert list(rows) == [
        (layers, over) for layers in ("1-7", "3-7", "5-7") for over in ("base", "BnB+", "base-long")
    ]
    for (_, over), row in rows.items():
        matched = {"base": 1.2, "BnB+": 0.3, "base-long": 0.5}[over]
        # AnB+ towards B against the mean of all bases has half of the 1.9 points, against BnB+ of A all of them.
        in_paper = {"base": 1.2 + 0.95, "BnB+": 0.3 + 1.9, "base-long": None}[over]
        assert row["mean"] == pytest.approx(matched)
        assert row["pooled"] == (None if in_paper is None else pytest.approx(in_paper))
        assert row["n"] == 3


def papers_networks() -> list[Measured]:
    """The paper's nets behind its Table 1, by the means in its logs: AnB+ towards 0B, 1B and BnB+ of 0A, 1A."""
    bases = {
        "0A": 61.51,
        "0B": 63.41,
        "1A": 62.32,
        "1B": 62.50,
        "2A": 62.86,
        "2B": 62.19,
        "3A": 62.60,
        "3B": 62.69,
    }
    measured = [Measured(int(half[0]), half[1], "base", 0, value) for half, value in bases.items()]
    kinds = {
        ("AnB+", "B"): [(63.73, 1), (63.58, 2), (64.26, 2), (63.98, 2), (64.46, 1), (64.60, 1), (64.65, 1)],
        ("BnB+", "A"): [(61.77, 1), (62.15, 1), (63.13, 2), (62.87, 1), (63.01, 2), (62.76, 2), (62.66, 1)],
    }
    for (kind, target), means in kinds.items():
        for n, (mean, num_networks) in enumerate(means, 1):
            measured += [Measured(split, target, kind, n, mean) for split in range(num_networks)]
    return measured


def test_the_papers_table_one_comes_out_as_the_paper_pooled_its_networks() -> None:
    rows = {(row["layers"], row["minus"]): row for row in boost_rows(Study(papers_networks()))}
    table = {
        ("1-7", "base"): 1.60, ("3-7", "base"): 1.80, ("5-7", "base"): 2.06,
        ("1-7", "BnB+"): 1.38, ("3-7", "BnB+"): 1.40, ("5-7", "BnB+"): 1.73,
    }  # fmt: skip
    assert {key: row["pooled"] for key, row in rows.items()} == pytest.approx(table, abs=0.006)
    for (layers, over), row in rows.items():
        if over == "BnB+":  # of other halves: there is no pair
            assert (row["mean"], row["n"]) == (None, 0)
        else:
            assert row["n"] == 1  # split 0 alone has every cut
            assert row["mean"] < row["pooled"] - 0.5, layers


def test_without_fine_tuned_networks_there_is_no_table_of_boosts() -> None:
    assert boost_rows(Study(made_up({"AnB": [0.0, -1.0]}))) == []
    rows = boost_rows(Study(made_up({"AnB+": [1.0]}, targets="A")))
    assert [(row["minus"], row["mean"], row["pooled"]) for row in rows] == [("base", 1.0, None)]


# Sudden or spread


def test_a_sudden_fall_is_narrow_and_a_spread_one_is_wide() -> None:
    sudden = transition(Study(made_up({"AnB": [0, 0, 0, -10, -10, -10, -10]}, noise=1e-6)))
    spread = transition(Study(made_up({"AnB": [-1, -2, -3, -4, -5, -6, -7]}, noise=1e-6)))
    assert sudden["half"]["mean"] == pytest.approx(3.5, abs=1e-3)
    assert sudden["width"]["mean"] == pytest.approx(0.8, abs=1e-3)
    assert spread["half"]["mean"] == pytest.approx(3.5, abs=1e-3)
    assert spread["width"]["mean"] == pytest.approx(5.6, abs=1e-3)
    assert [found["drop"]["mean"] for found in (sudden, spread)] == pytest.approx([-10, -7])


def test_the_drop_is_that_of_the_deepest_cut_and_its_shares_are_placed_before_a_recovery() -> None:
    """The paper's BnB falls in the middle and comes back."""
    study = Study(made_up({"BnB": [0, 0, -4, -1, -2]}, noise=1e-6))
    found = transition(study, "BnB")
    assert found["drop"] == study.difference("BnB", "base", [5])._asdict()
    assert found["half"]["mean"] == pytest.approx(2.25, abs=1e-3)  # -1 of -2
    recovered = transition(Study(made_up({"BnB": [0, 0, -4, -1, 0]}, noise=1e-6)), "BnB")
    assert (recovered["half"], recovered["width"]) == (None, None)


def test_in_noise_nothing_falls() -> None:
    draw, num_found = random.Random(0), 0
    for _ in range(300):
        noise = [one._replace(accuracy=draw.gauss(60, 1)) for one in made_up({"AnB": [0.0] * 7}, splits=5)]
        num_found += transition(Study(noise))["half"] is not None
    assert num_found <= 15  # one in forty by chance; a minimum over the cuts gave 185


def test_without_a_sure_drop_there_is_no_place() -> None:
    for gains, noise in (([0.0, 0.0], 0.0), ([0.5, 1.0], 0.0), ([-0.1, -0.2], 3.0)):
        found = transition(Study(made_up({"AnB": gains}, noise=noise)))
        assert (found["half"], found["width"]) == (None, None)
        assert found["drop"]["high"] >= 0
    single = transition(Study(made_up({"AnB": [-5.0]}, splits=1)))
    assert single["half"] is None


def test_a_split_that_lacks_a_cut_is_left_out_of_the_transition() -> None:
    measured = [one for one in made_up({"AnB": [-1, -8]}, noise=1e-6) if (one.split, one.n) != (2, 2)]
    found = transition(Study(measured))
    assert (found["drop"]["n"], found["half"]["n"]) == (2, 2)
