"""Treatments: layers of a trained network are copied into a new one, and frozen or fine-tuned."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from instar.data import Dataset, id_batches
from instar.errors import TrainingError, UsageError
from instar.naming import unknown_name
from instar.networks import forward_logits, freeze_, layers_of, prefix_state, state_hashes
from instar.structures import Inputs
from instar.transfer.cuts import check_cut

KINDS = ("BnB", "BnB+", "AnB", "AnB+", "RnB")


@dataclass(frozen=True)
class Treatment:
    """The first n layers of a network for `target`: copied from `source` or random, frozen or fine-tuned.

    Raises:
        UsageError: n is below 1, a task is neither A nor B, or random layers are trained (that is the base).

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
                f"treatment {self.source}{self.n}{self.target}: expected n of at least 1, and tasks A and B"
            )
        if self.source is None and self.fine_tune:
            raise UsageError(
                "a treatment with random layers freezes them: random layers that are trained are the base"
            )

    @property
    def name(self) -> str:
        """The paper's name: A3B, A3B+, B3B, R3B."""
        return f"{self.source or 'R'}{self.n}{self.target}{'+' * self.fine_tune}"

    @property
    def kind(self) -> str:
        """One of `KINDS`; both directions share a kind, so AnA is BnB and BnA is AnB."""
        source = "R" if self.source is None else "B" if self.source == self.target else "A"
        return f"{source}nB{'+' * self.fine_tune}"


def treatments_of(
    kinds: Sequence[str], cuts: Sequence[int], targets: Sequence[str] = ("A", "B")
) -> list[Treatment]:
    """The treatments of each kind, at each cut, for each target.

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
    example_input: Inputs | None = None,
    frozen_dropout: bool = True,
    calibrate_on: Dataset | None = None,
) -> list[str]:
    """Copy the first n layers of a base into a freshly initialised network, in place, and freeze them if asked to.

    Args:
        network: with the target's classes, freshly initialised.
        treatment: which layers to copy, and whether they are frozen.
        base: the network trained on the source, of the same architecture; None for random layers.
        example_input: as for `layers_of`.
        frozen_dropout: whether dropout in frozen layers stays on in training, as in the paper.
        calibrate_on: training data of the target, on which frozen normalisation layers measure mean and variance
            first; None keeps the statistics of the base.

    Returns:
        The names of the weights and buffers of the first n layers.

    Raises:
        UsageError: n leaves nothing to train, or the base is missing or has another architecture.

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
        raise UsageError(f"{treatment.name}: copied layers need a base, and random layers take none")
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
                f"{treatment}: the base has another architecture: {name} is {found} there, expected {expected}"
            )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(given[name])


def _shape(value: Tensor | None) -> str:
    return "missing" if value is None else str(tuple(value.shape))


def frozen_hashes(network: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Hashes of the weights and buffers of a frozen prefix, to compare with `assert_frozen` after training.

    Args:
        network: before or after training.
        names: of weights and buffers, as `apply_treatment_` returns them.

    Raises:
        TrainingError: one of the weights requires a gradient, so the optimiser of `fit` would change it.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> freeze_(network, 1)
        >>> sorted(frozen_hashes(network, ["0.weight", "0.bias"]))
        ['0.bias', '0.weight']
    """
    names = list(names)
    trainable = {name for name, value in network.named_parameters(remove_duplicate=False) if value.requires_grad}
    unfrozen = [name for name in names if name in trainable]
    if unfrozen:
        raise TrainingError(f"{unfrozen[0]} is in a frozen layer and requires a gradient: freeze it last")
    hashes = state_hashes(network)
    return {name: hashes[name] for name in names}


def calibrate_statistics_(
    network: nn.Module, n: int, data: Dataset, *, example_input: Inputs | None = None, batch_size: int = 256
) -> None:
    """Measure the mean and variance of the normalisation layers among the first n on some data, in place.

    Each statistic becomes its average over the batches of one pass. So random layers give features of the scale
    that the rest expects.

    Args:
        network: only its buffers change; it is left in evaluation mode.
        n: the number of layers.
        data: training data of the target.
        example_input: as for `layers_of`.
        batch_size: a last batch of less than half this size is left out.
    """
    owners = {name.rpartition(".")[0] for name in prefix_state(network, n, example_input=example_input)}
    modules = {network.get_submodule(owner) for owner in sorted(owners)}
    norms = [module for module in modules if isinstance(module, _BatchNorm) and module.track_running_stats]
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
                forward_logits(network, data.gather(ids, 0))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
