"""A model file's logits and latency, in a process of its own that, but for weights alone, knows nothing of instar.

A script: `python -P answering.py KIND FILE INPUTS.npy LOGITS.npz`, KIND is onnx, torch or safetensors.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH, ALONE = 64, 64  # examples of a batch; how many are asked one by one too
_SECONDS, _MOST = 0.5, 200  # for each latency


def main() -> None:
    """Write the logits in batches and one by one; print the median latencies in milliseconds as JSON."""
    kind, file, inputs_file, logits_file = sys.argv[1:]
    answer, inputs = _opened(kind, file), np.load(inputs_file, mmap_mode="r", allow_pickle=False)
    batches = [answer(np.array(inputs[at : at + BATCH])) for at in range(0, len(inputs), BATCH)]
    singles = [answer(np.array(inputs[at : at + 1])) for at in range(min(ALONE, len(inputs)))]
    np.savez(logits_file, batches=np.concatenate(batches), singles=np.concatenate(singles))
    whole = np.array(inputs[np.arange(BATCH) % len(inputs)])
    sys.stdout.write(json.dumps([_latency_ms(answer, whole[:1]), _latency_ms(answer, whole)]))


def _opened(kind: str, file: str) -> Callable[[Any], Any]:
    """A function from inputs to logits; one thread."""
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(["logits"], {"inputs": inputs})[0]
    import torch

    torch.set_num_threads(1)
    network: Any
    if kind == "torch":
        network = torch.export.load(file).module()
    else:
        from instar.deploy import load

        network = load(file)

    def answer(inputs: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(inputs)).numpy()

    return answer


def _latency_ms(answer: Callable[[Any], Any], inputs: Any) -> float:
    for _ in range(3):
        answer(inputs)
    seconds: list[float] = []
    while len(seconds) < 5 or (len(seconds) < _MOST and sum(seconds) < _SECONDS):
        started = time.perf_counter()
        answer(inputs)
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds), 4)


if __name__ == "__main__":
    main()
