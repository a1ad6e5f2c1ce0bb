"""First-layer filters of the bases: Gabor scores, how similar the filters of two tasks are, pictures."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from instar.recipes.loading import build_for, load_run_network
from instar.recipes.splits import load_splits
from instar.recipes.transfer.plan import TREATMENT_SEED, Plan
from instar.reports import Column, Images, Picture, Section, Table, Text
from instar.structures import Form, is_plain
from instar.transfer import Filters, filter_scores, filter_verdict

MOST_FILTERS = 16  # of each network: a fit takes some hundredths of a second
_LINE = (160, 184, 214)  # between filters; not grey, so it cannot be a weight


def first_filters(plan: Plan) -> Filters:
    """First-layer filters of both bases of the first split and of a random network.

    Returns:
        (filters, channels, height, width) by name; empty where a task has no base, or the first layer with weights
        does not see a picture.
    """
    split = plan.splits[0]
    if plan.base_letters != ["A", "B"]:
        return {}
    networks = {f"base {letter}": load_run_network(plan.base_path(split, letter)) for letter in "AB"}
    splits = load_splits(split.tasks["B"])
    networks["random"] = build_for(plan.config.network.at(), splits, seed=TREATMENT_SEED + split.seed)  # as in RnB
    found = {name: _filters(network, splits.train.example_shape) for name, network in networks.items()}
    shown = {name: filters for name, filters in found.items() if filters is not None}
    return shown if len(shown) == len(networks) else {}


def _filters(network: nn.Module, input_shape: Form) -> NDArray[np.float64] | None:
    weighted = (module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
    layer = next(weighted, None)
    if layer is None:
        return None
    weights = layer.weight.detach().double().numpy()
    if isinstance(layer, nn.Linear):
        if not is_plain(input_shape) or len(input_shape) != 3 or weights.shape[1] != math.prod(input_shape):
            return None
        weights = weights.reshape(len(weights), *input_shape)
    return weights[:MOST_FILTERS] if min(weights.shape[2:]) > 1 else None


def filter_details(filters: Filters) -> dict[str, Any]:
    """Scores of the filters, and whether two data sets and two objectives give similar filters.

    Returns:
        `scores` as `filter_scores` returns them, and `verdict`, the answer in words; empty without filters.
    """
    if not filters:
        return {}
    scores = filter_scores(filters)
    return {"scores": scores, "verdict": filter_verdict(scores)}


def filter_sections(filters: Filters, details: Mapping[str, Any]) -> list[Section]:
    """The filters as pictures, their scores, and the verdict."""
    if not filters:
        return []
    words = {"base A": "A: trained on the source", "base B": "B: trained on the target", "random": "random"}
    caption = (
        "First-layer filters of the bases of the first split, each scaled to its largest weight; grey is 0. "
        "The bases differ in their data and in their objective: each was trained to tell its own classes apart."
    )
    score = "mean share of variance that the best Gabor filter explains"
    columns = [
        Column("network", "filters of"),
        Column("score", "Gabor score", "{:.2f}", note=score),
        Column("low", "95 % interval", "[{low:.2f}, {high:.2f}]"),
        Column("n", "n", note="filters"),
        Column(
            "match", "similarity", "{:.2f}", note="largest |cosine| with a filter of the other base; of random, A"
        ),
    ]
    return [
        Images(
            "First-layer filters",
            [Picture(sheet(group), words[name]) for name, group in filters.items()],
            caption=caption,
            wide=True,
        ),
        Text(details["verdict"]),
        Table("", details["scores"], columns=columns),
    ]


def sheet(filters: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Filters side by side in one picture, with lines between them: (height, width, 3).

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
    for number, picture in enumerate(drawn):
        top, left = (number // columns) * (height + 1) + 1, (number % columns) * (width + 1) + 1
        pixels[top : top + height, left : left + width] = np.round(127.5 + 127.5 * picture)
    return pixels
