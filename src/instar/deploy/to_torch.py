"""A network as a program of `torch.export`, or as its weights alone with what they are built into."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.files import tensor_bytes, write_bytes


def traced(model: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    """The program of a module in evaluation mode, for a batch of any size; `inputs` are two examples or more.

    Raises:
        Exception: whatever the exporter raises where the network cannot be exported.
    """
    with quietly(), torch.no_grad():
        program = torch.export.export(model, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # has the paths of this machine
    return program


def write_torch(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """Write a module that gives logits, as `traced`; `torch.export.load` opens it without instar."""
    program, content = traced(model, inputs), io.BytesIO()
    program.example_inputs = None  # they would be stored as a pickle
    torch.export.save(program, content)
    write_bytes(path, content.getvalue())


def write_safetensors(network: nn.Module, config: Mapping[str, Any], path: Path) -> None:
    """Write the weights of a run's network; `config` says what they are built into (`portable_config`)."""
    write_bytes(path, tensor_bytes(network.state_dict(), {"config": dict(config)}))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what exporters say of themselves: warnings, logs, and graphs of what they could not follow."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
