"""The learning rate of a network on its data with its loss, found on validation where nobody gives one.

Decades first, with short fits; then the best ones and their neighbours by a factor of about three, longer. What
wins at the edge of the scale is followed by a rate beyond it.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from instar.jobs import Job
from instar.recipes.choosing import ranking_of, tuning_rows
from instar.recipes.halving import shortened, successive_halving
from instar.recipes.settings import FitSettings, SearchedSettings
from instar.recipes.study import Rounds

DECADES = {"sgd": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "adamw": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)}
"""The rates of the first round, by optimiser."""


Shares = Sequence[tuple[float, float]]
STUDENT_ROUNDS = ((1 / 10, 100.0), (1 / 6, 300.0), (1 / 4, 1e9))
TEACHER_ROUNDS = ((1 / 20, 10.0), (1 / 10, 30.0))
"""Of each round the share of the epochs of a whole fit, and the steps that are enough. A teacher is fitted
once and costs as much as many students: the search for its rate takes about half a fit."""

LONG = 20
"""A whole fit that is so many times as long as those that ranked the rates bears a lower one. Many steps in an
epoch make rounds so short: on MNIST one of 40 epochs, after which 0.3 is ahead of 0.1. At the end both make as
many errors, and what the one at 0.3 teaches is worth less (docs/experiments.md)."""

CLIP, WARMUP, DEEP = 1.0, 0.05, 8
"""Without normalisation: the norm of the gradient, and from so many layers the share of the epochs with a rising
rate. Clipping makes more rates usable. A warm-up costs errors in shallow networks (docs/experiments.md)."""

SearchedT = TypeVar("SearchedT", bound=SearchedSettings)


def round_lengths(rounds: Shares, epochs: int, steps_per_epoch: int) -> list[int]:
    """The epochs of the fits of each round.

    Example:
        >>> round_lengths(STUDENT_ROUNDS, 60, 11), round_lengths(TEACHER_ROUNDS, 40, 422)
        ([6, 10, 15], [1, 1])
    """
    return [max(1, min(round(share * epochs), math.ceil(steps / steps_per_epoch))) for share, steps in rounds]


def moved(rate: float, steps: int) -> float:
    """The rate so many steps further on the scale 0.01, 0.03, 0.1, 0.3, 1, ...

    Example:
        >>> moved(0.1, 1), moved(0.1, -1), moved(1e-4, -1), moved(1.0, 1)
        (0.3, 0.03, 3e-05, 3.0)
    """
    place = round(2 * math.log10(rate)) + steps
    return float(f"{(1, 3)[place % 2]}e{place // 2}")


def first_rates(optimiser: str, num_rounds: int) -> list[float]:
    """The rates of the first round.

    Where no other round follows, the largest one is a step smaller: it looks best in a short fit, and in a long
    one some seeds diverge.

    Example:
        >>> first_rates("sgd", 3), first_rates("sgd", 1)
        ([0.0001, 0.001, 0.01, 0.1, 1.0], [0.0001, 0.001, 0.01, 0.1, 0.3])
    """
    rates = list(DECADES[optimiser])
    return rates if num_rounds > 1 else [*rates[:-1], moved(rates[-1], -1)]


def neighbours(ranking: Sequence[float]) -> list[float]:
    """The best rate with its neighbours, and the second best if there is one: what follows the decades.

    Example:
        >>> neighbours([0.1, 1.0, 0.01])
        [0.03, 0.1, 0.3, 1.0]
    """
    best = ranking[0]
    return sorted({moved(best, -1), best, moved(best, 1), *ranking[1:2]})


def finalists(ranking: Sequence[float], count: int, *, is_long: bool = False) -> list[float]:
    """The best rates, the best first; where the first lies at the edge of what is ranked, the one beyond it too.

    Args:
        ranking: the rates, the best first.
        count: the number of finalists.
        is_long: whether a whole fit is `LONG` times those that were ranked: the rate below the best is second.

    Example:
        >>> finalists([0.1, 0.3, 0.03, 1.0], 2), finalists([1.0, 0.3, 0.1], 2)
        ([0.1, 0.3], [1.0, 3.0])
        >>> finalists([0.1, 0.3, 0.03, 1.0], 2, is_long=True)
        [0.1, 0.03]
    """
    best = ranking[0]
    beyond = [moved(best, steps) for steps, edge in ((1, max), (-1, min)) if best == edge(ranking)]
    below = [moved(best, -1)] if is_long else []
    return list(dict.fromkeys([best, *below, *beyond, *ranking[1:]]))[:count]


def batch_size_for(num_examples: int) -> int:
    """128; of few examples the largest power of two, from 16 on, that gives five steps an epoch.

    Example:
        >>> batch_size_for(60_000), batch_size_for(184), batch_size_for(40)
        (128, 32, 16)
    """
    return min(128, max(16, 1 << max(num_examples // 5, 1).bit_length() - 1))


def settled(settings: SearchedT, network: nn.Module, num_examples: int) -> SearchedT:
    """The settings with batch size, warm-up and clipping decided, where the rate is found and nothing is given.

    Without normalisation a step that is too large kills units for good, and few learning rates are right. A bound
    on the gradient, and in deep networks a first part with a rising rate, make that range wider.
    """
    if settings.batch_size is None:
        settings = settings.model_copy(update={"batch_size": batch_size_for(num_examples)})
    given = (settings.learning_rate, settings.warmup_epochs, settings.gradient_clip)
    if any(value is not None for value in given) or has_normalisation(network):
        return settings.model_copy(update={"warmup_epochs": settings.warmup_epochs or 0.0})
    num_layers = sum(parameter.ndim > 1 for parameter in network.parameters())
    warmup_epochs = WARMUP * settings.epochs if num_layers >= DEEP else 0.0
    return settings.model_copy(update={"warmup_epochs": warmup_epochs, "gradient_clip": CLIP})


def has_normalisation(network: nn.Module) -> bool:
    """Whether a network normalises what flows through it: batch norm, layer norm, one of the user's own.

    Local response normalisation, which bounds nothing, does not count.

    Example:
        >>> has_normalisation(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))), has_normalisation(nn.Linear(2, 2))
        (True, False)
    """
    return any(
        "norm" in type(module).__name__.lower() and not isinstance(module, nn.LocalResponseNorm)
        for module in network.modules()
    )


class Found(NamedTuple):
    """The learning rate that was found, and the rows of `tuning`."""

    rate: float
    rows: list[dict[str, Any]]


def find_rate(
    name: str,
    settings: FitSettings,
    job: Callable[[str, FitSettings], Job],
    path: Path,
    lengths: Sequence[int],
    num_validation: int,
) -> Rounds[Found]:
    """Find the learning rate of one network: the best, or for fits `LONG` times the last round's the one below.

    Args:
        name: of the network, in job names and in `tuning`.
        settings: how it is built and trained, but for its learning rate.
        job: the job of a name that fits it with other settings.
        path: the run directory of the study.
        lengths: the epochs of each round.
        num_validation: the number of validation examples.

    Raises:
        InstarError: all rates of a round failed.
    """

    def jobs_of(number: int, rate: float) -> list[Job]:
        short = shortened(settings, lengths[number - 1]).model_copy(update={"learning_rate": rate})
        return [job(f"tuning/{name}/round-{number}/learning-rate-{rate:g}", short)]

    rounds = yield from successive_halving(
        first_rates(settings.optimiser, len(lengths)),
        jobs_of,
        lambda number, ranking: neighbours(ranking[:1]) if number < len(lengths) else [],
        path,
        num_validation=num_validation,
    )
    ranking = ranking_of(rounds[-1], num_validation)
    best, below = ranking[0], moved(ranking[0], -1)
    if settings.epochs >= LONG * lengths[-1] and below in ranking:
        best = below
    return Found(best, tuning_rows(name, rounds, lengths, lambda rate: {"learning_rate": rate}, best))
