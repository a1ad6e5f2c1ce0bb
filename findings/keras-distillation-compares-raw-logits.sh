#!/usr/bin/env bash
# keras 3.15.1: LogitsDistillation as it is made has no softmax: it takes the divergence of raw logits, cut to [1e-7, 1].
#
# `keras.distillation.LogitsDistillation()` has the loss "kl_divergence". Softmax and the factor temperature**2 are
# applied where the loss is an instance of `keras.losses.KLDivergence`; but the text becomes the *function*
# `kl_divergence`, which is none, so the logits themselves go into it. It cuts its arguments to [1e-7, 1]: all logits
# below 0 are alike, and all above the temperature.
#
# Expected: temperature**2 * KL(softmax(teacher / temperature), softmax(student / temperature)), as its source says.
# Seen: 0 for a student that prefers another class than its teacher, also negative values, and another loss for the same
# teacher after a constant was added to its logits.
# Cure: LogitsDistillation(temperature=3.0, loss=keras.losses.KLDivergence()).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 keras==3.15.1
KERAS_BACKEND=torch KERAS_HOME="$folder" "$folder/venv/bin/python" - <<'P'
import keras
import torch
from torch.nn import functional as F

T = 3.0


def expected(teacher, student):
    of_student, of_teacher = F.log_softmax(student / T, -1), F.softmax(teacher / T, -1)
    return T**2 * float(F.kl_div(of_student, of_teacher, reduction="batchmean"))


as_made = keras.distillation.LogitsDistillation(temperature=T)
cured = keras.distillation.LogitsDistillation(temperature=T, loss=keras.losses.KLDivergence())
teacher = torch.tensor([[12.0, 6.0, -3.0]])
pairs = {
    "the student prefers another class": (teacher, torch.tensor([[6.0, 12.0, -3.0]])),
    "logits from -1 to 2": (torch.tensor([[1.0, 0.5, -1.0]]), torch.tensor([[2.0, 1.5, -1.0]])),
    "the same, and 3 added to the teacher's": (torch.tensor([[4.0, 3.5, 2.0]]), torch.tensor([[2.0, 1.5, -1.0]])),
}
print(f"keras {keras.__version__}: {'':38} as made  KLDivergence()  expected")
seen = []
for name, (of_teacher, of_student) in pairs.items():
    values = [float(one.compute_loss(of_teacher, of_student)) for one in (as_made, cured)]
    seen.append((*values, expected(of_teacher, of_student)))
    print(f"  {name:50} {values[0]:8.3f} {values[1]:15.3f} {seen[-1][2]:9.3f}")
assert all(abs(right - wanted) < 1e-3 * max(1, abs(wanted)) for _, right, wanted in seen), "out of date"
assert abs(seen[0][0]) < 1e-6 < seen[0][2] and seen[1][0] < 0, "out of date"
assert abs(seen[1][2] - seen[2][2]) < 1e-5 < abs(seen[1][0] - seen[2][0]), "out of date"
P
