"""What a configuration names and does not hold, by content: data, pictures, networks of a user, trained networks.

A run directory is recognised by its configuration and by these, so that a name never gives back the result of what
it stood for before.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.data import Splits, seen_by
from instar.deploy.code import identity_of
from instar.naming import LIBRARIES, is_of_library
from instar.networks import brings_weights, described, is_teacher_file, network_fingerprint
from instar.recipes.loading import build_for, load_network, member_specs
from instar.recipes.settings import (
    DataSettings,
    FitSettings,
    NetworkSettings,
    Settings,
    StudentSettings,
    TransferSettings,
)
from instar.recipes.splits import load_pictures, load_splits
from instar.runs import is_run


def contents_of(config: Settings) -> dict[str, Any]:
    """By the key of a setting, what it names.

    Raises:
        UsageError, DataError: data or a network cannot be loaded.

    Example:
        >>> from instar.recipes.distill.settings import DistillConfig
        >>> list(contents_of(DistillConfig())), list(contents_of(DistillConfig())["data"])
        (['data'], ['fingerprint', 'train', 'validation', 'test'])
    """
    found: dict[str, Any] = {}
    _look_into(config, "", None, found)
    return found


def _look_into(node: Any, key: str, splits: Splits | None, found: dict[str, Any]) -> None:
    if isinstance(node, (Mapping, list)):
        for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            _look_into(value, f"{key}{name}.", splits, found)
    elif isinstance(node, DataSettings):
        found[key.rstrip(".")] = load_splits(node).identity
    elif isinstance(node, Settings):
        own = dict(node)
        splits = load_splits(own["data"]) if isinstance(own.get("data"), DataSettings) else splits
        if splits is not None and (about := _about(node, splits)):
            found[key.rstrip(".") or "network"] = about
        for name, value in own.items():
            _look_into(value, f"{key}{name}.", splits, found)


def _about(node: Settings, splits: Splits) -> dict[str, Any]:
    """The networks and pictures that a part of a configuration names, by name."""
    if isinstance(node, TransferSettings):
        return {} if node.folder is None else {node.folder: load_pictures(node.folder, splits).identity}
    network = getattr(node, "network", "")
    if not isinstance(node, NetworkSettings):
        if not (isinstance(network, str) and network.startswith("python:")):
            return {}
        module = network.partition("@")[0]  # its weights may be for other classes; the base's job knows them
        built = build_for(FitSettings(network=module), splits, seed=0)
        return {network: identity_of(built, network, splits.train.examples(), data_name=splits.name)}
    specs = [one for spec in network.split(",") for one in member_specs(spec)]
    return {spec: about for spec in specs if (about := _about_network(node, spec, splits))}


def _about_network(settings: NetworkSettings, spec: str, splits: Splits) -> dict[str, Any]:
    """What a network of a user, or with weights, is known by; nothing for an architecture of ours."""
    has_weights = brings_weights(spec) and not settings.new_weights
    is_trained = settings.pretrained or is_run(spec) or is_teacher_file(spec)
    is_trained = is_trained or (has_weights and not isinstance(settings, StudentSettings))
    if not is_trained and not has_weights and not spec.startswith("python:") and not is_of_library(spec):
        return {}
    own = settings.model_copy(update={"network": spec})
    network = load_network(own, splits) if is_trained else build_for(own, splits, seed=0)
    examples, name = seen_by(network, splits.train).examples(), splits.name
    about = identity_of(network, spec, examples, trained=not is_trained, data_name=name)
    return {**about, "state": network_fingerprint(network)} if is_trained or has_weights else about


def code_of(config: Settings) -> dict[str, str]:
    """Hashes of the files that say what a name means: the default run directory follows them.

    They are the files of `python:MODULE:FUNCTION`, by module, and those of a folder that describe its network.
    """
    text = config.model_dump_json()
    modules = re.findall(r"\bpython:([\w.]+):", text)
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in modules}
    found = {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in files.items() if file}
    names = [json.loads(name) for name in re.findall(rf'"(?:{"|".join(LIBRARIES)}):(?:[^"\\]|\\.)*"', text)]
    for spec in (part for name in names for part in name.split(",") if is_of_library(part)):
        if folder := described(spec):
            found[spec] = hashlib.sha256(json.dumps(folder, sort_keys=True).encode()).hexdigest()
    return found
