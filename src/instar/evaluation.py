"""A trained network on data: its logits, errors, likelihood and calibration."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instar import intervals, metrics
from instar.arguments import require_network
from instar.data import Dataset, GivenData, as_dataset, batches, id_batches, seen_by
from instar.errors import UsageError
from instar.logit_values import refuse_probabilities
from instar.losses import Targets, likeliest_classes
from instar.networks import (
    as_logits,
    call,
    casting_once,
    channels_last_,
    check_shape,
    evaluation_mode,
    forward_logits,
    input_type,
)
from instar.positions import at, is_sequence, positions, rows_of_logits
from instar.structures import Inputs, first_examples, in_type, joined, num_examples, to_device


def batch_size_on(device: str | torch.device) -> int:
    """The batch size for predictions: on a CPU small enough that the outputs of a layer stay in its cache."""
    return 128 if torch.device(device).type == "cpu" else 1000


def batch_size_of(network: nn.Module, device: str | torch.device) -> int:
    """The batch size for the predictions of a network: `batch_size_on`, or what a teacher that is none states."""
    stated: int | None = getattr(network, "examples_at_once", None)
    return stated or batch_size_on(device)


def predict_logits(
    network: nn.Module,
    data: GivenData,
    *,
    view: int = 0,
    batch_size: int | None = None,
    precision: str = "float32",
    device: str | torch.device = "cpu",
) -> Tensor:
    """Logits of a network in evaluation mode, without gradient, as float32, in the order of `data.ids`.

    Args:
        network: gives logits (`networks.as_logits`); the weights of a convolutional network are laid out
            channels-last first, where it works so.
        data: the examples, a `Dataset` or what `as_dataset` takes.
        view: number of the view of every example.
        batch_size: `batch_size_of(network, device)` by default.
        precision: of the products, "float32" or "bfloat16".
        device: where the network is.

    Returns:
        (len(data), classes).

    Raises:
        UsageError: the network gives something else.
    """
    require_network("the network", network)

    def logits(output: Any, num_examples: int) -> Tensor:
        return check_shape(as_logits(output, network), num_examples)

    options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "device": device}
    found: Tensor = predict(network, as_dataset(data), logits, view=view, **options)
    return found


def predict(
    network: nn.Module,
    data: Dataset,
    take: Callable[[Any, int], Inputs],
    *,
    view: int = 0,
    batch_size: int | None = None,
    precision: str = "float32",
    device: str | torch.device = "cpu",
) -> Inputs:
    """As `predict_logits`, of any tensors: `take` finds them in the output for a batch of so many examples."""
    batch_size, data = batch_size or batch_size_of(network, device), seen_by(network, data)
    parts: list[Tensor] = []
    dtype = input_type(network)
    with evaluation_mode(network), casting_once(network, precision, device):
        for _, inputs, _ in batches(data, id_batches(data.ids, batch_size), view=view):
            inputs = in_type(inputs, dtype, device=device)
            if not parts:
                channels_last_(network, first_examples(inputs, 2))
            parts.append(in_type(take(call(network, inputs), num_examples(inputs)), torch.float32))
    return joined(parts)


def errors_and_nll(network: nn.Module, data: Dataset, *, device: str | torch.device = "cpu") -> tuple[int, float]:
    """Errors and negative log-likelihood (nats), as measured after each epoch; the data is on the device."""
    if is_sequence(data.labels(data.ids[:1])):
        found = _score_rows(network, data, device)
        return int(found["errors"]), found["nll"]
    logits, labels = predict_logits(network, data, device=device), data.labels(data.ids)
    return int(metrics.errors(logits, labels)), metrics.negative_log_likelihood(
        logits, data.label_targets(data.ids)
    )


def predicted_rows(
    network: nn.Module, data: Dataset, *, device: str | torch.device = "cpu", batch_size: int = 16
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of sequences, some at a time: logits (rows, classes) in float32, labels (rows,), and ids."""
    for ids, inputs, labels in batches(data, id_batches(data.ids, batch_size), view=0):
        where = positions(inputs, labels)
        with evaluation_mode(network), torch.no_grad():  # not around the yield: the caller may train
            logits = forward_logits(network, to_device(inputs, device))
        yield rows_of_logits(logits, where, len(ids), data.num_classes).float(), at(labels, where), ids


def _score_rows(network: nn.Module, data: Dataset, device: str | torch.device) -> dict[str, float]:
    """`score` of sequences, whose logits are not laid out at once: of all positions with a label."""
    nll, confidence, correct = 0.0, [], []
    for logits, labels, _ in predicted_rows(network, data, device=device):
        logits, labels = logits[labels >= 0], labels[labels >= 0]
        log_probs = torch.log_softmax(logits, -1)
        nll += float(F.nll_loss(log_probs, labels, reduction="sum"))
        confidence.append(log_probs.amax(-1).exp())
        correct.append(metrics.predicted_classes(logits) == labels)
    right = torch.cat(correct)
    if not len(right):
        raise UsageError("no position of the sequences has a label: there is nothing to score")
    bins = metrics.bins_of_confidence(torch.cat(confidence), right)
    return {
        "errors": int((~right).sum()),
        "accuracy": float(right.double().mean()),
        "nll": nll / len(right),
        "calibration_error": metrics.error_of_bins(bins),
    }


def evaluate(network: nn.Module, data: GivenData, *, device: str | torch.device = "cpu") -> dict[str, float]:
    """Errors, accuracy, negative log-likelihood (nats) and adaptive calibration error of a network.

    Of sequences all positions with a label count.

    Raises:
        UsageError: the network gives probabilities, no logits, or those of more or fewer classes.
    """
    require_network("the network", network)
    data = as_dataset(data).to(torch.device(device))
    if is_sequence(data.labels(data.ids[:1])):
        return _score_rows(network.to(device), data, device)
    logits = check_shape(predict_logits(network.to(device), data, device=device), len(data), data.num_classes)
    refuse_probabilities("the network", logits)
    return score(logits, data.labels(data.ids), data.label_targets(data.ids))


def score(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> dict[str, float]:
    """`evaluate` from logits (examples, classes) and labels (examples,).

    The likelihood is by `targets` (`Dataset.label_targets`), perhaps distributions; else by the labels.
    """
    return {
        "errors": int(metrics.errors(logits, labels)),
        "accuracy": float(metrics.accuracy(logits, labels)),
        "nll": metrics.negative_log_likelihood(logits, labels if targets is None else targets),
        "calibration_error": float(metrics.calibration_error(logits, labels)),
    }


MOST_JUDGED = 10_000
"""A fit is judged by at most so many examples of its transfer set."""


def why_not_learned(
    network: nn.Module,
    data: Dataset,
    ids: Tensor,
    *,
    targets: Targets | None = None,
    device: str | torch.device = "cpu",
) -> str:
    """Why a network counts as one that failed to learn its own transfer set, in words; empty where it learned.

    It failed where its answers are no better than the commonest class (`intervals.is_above_chance`) and its
    likelihood is no better than the shares of the classes (`intervals.is_likelier_than_shares`). The label of an
    example that has none is the likeliest class of its soft targets.

    Args:
        network: returns logits; it is on the device.
        data: the transfer set.
        ids: of the examples that it learned from, in any order; some may be there several times.
        targets: its soft targets; without them examples without a label are left out.
        device: where to compute.
    """
    ids, data = ids[:: -(-data.num_rows(ids) // MOST_JUDGED)], seen_by(network, data)
    right, nll, answers = [], [], []
    with evaluation_mode(network), torch.no_grad():
        for part, inputs, labels in batches(data, id_batches(ids, batch_size_on(device)), view=0):
            where = positions(inputs, labels)
            expected = at(labels, where).to(device)
            if targets is not None and bool((expected < 0).any()):
                expected = torch.where(
                    expected < 0, likeliest_classes(at(targets(part, 0), where)).to(device), expected
                )
            logits = rows_of_logits(forward_logits(network, to_device(inputs, device)), where, len(part), None)
            logits, expected = logits[expected >= 0], expected[expected >= 0]
            right.append(logits.argmax(-1) == expected)
            nll.append(F.cross_entropy(logits.float(), expected, reduction="none"))
            answers.append(expected)
    expected = torch.cat(answers)
    num_right, num_examples, num_commonest = int(torch.cat(right).sum()), len(expected), commonest(expected)
    if not num_examples or intervals.is_above_chance(num_right, num_examples, num_commonest):
        return ""
    if intervals.is_likelier_than_shares(torch.cat(nll), expected):
        return ""
    judged = "examples" if where is None else "positions"
    return (
        f"right on {num_right:,} of {num_examples:,} {judged} of its transfer set, where the commonest class "
        f"alone is right on {num_commonest:,}"
    )


def commonest(labels: Tensor) -> int:
    """How many examples have the commonest label; -1 means none."""
    known = labels[labels >= 0]
    return int(known.bincount().max()) if len(known) else 0
