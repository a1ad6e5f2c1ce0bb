"""Normalisation of inputs: what is subtracted from each channel, and what the channel is divided by."""

import math
from typing import NamedTuple

import torch

from instar.data.batches import batches
from instar.data.dataset import Dataset
from instar.data.progress import tracked
from instar.data.samplers import id_batches
from instar.errors import UsageError
from instar.structures import form_in_words, is_plain

NONE, OF_DATA = "none", "data"
_DIGITS = 6  # significant ones of measured statistics: the same on every machine
_AT_ONCE = 512


class Normalisation(NamedTuple):
    """Inputs become (x - mean) / std; one number stands for all channels, None for no change."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


_NAMED = {
    NONE: Normalisation(),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def parse_normalisation(text: str) -> Normalisation | None:
    """The numbers of `imagenet`, of `none` or of MEAN/SD; None for `data`, which is measured.

    Raises:
        UsageError: another text, or a standard deviation that is not above 0.

    Example:
        >>> parse_normalisation("0.5/0.25"), parse_normalisation("0.4,0.5,0.6/0.2").std
        (Normalisation(mean=(0.5,), std=(0.25,)), (0.2,))
    """
    if text == OF_DATA:
        return None
    if text in _NAMED:
        return _NAMED[text]
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        raise UsageError(
            f"normalise {text!r}: expected imagenet, data, none or MEAN/SD, each one number or one for each "
            "channel: 0.5/0.5 or 0.49,0.48,0.45/0.25,0.24,0.26"
        ) from None
    if not all(map(math.isfinite, mean)) or not all(0 < number < math.inf for number in std):
        raise UsageError(f"normalise {text!r}: expected finite means and standard deviations above 0")
    return Normalisation(mean, std)


def normalised(data: Dataset, how: Normalisation) -> Dataset:
    """The data set with another normalisation, in place of its own.

    Raises:
        UsageError: there are several numbers, but not one for each channel.
    """
    channels = _channels(data)
    for numbers in how:
        if numbers is not None and len(numbers) not in (1, channels):
            raise UsageError(
                f"normalise: {len(numbers)} numbers, expected one, or one for each of {channels} channels; "
                "--colour rgb or grey changes the channels of pictures"
            )
    mean, std = (None if numbers is None else list(numbers) * (channels // len(numbers)) for numbers in how)
    return data.with_normalisation(mean, std)


def measured(data: Dataset, *, progress: bool = True) -> Normalisation:
    """Mean and standard deviation of each channel over all examples, to six digits; 1 for a constant channel."""
    plain, channels = data.with_normalisation(None, None), _channels(data)
    total, count = torch.zeros(2, channels, dtype=torch.float64), 0
    parts = list(id_batches(data.ids, _AT_ONCE))
    bar = tracked(batches(plain, parts, view=0), total=len(parts), description="mean of the data", show=progress)
    for _, inputs, _ in bar:
        values = inputs.double().transpose(0, 1).flatten(1)
        total += torch.stack((values.sum(1), (values**2).sum(1))).cpu()
        count += values.shape[1]
    mean, square = total / count
    std = (square - mean**2).clamp(min=0).sqrt()
    std = torch.where(std > 1e-6, std, 1.0)
    return Normalisation(*(tuple(float(f"{x:.{_DIGITS}g}") for x in numbers.tolist()) for numbers in (mean, std)))


def _channels(data: Dataset) -> int:
    if not is_plain(data.example_shape):
        form = form_in_words(data.example_shape)
        raise UsageError(f"normalise: only a single tensor of numbers is normalised, an example is {form}")
    return int(data.example_shape[0])
