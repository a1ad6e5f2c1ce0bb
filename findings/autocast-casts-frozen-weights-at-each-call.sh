#!/usr/bin/env bash
# torch 2.13.0: autocast keeps the cast of a weight that requires a gradient, and casts a frozen one again at each call.
#
# Freezing a network that only answers, a teacher or the first layers of a transferred one, is what everyone does. Inside
# one autocast block its weights then are read and written once more for every batch; those of a network that nobody froze
# are cast once, also under no_grad. So the frozen one is the slower of the two. Nothing says so.
#
# Expected: as many casts, frozen or not.
# Seen: ten calls of two layers cast 14 tensors where they may be trained (4 weights and biases once, 10 inputs), and 50
# where they are frozen (4 at each call, 10 inputs).
# Cure: let them require a gradient within the block, under no_grad; or convert the network, not its calls.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'P'
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile


def casts(frozen):
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).requires_grad_(not frozen)
    inputs = torch.randn(8, 64)
    with profile(activities=[ProfilerActivity.CPU]) as seen, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for _ in range(10):
            network(inputs)
    return len([event for event in seen.events() if event.name == "aten::_to_copy"])


print("torch", torch.__version__, "- casts in ten calls: trainable", casts(False), "- frozen", casts(True))
assert (casts(False), casts(True)) == (14, 50)
P
