"""What a student's fit asks a soft-target store through."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from instar.data import Dataset, IdIndex
from instar.guards import views_of
from instar.losses import LogitTargets, SoftTargets

_ROWS_AT_ONCE = 65_536  # while targets are prepared: no more memory than that beside the result


class StoreTargets:
    """Soft targets of a store as a function of (ids, views), for `training.fit`; see `SoftTargetStore.targets`.

    What fits into memory is prepared once, at the temperature: a step then only gathers its rows.

    Args:
        ask: gives the soft targets of (ids, views) from the files.
        data: what the student learns on.
        class_names: of the targets; `fit` compares them with the data's.
        num_views: view v means v mod num_views.
        temperature: that `ask` gives them at.
        mean: of the members' probabilities in what `ask` gives.
        teachers: the members' fingerprints, by name.
        device: where they go.
        remembered_bytes: what may be prepared.
    """

    def __init__(
        self,
        ask: Callable[[Tensor, Tensor | int], SoftTargets | LogitTargets],
        data: Dataset,
        *,
        class_names: tuple[str, ...],
        num_views: int,
        temperature: float,
        mean: str,
        teachers: Mapping[str, str],
        device: torch.device,
        remembered_bytes: int,
    ) -> None:
        self.class_names, self.views, self.num_views = class_names, views_of(data), num_views
        self.temperature, self.mean, self.teachers = temperature, mean, teachers
        self._ask, self._device = ask, device
        self._index = IdIndex(
            data.ids.to(device), "the data of these soft targets", "make them for the data that the student sees"
        )
        self._prepared: SoftTargets | LogitTargets | None = None
        if 4 * num_views * len(data) * len(class_names) <= remembered_bytes:
            self._prepared = self._prepare()

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets | LogitTargets:
        """Soft targets for a batch, (batch, classes), on the device.

        Raises:
            UsageError: an example is not in the data that these were made for.
        """
        if self._prepared is None:
            return self._moved(self._ask(ids, views))
        return self._prepared[self._index.find(ids) + views % self.num_views * len(self._index.ids)]

    def _prepare(self) -> SoftTargets | LogitTargets:
        batches = torch.split(self._index.ids, _ROWS_AT_ONCE)
        parts = [self._ask(ids, view) for view in range(self.num_views) for ids in batches]
        values = torch.cat([part.logits if isinstance(part, LogitTargets) else part.probs for part in parts])
        if self.temperature == math.inf:
            return self._moved(LogitTargets(values))
        return self._moved(SoftTargets(values, self.temperature))

    def _moved(self, targets: SoftTargets | LogitTargets) -> SoftTargets | LogitTargets:
        if isinstance(targets, LogitTargets):
            return LogitTargets(targets.logits.to(self._device))
        return targets.to(self._device)
