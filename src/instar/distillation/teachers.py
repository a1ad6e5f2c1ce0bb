"""Soft targets from networks, which are evaluated once where every epoch sees the same examples."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from instar.arguments import require_network, require_tensor
from instar.data import Dataset, GivenData, IdIndex, as_dataset, seen_by
from instar.errors import TrainingError, UsageError
from instar.evaluation import batch_size_on, predict_logits
from instar.guards import views_of
from instar.logit_values import check_teacher_logits, warn_of_zeros
from instar.losses import LogitTargets, SoftTargets, Targets, mix_in_labels, targets_of_members
from instar.networks import asked_network, casting, evaluation_, forward_logits
from instar.optimisation import decide_precision
from instar.positions import is_sequence
from instar.structures import Inputs
from instar.teacher_checks import check_network

REMEMBERED_BYTES = 2**30  # of logits; where they take more, they are computed at each step


class Teacher:
    """Soft targets of one network or an ensemble at a temperature, for `training.fit`.

    Without views each example is the same in every epoch: the teacher then runs over the data once, and a step
    only gathers its rows. With views the teacher runs at each step, on the view that the student sees.

    Args:
        teacher: the trained network, put into evaluation mode; or a teacher that is no network: a fitted
            classifier of scikit-learn, or an `instar.AskedTeacher`; or the members of an ensemble.
        data: the transfer set, a `Dataset` or what `as_dataset` takes.
        temperature: of the soft targets; `math.inf` gives the logits to match.
        mean: of the members' probabilities, "arithmetic" or "geometric".
        weights: of the members in the mean, as `choose_ensemble_weights` gives them; by default all alike.
        class_names: classes of the teacher's logits; `fit` compares them with those of the data.
        precision: in which the teacher computes: "float32", "bfloat16" (several times as fast where the hardware
            has it; a logit z is rounded by about |z| / 256), or "auto", which is what `fit` takes.
        device: where the teacher runs.

    Raises:
        UsageError: the temperature is not positive, there is no network, the networks have different numbers of
            classes, the mean or the precision is unknown, or a network returns probabilities.
        TrainingError: on the first examples a network returns NaN, or something else each time, or it writes into
            its input.

    Example:
        >>> from instar.data import as_dataset
        >>> data = as_dataset((torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])))
        >>> teacher = Teacher([nn.Linear(3, 2), nn.Linear(3, 2)], data, temperature=4.0)
        >>> teacher(data.ids[:2], 0).probs.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        teacher: Any,
        data: GivenData,
        *,
        temperature: float,
        mean: str = "arithmetic",
        weights: Sequence[float] | None = None,
        class_names: tuple[str, ...] | None = None,
        precision: str = "float32",
        device: str | torch.device = "cpu",
    ) -> None:
        data = as_dataset(data)
        members = members_of(as_networks(teacher, data))
        _check_not_empty(members)
        # Check temperature and mean now: with views the first batch would be the first to use them.
        targets_of_members(torch.zeros(len(members), 1), temperature, mean=mean, weights=weights)
        self.networks = tuple(evaluation_(network.to(device)) for network in members)
        self.class_names = class_names
        self.precisions = [decide_precision(precision, network, device) for network in self.networks]
        self.temperature = temperature
        self.views = views_of(data)
        self.mean, self.weights = mean, weights
        self._device = torch.device(device)
        self._data = data.to(self._device)
        self._seen = [seen_by(network, self._data) for network in self.networks]
        self._check_networks(batch_size_on(device))
        self._stored: StoredLogits | None = None
        is_sequential = is_sequence(data.labels(data.ids[:1]))
        if not is_sequential and data.views is None and 4 * len(data) * data.num_classes <= REMEMBERED_BYTES:
            logits = member_logits(self.networks, self._data, precisions=self.precisions, device=device)
            about: dict[str, Any] = {"temperature": temperature, "mean": mean, "weights": weights}
            self._stored = StoredLogits(self._data.ids, logits, **about)

    def _check_networks(self, num_examples: int) -> None:
        for number, network in enumerate(self.networks):
            inputs = self._seen[number].gather(self._data.ids[:num_examples], 0)
            name = "the teacher" if len(self.networks) == 1 else f"teacher {number} of the ensemble"
            check_network(network, inputs, name=name, temperature=self.temperature)

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets | LogitTargets:
        """Soft targets for a batch, (batch, classes).

        Raises:
            TrainingError: a network was switched to training mode.
            UsageError: the networks have different numbers of classes.
        """
        if self._stored is not None:
            return self._stored(ids, views)
        if any(module.training for network in self.networks for module in network.modules()):
            raise TrainingError("the teacher is in training mode: call teacher.eval() and leave it there")
        with torch.no_grad():
            inputs = self._data.gather(ids, views)
            given = [inputs if seen is self._data else seen.gather(ids, views) for seen in self._seen]
            logits = _stacked([*map(self._logits, self.networks, given, self.precisions)])
            return targets_of_members(logits, self.temperature, mean=self.mean, weights=self.weights)

    def _logits(self, network: nn.Module, inputs: Inputs, precision: str) -> Tensor:
        with casting(precision, self._device):
            logits = forward_logits(network, inputs)
        return logits.float() if precision == "bfloat16" else logits


def as_networks(teacher: Any, data: Dataset) -> Any:
    """Teachers that are no networks, one or those of an ensemble, as modules for these data; others as they are.

    Raises:
        UsageError: a classifier was fitted on other columns or classes, or is not fitted.
    """
    if isinstance(teacher, list | tuple):
        return [as_networks(one, data) for one in teacher]
    _, mean, std = data.normalisation
    given = {key: numbers for key, numbers in (("mean", mean), ("std", std)) if numbers is not None}
    shape, names = data.example_shape, data.class_names
    return asked_network(teacher, class_names=names, example_shape=shape, normalisation=given, table=data.table)


def members_of(teacher: Any) -> list[nn.Module]:
    """One network, or those of an ensemble, as a list.

    Raises:
        UsageError: one of them is no network.
    """
    members = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
    for member in members:
        require_network("the teacher" if len(members) == 1 else "a teacher of the ensemble", member)
    return members


def member_logits(
    networks: Sequence[nn.Module],
    data: Dataset,
    *,
    view: int = 0,
    precisions: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Logits of several networks on a data set, (members, len(data), classes); each in its precision, or float32.

    Raises:
        UsageError: there is no network, or the networks have different numbers of classes.
    """
    _check_not_empty(networks)
    about: dict[str, Any] = {"view": view, "device": device}
    pairs = zip(networks, precisions or ["float32"] * len(networks), strict=True)
    return _stacked([predict_logits(network, data, precision=precision, **about) for network, precision in pairs])


def _stacked(logits: Sequence[Tensor]) -> Tensor:
    num_classes = [member.shape[-1] for member in logits]
    if len(set(num_classes)) > 1:
        raise UsageError(f"the members of an ensemble have {num_classes} classes; they should have the same")
    return torch.stack(list(logits))


def _check_not_empty(members: Sequence[nn.Module]) -> None:
    if not members:
        raise UsageError("an ensemble has no member; pass one network or more")


class StoredLogits:
    """Soft targets from logits that were computed before, for data without views.

    Args:
        ids: (n,) ids of the examples.
        logits: (n, classes), in the order of `ids`, or (members, n, classes) for an ensemble.
        temperature: of the soft targets; `math.inf` gives the logits to match.
        mean, weights: of the members' probabilities.
        class_names: as for `Teacher`.

    Raises:
        UsageError: ids and logits have different lengths, the temperature is not positive, or the logits are
            probabilities.
        TrainingError: the logits hold NaN, or many rows of zeros and no negative number.

    Warns:
        DataWarning: many rows of logits are all zeros.
    """

    views = None  # each example is the same in every epoch

    def __init__(
        self,
        ids: Tensor,
        logits: Tensor,
        *,
        temperature: float,
        mean: str = "arithmetic",
        weights: Sequence[float] | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        require_tensor("ids", ids)
        require_tensor("the teacher's logits", logits)
        members = logits if logits.dim() == 3 else logits[None]
        if len(ids) != members.shape[1]:
            raise UsageError(f"{len(ids)} ids but {members.shape[1]} rows of logits")
        for member in members:
            check_teacher_logits("the teacher's logits", member, temperature=temperature)
            warn_of_zeros("the teacher's logits", member)
        self._index = IdIndex(ids, "these stored soft targets", "they were stored for other data")
        self._targets = targets_of_members(members[:, self._index.order], temperature, mean=mean, weights=weights)
        self.temperature, self.mean, self.weights = temperature, mean, weights
        self.class_names = class_names

    @property
    def fingerprint(self) -> str:
        """64 hex digits that identify the ids and their soft targets."""
        values = self._targets.logits if isinstance(self._targets, LogitTargets) else self._targets.probs
        digest = hashlib.sha256(self._index.ids.cpu().numpy().tobytes())
        digest.update(values.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets | LogitTargets:
        """Soft targets for a batch, (batch, classes).

        Raises:
            UsageError: an example is not among the stored ones.
        """
        return self._targets[self._index.find(ids)]


class LabelsInTargets:
    """Soft targets with the labels mixed in: p' = (1 - w) p + w [label].

    Args:
        targets: the teacher's soft targets, at a finite temperature.
        data: the transfer set, whose labels are mixed in.
        label_weight: w, in [0, 1].

    Raises:
        UsageError: at the first batch, where the targets are logits to match or the weight is out of range.

    References:
        Hinton, Vinyals, Dean 2015, section 2: the first of the two ways to use labels.
    """

    def __init__(self, targets: Targets, data: GivenData, label_weight: float) -> None:
        data = as_dataset(data)
        self.networks = getattr(targets, "networks", ())
        self.class_names = getattr(targets, "class_names", None)
        self.views = getattr(targets, "views", views_of(data))
        self.targets, self.label_weight = targets, label_weight
        self._data = data

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets:
        """Soft targets for a batch, (batch, classes)."""
        targets = self.targets(ids, views)
        if isinstance(targets, LogitTargets):
            raise UsageError("labels cannot be mixed into logits: use a finite temperature")
        if not isinstance(targets, SoftTargets):
            raise UsageError(
                f"labels cannot be mixed into {type(targets).__name__}, which has no probability of each class: "
                "give the labels a weight of their own (hard_weight)"
            )
        labels = self._data.label_targets(ids).to(targets.probs.device)
        return mix_in_labels(targets, labels, self.label_weight)
