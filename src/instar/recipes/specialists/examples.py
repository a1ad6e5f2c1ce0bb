"""What the page shows of the first generalist: its class sets, errors by class, and some test examples.

All of it is in the result (`details.first`), so that the page computes nothing:

- `class_sets`: `size` of a set, `names` of its first classes, and `pictures`, ids of a training example of each.
- `errors`: the number of test `errors` alone (`before`) and with specialists (`after`). Of the matrix of true and
  predicted classes, in the order of `classes`: the `cells` that are not 0, counted by row, and their `counts`.
- `answers`: how many test answers the specialists `corrected` and `broke`; and `examples`: `id`, true `class`, the
  number of `active` specialists, and the most probable classes of the `generalist`, of the first active
  `specialist` and of the `combined` prediction.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from instar.metrics import confusion
from instar.networks import forward_logits
from instar.recipes.loading import load_run_network
from instar.recipes.specialists.plan import WITH, Replicate
from instar.specialists import ClassSet, active_specialists

_MAX_SETS, _MAX_CLASSES = 12, 16  # class sets, and classes of each
_MAX_MATRIX = 160  # classes in the matrix of errors
_NUM_EXAMPLES, _NUM_CLASSES = 6, 4  # test examples, and predicted classes of each


def first_generalist(replicate: Replicate, top_n: int, before: Tensor, after: Tensor) -> dict[str, Any]:
    """`details.first` of the result.

    Args:
        replicate: the generalist with its class sets.
        top_n: how many of its classes activate specialists.
        before: its predictions on test, (examples, classes).
        after: the predictions with specialists.
    """
    test = replicate.plan.splits.test
    labels = test.labels(test.ids)
    return {
        "class_sets": _class_sets(replicate),
        "errors": _errors(replicate.class_sets, labels, before, after, test.class_names),
        "answers": _answers(replicate, top_n, labels, before, after),
    }


def _class_sets(replicate: Replicate) -> list[dict[str, Any]]:
    train = replicate.plan.splits.train
    labels = train.labels(train.ids)

    def first_example(number: int) -> int:
        return int(train.ids[(labels == number).nonzero()[0, 0]])

    return [
        {
            "size": len(class_set),
            "names": class_set.names[:_MAX_CLASSES],
            "pictures": [first_example(number) for number in class_set.classes[:_MAX_CLASSES]],
        }
        for class_set in replicate.class_sets[:_MAX_SETS]
    ]


def _errors(
    class_sets: Sequence[ClassSet], labels: Tensor, before: Tensor, after: Tensor, class_names: Sequence[str]
) -> dict[str, Any]:
    order = class_order(class_sets, len(class_names))[:_MAX_MATRIX]
    found: dict[str, Any] = {"classes": [class_names[number] for number in order]}
    for name, probs in (("before", before), ("after", after)):
        matrix = confusion(probs, labels, len(class_names)).fill_diagonal_(0)
        flat = matrix[order][:, order].flatten()
        cells = flat.nonzero().flatten()
        found[name] = {"errors": int(matrix.sum()), "cells": cells.tolist(), "counts": flat[cells].tolist()}
    return found


def class_order(class_sets: Sequence[ClassSet], num_classes: int) -> list[int]:
    """The classes of each set next to each other, then those in no set."""
    in_sets = dict.fromkeys(number for class_set in class_sets for number in class_set.classes)
    return [*in_sets, *(number for number in range(num_classes) if number not in in_sets)]


def _answers(replicate: Replicate, top_n: int, labels: Tensor, before: Tensor, after: Tensor) -> dict[str, Any]:
    was_right, is_right = before.argmax(1) == labels, after.argmax(1) == labels
    corrected, broken = (~was_right & is_right).nonzero().flatten(), (was_right & ~is_right).nonzero().flatten()
    gain = (after - before).gather(1, labels[:, None])[corrected, 0]
    most = corrected[gain.argsort(descending=True)][: _NUM_EXAMPLES - 1]
    chosen = torch.cat((most, broken[:1]))
    active = active_specialists(before[chosen], replicate.class_sets, top_n=top_n)
    test = replicate.plan.splits.test
    examples = []
    for row, asked in zip(chosen.tolist(), active, strict=True):
        number = int(asked.int().argmax())
        network = load_run_network(replicate.plan.job_path(replicate.specialists(WITH)[number]))
        with torch.no_grad():
            specialist = torch.softmax(forward_logits(network, test.gather(test.ids[row : row + 1], 0)), 1)[0]
        names = replicate.class_sets[number].specialist_names
        examples.append(
            {
                "id": int(test.ids[row]),
                "class": test.class_names[int(labels[row])],
                "outcome": "corrected" if bool(is_right[row]) else "broken",
                "active": int(asked.sum()),
                "generalist": _most_probable(before[row], test.class_names),
                "specialist": _most_probable(specialist, names),
                "combined": _most_probable(after[row], test.class_names),
            }
        )
    return {"corrected": len(corrected), "broke": len(broken), "examples": examples}


def _most_probable(probs: Tensor, names: Sequence[str]) -> dict[str, float]:
    top = probs.topk(min(_NUM_CLASSES, len(probs)))
    return {names[int(number)]: float(value) for value, number in zip(*top, strict=True)}
