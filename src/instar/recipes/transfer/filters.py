"""First-layer filters of the two bases: pictures, and whether two data sets and two objectives give alike ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from instar.metrics import over_seeds
from instar.recipes.fitting import build_for, load_run_network, load_splits
from instar.recipes.transfer.plan import TREATMENT_SEED, Plan
from instar.reports import Column, Images, Picture, Section, Table, Text
from instar.transfer import SMALLEST_SIDE, best_matches, fit_gabor, unpaired_difference

MOST_FILTERS = 16  # of a network: a fit takes some hundredths of a second
_LINE = (160, 184, 214)  # no grey, so that it is no weight
ALIKE = 0.1  # of the mean scores of two sets of filters

Filters = dict[str, NDArray[np.float64]]


def first_filters(plan: Plan) -> Filters:
    """The filters of both bases of the first split and of a random network: (filters, channels, height, width).

    Empty where the study has no base of one task, or the first layer that has weights sees no picture.
    """
    split = plan.splits[0]
    if plan.base_letters != ["A", "B"]:
        return {}
    networks = {f"base {letter}": load_run_network(plan.base_path(split, letter)) for letter in "AB"}
    splits = load_splits(plan.task(split, "B"))
    networks["random"] = build_for(plan.config.network, splits, seed=TREATMENT_SEED + split)  # as RnB has them
    found = {name: _filters(network, splits.train.example_shape) for name, network in networks.items()}
    shown = {name: filters for name, filters in found.items() if filters is not None}
    return shown if len(shown) == len(networks) else {}


def _filters(network: nn.Module, input_shape: Sequence[int]) -> NDArray[np.float64] | None:
    weighted = (module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
    layer = next(weighted, None)
    if layer is None:
        return None
    weights = layer.weight.detach().double().numpy()
    if isinstance(layer, nn.Linear):
        if len(input_shape) != 3 or weights.shape[1] != math.prod(input_shape):
            return None
        weights = weights.reshape(len(weights), *input_shape)
    return weights[:MOST_FILTERS] if min(weights.shape[2:]) > 1 else None


def filter_scores(filters: Filters) -> list[dict[str, Any]]:
    """How well a Gabor filter fits those of each network, and how alike they are to the source's.

    Returns:
        `network`, `score` (mean share of variance that the fit explains) with `low`, `high` and `n` filters, and
        `match`, the mean likeness to the most alike filter of the other base.
    """
    rows = []
    for name, several in filters.items():
        scores = [fit_gabor(one).score for one in several if np.ptp(one) > 0]
        other = filters["base B" if name == "base A" else "base A"]
        over = over_seeds(scores)
        about = {"score": over.mean, "sd": over.sd, "low": over.low, "high": over.high, "n": over.n}
        match = float(best_matches(several, other).mean())
        rows.append(
            {"network": name, **about, "values": scores, "match": match, "window": list(several.shape[1:])}
        )
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether two data sets and two objectives give alike filters, in a sentence or two."""
    a, b, random = ({**row} for row in rows)
    height, width = a["window"][1:]
    if min(height, width) < SMALLEST_SIDE:
        return (
            f"Filters of {height} x {width} are too small for a Gabor filter to say much: it has about as many "
            f"parameters as they have numbers, and explains {random['score']:.0%} of random ones too "
            f"(A {a['score']:.0%}, B {b['score']:.0%}). A's filters find a likeness of {a['match']:.2f} among "
            f"B's, random ones one of {random['match']:.2f} among A's."
        )
    above = [unpaired_difference(row["values"], random["values"]).low for row in (a, b)]
    between = unpaired_difference(a["values"], b["values"])
    about = (
        f"A Gabor filter explains {a['score']:.0%} of the variance of A's filters, {b['score']:.0%} of B's and "
        f"{random['score']:.0%} of random ones."
    )
    if not all(low is not None and low > 0 for low in above):
        return f"{about} Trained filters are no more like Gabor filters than random ones: the score cannot tell."
    if between.low is not None and between.high is not None and between.low > -ALIKE and between.high < ALIKE:
        return f"{about} Both tasks give filters alike in this, and unlike random ones."
    if between.low is not None and between.high is not None and (between.low > 0 or between.high < 0):
        return f"{about} Both are more than random, but the two tasks differ."
    return f"{about} Both are more than random; whether they are alike is undecided with {a['n']} filters each."


def filter_sections(filters: Filters, rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The filters as pictures, their scores, and the answer."""
    if not filters:
        return []
    words = {"base A": "A: trained on the source", "base B": "B: trained on the target", "random": "random"}
    sheets = [Picture(sheet(several), words[name]) for name, several in filters.items()]
    caption = (
        "The first layer's filters of the first split's bases, each scaled to its largest weight; grey is 0. The "
        "two bases differ in data and in objective: each learned to tell its own classes apart."
    )
    columns = [
        Column("network", "filters of"),
        Column(
            "score", "Gabor score", "{:.2f}", note="mean share of variance that the best Gabor filter explains"
        ),
        Column("low", "from", "{:.2f}"),
        Column("high", "to", "{:.2f}"),
        Column("n", "n", note="filters"),
        Column(
            "match", "likeness", "{:.2f}", note="|cosine| to the nearest filter of the other base; of random, A"
        ),
    ]
    return [
        Images("First-layer filters", sheets, caption=caption, wide=True),
        Text(verdict(rows)),
        Table("", rows, columns=columns),
    ]


def sheet(filters: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Filters side by side in one picture, a line between them: (height, width, 3).

    Example:
        >>> sheet(np.ones((4, 1, 3, 3))).shape
        (27, 27, 3)
    """
    num, channels, height, width = filters.shape
    drawn = filters if channels in (1, 3) else filters.mean(1, keepdims=True)
    drawn = drawn / np.abs(drawn).max((1, 2, 3), keepdims=True).clip(1e-30)
    enlarged = max(1, 12 // max(height, width))  # so that the line is thin beside a pixel
    drawn = drawn.repeat(enlarged, 2).repeat(enlarged, 3).transpose(0, 2, 3, 1)
    height, width = drawn.shape[1:3]
    columns = min(math.ceil(math.sqrt(num)), max(1, (63 if width <= 14 else 159) // (width + 1)))
    lines = math.ceil(num / columns)
    pixels = np.tile(np.array(_LINE, dtype=np.uint8), (lines * (height + 1) + 1, columns * (width + 1) + 1, 1))
    for number, one in enumerate(drawn):
        top, left = (number // columns) * (height + 1) + 1, (number % columns) * (width + 1) + 1
        pixels[top : top + height, left : left + width] = np.round(127.5 + 127.5 * one)
    return pixels
