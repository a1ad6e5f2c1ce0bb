"""A generalist and its specialists as one network, which can be saved and loaded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from instar.arguments import require_network
from instar.data import GivenData, as_dataset, batches, id_batches
from instar.errors import RunError, UsageError
from instar.evaluation import batch_size_on
from instar.files import load_tensors, tensor_bytes, write_bytes
from instar.logit_values import refuse_probabilities
from instar.networks import (
    build_network,
    call,
    channels_last_,
    cut,
    evaluation_mode,
    forward_logits,
    input_type,
    layers_of,
    load_state_,
    prefix_state,
    uncompiled,
)
from instar.specialists.class_sets import ClassSet
from instar.specialists.combining import Combined, check_top_n, combine_on_demand
from instar.structures import (
    Form,
    Inputs,
    device_of,
    examples_in,
    in_type,
    joined,
    map_tensors,
    num_values,
    split_examples,
)

DESCRIPTION, WEIGHTS = "ensemble.json", "ensemble.safetensors"
FORMAT_VERSION = 1
_MIN_PROB = 1e-30  # the logarithm of 0 is no logit
_BATCH_BYTES = 2**25  # of the inputs in one batch


def ensemble_batch_size(example_shape: Form) -> int:
    """How many examples to combine in one batch: in a large batch more examples share a specialist."""
    return max(128, _BATCH_BYTES // (4 * num_values(example_shape)))


class SpecialistEnsemble(nn.Module):
    """A generalist and its specialists, combined into one network that runs only the active specialists.

    Its logits are the logarithms of the combined probabilities. So it is evaluated, and gives soft targets, like
    any other network; it cannot be trained. The first layers that are identical in all networks, bit for bit,
    are computed once.

    Args:
        generalist: a network with logits for all classes.
        specialists: networks with logits for the classes of their set and the dustbin, or for all classes with
            `full_softmax`. The dustbin correction is already in their last layers.
        class_sets: class sets of the specialists, in the same order.
        class_names: names of all classes.
        example_inputs: (n, ...), a few inputs to inspect the networks with.
        top_n: a specialist is active if its set contains one of the generalist's `top_n` most probable classes.
        full_softmax: whether the specialists predict all classes.
        architecture: arguments of `build_network` (`name`, `input_shape`, and if used `dropout`,
            `input_dropout`) that rebuild any of the networks. Only `save` needs it.

    Raises:
        UsageError: the numbers of sets and specialists differ, a network has the wrong number of logits or returns
            probabilities, or top_n is out of range.

    Example:
        >>> generalist, specialist = nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 3))
        >>> ensemble = SpecialistEnsemble(
        ...     generalist, [specialist], [ClassSet([0, 2], 3)],
        ...     class_names=["cat", "dog", "lynx"], example_inputs=torch.zeros(1, 4),
        ... )
        >>> ensemble.predict_probs(torch.randn(5, 4)).probs.shape
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
        example_inputs: Inputs,
        top_n: int = 1,
        full_softmax: bool = False,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(specialists) != len(class_sets):
            raise UsageError(f"{len(specialists)} specialists and {len(class_sets)} class sets; give one set each")
        for name, network in zip(_names(len(specialists)), [generalist, *specialists], strict=True):
            require_network(name, network)
        check_top_n(top_n, len(class_names))
        self.class_names = tuple(class_names)
        self.class_sets = list(class_sets)
        self.top_n = top_n
        self.full_softmax = full_softmax
        self.architecture = None if architecture is None else dict(architecture)
        self.networks = nn.ModuleList(map(uncompiled, (generalist, *specialists)))
        self.eval()
        self._check_widths(example_inputs)
        self.num_shared = self._count_shared_layers(example_inputs)
        self._shared = set(prefix_state(self.networks[0], self.num_shared, example_input=example_inputs))
        self.requires_grad_(False)
        parts = [cut(network, self.num_shared, example_inputs) for network in self.networks]
        # A plain list: these modules are parts of self.networks and must not be registered twice.
        self._parts = [parts[0].prefix, *(part.rest for part in parts)]

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """log q, (batch, classes); at least log 1e-30."""
        given = named or (inputs[0] if len(inputs) == 1 else inputs)
        return self.predict_probs(given).probs.clamp_min(_MIN_PROB).log()

    def predict_probs(self, inputs: Inputs) -> Combined:
        """The combined probabilities of a batch, and the number of specialists used for each example.

        Args:
            inputs: (batch, ...).

        Returns:
            Probabilities (batch, classes), float32, and counts (batch,).
        """
        shared, generalist, *specialists = self._parts
        with torch.no_grad():
            features = _features(shared, inputs)

            def predict(number: int, rows: Tensor) -> Tensor:
                own = map_tensors(lambda one: one[rows], features)
                return torch.softmax(_run(specialists[number], own).float(), 1)

            return combine_on_demand(
                torch.softmax(_run(generalist, features).float(), 1),
                predict,
                self.class_sets,
                top_n=self.top_n,
                full_softmax=self.full_softmax,
            )

    def predict(self, data: GivenData, *, batch_size: int | None = None) -> Combined:
        """The combined probabilities of a data set (view 0), in the order of its ids.

        Args:
            data: on the device of the networks.
            batch_size: examples that are combined in one batch; by default as `ensemble_batch_size` gives.

        Raises:
            UsageError: the data has other classes than the networks.
        """
        data = as_dataset(data)
        if data.class_names != self.class_names:
            raise UsageError(
                f"these specialists are for {len(self.class_names)} classes, the first {self.class_names[0]!r}; "
                f"the data has {data.num_classes}, the first {data.class_names[0]!r}: they are for other data"
            )
        channels_last_(self, data.gather(data.ids[:2], 0))
        batch_size = batch_size or ensemble_batch_size(data.example_shape)
        predictions = [
            self.predict_probs(inputs) for _, inputs, _ in batches(data, id_batches(data.ids, batch_size), view=0)
        ]
        return Combined(*(torch.cat(values) for values in zip(*predictions, strict=True)))

    def save(self, path: str | Path) -> None:
        """Write the ensemble into a folder: `ensemble.json` and one file of weights, shared layers once.

        Raises:
            UsageError: the ensemble was created without an `architecture`.
            RunError: the folder cannot be written.
        """
        if self.architecture is None:
            raise UsageError(
                "SpecialistEnsemble.save: create the ensemble with `architecture`, which `load` needs"
            )
        path = Path(path)
        tensors: dict[str, Any] = {}
        for name, network in zip(self._names(), self.networks, strict=True):
            shared = set() if network is self.networks[0] else self._shared
            state = network.state_dict().items()
            tensors |= {f"{name}.{key}": value for key, value in state if key not in shared}
        description = {
            "format_version": FORMAT_VERSION,
            "architecture": self.architecture,
            "class_names": self.class_names,
            "class_sets": [class_set.classes for class_set in self.class_sets],
            "top_n": self.top_n,
            "full_softmax": self.full_softmax,
            "num_shared": self.num_shared,
        }
        write_bytes(path / WEIGHTS, tensor_bytes(tensors))
        write_bytes(path / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The ensemble that `save` wrote.

        Raises:
            UsageError: `path` holds no ensemble.
            RunError: the ensemble is damaged, or was written by a newer instar.
        """
        path = Path(path)
        if not (path / DESCRIPTION).is_file():
            raise UsageError(f"{path} holds no specialists: it has no {DESCRIPTION}")
        try:
            return cls._read(path)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else error
            raise RunError(f"{path / DESCRIPTION} is damaged: {what}; save the ensemble again") from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        about = json.loads((path / DESCRIPTION).read_text())
        version = about["format_version"]
        if version > FORMAT_VERSION:
            raise RunError(
                f"{path / DESCRIPTION} has format version {version}, this instar reads up to {FORMAT_VERSION}"
            )
        names, architecture, full_softmax = about["class_names"], about["architecture"], about["full_softmax"]
        class_sets = [ClassSet.of_numbers(numbers, names) for numbers in about["class_sets"]]
        tensors, _ = load_tensors(path / WEIGHTS)
        widths = _widths(class_sets, len(names), full_softmax)
        networks: list[nn.Module] = []
        example_inputs = examples_in(architecture["input_shape"], 2)
        for name, width in zip(_names(len(class_sets)), widths, strict=True):
            network = uncompiled(build_network(**architecture, num_classes=width, seed=0))
            prefix = f"{name}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if networks:
                generalist = networks[0].state_dict()
                shared = prefix_state(network, about["num_shared"], example_input=example_inputs)
                state |= {key: generalist[key] for key in shared}
            load_state_(network, state, architecture["name"], f"{path / WEIGHTS}: {name}")
            networks.append(network)
        return cls(
            networks[0],
            networks[1:],
            class_sets,
            class_names=names,
            example_inputs=example_inputs,
            top_n=about["top_n"],
            full_softmax=full_softmax,
            architecture=architecture,
        )

    def _names(self) -> list[str]:
        return _names(len(self.class_sets))

    def _check_widths(self, example_inputs: Inputs) -> None:
        num_classes = len(self.class_names)
        for class_set in self.class_sets:
            if class_set.num_classes != num_classes:
                raise UsageError(
                    f"a class set of a generalist with {class_set.num_classes} classes; this generalist has "
                    f"{num_classes}: the specialist is for other data"
                )
        widths = _widths(self.class_sets, num_classes, self.full_softmax)
        for name, network, width in zip(self._names(), self.networks, widths, strict=True):
            with evaluation_mode(network), torch.no_grad():
                logits = forward_logits(network, example_inputs)
            if logits.shape[-1] != width:
                raise UsageError(f"{name} gives {logits.shape[-1]} logits, expected {width}")
            refuse_probabilities(name, logits)

    def _count_shared_layers(self, example_inputs: Inputs) -> int:
        """The number of first layers that all networks share and whose features are all that the rest needs."""
        generalist, *specialists = list(self.networks)
        most = len(layers_of(generalist, example_inputs)) - 1 if specialists else 0
        for n in range(most, 0, -1):
            first = prefix_state(generalist, n, example_input=example_inputs)
            if cut(generalist, n, example_inputs).cacheable and all(
                _is_equal(first, prefix_state(network, n, example_input=example_inputs)) for network in specialists
            ):
                return n
        return 0


def _names(num_specialists: int) -> list[str]:
    return ["generalist", *(f"specialist-{number}" for number in range(num_specialists))]


def _widths(class_sets: Sequence[ClassSet], num_classes: int, full_softmax: bool) -> list[int]:
    """The number of logits of generalist and specialists."""
    return [num_classes, *(num_classes if full_softmax else len(class_set) + 1 for class_set in class_sets)]


def _is_equal(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def _run(network: nn.Module, inputs: Inputs) -> Tensor:
    """Outputs of a network, in batches that suit the device: a batch to combine is larger than that."""
    parts = split_examples(inputs, batch_size_on(device_of(inputs)))
    return torch.cat([forward_logits(network, part) for part in parts])


def _features(shared: nn.Module, inputs: Inputs) -> Inputs:
    """What the shared layers give, in such batches."""
    parts = split_examples(inputs, batch_size_on(device_of(inputs)))
    return joined([call(shared, in_type(part, input_type(shared))) for part in parts])
