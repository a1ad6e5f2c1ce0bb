"""Asking a teacher of each kind about many examples over the library's own call on the same rows."""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from benchmarks.timing import Seconds, figure, in_turns, ratio, write_result
from instar.data import Dataset, as_dataset, load_data
from instar.deploy.to_onnx import write_onnx
from instar.evaluation import batch_size_on, predict_logits
from instar.networks import asked_network, build_network

EXAMPLES, ROUNDS = 8192, 9
GOAL = ">= 0.95"
Answer = Callable[[NDArray[Any]], object]


def main() -> None:
    """Measure, and write `results/bench-asking.json`."""
    torch.set_num_threads(1)
    digits = load_data("digits").train
    pictures = digits.gather(digits.ids, 0)
    rows = torch.rand(EXAMPLES, *pictures.shape[1:], generator=torch.Generator().manual_seed(0))
    data = as_dataset((rows, torch.arange(EXAMPLES) % 10))
    seconds: Seconds = {}
    ratios, figures = {}, {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a converted network warns of what it uses in torch
        fitted = (pictures.flatten(1).numpy(), digits.labels(digits.ids).numpy())
        for name, (teacher, own) in {**_estimators(*fitted), **_networks(Path(folder))}.items():
            found = in_turns(
                {"instar": _asked(teacher, data), "own": lambda own=own: own(rows.numpy())},
                rounds=ROUNDS,
                at_most_seconds=20,
                clock=time.process_time,
            )
            ratios[name] = ratio(found["own"], found["instar"], goal=GOAL)  # seconds: the inverse of examples/s
            figures[name] = figure([EXAMPLES / one for one in found["instar"]], unit="examples/s")
            seconds |= {f"{name}: {way}": values for way, values in found.items()}
    config = {
        "data": f"{EXAMPLES:,} pictures of 1x8x8 numbers, in memory; the teachers were fitted on the digits",
        "ratio": "examples/s of instar over those of the library's own call; ONNX in batches of 128 in both",
        "threads": 1,
        "seconds": "of the processor",
    }
    write_result("asking", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _asked(teacher: Any, data: Dataset) -> Callable[[], object]:
    network = asked_network(teacher, class_names=data.class_names, example_shape=data.example_shape)
    return lambda: predict_logits(network, data)


def _estimators(rows: NDArray[Any], labels: NDArray[Any]) -> dict[str, tuple[Any, Answer]]:
    import lightgbm
    import xgboost

    few = {"n_estimators": 100, "n_jobs": 1}
    models = {
        "forest of 100 trees": RandomForestClassifier(random_state=0, **few),
        "LightGBM, 100 rounds": lightgbm.LGBMClassifier(verbose=-1, **few),
        "XGBoost, 100 rounds": xgboost.XGBClassifier(**few),
    }

    def own(model: Any) -> Answer:
        return lambda rows: model.predict_proba(rows.reshape(len(rows), -1))

    return {name: (model.fit(rows, labels), own(model)) for name, model in models.items()}


def _networks(folder: Path) -> dict[str, tuple[Any, Answer]]:
    import onnxruntime

    found: dict[str, tuple[Any, Answer]] = {}
    for spec in ("mlp:256x2", "convnet:4"):
        file = folder / f"{spec.replace(':', '-')}.onnx"
        network = build_network(spec, input_shape=(1, 8, 8), num_classes=10, seed=0).eval()
        write_onnx(network, torch.rand(2, 1, 8, 8), file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def own(rows: NDArray[Any], session: Any = session, name: str = name) -> object:
            size = batch_size_on("cpu")
            parts = [
                session.run(None, {name: rows[start : start + size]})[0] for start in range(0, len(rows), size)
            ]
            return np.concatenate(parts)

        found[f"ONNX, {spec}"] = (f"onnx:{file}", own)
    return found


if __name__ == "__main__":
    main()
