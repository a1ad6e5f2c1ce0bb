"""Logits as a store keeps them, logits restored from it, and hashes that identify its examples."""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from instar.data import Dataset
from instar.distillation.store_format import CLASSES, REST, StoreSettings

DTYPES = {"float16": torch.float16, "float32": torch.float32}


def content_hashes(data: Dataset, ids: Tensor) -> dict[str, str]:
    """Hashes of the raw content of some examples, by id."""
    contents = data.contents(data.rows(ids))
    digests = (hashlib.blake2b(content, digest_size=8).hexdigest() for content in contents)
    return {str(example): digest for example, digest in zip(ids.tolist(), digests, strict=True)}


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
