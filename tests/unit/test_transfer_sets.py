"""What a student learns on: parts of a data set, with few labels or none."""

import pytest
import torch

from instar.data import InMemoryDataset, load_data, transfer_set
from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.training import fit
from small_fits import digits, perceptron

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


def test_a_smaller_share_is_a_part_of_a_larger_one_in_any_order() -> None:
    small, large = (transfer_set(DIGITS.train, fraction=share) for share in (0.03, 0.3))
    assert set(small.ids.tolist()) <= set(large.ids.tolist())
    turned = DIGITS.train.subset(DIGITS.train.ids.flip(0))
    assert set(transfer_set(turned, fraction=0.03).ids.tolist()) == set(small.ids.tolist())
    assert set(labels_of(transfer_set(DIGITS.train, fraction=0.001)).tolist()) == set(range(10))
    other = transfer_set(DIGITS.train, fraction=0.3, seed=1)
    assert set(other.ids.tolist()) != set(large.ids.tolist())


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
        ({"labelled": -0.1}, "labelled is -0.1"),
        ({"rest": True}, "rest of a fraction of 1 is empty"),
    ],
)
def test_impossible_transfer_sets_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        transfer_set(DIGITS.train, **options)


def test_union_of_two_parts_is_the_whole_and_of_strangers_is_refused() -> None:
    whole = DIGITS.train.union(DIGITS.validation)
    assert len(whole) == len(DIGITS.train) + len(DIGITS.validation)
    ids = DIGITS.validation.ids
    assert torch.equal(whole.labels(ids), DIGITS.validation.labels(ids))
    assert torch.equal(whole.gather(ids, 0), DIGITS.validation.gather(ids, 0))
    with pytest.raises(UsageError, match="not parts of one data set"):
        DIGITS.train.union(TRAIN)
    with pytest.raises(UsageError, match="more than once"):
        DIGITS.train.union(DIGITS.train)


def test_labels_alone_teach_nothing_on_an_unlabelled_set() -> None:
    with pytest.raises(UsageError, match="nothing to learn from"):
        fit(perceptron(), transfer_set(TRAIN, labelled=0), validation=VALIDATION, epochs=1)
