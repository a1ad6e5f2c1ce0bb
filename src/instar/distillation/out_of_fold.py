"""Soft targets of a classifier for its own training examples, each from a copy that was not fitted on it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.data import Dataset, GivenData, as_dataset
from instar.distillation.teachers import StoredLogits
from instar.errors import UsageError
from instar.logit_values import logits_of_probabilities
from instar.losses import NO_LABEL


def out_of_fold_targets(
    estimator: Any,
    data: GivenData,
    *,
    folds: int = 5,
    seed: int = 0,
    temperature: float = 4.0,
) -> StoredLogits:
    """Soft targets of a classifier for the examples that it would be fitted on, as it gives them to new ones.

    A forest has seen its training examples: it gives their labels nearly all of the probability, and so little
    that the labels do not say. Here the examples are divided into folds, each with its share of every class, and
    the targets of a fold come from a copy of the classifier that is fitted on the others. Examples without a
    label get theirs from a copy that is fitted on all that have one.

    Args:
        estimator: of scikit-learn, fitted or not; copies are fitted, with the same settings. An example is a row
            of numbers, as for a teacher: the pixels of a picture from 0 to 1.
        data: the transfer set, a `Dataset` or (inputs, labels).
        folds: how many; each costs a fit on 1 - 1/folds of the examples.
        seed: of the folds.
        temperature: of the soft targets.

    Returns:
        Soft targets for `instar.distill` on the same data, without views.

    Raises:
        UsageError: the estimator has no predict_proba, fewer than two folds, or a class with fewer labelled
            examples than folds.

    Example:
        >>> from sklearn.naive_bayes import GaussianNB
        >>> inputs = torch.randn(60, 2); labels = (inputs[:, 0] > 0).long()
        >>> targets = out_of_fold_targets(GaussianNB(), (inputs, labels), temperature=1.0)
        >>> data = as_dataset((inputs, labels))
        >>> targets(data.ids[:3], 0).probs.shape
        torch.Size([3, 2])

    References:
        Wolpert 1992, "Stacked generalization", section II: what a model says of examples that it was not fitted
        on.
    """
    data = as_dataset(data)
    logits = out_of_fold_logits(estimator, data, folds=folds, seed=seed)
    return StoredLogits(data.ids, logits, temperature=temperature, class_names=tuple(data.class_names))


def out_of_fold_logits(estimator: Any, data: Dataset, *, folds: int = 5, seed: int = 0) -> Tensor:
    """The logits of `out_of_fold_targets`, (examples, classes), in the order of `data.ids`."""
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if not hasattr(estimator, "predict_proba"):
        raise UsageError(
            f"out_of_fold_targets: {type(estimator).__name__} has no predict_proba; take one that has"
        )
    plain = data.with_views(None, view_seed=data.view_seed).with_normalisation(None, None)
    rows = plain.gather(data.ids, 0).flatten(1).cpu().numpy()
    labels = data.labels(data.ids).cpu().numpy()
    known = np.flatnonzero(labels != NO_LABEL)
    _check_folds(labels[known], folds, data.class_names)
    present, numbers = np.unique(labels[known], return_inverse=True)  # XGBoost takes 0, 1, ... without a gap
    probs = np.zeros((len(data), data.num_classes))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)  # of LightGBM
        found = cross_val_predict(estimator, rows[known], numbers, cv=parts, method="predict_proba")
        probs[np.ix_(known, present)] = found
        if len(known) < len(labels):
            others = np.flatnonzero(labels == NO_LABEL)
            copy = clone(estimator).fit(rows[known], numbers)
            probs[np.ix_(others, present)] = copy.predict_proba(rows[others])
    return logits_of_probabilities(type(estimator).__name__, torch.from_numpy(probs))


def _check_folds(labels: Any, folds: int, class_names: Sequence[str]) -> None:
    if folds < 2:
        raise UsageError(f"out_of_fold_targets: folds is {folds}, expected at least 2")
    if not len(labels):
        raise UsageError("out_of_fold_targets: no example has a label to fit the estimator on")
    counts = np.bincount(labels, minlength=len(class_names))
    few = [(name, int(count)) for name, count in zip(class_names, counts, strict=True) if 0 < count < folds]
    if few:
        name, count = few[0]
        raise UsageError(
            f"out_of_fold_targets: class {name!r} has {count} labelled example{'s' * (count != 1)}, fewer than "
            f"{folds} folds; take fewer folds, or leave the class out"
        )
