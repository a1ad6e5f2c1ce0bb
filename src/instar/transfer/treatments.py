"""What is copied from a trained network into a new one, how far, and whether it learns on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from instar.data import Dataset, id_batches
from instar.errors import TrainingError, UsageError
from instar.naming import unknown_name
from instar.networks import freeze_, layers_of, prefix_state, state_hashes
from instar.transfer.cuts import check_cut

KINDS = ("BnB", "BnB+", "AnB", "AnB+", "RnB")


@dataclass(frozen=True)
class Treatment:
    """The first n layers of a network for `target`: copied from `source` or random, frozen or learning.

    Raises:
        UsageError: n is below 1, the tasks are not A and B, or random layers learn (that is the base).

    Example:
        >>> Treatment("A", "B", 3, fine_tune=True).name, Treatment("A", "A", 3).kind, Treatment(None, "B", 1).name
        ('A3B+', 'BnB', 'R1B')

    References:
        Yosinski et al. 2014, section 2; section 4.3 for random layers.
    """

    source: str | None
    """A or B; None for random layers"""
    target: str
    n: int
    fine_tune: bool = False

    def __post_init__(self) -> None:
        if self.n < 1 or self.target not in ("A", "B") or self.source not in ("A", "B", None):
            raise UsageError(
                f"treatment {self.source}{self.n}{self.target}: n is at least 1, the tasks are A and B"
            )
        if self.source is None and self.fine_tune:
            raise UsageError("random layers that learn are the base; random layers of a treatment are frozen")

    @property
    def name(self) -> str:
        """As in the paper: A3B, A3B+, B3B, R3B."""
        return f"{self.source or 'R'}{self.n}{self.target}{'+' * self.fine_tune}"

    @property
    def kind(self) -> str:
        """One of `KINDS`: both directions together, so AnA is BnB and BnA is AnB."""
        source = "R" if self.source is None else "B" if self.source == self.target else "A"
        return f"{source}nB{'+' * self.fine_tune}"


def treatments_of(
    kinds: Sequence[str], cuts: Sequence[int], targets: Sequence[str] = ("A", "B")
) -> list[Treatment]:
    """Every treatment of some kinds and cuts, for each target.

    Raises:
        UsageError: an unknown kind.

    Example:
        >>> [one.name for one in treatments_of(["BnB", "AnB+"], [1, 2], ["B"])]
        ['B1B', 'B2B', 'A1B+', 'A2B+']
    """
    other = {"A": "B", "B": "A"}
    made = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("treatment", kind, KINDS)
        for n in cuts:
            for target in targets:
                source = {"B": target, "A": other[target], "R": None}[kind[0]]
                made.append(Treatment(source, target, n, fine_tune=kind.endswith("+")))
    return made


def apply_treatment_(
    network: nn.Module,
    treatment: Treatment,
    base: nn.Module | None,
    *,
    example_input: Tensor | None = None,
    frozen_dropout: bool = True,
    calibrate_on: Dataset | None = None,
) -> list[str]:
    """Copy the first n layers of a base into a freshly initialised network, in place, and freeze them or not.

    Args:
        network: for the target's classes, drawn by its own initialiser.
        treatment: which layers, and whether they learn on.
        base: trained on the source, of the same architecture; None for random layers.
        example_input: as for `layers_of`.
        frozen_dropout: whether dropout in frozen layers stays on in training, as in the paper.
        calibrate_on: training data of the target on which frozen normalisations measure their mean and variance
            first; None keeps those of the base.

    Returns:
        The names of the weights and buffers of the first n layers.

    Raises:
        UsageError: n leaves nothing to learn, or the base is of another architecture or missing.

    Example:
        >>> network, base = (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)) for _ in range(2))
        >>> apply_treatment_(network, Treatment("A", "B", 1), base)
        ['0.weight', '0.bias']
        >>> torch.equal(network[0].weight, base[0].weight), network[0].weight.requires_grad
        (True, False)

    References:
        Yosinski et al. 2014, section 2.
    """
    check_cut(treatment.name, treatment.n, [layer.name for layer in layers_of(network, example_input)])
    if (base is None) != (treatment.source is None):
        raise UsageError(f"{treatment.name}: a base is for copied layers, and only for them")
    own = prefix_state(network, treatment.n, example_input=example_input)
    if base is not None:
        _copy(own, prefix_state(base, treatment.n, example_input=example_input), treatment.name)
    if not treatment.fine_tune:
        if calibrate_on is not None:
            calibrate_statistics_(network, treatment.n, calibrate_on, example_input=example_input)
        freeze_(network, treatment.n, example_input=example_input, dropout=frozen_dropout)
    return list(own)


def _copy(own: Mapping[str, Tensor], given: Mapping[str, Tensor], treatment: str) -> None:
    for name in dict.fromkeys((*own, *given)):
        expected, found = (_shape(state.get(name)) for state in (own, given))
        if expected != found:
            raise UsageError(
                f"{treatment}: the base is of another architecture: {name} is {found} there, expected {expected}"
            )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(given[name])


def _shape(value: Tensor | None) -> str:
    return "missing" if value is None else str(tuple(value.shape))


def frozen_hashes(network: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Hashes of all that a frozen prefix consists of: compare them with `assert_frozen` after training.

    Args:
        network: the network, before training or after it.
        names: of weights and buffers, as `apply_treatment_` gives them.

    Raises:
        TrainingError: a weight among them requires a gradient: the optimiser of `fit` would hold it.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> freeze_(network, 1)
        >>> sorted(frozen_hashes(network, ["0.weight", "0.bias"]))
        ['0.bias', '0.weight']
    """
    names = list(names)
    held = {name for name, value in network.named_parameters(remove_duplicate=False) if value.requires_grad}
    loose = [name for name in names if name in held]
    if loose:
        raise TrainingError(f"{loose[0]} is in a frozen layer and requires a gradient: freeze it after all else")
    hashes = state_hashes(network)
    return {name: hashes[name] for name in names}


def calibrate_statistics_(
    network: nn.Module, n: int, data: Dataset, *, example_input: Tensor | None = None, batch_size: int = 256
) -> None:
    """Let the normalisations of the first n layers measure their mean and variance on some data, in place.

    Each becomes the average over the batches of one pass, so random layers give features of the size that the rest
    expects.

    Args:
        network: changed in its buffers alone; left in evaluation mode.
        n: how many layers.
        data: training data of the target.
        example_input: as for `layers_of`.
        batch_size: a batch of fewer than half as many is left out.
    """
    owners = {name.rpartition(".")[0] for name in prefix_state(network, n, example_input=example_input)}
    modules = {network.get_submodule(owner) for owner in sorted(owners)}
    norms = [one for one in modules if isinstance(one, _BatchNorm) and one.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average of all batches
        norm.train()
    with torch.no_grad():
        for ids in id_batches(data.ids, batch_size):
            if len(ids) >= min(batch_size, len(data)) / 2:
                network(data.gather(ids, 0))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
