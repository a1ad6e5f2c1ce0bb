"""What a trained network does on data: its logits, its errors, its likelihood, its calibration."""

import torch
from torch import Tensor, nn

from instar import metrics
from instar.data import Dataset, batches, id_batches
from instar.networks import channels_last_, evaluation_mode


def batch_size_on(device: str | torch.device) -> int:
    """How many examples a network is asked at once: on a CPU so few that its cache holds what a layer gives."""
    return 128 if torch.device(device).type == "cpu" else 1000


def predict_logits(
    network: nn.Module,
    data: Dataset,
    *,
    view: int = 0,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Logits of a network in evaluation mode, without gradient, in float32, in the order of `data.ids`.

    Args:
        network: whatever gives logits; a convolutional one is laid out for the CPU first.
        data: the examples.
        view: of each.
        batch_size: by default what `batch_size_on` says.
        device: of the network.

    Returns:
        (len(data), classes).
    """
    batch_size = batch_size or batch_size_on(device)
    channels_last_(network)
    with evaluation_mode(network), torch.no_grad():
        parts = [
            network(inputs.to(device)).float()
            for _, inputs, _ in batches(data, id_batches(data.ids, batch_size), view=view)
        ]
    return torch.cat(parts)


def errors_and_nll(network: nn.Module, data: Dataset, *, device: str | torch.device = "cpu") -> tuple[int, float]:
    """What a fit looks at after each epoch: errors and negative log-likelihood (nats); data on the device."""
    logits, labels = predict_logits(network, data, device=device), data.labels(data.ids)
    return int(metrics.errors(logits, labels)), metrics.negative_log_likelihood(logits, labels)


def evaluate(network: nn.Module, data: Dataset, *, device: str | torch.device = "cpu") -> dict[str, float]:
    """Errors, accuracy, negative log-likelihood (nats) and adaptive calibration error of a network."""
    data = data.to(torch.device(device))
    return score(predict_logits(network.to(device), data, device=device), data.labels(data.ids))


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The same from logits (examples, classes) and labels (examples,)."""
    return {
        "errors": int(metrics.errors(logits, labels)),
        "accuracy": float(metrics.accuracy(logits, labels)),
        "nll": float(metrics.negative_log_likelihood(logits, labels)),
        "calibration_error": float(metrics.calibration_error(logits, labels)),
    }
