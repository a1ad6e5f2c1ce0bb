"""How weights move: the optimiser, the learning rate over time, the limit on norms, the precision of a step."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from instar.errors import UsageError

BFLOAT16_WEIGHTS = 200_000  # below it the casts cost more than the faster products save (benchmarks/)
_PLACES = 64  # of a small picture that use a convolution's weight, on a CPU; on a GPU casts are kernels to start


def decide_precision(precision: str, network: nn.Module, device: torch.device | str) -> str:
    """`float32` or `bfloat16`: `auto` takes bfloat16 where the hardware has it and the network is large enough.

    Without hardware support bfloat16 is an order of magnitude slower than float32.

    Raises:
        UsageError: another precision.
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
    """The optimiser of some parameters, weight decay on all but vectors.

    Args:
        factors: on the learning rate of some of them; each group of the optimiser keeps its own as `factor`.

    Raises:
        UsageError: no such optimiser.
    """
    factors = factors or {}
    of_kind: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        # Biases and normalisation's scales get no weight decay, as in the first paper's networks.
        kind = (weight_decay if parameter.ndim > 1 else 0.0, factors.get(parameter, 1.0))
        of_kind.setdefault(kind, []).append(parameter)
    groups = [
        {"params": group, "lr": learning_rate * factor, "weight_decay": decay, "factor": factor}
        for (decay, factor), group in sorted(of_kind.items(), key=lambda item: (-item[0][0], item[0][1]))
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, fused=fused)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    raise UsageError(f"optimiser {name!r} should be sgd or adamw")


def parameter_factors(network: nn.Module, factors: Mapping[str, float] | None) -> dict[nn.Parameter, float]:
    """Factors on the learning rate by parameter, from those by name.

    Raises:
        UsageError: an unknown name, or a factor that is not positive.
    """
    named = dict(network.named_parameters(remove_duplicate=False))
    for name, factor in (factors or {}).items():
        if name not in named:
            raise UsageError(f"learning_rate_factors: {type(network).__name__} has no parameter {name!r}")
        if not 0 < factor < math.inf:
            raise UsageError(f"learning_rate_factors: that of {name} is {factor}, expected positive")
    return {named[name]: factor for name, factor in (factors or {}).items()}


def learning_rate_factor(name: str, epochs: int, warmup_epochs: float) -> Callable[[float], float]:
    """The factor on the learning rate at a time in epochs (with fractions).

    Args:
        name: `cosine` to 0, `constant`, or `step:E1,E2,...` (a tenth from each of those epochs on).
        epochs: of the whole fit.
        warmup_epochs: linear rise from 0 at the start.

    Raises:
        UsageError: no such schedule, or a warm-up that does not end before the fit.

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
    """The trained weights that a limit on norms applies to: all linear and convolutional ones but the last."""
    weights = [
        module.weight for module in network.modules() if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    ]
    return [weight for weight in weights[:-1] if weight.requires_grad]


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
