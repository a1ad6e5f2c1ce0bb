"""The optimiser, the learning rate schedule, the limit on weight norms and the precision of a step."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from instar.errors import UsageError

BFLOAT16_WEIGHTS = 200_000  # with fewer, the casts cost more than the faster products save (benchmarks/)
_PLACES = 64  # positions of a small image at which a CPU uses a weight of a convolution; on a GPU 1 is assumed


# What torch wraps around this method keeps its compiler out, and imports the compiler for that: over a second.
_add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)


class _SGD(torch.optim.SGD):
    add_param_group = _add_param_group

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None]
    ) -> bool:
        """A momentum of 0 for weights that get their first gradient later: without one, the fused step fails."""
        is_sparse: bool = super()._init_group(group, params, grads, buffers)  # type: ignore[no-untyped-call]
        if any(one is not None for one in buffers):
            buffers[:] = [torch.zeros_like(p) if b is None else b for p, b in zip(params, buffers, strict=True)]
        return is_sparse


class _AdamW(torch.optim.AdamW):
    add_param_group = _add_param_group


def decide_precision(precision: str, network: nn.Module, device: torch.device | str) -> str:
    """Choose `float32` or `bfloat16`: `auto` is bfloat16 where the hardware supports it and the network is large.

    Without hardware support bfloat16 is an order of magnitude slower than float32.

    Raises:
        UsageError: an unknown precision.
    """
    if precision in ("float32", "bfloat16"):
        return precision
    if precision != "auto":
        raise UsageError(f"precision {precision!r} should be auto, float32 or bfloat16")
    kind = torch.device(device).type
    if kind == "cuda":
        has_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_hardware = kind == "cpu" and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    has_hardware = has_hardware and all(value.dtype == torch.float32 for value in network.parameters())
    places = _PLACES if kind == "cpu" else 1
    weights = sum(value.numel() * (places if value.ndim > 2 else 1) for value in network.parameters())
    return "bfloat16" if has_hardware and weights >= BFLOAT16_WEIGHTS else "float32"


def make_optimiser(
    name: str,
    parameters: list[nn.Parameter],
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    factors: Mapping[nn.Parameter, float] | None = None,
) -> torch.optim.Optimizer:
    """An optimiser of the parameters, with weight decay on all but vectors.

    Args:
        factors: multiply the learning rate of some parameters; each group of the optimiser keeps its `factor`.

    Raises:
        UsageError: an unknown optimiser.
    """
    factors = factors or {}
    of_kind: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        # Biases and the scales of normalisation get no weight decay, as in the first paper's networks.
        kind = (weight_decay if parameter.ndim > 1 else 0.0, factors.get(parameter, 1.0))
        of_kind.setdefault(kind, []).append(parameter)
    groups = [
        {"params": group, "lr": learning_rate * factor, "weight_decay": decay, "factor": factor}
        for (decay, factor), group in sorted(of_kind.items(), key=lambda item: (-item[0][0], item[0][1]))
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    if name == "sgd":
        return _SGD(groups, lr=learning_rate, momentum=momentum, fused=fused)
    if name == "adamw":
        return _AdamW(groups, lr=learning_rate, fused=fused)
    raise UsageError(f"optimiser {name!r} should be sgd or adamw")


def parameter_factors(network: nn.Module, factors: Mapping[str, float] | None) -> dict[nn.Parameter, float]:
    """The factors on the learning rate, keyed by parameter instead of by name.

    Raises:
        UsageError: an unknown name, or a factor that is not positive.
    """
    named = dict(network.named_parameters(remove_duplicate=False))
    for name, factor in (factors or {}).items():
        if name not in named:
            raise UsageError(f"learning_rate_factors: {type(network).__name__} has no parameter {name!r}")
        if not 0 < factor < math.inf:
            raise UsageError(f"learning_rate_factors: the factor of {name} is {factor}, expected positive")
    return {named[name]: factor for name, factor in (factors or {}).items()}


def learning_rate_factor(name: str, epochs: int, warmup_epochs: float) -> Callable[[float], float]:
    """The learning rate schedule: a function from the time in epochs, with fractions, to a factor.

    Args:
        name: `cosine` to 0, `constant`, or `step:E1,E2,...` (divided by 10 at each of these epochs).
        epochs: length of the whole fit.
        warmup_epochs: linear rise from 0 at the start.

    Raises:
        UsageError: an unknown schedule, or a warm-up that does not end before the fit.

    Example:
        >>> factor = learning_rate_factor("cosine", 10, 2)
        >>> [round(factor(time), 3) for time in (0, 1, 2, 6)]
        [0.0, 0.5, 1.0, 0.5]
    """
    if not 0 <= warmup_epochs < epochs:
        raise UsageError(f"warmup_epochs is {warmup_epochs}, expected at least 0 and less than epochs ({epochs})")
    kind, _, argument = name.partition(":")
    if kind == "cosine" and not argument:

        def decay(time: float) -> float:
            return 0.5 * (1 + math.cos(math.pi * (time - warmup_epochs) / (epochs - warmup_epochs)))
    elif kind == "constant" and not argument:

        def decay(time: float) -> float:
            return 1.0
    elif kind == "step":
        try:
            steps = [float(step) for step in argument.split(",")]
        except ValueError:
            raise UsageError(f"schedule {name!r} should be step:E1,E2,... in epochs") from None

        def decay(time: float) -> float:
            return float(0.1 ** sum(time >= step for step in steps))
    else:
        raise UsageError(f"schedule {name!r} should be cosine, constant or step:E1,E2,...")
    return lambda time: time / warmup_epochs if time < warmup_epochs else decay(time)


def stretched_schedule(schedule: str, factor: float) -> str:
    """The same schedule for `factor` times the epochs.

    Example:
        >>> stretched_schedule("step:30,45", 2), stretched_schedule("cosine", 0.1)
        ('step:60,90', 'cosine')
    """
    kind, separator, steps = schedule.partition(":")
    return kind + separator + ",".join(f"{factor * float(step):g}" for step in steps.split(",") if step)


def limited_weights(network: nn.Module) -> list[Tensor]:
    """The trained weights whose norms are limited: those of all linear and convolutional layers but the last.

    Raises:
        UsageError: a weight is computed from other parameters (spectral or weight norm), or the network shows no
            layers (scripted).
    """
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    ]
    if not layers:
        raise UsageError(f"max_norm: {type(network).__name__} shows no linear or convolutional layer to limit")
    for name, layer in layers[:-1]:
        if not isinstance(layer.weight, nn.Parameter):
            raise UsageError(f"max_norm: {name}.weight is computed from other parameters, and cannot be limited")
    return [layer.weight for _, layer in layers[:-1] if layer.weight.requires_grad]


def limit_norms_(weights: list[Tensor], max_norm: float) -> None:
    """Scale down, in place, the incoming weights of each unit whose norm is above `max_norm`.

    Not `torch.renorm`, which divides by norm + 1e-7 and so gives other bits.
    """
    with torch.no_grad():
        for weight in weights:
            norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            if bool((norms > max_norm).any()):
                shape = (-1,) + (1,) * (weight.ndim - 1)
                weight.mul_((max_norm / norms.clamp(min=max_norm)).view(shape))
