"""Loads weights from the files that trainers save."""

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from instar.errors import DataError, UsageError, first_line

_INDEX = ".safetensors.index.json"
_NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints of trainers keep the state dict; Lightning's is the first."""


def load_weights_(network: nn.Module, path: Path, name: str) -> None:
    """Load a weights file into a network, in place.

    A prefix that all names in the file share and the network's names lack (`module.` of DistributedDataParallel,
    `_orig_mod.` of torch.compile, `model.` of Lightning) is removed.

    Raises:
        UsageError: the file does not exist.
        DataError: the file cannot be read, is of another architecture, or holds values that the network's types
            cannot represent.
    """
    load_state_(network, without_prefix(read_weights(path), network.state_dict()), name, str(path))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        path: safetensors, the index of sharded safetensors (`model.safetensors.index.json`), or a state dict that
            torch saved, alone or within a checkpoint; it is read without running its pickle.

    Raises:
        UsageError: the file or one of its shards does not exist.
        DataError: it cannot be read, or holds NaN or infinity.
    """
    if not path.is_file():
        raise UsageError(f"no weights file at {path}")
    state = _read_shards(path) if path.name.endswith(_INDEX) else _read_file(path)
    for name, value in tensors_of(state).items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            count = int((~value.isfinite()).sum())
            raise DataError(f"{path}: {name} holds NaN or infinity in {count} of {value.numel()} values")
    return state


def _read_shards(path: Path) -> dict[str, Tensor]:
    try:
        shard_of: dict[str, str] = dict(json.loads(path.read_text())["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not an index of sharded safetensors: it has no weight_map") from error
    state: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        state |= read_weights(path.parent / Path(shard).name)
    if missing := sorted(set(shard_of) - set(state)):
        raise DataError(f"{path}: {shard_of[missing[0]]} lacks {missing[0]!r}, which the index says it holds")
    return state


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path} cannot be read as weights: {first_line(error)}") from error
    except Exception as error:  # torch raises pickle's own errors, of many types, for a damaged file
        raise DataError(f"{path} is not a state dict of tensors: {first_line(error)}") from error
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) or is_extra_state(str(name)) for name, value in content.items()
    ):
        raise DataError(f"{path} holds no state dict of tensors")
    return {str(key): value for key, value in content.items()}


def without_prefix(state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """The state without prefixes that all its names share and no name of the network has.

    Example:
        >>> list(without_prefix({"module.fc.weight": torch.ones(1)}, ["fc.weight"]))
        ['fc.weight']
    """
    own, state = list(own), dict(state)
    while state:
        prefix = next(iter(state)).partition(".")[0] + "."
        if not all(name.startswith(prefix) for name in state) or any(name.startswith(prefix) for name in own):
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def load_state_(network: nn.Module, state: Mapping[str, Any], name: str, source: str) -> None:
    """Load tensors by name into a network, in place; a network that is compiled has the names of one that is not.

    Raises:
        DataError: names or shapes of another architecture, or a value that would change when converted to the
            network's type.
    """
    own = {plain_name(key): key for key in network.state_dict()}
    values = network.state_dict()
    state = {plain_name(key): value for key, value in state.items()}
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    if missing or extra:
        key = (missing or extra)[0]
        problem = f"has no {key!r}" if missing else f"has {key!r} that {name} lacks"
        raise DataError(f"{source} is of another architecture than {name}: it {problem}")
    for key, full in own.items():
        _check_value(state[key], values[full], key, name, source)
    network.load_state_dict({full: state[key] for key, full in own.items()})


def plain_name(name: str) -> str:
    """The name of a weight without what `torch.compile` puts into it."""
    return name.replace("_orig_mod.", "")


def is_extra_state(name: str) -> bool:
    """Whether a name in a state dict is that of a module's `get_extra_state`."""
    return name.rpartition(".")[2] == "_extra_state"


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights and buffers in a state dict, without extra state."""
    return {name: value for name, value in state.items() if not is_extra_state(name)}


def extra_state_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the modules of a network keep beside weights and buffers (`get_extra_state`), by name.

    Raises:
        UsageError: it is no tensor, and nothing that JSON can hold: it could not be written without pickle.
    """
    extra = {name: value for name, value in state.items() if is_extra_state(name)}
    for name, value in extra.items():
        if not isinstance(value, Tensor) and not _is_json(value):
            raise UsageError(
                f"{name} is {type(value).__name__}, expected a tensor, or numbers, texts, lists and dicts: a "
                "run directory holds no pickle; let get_extra_state return one of these"
            )
    return extra


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def copied(value: Any) -> Any:
    """A copy of a value in a state dict."""
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _check_value(given: Any, own: Any, key: str, name: str, source: str) -> None:
    """Check that a tensor has the network's shape, and the same values in the network's type."""
    if is_extra_state(key) or not isinstance(own, Tensor):  # which its module checks
        return
    if given.shape != own.shape:
        raise DataError(
            f"{source} is of another architecture than {name}: {key} is {tuple(given.shape)}, "
            f"expected {tuple(own.shape)}"
        )
    if given.dtype == own.dtype:
        return
    kinds = given.is_floating_point(), own.is_floating_point()
    if kinds[0] != kinds[1]:
        raise DataError(
            f"{source}: {key} is {given.dtype}, expected {own.dtype}: integers without their scale are not weights"
        )
    if not torch.equal(given.to(own.dtype).to(given.dtype), given):
        raise DataError(f"{source}: {key} is {given.dtype} and would lose digits as {own.dtype}; convert the file")
