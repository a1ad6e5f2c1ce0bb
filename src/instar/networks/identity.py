"""What a network is known by: its weights, what it answers, and the functions that it calls in training."""

import functools
import hashlib
import inspect
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from instar.errors import UsageError
from instar.identity import each_alone, sketch, stated_fingerprint
from instar.networks.freezing import state_hashes, tensor_hash
from instar.networks.logits import call, input_type, named_logits
from instar.networks.modes import (
    evaluation_,
    is_compiled,
    is_materialised,
    training_,
    unchanged,
    uncompiled,
    without_compiler,
)
from instar.networks.weights import extra_state_of, plain_name
from instar.structures import Form, Inputs, copied_inputs, device_of, examples_in, in_type

_EXAMPLES = 8
_OF_TRAINING = ("dropout_p", "momentum")
_IN_STATE = ("_parameters", "_buffers", "_modules")
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def network_fingerprint(network: nn.Module) -> str:
    """A hash of all weights, buffers and extra state, and of their names; the same for a compiled network.

    The text in the attribute `fingerprint` of the network counts too, where it has one.

    Raises:
        UsageError: it has neither weights nor a `fingerprint`, a lazy module has no weights yet, or extra state
            cannot be written down.
    """
    _check_known(network)
    hashes = {plain_name(name): value for name, value in state_hashes(network).items()} | _extra(network)
    content = "".join(f"{name}={value}\n" for name, value in sorted(hashes.items()))
    return hashlib.blake2b((content + (_stated(network) or "")).encode(), digest_size=16).hexdigest()


def network_identity(network: nn.Module, examples: Inputs, *, trained: bool = True) -> dict[str, Any]:
    """What a run directory knows a network by, whatever its class or function is called.

    Args:
        network: as it is before it is trained. It is the same afterwards.
        examples: (batch, ...), at least two.
        trained: whether it will be trained. A teacher runs in evaluation mode alone: rates of dropout, momentum of
            normalisation and which tensors require a gradient are then no part of it.

    Returns:
        `tensors`: a hash of the names, shapes and types of weights and buffers, of which of them are trained and
        get a gradient, of extra state, and of the part of the output that is the logits;
        `weights`, `outputs` and, if it will be trained in single precision, `gradients`, both in evaluation mode,
        where nothing is random: sketches. Other tensors that modules hold count as weights, if it will be trained
        and a forward pass leaves them;
        `code`: a hash of the functions of torch that a forward pass calls, in training mode if it will be trained,
        in order, with their numbers: the rate of a dropout and the activation count, wherever they are written;
        `fingerprint`: the text that the network states in this attribute, where it has one.

    Raises:
        UsageError: it has neither weights nor a `fingerprint`, or as `network_fingerprint`.

    Example:
        >>> from instar.identity import first_difference
        >>> net, examples = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.rand(8, 4)
        >>> about = network_identity(net, examples)
        >>> first_difference(about, network_identity(net, examples)) is None
        True
        >>> sorted(about)
        ['code', 'gradients', 'outputs', 'tensors', 'weights']
    """
    _check_known(network)
    network = uncompiled(network)
    state = {plain_name(name): value for name, value in (*network.named_parameters(), *network.named_buffers())}
    device = next((value.device for value in state.values()), device_of(examples))
    inputs = in_type(examples, input_type(network), device=device)
    form = [
        (name, str(value.dtype), tuple(value.shape), *([value.requires_grad] if trained else []))
        for name, value in state.items()
    ]
    with _tried(network):
        held = _held(network) if trained else {}
        outputs = _outputs(network, inputs)
        types = {one.dtype for one in (*state.values(), *outputs) if one.is_floating_point()}
        epsilon = max((torch.finfo(one).eps for one in types), default=0.0)
        # In half precision gradients of attention differ by 7 % of their norm between two processors.
        gradients = _gradients(network, inputs) if trained and epsilon < 1e-6 else {}
        _seed()
        with _Calls(of_training=trained) as calls:
            call((training_ if trained else evaluation_)(network), copied_inputs(inputs))
        still = _held(network)
        constants = [one for one, before in held.values() if id(one) in still and torch.equal(one, before)]
    found = {
        "tensors": _hash((form, sorted(_extra(network).items()), named_logits(network), sorted(gradients))),
        "weights": sketch(each_alone([*state.values(), *constants]), relative=1e-5),
        "outputs": sketch(outputs, relative=max(1e-3, 8 * epsilon)),
        "code": _hash(calls.found),
    }
    if gradients:
        found["gradients"] = sketch(gradients.values(), relative=1e-2)
    stated = _stated(network)
    return found if stated is None else {**found, "fingerprint": stated}


def identity_inputs(input_shape: Form) -> Inputs:
    """Examples for `network_identity` where there is no data: uniform in [0, 1), ids 0, the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    return examples_in(input_shape, _EXAMPLES, functools.partial(torch.rand, generator=generator))


def _check_known(network: nn.Module) -> None:
    kind = type(uncompiled(network)).__name__
    if not is_materialised(network):
        raise UsageError(f"{kind} has lazy modules without weights: run it on a batch first")
    if _stated(network) is None and not any(True for _ in (*network.parameters(), *network.buffers())):
        raise UsageError(
            f"{kind} has no weights by which it could be recognised: give it an attribute `fingerprint`, a text "
            "that changes whenever its answers do"
        )


def _stated(network: nn.Module) -> str | None:
    return stated_fingerprint(uncompiled(network))


def _extra(network: nn.Module) -> dict[str, str]:
    """The extra state of a network as texts, by name."""
    return {
        plain_name(name): tensor_hash(value) if isinstance(value, Tensor) else json.dumps(value, sort_keys=True)
        for name, value in extra_state_of(network.state_dict()).items()
    }


def _hash(content: object) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()


def _outputs(network: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The tensors that a network gives in evaluation mode."""
    _seed()
    return [
        one for one in tree_leaves(call(evaluation_(network), copied_inputs(inputs))) if isinstance(one, Tensor)
    ]


def _gradients(network: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The gradients of a sum of the outputs, each with another factor, by the weights that have one."""
    weights = {name: value for name, value in network.named_parameters() if value.requires_grad}
    try:
        with torch.enable_grad():
            outputs = [one for one in _outputs(network, inputs) if one.requires_grad]
            if not outputs or not weights:
                return {}
            factors = [torch.linspace(1, 2, one.numel()).to(one).view_as(one) for one in outputs]
            found = torch.autograd.grad(outputs, [*weights.values()], factors, allow_unused=True)
    except RuntimeError:  # there may be none in evaluation mode, where nobody needs them
        return {}
    pairs = zip(weights, found, strict=True)
    return {plain_name(name): value.to_dense() for name, value in pairs if value is not None}


def _held(network: nn.Module) -> dict[int, tuple[Tensor, Tensor]]:
    """Tensors that modules hold beside weights and buffers, each with a copy, by their `id`."""
    own = [[value for key, value in vars(one).items() if key not in _IN_STATE] for one in network.modules()]
    tensors = [one for one in tree_leaves(own) if isinstance(one, Tensor) and not isinstance(one, nn.Parameter)]
    return {id(one): (one, one.clone()) for one in tensors}


def _seed() -> None:
    """Seed what may be random in a forward pass."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state, which networks use


@contextmanager
def _tried(network: nn.Module) -> Iterator[None]:
    """Forward passes that leave no trace, and that a GPU computes as exactly as a CPU."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with (
            unchanged(network),
            without_compiler(is_compiled(network)),
            torch.backends.cudnn.flags(allow_tf32=False),
            torch.no_grad(),
        ):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


class _Calls(TorchFunctionMode):
    """Notes each function of torch that is called, with its numbers and texts."""

    def __init__(self, *, of_training: bool) -> None:
        super().__init__()
        self.of_training = of_training
        self.found: list[Any] = []

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: dict[str, Any] | None = None
    ) -> Any:
        name, named = getattr(function, "__name__", ""), named or {}
        if self.of_training or "dropout" not in name:
            given = (arguments, named) if self.of_training else _of_evaluation(function, arguments, named)
            written = [
                value for value in tree_leaves(given) if isinstance(value, bool | int | float | str | np.generic)
            ]
            self.found.append((name, written))
        return function(*arguments, **named)


def _of_evaluation(function: Any, arguments: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """The arguments of a function of torch without those that count in training alone."""
    if getattr(function, "__name__", "") in _RECURRENT:
        return [value for value in arguments if not isinstance(value, float)]  # the rate of dropout
    try:
        bound = inspect.signature(function).bind(*arguments, **named).arguments
    except (TypeError, ValueError):  # a function of C does not name its arguments
        return [arguments, named]
    return [value for name, value in bound.items() if name not in _OF_TRAINING]
