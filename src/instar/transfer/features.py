"""Features at a cut: of a frozen prefix computed once for all epochs, or pooled at every cut in one pass."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils._pytree import tree_leaves

from instar.data import Dataset, InMemoryDataset, Splits
from instar.evaluation import predict, predict_logits
from instar.networks import (
    Cut,
    call,
    casting,
    channels_last_,
    cut,
    input_type,
    is_compiled,
    layers_of,
    named_layers,
    uncompiled,
    without_compiler,
)
from instar.structures import (
    Inputs,
    are_numbers,
    joined,
    map_tensors,
    mask_place,
    num_examples,
    tensors_in,
    varies,
)

CACHE_BYTES = 2**30  # the largest features of training and validation data that one fit keeps
MOST_FEATURES = 512  # of one example; larger feature maps are averaged over areas


class PrefixFeatures(NamedTuple):
    """The trainable rest of a network, and what its frozen prefix computes for the data."""

    rest: nn.Module
    train: Dataset
    validation: Dataset


def prefix_features(
    network: nn.Module, n: int, splits: Splits, *, precision: str, device: str = "cpu"
) -> PrefixFeatures | None:
    """Compute the features of a frozen prefix once, on the training and validation data.

    Args:
        network: with its first n layers frozen.
        n: the number of frozen layers.
        splits: training and validation data, seen without views.
        precision: the precision in which the prefix would compute during the fit.
        device: where to compute.

    Returns:
        None where the features cannot be cached; see `cacheable_cut`.
    """
    parts = cacheable_cut(network, n, splits)
    if parts is None:
        return None
    network.to(device)
    with casting(precision, device):
        train, validation = (
            _as_features(parts.prefix, data, device) for data in (splits.train, splits.validation)
        )
    return PrefixFeatures(parts.rest, train, validation)


def cacheable_cut(network: nn.Module, n: int, splits: Splits) -> Cut | None:
    """Cut a network after its n frozen layers, if the features at the cut can be cached.

    Returns:
        None where the features are larger than `CACHE_BYTES`, change from one pass to the next (dropout), depend
        on the rest of the batch, are not in float32, are not all that the remaining layers read (a skip connection
        over the cut), or vary in length.
    """
    if varies(splits.train.example_shape):  # padding to another length would change their last bits
        return None
    if named_layers(network):  # modules without a name that run between the layers would be missing from the rest
        return None
    if input_type(network) != torch.float32:  # features are kept in float32, and would be rounded to it
        return None
    example_input = splits.train.gather(splits.train.ids[:2], 0)
    parts = cut(network, n, example_input)
    features = _repeatable_features(parts.prefix, example_input)
    trainable = {value for value in network.parameters() if value.requires_grad}
    if not parts.cacheable or features is None or not trainable <= set(parts.rest.parameters()):
        return None
    num_bytes = (
        4 * sum(one[0].numel() for one in tensors_in(features)) * (len(splits.train) + len(splits.validation))
    )
    return parts if num_bytes <= CACHE_BYTES else None


def _repeatable_features(prefix: nn.Module, example_input: Inputs) -> Inputs | None:
    """The features of some examples, if they depend on the example alone: not on chance, mode or batch.

    Where the network takes several tensors, these follow the features.
    """
    number = num_examples(example_input)
    # Beside other examples: numbers twice as large, of ids the first example again.
    others = map_tensors(lambda one: 2 * one if are_numbers(one.dtype) else one[:1].expand_as(one), example_input)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        in_training = call(prefix.train(), example_input)
        together = call(prefix.eval(), joined([example_input, others]))
    alone, beside = tensors_in(in_training), tensors_in(together)
    if not all(isinstance(one, Tensor) for one in (*alone, *beside)):
        return None
    beside = [one[:number] for one in beside]
    same = [torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(alone, beside, strict=True)]
    return tuple(beside) if all(same) else None


def _as_features(prefix: nn.Module, data: Dataset, device: str) -> Dataset:
    features = predict(prefix, data, lambda output, _: output, device=device)
    found = InMemoryDataset(features, data.labels(data.ids), class_names=data.class_names, ids=data.ids)
    return found if data.label_probs is None else found.with_label_probs(data.label_targets(data.ids))


def features_at(network: nn.Module, cuts: Sequence[int], data: Dataset) -> dict[int, Tensor]:
    """Pooled features at several cuts, from one pass over the data: (examples, features) for each cut."""
    example_input = data.gather(data.ids[:2], 0)
    layers = layers_of(network, example_input)
    channels_last_(network, example_input)  # runs it, and the hooks are not for that
    found: dict[int, list[Tensor]] = {n: [] for n in cuts}
    waiting: set[int] = set()
    masks: list[Tensor] = []
    place = mask_place(data.example_shape)

    def begin(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        waiting.update(cuts)
        if place is not None:
            masks[:] = [named[place] if isinstance(place, str) else inputs[place]]

    def keep(n: int, output: Any) -> None:
        if n in waiting:  # a layer that is called twice is cut after its first call
            waiting.remove(n)
            first = next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
            found[n].append(pooled(first, masks[-1] if masks else None).cpu())

    handles = [uncompiled(network).register_forward_pre_hook(begin, with_kwargs=True)]
    for n in cuts:
        handles.append(layers[n - 1].module.register_forward_hook(lambda _, __, output, n=n: keep(n, output)))
    try:
        with without_compiler(is_compiled(network)):
            predict_logits(network, data)
    finally:
        for handle in handles:
            handle.remove()
    return {n: torch.cat(parts) for n, parts in found.items()}


def pooled(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Features as (examples, features): large maps averaged over areas, tokens over their positions.

    Args:
        features: (examples, ...).
        mask: (examples, positions) of padded examples; tokens are then averaged over what is no padding.

    Example:
        >>> pooled(torch.zeros(2, 64, 16, 16)).shape, pooled(torch.zeros(2, 8, 4, 4)).shape
        (torch.Size([2, 256]), torch.Size([2, 128]))
    """
    if mask is not None and features.shape[:2] == mask.shape and features.dim() == 3:
        weights = mask[:, :, None].to(features.dtype)
        return ((features * weights).sum(1) / weights.sum(1)).float()
    if features[0].numel() > MOST_FEATURES and features.dim() == 3:
        features = features.mean(1)
    if features[0].numel() > MOST_FEATURES and features.dim() == 4:
        side = max(1, int((MOST_FEATURES / features.shape[1]) ** 0.5))
        height, width = (min(side, size) for size in features.shape[2:])
        features = adaptive_avg_pool2d(features, (height, width))
    return features.float().flatten(1)
