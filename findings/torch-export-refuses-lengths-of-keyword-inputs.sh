#!/usr/bin/env bash
# torch 2.13.0: a module that takes **kwargs cannot be exported with a dynamic batch; either form of the sizes is refused.
#
# `forward(self, **inputs)` wraps a network that is called by name, as those of transformers are. Exported with fixed
# sizes it works. With `dynamic_shapes={"input_ids": {0: batch}}` torch.export says that the key must be `inputs`; with
# `{"inputs": {"input_ids": {0: batch}}}`, as it asks, a later step fails with a bare AssertionError, since it flattens
# the keyword arguments that the first step had kept together.
#
# Expected: one of the two forms works.
# Seen: UserError "its top-level keys must be the arg names ['inputs']", then AssertionError "Must provide a tree_name".
# Cure: let forward take one mapping as a positional argument: `export(module, (inputs,), dynamic_shapes=(sizes,))`.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'P'
import torch
from torch import nn
from torch.export import Dim, export


class Named(nn.Module):
    def forward(self, **inputs):
        return inputs["a"] + inputs["b"]


class Mapped(nn.Module):
    def forward(self, inputs):
        return inputs["a"] + inputs["b"]


given = {"a": torch.zeros(2, 3), "b": torch.ones(2, 3)}
sizes = {name: {0: Dim("batch")} for name in given}
export(Named(), (), given)


def refusal(**options):
    try:
        export(Named(), (), given, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]
    return None


flat, nested = refusal(dynamic_shapes=sizes), refusal(dynamic_shapes={"inputs": sizes})
print(f"torch {torch.__version__}: by name: {flat}; below inputs: {nested}")
whole = export(Mapped(), (given,), dynamic_shapes=(sizes,)).module()
assert whole({"a": torch.ones(5, 3), "b": torch.ones(5, 3)}).shape == (5, 3)
assert flat and nested, "one of the forms works now: this finding is out of date"
P
