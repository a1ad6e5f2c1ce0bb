"""Builds the network that `timm:NAME`, `torchvision:NAME` or `transformers:NAME_OR_PATH` means."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from instar.errors import DataError, InstarError, UsageError, first_line
from instar.listening import VALUES
from instar.naming import few, is_of_library
from instar.networks.inputs import Normalisation, serve_own_needs_
from instar.networks.libraries import of_timm, of_torchvision, of_transformers
from instar.networks.libraries.folders import (
    TOKENIZER_FILES,
    find_folder,
    has_weights,
    is_folder_name,
    texts_of,
)
from instar.networks.libraries.heads import head_of, with_classes
from instar.networks.libraries.hearing import with_own_extractor
from instar.networks.libraries.offer import PRETRAINED, Offer, Wanted
from instar.networks.libraries.reading import with_own_tokenizer
from instar.networks.weights import load_state_, read_weights, without_prefix
from instar.structures import Form, form_in_words, is_plain, is_tagged, num_ids, predicts_next

FORMS = ("timm:NAME", "torchvision:NAME", "transformers:NAME_OR_PATH")
Weights = Literal["start", "own", "none"]
"""What the weights that a name brings are for: to be trained further, to be used as they are, or not loaded."""

_HEAD = "head_was_changed"  # the attribute that says so
_OFFERS: dict[str, Callable[[str, str, Wanted], Offer]] = {
    "timm": of_timm.offer,
    "torchvision": of_torchvision.offer,
    "transformers": of_transformers.offer,
}


class Name(NamedTuple):
    """`LIBRARY:NAME:PIXELS@WEIGHTS` in parts."""

    library: str
    name: str
    pixels: int | None
    weights: str


def parse(spec: str) -> Name:
    """The parts of a name.

    Raises:
        UsageError: it has no name after the library.

    Example:
        >>> parse("timm:resnet18:64@pretrained")
        Name(library='timm', name='resnet18', pixels=64, weights='pretrained')
    """
    whole, _, weights = spec.partition("@")
    library, _, name = whole.partition(":")
    sized = re.fullmatch("(.+):([1-9][0-9]{0,4})", name)
    if not name:
        raise UsageError(f"network {spec!r} should be {next(one for one in FORMS if one.startswith(library))}")
    return Name(library, sized[1], int(sized[2]), weights) if sized else Name(library, name, None, weights)


def brings_weights(spec: str) -> bool:
    """Whether a name stands for a network with weights: of a file, of the library, or in a folder of its own.

    Example:
        >>> brings_weights("timm:resnet18"), brings_weights("timm:resnet18@pretrained"), brings_weights("mlp:8x1")
        (False, True, False)
    """
    if "@" in spec or not is_of_library(spec):
        return "@" in spec
    library, name, _, _ = parse(spec)
    if library == "torchvision" or not (library == "transformers" or is_folder_name(name)):
        return False
    folder = Path(name).expanduser()
    return has_weights(folder) if folder.is_dir() else True


def described(spec: str) -> dict[str, str] | None:
    """The files that describe the network of a folder, by name: with them it is built again without the folder.

    Raises:
        UsageError: there is no such folder.
    """
    if not is_of_library(spec):
        return None
    library, name, _, _ = parse(spec)
    if library == "torchvision" or not (library == "transformers" or is_folder_name(name)):
        return None
    found = texts_of(spec, find_folder(spec, name, library))
    # A tokenizer belongs to weights: without, the network is trained on whatever ids there are.
    return (
        found if brings_weights(spec) else {key: one for key, one in found.items() if key not in TOKENIZER_FILES}
    )


def build_from_library(
    spec: str,
    *,
    input_shape: Form,
    num_classes: int,
    seed: int,
    weights: Weights = "start",
    class_names: Sequence[str] | None = None,
    normalisation: Normalisation | None = None,
    described: Mapping[str, str] | None = None,
) -> nn.Module:
    """The network of a library, which gets its pictures in the size and normalisation that it needs.

    One of texts gets the ids of the data, or, where it was trained with another tokenizer and is used as it is,
    the texts, which it then reads with its own.

    A network without weights has learned no size: it sees pictures as they are, unless its architecture fixes it.

    Args:
        spec: `LIBRARY:NAME`, with `:PIXELS` for pictures of another size, and `@pretrained` or `@FILE`.
        input_shape: the form of one example: a picture, or for transformers a text.
        num_classes: of the data. A head of other classes is replaced by a new one, unless `weights` is `own`.
        seed: of what is initialised.
        weights: what they are for.
        class_names: of the data, which those of the head are matched with.
        normalisation: that the inputs have been normalised with.
        described: what `described` gave, for a folder that need not be there.

    Raises:
        UsageError: the network does not exist, the package is not installed, or its classes are not the data's.
        DataError: the weights are damaged or of another architecture.
    """
    library, name, pixels, file = parse(spec)
    ids = input_shape.get("input_ids") if isinstance(input_shape, Mapping) else None
    features = isinstance(input_shape, Mapping) and not {*input_shape}.isdisjoint(VALUES)
    if features and library == "transformers":
        channels, number = 0, None
    elif ids is not None and library == "transformers":
        channels, number = 0, num_ids(ids)
        if number is None:
            raise UsageError(
                f"{spec} has to know how many ids there are, and {form_in_words(input_shape)} does not say"
            )
    elif is_plain(input_shape) and len(input_shape) == 3:
        channels, number = int(input_shape[0]), None
    else:
        raise UsageError(
            f"{spec} needs pictures (channels, height, width){', texts or sounds' * (library == 'transformers')}; "
            f"an example is {form_in_words(input_shape)}"
        )
    has_own = not file and described is None and brings_weights(spec)
    is_next = ids is not None and predicts_next(input_shape)
    length = int(ids[1]) if is_next and ids is not None else None
    at_each: dict[str, bool] = {"is_next": is_next, "is_tagged": ids is not None and is_tagged(input_shape)}
    wanted = Wanted(channels, pixels, bool(file) or has_own, described, number, features, length=length, **at_each)
    try:
        offer = _OFFERS[library](spec, name, wanted)
    except InstarError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:  # of what its files say
        raise DataError(f"{spec}: its files describe no network: {' '.join(str(error).split())}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = offer.build(num_classes)
        if weights != "none" and (file or has_own):
            if is_next:
                _load_as_it_is_(network, offer, spec, file)
            else:
                _load_(network, offer, spec, file, class_names=class_names, as_it_is=weights == "own")
    is_rebuilt = described is not None
    if offer.is_of_sounds:
        files = described or texts_of(spec, find_folder(spec, name, library))
        is_used = weights == "own" or is_rebuilt
        return with_own_extractor(network, spec, files, input_shape if features else None, is_used=is_used)
    needs = offer.needs
    if needs.size is not None:
        network.input_size, network.input_interpolation = needs.size, needs.interpolation  # type: ignore[assignment]
    if needs.mean is not None and needs.std is not None:
        network.input_normalisation = tuple(needs.mean), tuple(needs.std)  # type: ignore[assignment]
    serve_own_needs_(network, normalisation)
    if ids is None:
        return network
    files = described or texts_of(spec, find_folder(spec, name, library))
    is_weighted, is_used = bool(file) or has_own or is_rebuilt, weights == "own" or is_rebuilt
    about = {"has_weights": is_weighted, "is_used": is_used and not any(at_each.values())}
    return with_own_tokenizer(network, spec, files, ids, **about)


def head_change(network: nn.Module) -> str:
    """What was done to the head of a network that was built with weights, in words; empty for nothing."""
    return str(getattr(network, _HEAD, ""))


def _load_as_it_is_(network: nn.Module, offer: Offer, spec: str, file: str) -> None:
    """The weights of a language model, whose head has no classes of its own."""
    own: Mapping[str, Tensor] = network.state_dict()
    is_file = bool(file) and file != PRETRAINED
    state = without_prefix(read_weights(Path(file)), own) if is_file else _own_weights(offer, spec)
    load_state_(network, state, spec, file or offer.where)


def _load_(
    network: nn.Module, offer: Offer, spec: str, file: str, *, class_names: Sequence[str] | None, as_it_is: bool
) -> None:
    own: Mapping[str, Tensor] = network.state_dict()
    if file and file != PRETRAINED:
        state: Mapping[str, Tensor] = without_prefix(read_weights(Path(file)), own)
    else:
        state = _own_weights(offer, spec)
    head = head_of(offer.build, max(2, len(offer.class_names)))
    if not head:
        raise UsageError(f"{spec} has no classification head")
    if not own.keys() & state.keys():
        there = few(list(state))
        raise DataError(f"{file or offer.where} holds weights of another architecture than {spec}: {there}")
    state, said = with_classes(
        state, own, head, names=offer.class_names, wanted=class_names, spec=spec, as_it_is=as_it_is
    )
    load_state_(network, state, spec, file or offer.where)
    setattr(network, _HEAD, said)


def _own_weights(offer: Offer, spec: str) -> Mapping[str, Tensor]:
    """The weights of a library.

    Raises:
        UsageError: it has none, or they are neither fetched nor on this machine: says which file to put where.
    """
    if offer.weights is None:
        raise UsageError(
            f"{spec}: there are no safetensors under this name; a file of weights is {spec.partition('@')[0]}@FILE"
        )
    try:
        return offer.weights()
    except UsageError:
        raise
    except OSError as error:  # of the network, and of the hub's client
        raise UsageError(
            f"{spec}: its weights are neither fetched ({first_line(error)}) nor on this machine: get "
            f"{offer.where} where there is a network, and name the file: {spec.partition('@')[0]}@FILE"
        ) from None
