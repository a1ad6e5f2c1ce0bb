#!/usr/bin/env bash
# torchdistill 1.1.5: KDLoss without labels, or with alpha=0, drops its factor temperature**2, and beta with it.
#
# `KDLoss(..., temperature=T, alpha=a, beta=b)` is a * cross-entropy + b * T**2 * divergence. Where a is 0 or None, or the
# batch has no labels, it returns the bare divergence. So the same soft term is T**2 * b times smaller as soon as the
# labels are left out: at T = 4 a learning rate that was right is 16 times too small, and b does nothing.
#
# Expected: b * T**2 * divergence, the limit of small a.
# Seen: the gradient for alpha=0 is 1/16 of that for alpha=1e-6, and the same for beta=1 and beta=100.
# Cure: alpha=1e-6 with labels; without, weight the term by T**2 in `WeightedSumLoss`.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 PyYAML==6.0.3
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps torchdistill==1.1.5
"$folder/venv/bin/python" -W ignore - <<'P'
from importlib.metadata import version

import torch
from torchdistill.losses.mid_level import KDLoss

T = 4.0
torch.manual_seed(0)
student, teacher, labels = torch.randn(8, 10), torch.randn(8, 10), torch.randint(10, (8,))


def gradient(alpha, beta, labels):
    logits = student.clone().requires_grad_()
    loss = KDLoss("fc", "output", "fc", "output", temperature=T, alpha=alpha, beta=beta)
    loss({"fc": {"output": logits}}, {"fc": {"output": teacher}}, labels).backward()
    return logits.grad


almost = gradient(1e-6, 1.0, labels)
seen = {
    "alpha=0, beta=1": gradient(0.0, 1.0, labels),
    "alpha=0, beta=100": gradient(0.0, 100.0, labels),
    "alpha=0.5, beta=1, no labels": gradient(0.5, 1.0, None),
}
print(f"torchdistill {version('torchdistill')}, T = {T:g}: gradient / gradient with alpha=1e-6, beta=1")
ratios = {name: float((found * almost).sum() / almost.square().sum()) for name, found in seen.items()}
for name, ratio in ratios.items():
    print(f"  {name:30} {ratio:.4f}")
assert all(abs(ratio - 1 / T**2) < 1e-4 for ratio in ratios.values()), "out of date"
P
