"""Splits and the order of examples: pure functions of seeds and ids."""

from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest
import torch

from instar.data import id_batches, shuffled, stratified_split
from instar.data.hashing import key_of, keyed_hash
from instar.data.identity import IdIndex, content_ids, original_rows
from instar.errors import DataError, UsageError

IDS = torch.randint(-(2**62), 2**62, (500,), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(500) % 7


def test_a_split_parts_every_class_by_the_fraction() -> None:
    rest, chosen = stratified_split(IDS, LABELS, fraction=0.1, split_seed=0)
    assert set(rest.tolist()) | set(chosen.tolist()) == set(IDS.tolist())
    assert len(rest) + len(chosen) == 500
    label_of = dict(zip(IDS.tolist(), LABELS.tolist(), strict=True))
    counts = torch.bincount(torch.tensor([label_of[i] for i in chosen.tolist()]))
    assert counts.tolist() == [round(0.1 * n) for n in torch.bincount(LABELS).tolist()]


def test_a_split_does_not_depend_on_the_order_of_the_files() -> None:
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    _, chosen = stratified_split(IDS, LABELS, fraction=0.3, split_seed=5)
    _, again = stratified_split(IDS[order], LABELS[order], fraction=0.3, split_seed=5)
    assert set(again.tolist()) == set(chosen.tolist())


def test_another_split_seed_is_another_split() -> None:
    parts = [set(stratified_split(IDS, LABELS, fraction=0.5, split_seed=s)[1].tolist()) for s in range(4)]
    for one in range(4):
        for other in range(one):
            # Half of a half is expected in common, 125 with sd 8: six sd.
            assert 77 < len(parts[one] & parts[other]) < 173


def test_most_examples_stay_chosen_when_some_files_are_added() -> None:
    """A split of hashes, unlike one of a shuffle, hardly moves."""
    before = set(stratified_split(IDS[:490], LABELS[:490], fraction=0.2, split_seed=0)[1].tolist())
    after = set(stratified_split(IDS, LABELS, fraction=0.2, split_seed=0)[1].tolist())
    assert len(before - after) <= 7


def test_unlabelled_examples_stay() -> None:
    labels = LABELS.clone()
    labels[::2] = -1
    rest, chosen = stratified_split(IDS, labels, fraction=0.5, split_seed=0)
    assert set(IDS[::2].tolist()) <= set(rest.tolist())
    assert len(chosen) > 100


@pytest.mark.parametrize(("fraction", "expected"), [(0.01, 1), (0.99, 2)])
def test_every_class_keeps_one_on_each_side(fraction: float, expected: int) -> None:
    _, chosen = stratified_split(
        torch.arange(6), torch.tensor([0, 0, 0, 1, 1, 1]), fraction=fraction, split_seed=0
    )
    assert len(chosen) == 2 * expected


def test_copies_of_an_example_stay_on_one_side() -> None:
    contents = [f"picture {number // 4}".encode() for number in range(200)]  # each of 50 pictures four times
    labels = torch.arange(200) // 100
    ids = content_ids(contents, labels)
    picture = dict(zip(ids.tolist(), contents, strict=True))
    for seed in range(3):
        rest, chosen = stratified_split(ids, labels, fraction=0.2, split_seed=seed)
        sides = [{picture[key] for key in part.tolist()} for part in (rest, chosen)]
        assert not sides[0] & sides[1]
        assert len(chosen) == 40
        assert torch.bincount(labels[torch.isin(ids, chosen)]).tolist() == [20, 20]


def test_ids_of_copies_are_those_of_counting_them_one_by_one() -> None:
    """A hash of a row's bytes; the k-th copy, in the order of the labels, has one of k and of that id."""
    chance = torch.Generator().manual_seed(0)
    contents = [f"row {number}".encode() for number in torch.randint(0, 60, (400,), generator=chance).tolist()]
    labels = torch.randint(-1, 5, (400,), generator=chance)
    expected = torch.empty(400, dtype=torch.int64)
    seen: Counter[bytes] = Counter()
    for row in labels.argsort(stable=True).tolist():
        own = int.from_bytes(blake2b(contents[row], digest_size=8).digest(), "little", signed=True)
        copy, seen[contents[row]] = seen[contents[row]], seen[contents[row]] + 1
        key = key_of("copy", copy)
        expected[row] = keyed_hash(key, torch.tensor([own]))[0] if copy else own
    assert max(seen.values()) > 5
    assert torch.equal(content_ids(iter(contents), labels), expected)
    originals = original_rows(expected)
    assert all(contents[int(original)] == contents[row] for row, original in enumerate(originals))
    assert len(originals.unique()) == len(seen)


def test_a_split_of_many_classes_is_that_of_each_class_alone() -> None:
    labels = torch.where(torch.arange(500) % 11 == 0, -1, LABELS)
    _, chosen = stratified_split(IDS, labels, fraction=0.23, split_seed=3)
    hashes, expected = keyed_hash(key_of("split", 3), IDS), set()
    for label in range(7):
        rows = (labels == label).nonzero()[:, 0]
        expected |= set(IDS[rows[hashes[rows].argsort()[: round(0.23 * len(rows))]]].tolist())
    assert set(chosen.tolist()) == expected


def test_a_class_of_copies_of_one_example_is_named() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    ids = content_ids([b"a", b"a", b"a", b"b", b"c", b"d"], labels)
    with pytest.raises(DataError, match="class 0 has 3 examples, but not two different ones"):
        stratified_split(ids, labels, fraction=0.5, split_seed=0)


def test_a_class_of_one_example_is_named() -> None:
    labels = torch.tensor([0, 0, 1])
    with pytest.raises(DataError, match="class 1 has a single example"):
        stratified_split(torch.arange(3), labels, fraction=0.5, split_seed=0)
    with pytest.raises(DataError, match="class 'dog' has a single example"):
        stratified_split(torch.arange(3), labels, fraction=0.5, split_seed=0, class_names=["cat", "dog"])
    with pytest.raises(DataError, match="no example has a label"):
        stratified_split(torch.arange(3), torch.full((3,), -1), fraction=0.5, split_seed=0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        stratified_split(IDS, LABELS, fraction=fraction, split_seed=0)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    order = shuffled(IDS, seed=3, epoch=2)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(shuffled(IDS.flip(0), seed=3, epoch=2), order)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(order.sort().values, IDS.sort().values)
    others = [shuffled(IDS, seed=seed, epoch=epoch) for seed, epoch in ((3, 3), (2, 3), (2, 2), (32, 0), (3, 20))]
    for other in others:
        # A shuffle of 500 leaves about one in place.
        assert int((other == order).sum()) < 10


def test_the_order_of_an_index_is_that_of_its_ids_and_is_found_as_others_are() -> None:
    ids = IDS.clone()
    index = IdIndex(ids, "the example", "")
    order = shuffled(ids, seed=3, epoch=2)
    assert torch.equal(order, shuffled(ids.clone(), seed=3, epoch=2))
    assert torch.equal(index.find(order), index.find(order.clone()))
    assert torch.equal(index.ids[index.find(order)], order)
    other = IdIndex(ids.flip(0)[:-1], "the others", "")
    with pytest.raises(UsageError, match=f"1 of {len(ids)} ids are not in the others, the first {int(ids[0])}"):
        other.find(order)


def test_ids_that_were_written_to_are_looked_at_again() -> None:
    ids = IDS.clone()
    index = IdIndex(ids, "the example", "")
    order = shuffled(ids, seed=3, epoch=2)
    order[:2] = order[:2].flip(0)
    assert torch.equal(index.ids[index.find(order)], order)
    ids += 1
    assert torch.equal(shuffled(ids, seed=3, epoch=2), shuffled(IDS + 1, seed=3, epoch=2))


def test_ids_of_inference_mode_have_an_order_too() -> None:
    with torch.inference_mode():
        ids = IDS.clone()
        index = IdIndex(ids, "the example", "")
        assert torch.equal(index.ids[index.find(order := shuffled(ids, seed=3, epoch=2))], order)
    assert torch.equal(order, shuffled(IDS, seed=3, epoch=2))


def test_batches_cut_the_order_and_keep_the_rest() -> None:
    order = shuffled(IDS, seed=0, epoch=0)
    parts = id_batches(order, 64)
    assert [len(part) for part in parts] == [64] * 7 + [52]
    assert torch.equal(torch.cat(parts), order)
    for size in (0, -1):
        with pytest.raises(UsageError, match="at least 1"):
            id_batches(order, size)


@pytest.mark.parametrize("parts", [2, 3])
def test_classes_whose_examples_all_equal_those_of_other_classes_are_on_both_sides(parts: int) -> None:
    """A survey: few different rows, each with every answer; the first class has all the originals."""
    chance = np.random.default_rng(0)
    rows = chance.integers(4, size=200)
    labels = torch.from_numpy(chance.integers(3, size=200))
    ids = content_ids([bytes([row]) for row in rows], labels)
    rest, chosen = stratified_split(ids, labels, fraction=0.2, split_seed=0, parts=parts)
    assert sorted([*rest.tolist(), *chosen.tolist()]) == sorted(ids.tolist())
    where = {number: place for place, number in enumerate(ids.tolist())}
    for part in (rest, chosen):
        assert set(labels[[where[number] for number in part.tolist()]].tolist()) == {0, 1, 2}
    sides = [{int(rows[where[number]]) for number in part.tolist()} for part in (rest, chosen)]
    assert not sides[0] & sides[1]  # equal rows are together
    assert len(sides[0]) >= parts - 1
    order = torch.from_numpy(chance.permutation(200))
    again = stratified_split(ids[order], labels[order], fraction=0.2, split_seed=0, parts=parts)[1]
    assert set(again.tolist()) == set(chosen.tolist())


def test_too_few_different_rows_for_each_class_in_each_part() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
    ids = content_ids([b"a", b"b", b"c", b"a", b"b", b"b", b"d", b"a"], labels)
    rest, chosen = stratified_split(ids, labels, fraction=0.2, split_seed=0)
    assert sorted(torch.bincount(labels[torch.isin(ids, chosen)]).tolist())[0] > 0
    assert sorted(torch.bincount(labels[torch.isin(ids, rest)]).tolist())[0] > 0
    with pytest.raises(DataError, match="class 1 has 4 examples, but not three different ones; training, valid"):
        stratified_split(ids, labels, fraction=0.2, split_seed=0, parts=3)
    # Each of three classes has two different rows, of three: two of them would have to be in two parts.
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    ids = content_ids([b"a", b"b", b"b", b"c", b"c", b"a"], labels)
    with pytest.raises(DataError, match=r"class . has 2 examples, but not two different ones"):
        stratified_split(ids, labels, fraction=0.5, split_seed=0)
