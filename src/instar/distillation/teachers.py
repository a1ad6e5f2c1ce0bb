"""Where soft targets come from: a network, asked once where every epoch sees the same examples."""

import torch
from torch import Tensor, nn

from instar.data import Dataset
from instar.errors import TrainingError, UsageError
from instar.evaluation import predict_logits
from instar.guards import views_of
from instar.losses import SoftTargets, soft_targets

REMEMBERED_BYTES = 2**30  # more logits than this are computed anew at each step


class Teacher:
    """Soft targets of one network at a temperature, for `training.fit`.

    Without views each example is the same in every epoch: the teacher then runs over the data once, and a step
    only gathers its row. With views it runs at each step, on the view that the student sees.

    Args:
        network: the trained teacher; put into evaluation mode.
        data: the transfer set.
        temperature: of the soft targets.
        class_names: what the teacher's logits mean; `fit` compares them with the data's.

    Raises:
        UsageError: temperature is not positive and finite.

    Example:
        >>> from instar.data import as_dataset
        >>> data = as_dataset((torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])))
        >>> teacher = Teacher(nn.Linear(3, 2), data, temperature=4.0)
        >>> teacher(data.ids[:2], 0).probs.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        data: Dataset,
        *,
        temperature: float,
        class_names: tuple[str, ...] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.networks = (network.to(device).eval(),)
        self.class_names = class_names
        self.temperature = temperature
        self.views = views_of(data)
        self._data = data.to(torch.device(device))
        self._stored: StoredLogits | None = None
        if data.views is None and 4 * len(data) * data.num_classes <= REMEMBERED_BYTES:
            logits = predict_logits(network, self._data, device=device)
            self._stored = StoredLogits(self._data.ids, logits, temperature=temperature)

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets:
        """Soft targets for a batch, (batch, classes).

        Raises:
            TrainingError: the teacher was switched to training mode.
        """
        if self._stored is not None:
            return self._stored(ids, views)
        network = self.networks[0]
        if any(module.training for module in network.modules()):
            raise TrainingError("the teacher is in training mode: call teacher.eval() and leave it there")
        with torch.no_grad():
            return soft_targets(network(self._data.gather(ids, views)), self.temperature)


class StoredLogits:
    """Soft targets from logits that were computed before, for data without views.

    Args:
        ids: (n,) of the examples.
        logits: (n, classes), in the order of `ids`.
        temperature: of the soft targets.
        class_names: as for `Teacher`.

    Raises:
        UsageError: ids and logits are of different lengths, or the temperature is not positive and finite.
    """

    views = None  # each example is the same in every epoch

    def __init__(
        self, ids: Tensor, logits: Tensor, *, temperature: float, class_names: tuple[str, ...] | None = None
    ) -> None:
        if len(ids) != len(logits):
            raise UsageError(f"{len(ids)} ids but {len(logits)} rows of logits")
        self._ids, order = torch.sort(ids)
        targets = soft_targets(logits[order], temperature)
        self._probs, self.temperature = targets.probs, targets.temperature
        self.class_names = class_names

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets:
        """Soft targets for a batch, (batch, classes).

        Raises:
            UsageError: an example is not among the stored ones.
        """
        rows = torch.searchsorted(self._ids, ids).clamp_(max=len(self._ids) - 1)
        if not torch.equal(self._ids[rows], ids):
            raise UsageError("soft targets are missing for some examples: they were stored for other data")
        return SoftTargets(self._probs[rows], self.temperature)
