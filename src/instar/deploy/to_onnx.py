"""A network as one ONNX file, from values of 0 to 1 to logits, and the same file in eight-bit integers."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.deploy.to_torch import quietly, traced
from instar.errors import RunError
from instar.naming import import_extra
from instar.structures import Form, Inputs, by_name, in_type, split_examples

LOGITS = "logits"
_MOST_BYTES = 2**31 - 2**20  # of a protobuf file, with room for the graph
_CALIBRATION_BATCH = 64
_PASSES_ON = {"Cast", "Dropout", "Identity", "IsNaN", "Mul", "Reshape", "Transpose", "Where"}


def check_packages() -> None:
    """Import what writes and runs ONNX files.

    Raises:
        UsageError: a package of the extra `onnx` is not installed.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_extra(name, "onnx")


def write_onnx(model: nn.Module, inputs: Inputs, path: Path, form: Form | None = None) -> None:
    """Write a module that gives logits, for a batch of any size and examples of any length.

    Its inputs are called as `structures.by_name` calls them.

    Args:
        model: in evaluation mode.
        inputs: an example batch of two or more, of any structure, as long as any.
        path: of the file.
        form: of an example; None for one without lengths that vary.

    Raises:
        UsageError: the packages are not installed.
        RunError: the weights are too many for one file.
        Exception: whatever the exporters raise where the network cannot be exported.
    """
    check_packages()
    size = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    if size > _MOST_BYTES:
        raise RunError(f"{size / 2**30:.1f} GiB of weights do not fit into an ONNX file, which holds 2 GiB")
    program = traced(model, inputs, form)
    with quietly():
        torch.onnx.export(
            program,
            (inputs,),
            path,
            input_names=list(by_name(inputs)),
            output_names=[LOGITS],
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    _forget_origin(path)


def _forget_origin(path: Path) -> None:
    """Remove where in which file each node came from: paths of this machine, and half of a small file."""
    import onnx

    model = onnx.load(path)
    for described in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        described.ClearField("metadata_props")
    for function in model.functions:
        for node in function.node:
            node.ClearField("metadata_props")
    onnx.save(model, path)


def write_int8(source: Path, calibration: Inputs, path: Path, *, per_channel: bool) -> None:
    """Write an ONNX file with activations of eight bits and weights of seven, ranges found on calibration data.

    Weights of eight bits overflow in sums of 16 on x86 processors without VNNI: the file would answer otherwise
    there. Activations are unsigned: with signed ones residual networks become slower than in float. Of a network
    with attention only matrix products are quantised, as the mask of attention would ruin the range of the rest,
    and its head, which is small, stays in float.

    Args:
        source: an ONNX file in float32.
        calibration: training inputs, (examples, *shape) float32 or of the structure of the network.
        path: of the new file.
        per_channel: a scale for each output channel of the weights.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Inputs] = iter(split_examples(calibration, _CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: one.numpy() for name, one in by_name(batch).items()}

    with quietly():
        quantize_static(
            source,
            path,
            Reader(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            reduce_range=True,
            op_types_to_quantize=["MatMul"] if has_attention(source) else None,
        )


def has_attention(file: Path) -> bool:
    """Whether the values of a softmax are multiplied as a matrix in an ONNX file."""
    import onnx

    return attends(onnx.load(file).graph.node)


def attends(nodes: Iterable[Any]) -> bool:
    """`has_attention` of the nodes of a graph, in their order."""
    weights: set[str] = set()
    for node in nodes:
        takes = weights & set(node.input)
        if node.op_type in ("Attention", "MultiHeadAttention") or (takes and node.op_type in ("MatMul", "Einsum")):
            return True
        if node.op_type == "Softmax" or (takes and node.op_type in _PASSES_ON):
            weights |= set(node.output)
    return False


class Session(nn.Module):
    """An ONNX file as a module from inputs to logits, on the CPU.

    Raises:
        UsageError: onnxruntime is not installed.
        RunError: it cannot open the file.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        onnxruntime = import_extra("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            words = " ".join(str(error).split())
            raise RunError(f"{file} cannot be opened by onnxruntime: {words}") from error

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        given = named or dict(zip((one.name for one in self.session.get_inputs()), inputs, strict=True))
        arrays = {name: in_type(one, torch.float32).numpy() for name, one in given.items()}
        return torch.from_numpy(self.session.run([LOGITS], arrays)[0])
