#!/usr/bin/env bash
# torch 2.13.0: fused SGD with momentum raises a TypeError where a weight gets its first gradient after the first step.
#
# Layers that are left out at random (stochastic depth), experts of a mixture that nothing was sent to, branches that are
# trained in turns: their weights have no gradient in some steps, and the optimiser passes over them. A momentum buffer
# is made when a weight has its first gradient. The plain optimiser makes it then, whichever step that is. The fused one
# hands one list of buffers to its kernel, and once some of them exist and others do not, that list holds None.
#
# Expected: the same training as without fused=True.
# Seen: "TypeError: expected Tensor as element 2 in argument 2, but got NoneType" in the second step.
# Cure: fused=False, or buffers of zeros in the state of all weights before the first step.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'P'
import torch
from torch import nn


def train(fused, with_buffers=False):
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    optimiser = torch.optim.SGD(
        [*first.parameters(), *second.parameters()], lr=0.1, momentum=0.9, fused=fused
    )
    if with_buffers:
        for weight in [*first.parameters(), *second.parameters()]:
            optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    inputs = torch.randn(8, 4)
    for left_out in (True, False, False):
        optimiser.zero_grad()
        (first(inputs) if left_out else second(first(inputs))).square().mean().backward()
        optimiser.step()
    return second.weight.detach()


plain = train(fused=False)
try:
    train(fused=True)
    message = ""
except TypeError as error:
    message = str(error)
cured = train(fused=True, with_buffers=True)
print(f"torch {torch.__version__}: plain SGD trains; fused SGD: {message or 'trains'}")
print(f"with buffers of zeros fused SGD trains, {float((cured - plain).abs().max()):.2g} from the plain one")
assert "NoneType" in message, "fused SGD trains now: this finding is out of date"
assert float((cured - plain).abs().max()) < 1e-6
P
