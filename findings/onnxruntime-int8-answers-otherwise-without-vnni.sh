#!/usr/bin/env bash
# onnxruntime 1.32.0: the same int8 file answers otherwise on x86 processors without VNNI.
#
# Static quantisation with unsigned activations and the default weight type makes products of an unsigned and a signed
# byte. Processors without VNNI add two of them in 16 bits, where they overflow: 255 x 127 x 2 is more than 32,767.
# Nothing is said when the file is made or run, and one that was checked on a machine with VNNI is wrong on the other.
#
# Expected: an int8 matrix product of the size of its rounding errors, whatever the processor.
# Seen without VNNI: an error of 5.9 % of the largest output; of 0.7 % with `reduce_range=True`.
# Cure: `reduce_range=True` (weights of seven bits), which costs little and answers alike everywhere.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 sympy==1.14.0
"$folder/venv/bin/python" - "$folder" <<'P'
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

folder = Path(sys.argv[1])
random = np.random.default_rng(0)
weights = random.normal(0.1, 0.1, (64, 8)).astype("float32")
inputs = random.uniform(0.5, 1, (100, 64)).astype("float32")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "product",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
    [numpy_helper.from_array(weights, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
onnx.save(model, folder / "float.onnx")


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": inputs}])

    def get_next(self):
        return next(self.batches, None)


def error(**options):
    quantize_static(folder / "float.onnx", folder / "int8.onnx", Reader(), activation_type=QuantType.QUInt8, **options)
    session = onnxruntime.InferenceSession(folder / "int8.onnx", providers=["CPUExecutionProvider"])
    found, expected = session.run(None, {"x": inputs})[0], inputs @ weights
    return float(np.abs(found - expected).max() / np.abs(expected).max())


has_vnni = "vnni" in Path("/proc/cpuinfo").read_text()
plain, reduced = error(), error(reduce_range=True)
print(f"onnxruntime {onnxruntime.__version__}, VNNI {has_vnni}: largest error {plain:.1%} of the largest output; {reduced:.1%} with reduce_range")
assert reduced < 0.02
assert (plain > 0.03) is (not has_vnni), "the products no longer overflow, or do with VNNI too: this finding is out of date"
P
