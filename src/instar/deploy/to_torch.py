"""A network as a program of `torch.export`, or as its weights alone with what they are built into."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.files import tensor_bytes, write_bytes
from instar.structures import Form, Inputs, map_form, map_tensors, varies


def traced(model: nn.Module, inputs: Inputs, form: Form | None = None) -> torch.export.ExportedProgram:
    """The program of a module in evaluation mode, for a batch of any size and examples of any length.

    Args:
        model: takes the batch as one argument, whatever its structure.
        inputs: two examples or more, as long as any.
        form: of an example; None for one without lengths that vary.

    Raises:
        Exception: whatever the exporter raises where the network cannot be exported.
    """
    batch, length = torch.export.Dim("batch"), torch.export.Dim.DYNAMIC
    if form is None or not varies(form):
        sizes = map_tensors(lambda _: {0: batch}, inputs)
    else:
        # A length has no Dim of its own: one with a limit (positions of a BERT) is found, not stated.
        sizes = map_form(lambda part: {0: batch, 1: length} if varies(part) else {0: batch}, form)
    with quietly(), torch.no_grad():
        program = torch.export.export(model, (inputs,), dynamic_shapes=(sizes,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # has the paths of this machine
    return program


def write_torch(model: nn.Module, inputs: Inputs, path: Path, form: Form | None = None) -> None:
    """Write a module that gives logits, as `traced`; `torch.export.load` opens it without instar."""
    program, content = traced(model, inputs, form), io.BytesIO()
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
