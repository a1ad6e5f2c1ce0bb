"""Readers of what instar itself writes, beside second readers: weights, stores, settings, run directories."""

import hashlib
import json
import math
import random
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from benchmarks.fuzz_data import Reader
from benchmarks.mutations import Files

_LEFT_OPEN = ("warmup_epochs", "batch_size")
"""Settings whose default depends on whether a learning rate is given."""


def _files_in(folder: Path) -> Files:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (
            str(value.dtype),
            tuple(value.shape),
            value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, value in tensors.items()
    }


# --- weights ---


def _weights() -> list[Files]:
    draw = torch.Generator().manual_seed(0)
    floats = torch.randn(3, 4, generator=draw)
    several = {
        "a.weight": floats,
        "a.bias": floats[0].half(),
        "b": floats.to(torch.bfloat16),
        "c": torch.arange(5),
        "d": torch.tensor([True, False]),
        "e": torch.tensor(2, dtype=torch.uint8),
    }
    return [{"w.safetensors": save(several, metadata={"epoch": "3"})}, {"w.safetensors": save({"w": floats})}]


def _read_weights(folder: Path) -> Any:
    from instar.networks.weights import read_weights

    return _plain(read_weights(folder / "w.safetensors"))


def _weights_by_safetensors(folder: Path) -> Any:
    return _plain(load((folder / "w.safetensors").read_bytes()))


# --- stores ---

TEMPERATURE = 2.0


def _stores() -> list[Files]:
    from instar.data import as_dataset
    from instar.distillation import SoftTargetStore

    draw = torch.Generator().manual_seed(0)
    data = as_dataset((torch.randn(6, 3, generator=draw), torch.tensor([0, 1, 2, 0, 1, 2])))
    torch.manual_seed(0)
    teachers = {"one": torch.nn.Linear(3, 3), "two": torch.nn.Linear(3, 3)}
    found = []
    for options in (
        {"dtype": "float32"},
        {"dtype": "float16", "rows_per_shard": 4},
        {"top_k": 2, "temperatures": (TEMPERATURE,)},
    ):
        with tempfile.TemporaryDirectory() as folder:
            SoftTargetStore.write(folder, teachers, data, **options)
            found.append(_files_in(Path(folder)))
    return found


def _signed(files: Files, draw: random.Random) -> Files:
    """In half of them a value of the manifest is another one and its checksum is right, as of a bad writer."""
    if draw.random() < 0.5 or "store.json" not in files:
        return files
    try:
        content = json.loads(files["store.json"])
        place = draw.choice((content, content["settings"], *content["shards"].values()))
        place[draw.choice(sorted(place))] = draw.choice((0, -1, 1, 7, 10**30, 0.5, None, "x", [], {}, [0], True))
        content.pop("sha256", None)
        content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    except (ValueError, LookupError, AttributeError, TypeError):
        return files
    return {**files, "store.json": json.dumps(content, indent=1).encode() + b"\n"}


def _read_store(folder: Path) -> Any:
    from instar.distillation import SoftTargetStore

    store = SoftTargetStore.open(folder)
    store.check()
    probs = [store.soft_targets(store.ids, view, TEMPERATURE).probs.numpy() for view in range(store.num_views)]
    return store.ids.numpy(), list(store.class_names), np.stack(probs)


def _store_by_arrow(folder: Path) -> Any:
    import pyarrow as pa

    settings = json.loads((folder / "store.json").read_bytes())["settings"]
    shards = [pa.ipc.open_file(path.read_bytes()).read_all() for path in sorted(folder.glob("*.arrow"))]
    table = pa.concat_tables(shards).to_pydict()
    num_classes, probs = len(settings["class_names"]), []
    for teacher in settings["teachers"]:
        logits = np.array(table[teacher], np.float32) / TEMPERATURE
        top = np.exp(logits - logits.max(1, keepdims=True))
        top /= top.sum(1, keepdims=True)
        if settings["top_k"] is not None:
            rest = np.array(table[f"{teacher}.rest"], np.float32)
            classes = np.array(table[f"{teacher}.classes"])
            full = np.repeat(rest / max(num_classes - settings["top_k"], 1), num_classes, axis=1)
            np.put_along_axis(full, classes, top * (1 - rest), axis=1)
            top = full
        probs.append(top)
    ids = np.array(table["id"])[: settings["num_examples"]]
    return (
        ids,
        settings["class_names"],
        np.mean(probs, axis=0).reshape(settings["num_views"], len(ids), num_classes),
    )


# --- settings ---


def _settings() -> list[Files]:
    texts = (
        'seeds = 3\ntemperature = [2.0, 4.0]\n[student]\nepochs = 4\nnetwork = "mlp:8x1"\nlearning_rate = [0.1]\n',
        '[data]\nname = "digits"\nvalidation_fraction = 0.1\n[teacher]\nepochs = 30\nlearning_rate = 0.05\n',
        "soft_weight = [1.0, 0.5]\nhard_weight = [0.1]\nseed = 7\n[transfer]\nfraction = 0.5\nseed = 1\n",
    )
    return [{"mine.toml": text.encode()} for text in texts]


def _read_settings(folder: Path) -> Any:
    from instar.recipes.distill.settings import read_config

    return _alike(read_config({}, folder / "mine.toml").model_dump())


def _alike(content: Any) -> Any:
    """One value stands for a list of it, infinity is written in letters, and given rates decide the warm-up."""
    if isinstance(content, dict):
        return {key: _alike(value) for key, value in content.items() if key not in _LEFT_OPEN}
    if isinstance(content, list):
        return _alike(content[0]) if len(content) == 1 else [_alike(value) for value in content]
    return "inf" if content == math.inf else content


def _settings_by_tomllib(folder: Path) -> Any:
    from instar.recipes.distill.settings import read_config

    with (folder / "mine.toml").open("rb") as file:
        content = tomllib.load(file)

    def over(default: Any, given: Any) -> Any:
        if not isinstance(default, dict) or not isinstance(given, dict):
            return given
        return default | {key: over(default.get(key), value) for key, value in given.items()}

    return _alike(over(read_config({}).model_dump(), content.get("config", content)))


# --- run directories ---


def _runs() -> list[Files]:
    from instar.runs import Run

    found = []
    for config in ({"network": "mlp:4x1", "rates": [0.1, 0.3]}, {"data": {"name": "digits"}, "seeds": 3}):
        with tempfile.TemporaryDirectory() as folder:
            with Run(folder, recipe="fit", config=config) as run:
                run.log_metrics({"epoch": 1, "loss": 0.5})
                run.log_metrics({"epoch": 2, "loss": 0.25})
                run.save_weights({"w": torch.arange(6.0).reshape(2, 3)}, {"epochs": 2})
                run.finish({"metrics": {"loss": 0.25}, "rows": [{"n": 1}]})
            found.append(_files_in(Path(folder)))
    return found


def _read_run(folder: Path) -> Any:
    from instar.runs import Run

    run = Run.read(folder)
    tensors, about = run.load_weights()
    return run.recipe, run.config, run.metrics(), run.result(), _plain(tensors), about


def _run_by_others(folder: Path) -> Any:
    content = tomllib.loads((folder / "config.toml").read_bytes().decode())
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_bytes().decode().split("\n")[:-1] if metrics.exists() else []
    result = json.loads((folder / "result.json").read_bytes())
    weights = (folder / "checkpoints/final.safetensors").read_bytes()
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    about = json.loads(header.get("__metadata__", {}).get("state", "{}"))
    return (
        content["recipe"],
        content["config"],
        [json.loads(line) for line in lines],
        result,
        _plain(load(weights)),
        about,
    )


RESULT_READERS = {
    "safetensors": Reader(_weights, _read_weights, (_weights_by_safetensors,)),
    "soft-target store": Reader(_stores, _read_store, (_store_by_arrow,), _signed),
    "TOML settings": Reader(_settings, _read_settings, (_settings_by_tomllib,)),
    "run directory": Reader(_runs, _read_run, (_run_by_others,)),
}
