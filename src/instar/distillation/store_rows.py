"""Logits as a store keeps them, targets restored from them, and hashes that identify its examples."""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from instar.data import Dataset
from instar.distillation.store_format import CLASSES, DRAWN, REST, StoreSettings
from instar.sparse_targets import SparseTargets
from instar.structures import map_form, name_of_ids, tensors_in

DTYPES = {"float16": torch.float16, "float32": torch.float32}


def content_hashes(data: Dataset, ids: Tensor) -> dict[str, str]:
    """Hashes of the raw content of some examples, by id."""
    contents = data.contents(data.rows(ids))
    digests = (hashlib.blake2b(content, digest_size=8).hexdigest() for content in contents)
    return {str(example): digest for example, digest in zip(ids.tolist(), digests, strict=True)}


def tokens_of(data: Dataset) -> str | None:
    """What the ids of examples are of, by their form; None where it does not say."""
    return next(filter(None, tensors_in(map_form(name_of_ids, data.example_shape))), None)


def cut_logits(logits: Tensor, settings: StoreSettings) -> dict[str, Tensor]:
    """The stored form of one member's logits (rows, classes), keyed by the suffix of the column's name.

    A full store keeps the logits. A top-k store keeps the k largest, their classes, and at each temperature the
    mass of all other classes.
    """
    dtype = DTYPES[settings.dtype]
    if settings.top_k is None:
        return {"": logits.to(dtype)}
    largest, classes = logits.topk(settings.top_k)
    rest = [torch.softmax(logits / T, -1).scatter(-1, classes, 0.0).sum(-1) for T in settings.temperatures]
    return {"": largest.to(dtype), CLASSES: classes.int(), REST: torch.stack(rest, dim=-1)}


def cut_sparse(
    logits: Tensor, settings: StoreSettings, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """As `cut_logits` of a store that is read sparse, and the L1 distances (temperatures, rows) of what is kept.

    r = sum_others e_j / sum e_j,  e_j = exp((z_j - max z) / T); draws are of the others with these weights. In the
    distances the others count as one class. Sums are pairwise, as `softmax` over so many classes is not. Logits
    are kept less the largest of their row: float16 is finest near 0, where the likeliest classes then are.

    Args:
        logits: (rows, classes) float32.
        settings: of the store.
        generator: of the draws; it is used in the order of the rows.
    """
    largest, classes = logits.topk(settings.top_k or 1)
    dtype, greatest = DTYPES[settings.dtype], largest[:, :1]
    kept = {"": (largest - greatest).clamp_(min=torch.finfo(dtype).min).to(dtype), CLASSES: classes.int()}
    shifted, rests, distances = logits - greatest, [], []
    for T in settings.temperatures:
        weights = torch.exp(shifted / T)
        top = weights.gather(-1, classes)
        others = weights.scatter_(-1, classes, 0.0)
        outside = others.sum(-1)
        total = top.sum(-1) + outside
        rests.append(outside / total)
        distances.append((top / total[:, None] - top_probs(kept[""], rests[-1], T)).abs().sum(-1))
        if settings.num_draws and settings.draws_at == T:
            kept[DRAWN] = draw(others, settings.num_draws, generator).int()
    kept[REST] = torch.stack(rests, dim=-1)
    return {ending: kept[ending] for ending in settings.widths}, torch.stack(distances)


def draw(weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Classes (rows, number), drawn with these weights (rows, classes), with replacement.

    The inverse of the distribution function, summed in float64: `torch.multinomial` sums in float32.

    Example:
        >>> draw(torch.tensor([[0.0, 2.0, 0.0]]), 4, torch.Generator()).tolist()
        [[1, 1, 1, 1]]
    """
    uniform = torch.rand(len(weights), number, dtype=torch.float64, generator=generator)
    below = weights.double().cumsum(-1)
    total = below[:, -1:].clone()
    wanted = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, wanted, right=True).clamp_(max=weights.shape[-1] - 1)


def top_probs(logits: Tensor, rest: Tensor, temperature: float) -> Tensor:
    """Probabilities (rows, k) of the top k classes at T, from their logits and the mass r (rows,) of the others.

    p_i = (1 - r) exp(z_i / T) / sum_K exp(z_j / T)
    """
    return torch.softmax(logits.float() / temperature, -1) * (1 - rest)[:, None]


def sparse_targets(
    kept: Mapping[str, Tensor], settings: StoreSettings, temperature: float, reading: str
) -> SparseTargets:
    """The targets of some rows, (rows, ...)."""
    rest = kept[REST][:, settings.temperatures.index(temperature)]
    probs = top_probs(kept[""], rest, temperature)
    # Draws made at another temperature are no draws at this one.
    drawn = kept[DRAWN].long() if DRAWN in kept and settings.draws_at == temperature else None
    return SparseTargets(kept[CLASSES].long(), probs, rest, temperature, drawn, reading)


def restore_logits(kept: Mapping[str, Tensor], settings: StoreSettings, T: float) -> Tensor:
    """Logits (rows, classes) whose softmax at T is the stored soft target; for a top-k store, at this T only.

    The classes outside the top k share their mass r at T equally: with N classes, each of them gets
    z = T (log sum_top exp(z_j / T) + log(r / (1 - r)) - log(N - k)).
    """
    logits = kept[""].float()
    if settings.top_k is None:
        return logits
    num_classes, scaled = len(settings.class_names), logits / T
    rest = kept[REST][:, settings.temperatures.index(T)].clamp(min=torch.finfo(torch.float32).tiny)
    others = scaled.logsumexp(-1) + torch.logit(rest) - math.log(max(num_classes - settings.top_k, 1))
    return others[:, None].repeat(1, num_classes).scatter(-1, kept[CLASSES].long(), scaled) * T
