"""Halves of classes: the paper's own lists, groups by meaning, files of parents, and what a manifest keeps."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from instar.errors import UsageError
from instar.transfer import (
    Halves,
    known_parents,
    listed_halves,
    parent_halves,
    random_halves,
    read_parents,
    semantic_halves,
)
from instar.transfer.groups import CIFAR100_PARENTS, LIVING, MAN_MADE

THOUSAND = [str(number) for number in range(1000)]
CIFAR100 = sorted(CIFAR100_PARENTS)

# The paper's own


@pytest.mark.parametrize(
    ("seed", "digits"),
    [(0, "c1aede24b4a89504"), (1, "f723a1d01816553c"), (2, "65f4ac5023d5e039"), (3, "cbb887cb505a7e27")],
)
def test_a_thousand_classes_fall_as_in_the_papers_lists(seed: int, digits: str) -> None:
    """The figures are of the lists in the authors' repository, whose files they were checked against."""
    halves = random_halves(THOUSAND, seed=seed)
    assert hashlib.sha256(",".join(halves.a).encode()).hexdigest()[:16] == digits
    assert len(halves.a) == len(halves.b) == 500
    assert sorted(halves.a + halves.b) == sorted(THOUSAND)
    assert [list(map(int, half)) == sorted(map(int, half)) for half in (halves.a, halves.b)] == [True, True]


def test_imagenets_man_made_and_natural_classes_are_the_papers() -> None:
    names = [f"n{number:08}" for number in range(1000)]
    halves = semantic_halves(names, seed=0)
    man_made, natural = ({int(name[1:]) for name in half} for half in (halves.a, halves.b))
    assert (len(man_made), len(natural)) == (551, 449)
    assert man_made == {*range(398, 936), *range(959, 970), 971, 999}
    assert man_made | natural == set(range(1000))
    assert {981, 982, 983, 936, 957} <= natural  # people, vegetables, fruit
    assert semantic_halves(names[::-1], seed=7) == replace(halves, seed=7)
    assert halves.manifest(names)["num_of_parent"] == {
        "man-made": {"A": 551, "B": 0},
        "natural": {"A": 0, "B": 449},
    }
    with pytest.raises(
        UsageError, match=r"not for these 1000 classes \(0, ...; ImageNet's are named like n01440764"
    ):
        semantic_halves(THOUSAND, seed=0)


# CIFAR-100


def test_cifar100_has_twenty_parents_of_five_children() -> None:
    parents = list(CIFAR100_PARENTS.values())
    assert len(CIFAR100_PARENTS) == 100
    assert {parents.count(parent) for parent in parents} == {5}
    assert len(set(parents)) == 20
    living, man_made = (
        [name for name in CIFAR100 if CIFAR100_PARENTS[name] in group] for group in (LIVING, MAN_MADE)
    )
    assert (len(living), len(man_made)) == (65, 30)
    assert set(CIFAR100) - set(living) - set(man_made) == {"cloud", "forest", "mountain", "plain", "sea"}


def test_thirty_man_made_against_thirty_of_the_living_another_thirty_for_another_seed() -> None:
    splits = [semantic_halves(CIFAR100, seed=seed) for seed in range(5)]
    for halves in splits:
        assert {CIFAR100_PARENTS[name] for name in halves.a} == set(MAN_MADE)
        assert {CIFAR100_PARENTS[name] for name in halves.b} <= set(LIVING)
        assert (len(halves.a), len(set(halves.b))) == (30, 30)
    assert len({halves.a for halves in splits}) == 1
    assert len({halves.b for halves in splits}) == 5
    assert semantic_halves(CIFAR100, seed=3) == splits[3]
    with pytest.raises(UsageError, match="known for CIFAR-100 and ImageNet's 1000 classes, not for these 10"):
        semantic_halves([str(n) for n in range(10)], seed=0)


def test_random_halves_of_thirty_are_the_control() -> None:
    halves = random_halves(CIFAR100, seed=0, classes_per_half=30, parents=CIFAR100_PARENTS)
    assert len(halves.a) == len(halves.b) == len(set(halves.a + halves.b)) / 2 == 30
    with pytest.raises(UsageError, match="51 classes in each half: there are 100"):
        random_halves(CIFAR100, seed=0, classes_per_half=51)


def test_of_an_odd_number_of_classes_b_has_one_more() -> None:
    halves = random_halves("abcde", seed=0)
    assert (len(halves.a), len(halves.b)) == (2, 3)


# Parents


def test_no_parent_is_divided_and_the_halves_are_about_as_large() -> None:
    sizes = {"Greek": 24, "Latin": 26, "N_Ko": 33, "Ge_ez": 26, "Tengwar": 25}
    parents = known_parents([f"{alphabet}/{n}" for alphabet, size in sizes.items() for n in range(size)])
    for seed in range(6):
        halves = parent_halves(list(parents), parents, seed=seed)
        alphabets = [{parents[name] for name in half} for half in (halves.a, halves.b)]
        assert alphabets[0].isdisjoint(alphabets[1])
        assert len(alphabets[0] | alphabets[1]) == 5
        assert len(halves.a) + len(halves.b) == len(parents)
        assert abs(len(halves.a) - len(halves.b)) <= 33
    named = parent_halves(list(parents), parents, a=["Greek", "Latin"], b=["N_Ko"])
    assert (len(named.a), len(named.b)) == (50, 33)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"a": ["animal"]}, "name the parents of both halves, or of none"),
        ({"a": ["animl"], "b": ["thing"]}, "unknown parent class 'animl'; did you mean animal"),
        ({"a": ["animal"], "b": ["animal", "thing"]}, "is in both halves"),
        ({"parents": {"cat": "animal"}}, "class 'dog' has no parent; 3 of 4 have none"),
        ({"parents": dict.fromkeys(("cat", "dog", "car", "bus"), "all")}, "half B has 0 classes"),
    ],
)
def test_parents_that_cannot_be_are_refused(options: dict, words: str) -> None:
    parents = {"cat": "animal", "dog": "animal", "car": "thing", "bus": "thing"}
    with pytest.raises(UsageError, match=words):
        parent_halves(list(parents), **{"parents": parents, **options})


def test_a_file_of_parents(tmp_path: Path) -> None:
    file = tmp_path / "parents.tsv"
    file.write_text("cat\tanimal\n\ndog\tanimal \ncar\tthing\n")
    assert read_parents(file, ["car", "cat", "dog"]) == {"cat": "animal", "dog": "animal", "car": "thing"}
    for text, words in (
        ("cat animal\n", "line 1: expected a class, a tab and its parent, found 'cat animal'"),
        ("cat\tanimal\ndgo\tanimal\n", "line 2: unknown class 'dgo'; did you mean dog"),
        ("cat\t\n", "line 1: expected a class"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=words):
            read_parents(file, ["car", "cat", "dog"])
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "nowhere.tsv"):
        with pytest.raises(UsageError, match="the parents of the classes cannot be read from"):
            read_parents(path, ["cat"])


# What is refused, and what is kept


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (["0", "1"], ["1", "2"], "class '1' is in both halves"),
        (["0", "0"], ["1", "2"], "class '0' is in one half twice"),
        (["0", "1"], ["2"], "half B has 1 classes; a task needs at least two"),
        (["0", "1"], [], "half B has 0 classes"),
        (["0", "tow"], ["2", "3"], "unknown class 'tow'; did you mean two"),
    ],
)
def test_lists_that_are_no_halves_are_refused(a: list[str], b: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        listed_halves(["0", "1", "two", "2", "3"], a, b)


def test_a_manifest_maps_labels_both_ways_and_counts_parents() -> None:
    names = ["bus", "car", "cat", "dog", "eel"]
    parents = {"bus": "thing", "car": "thing", "cat": "animal", "dog": "animal", "eel": "animal"}
    manifest = Halves(("dog", "bus"), ("cat", "eel"), how="lists", seed=3, parents=parents).manifest(names)
    assert manifest["A"] == {
        "classes": ["dog", "bus"],
        "label_of_class": {"dog": 0, "bus": 1},
        "whole_label_of_label": [3, 0],
        "label_of_whole_label": [1, -1, -1, 0, -1],
    }
    for half in (manifest["A"], manifest["B"]):
        for label, whole in enumerate(half["whole_label_of_label"]):
            assert names[whole] == half["classes"][label]
            assert half["label_of_whole_label"][whole] == label
    assert manifest["num_of_parent"] == {"animal": {"A": 1, "B": 2}, "thing": {"A": 1, "B": 0}}
    assert (manifest["how"], manifest["seed"]) == ("lists", 3)
    with pytest.raises(UsageError, match="unknown class 'eel'"):
        Halves(("dog", "bus"), ("cat", "eel"), how="lists").manifest(names[:4])


def test_the_hash_says_which_classes_are_in_which_half_in_which_order() -> None:
    one = Halves(("a", "b"), ("c", "d"), how="lists")
    assert one.hash == hashlib.sha256(b"a\nb\n\nc\nd").hexdigest()[:16]
    assert one.hash == Halves(("a", "b"), ("c", "d"), how="random", seed=8).hash
    others = [
        (("b", "a"), ("c", "d")),
        (("c", "d"), ("a", "b")),
        (("a", "b"), ("c", "e")),
        (("a", "b", "c"), ("d", "e")),
    ]
    assert len({one.hash, *(Halves(a, b, how="lists").hash for a, b in others)}) == 5
