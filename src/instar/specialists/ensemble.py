"""Generalist and specialists as one unit: predicts, is saved and loaded."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from instar.data import Dataset, batches, id_batches
from instar.errors import RunError, UsageError
from instar.evaluation import batch_size_on
from instar.files import load_tensors, write_bytes
from instar.networks import (
    build_network,
    channels_last_,
    cut,
    evaluation_mode,
    layers_of,
    load_state_,
    prefix_state,
)
from instar.specialists.class_sets import ClassSet
from instar.specialists.combining import Combined, check_top_n, combine_on_demand

ABOUT, WEIGHTS = "ensemble.json", "ensemble.safetensors"
FORMAT_VERSION = 1
_GENERALIST = "generalist"
_LEAST = 1e-30  # a probability of 0 has no logit
_BYTES_AT_ONCE = 2**25  # of the inputs that are combined at once


def examples_at_once(shape: Sequence[int]) -> int:
    """How many examples to combine at once: the more there are, the more of them ask the same specialists."""
    return max(128, _BYTES_AT_ONCE // (4 * math.prod(shape)))


class SpecialistEnsemble(nn.Module):
    """A generalist and its specialists, which answer together and only where they are active.

    Its logits are the logarithm of the combined probabilities, so it is evaluated and asked for soft targets like
    any network; it does not learn. Layers that all specialists share with the generalist to the bit, first to
    last, are computed once.

    Args:
        generalist: gives logits of all classes.
        specialists: each gives logits of its set's classes and the dustbin, or of all classes with `full_softmax`;
            the correction of the dustbin is in their last layer.
        class_sets: of the specialists, in the same order.
        class_names: of all classes.
        example_inputs: (n, ...), a few: to look at the networks with.
        top_n: how many of the generalist's classes choose the active specialists.
        full_softmax: whether the specialists give all classes.
        architecture: how a network of these is built anew, for `save`: the arguments `name`, `input_shape`, and
            where there is any `dropout` and `input_dropout`, of `build_network`.

    Raises:
        UsageError: another number of sets than of specialists, a network of other classes, or top_n out of range.

    Example:
        >>> generalist, specialist = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> together = SpecialistEnsemble(
        ...     nn.Sequential(generalist), [nn.Sequential(specialist)], [ClassSet([0, 2], 3)],
        ...     class_names=["cat", "dog", "lynx"], example_inputs=torch.zeros(1, 4),
        ... )
        >>> together.predict_probs(torch.randn(5, 4)).probs.shape
        torch.Size([5, 3])

    References:
        Hinton, Vinyals and Dean 2015, section 5.4.
    """

    def __init__(
        self,
        generalist: nn.Module,
        specialists: Sequence[nn.Module],
        class_sets: Sequence[ClassSet],
        *,
        class_names: Sequence[str],
        example_inputs: Tensor,
        top_n: int = 1,
        full_softmax: bool = False,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(specialists) != len(class_sets):
            raise UsageError(f"{len(specialists)} specialists and {len(class_sets)} class sets; each has one")
        check_top_n(top_n, len(class_names))
        self.class_names = tuple(class_names)
        self.class_sets = list(class_sets)
        self.top_n = top_n
        self.full_softmax = full_softmax
        self.architecture = None if architecture is None else dict(architecture)
        self.networks = nn.ModuleList([generalist, *specialists]).requires_grad_(False)
        self.eval()
        self._check(example_inputs)
        self.num_shared = self._count_shared(example_inputs)
        parts = [cut(network, self.num_shared, example_inputs) for network in self.networks]
        self._parts = [parts[0].prefix, *(part.rest for part in parts)]  # a list: they are of the networks above

    def forward(self, inputs: Tensor) -> Tensor:
        """log q, (batch, classes); at least log 1e-30."""
        return self.predict_probs(inputs).probs.clamp_min(_LEAST).log()

    def predict_probs(self, inputs: Tensor) -> Combined:
        """The combined probabilities of some examples, and how many specialists each used.

        Args:
            inputs: (batch, ...).

        Returns:
            Probabilities (batch, classes), float32, and counts (batch,).
        """
        trunk, head, *heads = self._parts
        with torch.no_grad():
            features = _in_parts(trunk, inputs)
            generalist = torch.softmax(_in_parts(head, features).float(), 1)

            def ask(number: int, rows: Tensor) -> Tensor:
                return torch.softmax(_in_parts(heads[number], features[rows]).float(), 1)

            return combine_on_demand(
                generalist, ask, self.class_sets, top_n=self.top_n, full_softmax=self.full_softmax
            )

    def predict(self, data: Dataset, *, batch_size: int | None = None) -> Combined:
        """The same for a data set, in the order of its ids, unchanged by views.

        Args:
            data: on the device of the networks.
            batch_size: how many examples are combined at once; by default what `examples_at_once` says.

        Raises:
            UsageError: the data has other classes than these networks learned.
        """
        if data.class_names != self.class_names:
            raise UsageError(
                f"these specialists are for {len(self.class_names)} classes, the first {self.class_names[0]!r}; "
                f"the data has {data.num_classes}, the first {data.class_names[0]!r}: they are for other data"
            )
        channels_last_(self)
        batch_size = batch_size or examples_at_once(data.example_shape)
        parts = [
            self.predict_probs(inputs) for _, inputs, _ in batches(data, id_batches(data.ids, batch_size), view=0)
        ]
        return Combined(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def save(self, path: str | Path) -> None:
        """Write the ensemble into a folder: `ensemble.json` and one file of weights, what is shared once.

        Raises:
            UsageError: it was made without an `architecture`.
            RunError: the folder cannot be written.
        """
        if self.architecture is None:
            raise UsageError(
                "SpecialistEnsemble.save: give its architecture, so that `load` can build the networks"
            )
        path = Path(path)
        tensors: dict[str, Tensor] = {}
        for name, network in zip(self._names(), self.networks, strict=True):
            shared = {} if name == _GENERALIST else prefix_state(network, self.num_shared)
            for key, value in network.state_dict().items():
                if key not in shared:
                    tensors[f"{name}.{key}"] = value.detach().cpu().contiguous().clone()
        about = {
            "format_version": FORMAT_VERSION,
            "architecture": {key: _listed(value) for key, value in self.architecture.items()},
            "class_names": list(self.class_names),
            "class_sets": [list(one.classes) for one in self.class_sets],
            "top_n": self.top_n,
            "full_softmax": self.full_softmax,
            "num_shared": self.num_shared,
        }
        write_bytes(path / WEIGHTS, safetensors_bytes(tensors))
        write_bytes(path / ABOUT, (json.dumps(about, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The ensemble that `save` wrote.

        Raises:
            UsageError: there is none at `path`.
            RunError: it is damaged, or of a newer instar.
        """
        path = Path(path)
        if not (path / ABOUT).is_file():
            raise UsageError(f"{path} holds no specialists: it has no {ABOUT}")
        try:
            return cls._read(path)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else error
            raise RunError(f"{path / ABOUT} is damaged: {what}; save the ensemble again") from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        about = json.loads((path / ABOUT).read_text())
        version = about["format_version"]
        if version > FORMAT_VERSION:
            raise RunError(
                f"{path / ABOUT} has format version {version}, this instar reads up to {FORMAT_VERSION}"
            )
        names, sets = about["class_names"], about["class_sets"]
        class_sets = [ClassSet.of_numbers(one, names) for one in sets]
        tensors, _ = load_tensors(path / WEIGHTS)
        widths = [len(names), *(len(names) if about["full_softmax"] else len(one) + 1 for one in class_sets)]
        networks: list[nn.Module] = []
        for number, width in enumerate(widths):
            name = _GENERALIST if number == 0 else f"specialist-{number - 1}"
            network = build_network(**about["architecture"], num_classes=width, seed=0)
            prefix = f"{name}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if networks:
                shared = prefix_state(network, about["num_shared"])
                own = networks[0].state_dict()
                state |= {key: own[key] for key in shared}
            load_state_(network, state, about["architecture"]["name"], f"{path / WEIGHTS}: {name}")
            networks.append(network)
        return cls(
            networks[0],
            networks[1:],
            class_sets,
            class_names=names,
            example_inputs=torch.zeros(2, *about["architecture"]["input_shape"]),
            top_n=about["top_n"],
            full_softmax=about["full_softmax"],
            architecture=about["architecture"],
        )

    def _names(self) -> list[str]:
        return [_GENERALIST, *(f"specialist-{number}" for number in range(len(self.class_sets)))]

    def _check(self, example_inputs: Tensor) -> None:
        widths = [len(self.class_names)]
        for one in self.class_sets:
            if one.num_classes != len(self.class_names):
                raise UsageError(
                    f"a class set of a generalist with {one.num_classes} classes; this one has "
                    f"{len(self.class_names)}: the specialist is for other data"
                )
            widths.append(one.num_classes if self.full_softmax else len(one) + 1)
        for name, network, width in zip(self._names(), self.networks, widths, strict=True):
            with evaluation_mode(network), torch.no_grad():
                found = network(example_inputs).shape[-1]
            if found != width:
                raise UsageError(f"{name} gives {found} logits, expected {width}")

    def _count_shared(self, example_inputs: Tensor) -> int:
        """How many first layers all networks have in common, where the rest needs nothing but their features."""
        generalist, *specialists = list(self.networks)
        most = len(layers_of(generalist, example_inputs)) - 1 if specialists else 0
        for n in range(most, 0, -1):
            own = prefix_state(generalist, n, example_input=example_inputs)
            if cut(generalist, n, example_inputs).cacheable and all(
                _is_same(own, prefix_state(network, n, example_input=example_inputs)) for network in specialists
            ):
                return n
        return 0


def _is_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _in_parts(network: nn.Module, inputs: Tensor) -> Tensor:
    """A network is asked a few at a time, which its cache holds; they are combined many at once."""
    return torch.cat([network(part) for part in torch.split(inputs, batch_size_on(inputs.device))])
