"""What a student learns on: parts of a data set, with few labels or none."""

from typing import Any

import numpy
import pytest
import torch

from instar.data import InMemoryDataset, class_number, load_data, transfer_set
from instar.distillation import Teacher
from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.training import fit
from small_fits import digits, part_labelled, perceptron

DIGITS = load_data("digits")
TRAIN, VALIDATION = digits(200), digits(100, start=200)


def labels_of(data: InMemoryDataset) -> torch.Tensor:
    return data.labels(data.ids)


def test_classes_are_left_out_or_kept_and_keep_their_places() -> None:
    without = transfer_set(DIGITS.train, drop_classes=["3", 5])
    only = transfer_set(DIGITS.train, keep_classes=["7", "8"])
    assert set(labels_of(without).tolist()) == set(range(10)) - {3, 5}
    assert set(labels_of(only).tolist()) == {7, 8}
    assert without.class_names == only.class_names == DIGITS.class_names
    both = transfer_set(DIGITS.train, keep_classes=["7", "8", "1"], drop_classes=[8])
    assert set(labels_of(both).tolist()) == {1, 7}
    assert torch.equal(both.gather(both.ids, 0), DIGITS.train.gather(both.ids, 0))


def test_a_class_is_its_name_or_its_number() -> None:
    names = ("7", "cat", "dog")
    assert [class_number(names, one) for one in ("7", "dog", 0, 2, numpy.int64(1))] == [0, 2, 0, 2, 1]
    for unknown in (7, 3, -1, "0", ""):
        with pytest.raises(UsageError, match=f"unknown class '{unknown}'"):
            class_number(names, unknown)
    for options in ({"drop_classes": "12"}, {"keep_classes": "12"}):
        with pytest.raises(UsageError, match="should be a list of names or numbers, found the text '12'"):
            transfer_set(DIGITS.train, **options)


def test_a_smaller_share_is_a_part_of_a_larger_one_in_any_order() -> None:
    small, large = (transfer_set(DIGITS.train, fraction=share) for share in (0.03, 0.3))
    assert set(small.ids.tolist()) <= set(large.ids.tolist())
    turned = DIGITS.train.subset(DIGITS.train.ids.flip(0))
    assert set(transfer_set(turned, fraction=0.03).ids.tolist()) == set(small.ids.tolist())
    assert set(labels_of(transfer_set(DIGITS.train, fraction=0.001)).tolist()) == set(range(10))
    other = transfer_set(DIGITS.train, fraction=0.3, seed=1)
    assert set(other.ids.tolist()) != set(large.ids.tolist())


def test_the_smallest_share_has_one_of_each_class_however_few_there_are() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    few = InMemoryDataset(torch.arange(6.0)[:, None], labels, class_names=["many", "two", "one"])
    assert sorted(labels_of(transfer_set(few, fraction=0.01)).tolist()) == [0, 1, 2]
    assert sorted(labels_of(transfer_set(few, fraction=0.99)).tolist()) == [0, 0, 1, 2]
    assert sorted(labels_of(transfer_set(few, fraction=0.99, rest=True)).tolist()) == [0, 1]
    assert sorted(labels_of(transfer_set(few, labelled=0.01)).tolist()) == [-1, -1, -1, 0, 1, 2]
    ten = transfer_set(DIGITS.train, fraction=0.001, labelled=0.5)
    assert sorted(labels_of(ten).tolist()) == list(range(10))


def test_rest_is_what_the_fraction_leaves() -> None:
    half, rest = (transfer_set(DIGITS.train, fraction=0.5, rest=is_rest) for is_rest in (False, True))
    assert set(half.ids.tolist()).isdisjoint(rest.ids.tolist())
    assert len(half) + len(rest) == len(DIGITS.train)


def test_labels_are_taken_away_from_a_stratified_share() -> None:
    before = DIGITS.train.fingerprint
    some = transfer_set(DIGITS.train, labelled=0.1)
    counts = torch.bincount(labels_of(some)[labels_of(some) >= 0], minlength=10)
    assert counts.min() >= 12
    assert counts.max() <= 14
    assert len(some) == len(DIGITS.train)
    assert (labels_of(transfer_set(DIGITS.train, labelled=0)) == NO_LABEL).all()
    assert some.fingerprint != before == DIGITS.train.fingerprint
    assert (labels_of(DIGITS.train) >= 0).all()
    more = transfer_set(DIGITS.train, labelled=0.3)
    assert not ((labels_of(some) >= 0) & (labels_of(more) < 0)).any()
    assert torch.equal(labels_of(more)[labels_of(more) >= 0], labels_of(DIGITS.train)[labels_of(more) >= 0])


def test_the_choice_is_the_same_whatever_the_order_of_the_files() -> None:
    inputs, labels = DIGITS.train.gather(DIGITS.train.ids, 0), labels_of(DIGITS.train)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    found = []
    for rows in (order.sort().values, order):
        data = InMemoryDataset(inputs[rows], labels[rows], class_names=DIGITS.class_names)
        found.append(transfer_set(data, drop_classes=["3"], fraction=0.2, labelled=0.5, seed=7))
    assert set(found[0].ids.tolist()) == set(found[1].ids.tolist())
    assert found[0].fingerprint == found[1].fingerprint


def test_without_labels_leaves_the_original_and_its_parts_alone() -> None:
    part = TRAIN.subset(TRAIN.ids[:50])
    before = [data.fingerprint for data in (TRAIN, part)]
    bare = part.without_labels(part.ids[:20])
    assert (labels_of(bare)[:20] == NO_LABEL).all()
    assert torch.equal(labels_of(bare)[20:], labels_of(part)[20:])
    assert (labels_of(TRAIN) >= 0).all()
    assert [data.fingerprint for data in (TRAIN, part)] == before
    assert bare.fingerprint not in before
    with pytest.raises(UsageError, match="not in this data set of 50 examples"):
        part.without_labels(TRAIN.ids[50:])


def test_a_fraction_of_part_labelled_data_has_its_share_of_the_unlabelled() -> None:
    data = part_labelled(DIGITS.train)
    num_bare = int((labels_of(data) == NO_LABEL).sum())
    half, rest = (transfer_set(data, fraction=0.5, rest=is_rest) for is_rest in (False, True))
    assert int((labels_of(half) == NO_LABEL).sum()) == round(0.5 * num_bare)
    assert len(half) + len(rest) == len(data)
    tenth = transfer_set(data, fraction=0.1)
    assert set(tenth.ids.tolist()) <= set(half.ids.tolist())


def test_an_example_of_an_unknown_class_goes_where_classes_are_chosen() -> None:
    data = part_labelled(DIGITS.train)
    without = transfer_set(data, drop_classes=["3"])
    assert set(labels_of(without).tolist()) == set(range(10)) - {3}
    assert len(without) == int(((labels_of(data) != NO_LABEL) & (labels_of(data) != 3)).sum())


def test_unlabelled_data_can_be_thinned_but_not_by_class() -> None:
    bare = DIGITS.train.without_labels(DIGITS.train.ids)
    assert len(transfer_set(bare, fraction=0.1)) == round(0.1 * len(bare))
    with pytest.raises(UsageError, match="no example has a label"):
        transfer_set(bare, drop_classes=["3"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_classes": ["3"]}, "the single class '3' is left"),
        ({"keep_classes": []}, "no example is left"),
        ({"drop_classes": ["eleven"]}, "unknown class 'eleven'"),
        ({"fraction": 0.0}, "fraction is 0.0"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"labelled": -0.1}, "labelled is -0.1"),
        ({"labelled": 1.1}, "labelled is 1.1"),
        ({"keep_classes": ["3", "5"], "drop_classes": [3]}, "the single class '5' is left"),
        ({"drop_classes": range(10)}, "no example is left"),
        ({"drop_classes": [10]}, "unknown class '10'"),
        ({"rest": True}, "rest of a fraction of 1 is empty"),
    ],
)
def test_impossible_transfer_sets_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        transfer_set(DIGITS.train, **options)


def test_union_of_two_parts_is_the_whole_and_of_strangers_is_refused() -> None:
    whole = DIGITS.train.union(DIGITS.validation)
    assert len(whole) == len(DIGITS.train) + len(DIGITS.validation)
    assert set(whole.ids.tolist()) == {*DIGITS.train.ids.tolist(), *DIGITS.validation.ids.tolist()}
    assert whole.fingerprint == DIGITS.validation.union(DIGITS.train).fingerprint != DIGITS.train.fingerprint
    ids = DIGITS.validation.ids
    assert torch.equal(whole.labels(ids), DIGITS.validation.labels(ids))
    assert torch.equal(whole.gather(ids, 0), DIGITS.validation.gather(ids, 0))
    with pytest.raises(UsageError, match="not subsets of the same data set"):
        DIGITS.train.union(TRAIN)
    with pytest.raises(UsageError, match="more than once"):
        DIGITS.train.union(DIGITS.train)
    with pytest.raises(UsageError, match="not subsets of the same data set"):
        DIGITS.train.union(transfer_set(DIGITS.validation, labelled=0))


@pytest.mark.parametrize("labelled", [0.0, 0.2])
def test_soft_targets_teach_on_examples_without_labels(labelled: float) -> None:
    """With labels in part, both terms count; with none, the hard term is 0 and the soft one teaches alone."""
    data = transfer_set(TRAIN, labelled=labelled)
    teacher = fit(perceptron(seed=5, hidden=32), TRAIN, epochs=20, batch_size=20).network
    student = perceptron()
    targets = Teacher(teacher, data, temperature=2.0)
    line = fit(
        student, data, targets=targets, hard_weight=0.5, validation=VALIDATION, epochs=20, batch_size=20
    ).metrics[-1]
    assert (line["train_hard_loss"] > 0) == (labelled > 0)
    assert line["validation_errors"] < 30  # of 100; 90 by chance


def test_labels_alone_teach_nothing_on_an_unlabelled_set() -> None:
    with pytest.raises(UsageError, match="nothing to learn from"):
        fit(perceptron(), transfer_set(TRAIN, labelled=0), validation=VALIDATION, epochs=1)
