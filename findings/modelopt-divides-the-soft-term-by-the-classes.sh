#!/usr/bin/env bash
# nvidia-modelopt 0.47.0: LogitsDistillationLoss as it is made is divided by the number of classes.
#
# Its reduction is torch's "mean", over batch *and* classes. Two balanced terms, as in `StaticLossBalancer(0.5)`, are
# not balanced then: with 1,000 classes the soft term counts a thousandth, with a vocabulary of 150,000 next to nothing.
# (torch warns of "mean"; the warning does not say what it does to the balance. ModelOpt's own trainer for language
# models passes "none" and takes the mean over the tokens itself.)
#
# Expected: temperature**2 * KL, averaged over the examples: the scale that its comment on temperature**2 is about.
# Seen: gradients of 1/10, 1/100 and 1/1000 of that for as many classes.
# Cure: LogitsDistillationLoss(T, reduction="batchmean") for (batch, classes); "none" and a mean for (batch, tokens,
# classes), where "batchmean" adds the tokens up.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 nvidia-modelopt==0.47.0 \
    requests==2.34.2 huggingface_hub==2.4.0  # which its import needs and its package does not ask for
"$folder/venv/bin/python" -W ignore - <<'P'
from importlib.metadata import version

import torch
from modelopt.torch.distill import LogitsDistillationLoss
from torch.nn import functional as F

T, BATCH = 4.0, 8


def gradients(classes):
    torch.manual_seed(0)
    student, teacher = torch.randn(BATCH, classes), torch.randn(BATCH, classes)
    losses = {
        "as it is made": LogitsDistillationLoss(temperature=T),
        "batchmean": LogitsDistillationLoss(temperature=T, reduction="batchmean"),
    }
    for name, loss in losses.items():
        logits = student.clone().requires_grad_()
        loss(logits, teacher).backward()
        wanted = T * (F.softmax(student / T, -1) - F.softmax(teacher / T, -1)) / BATCH
        yield name, float((logits.grad * wanted).sum() / wanted.square().sum())


print(f"nvidia-modelopt {version('nvidia-modelopt')}: gradient / gradient of T**2 KL, averaged over {BATCH} examples")
for classes in (10, 100, 1000):
    found = dict(gradients(classes))
    print(f"  {classes:5} classes: as it is made {found['as it is made']:.5f}, batchmean {found['batchmean']:.5f}")
    assert abs(found["as it is made"] * classes - 1) < 1e-3 and abs(found["batchmean"] - 1) < 1e-3, "out of date"
P
