#!/usr/bin/env bash
# transformers 5.24.0: one batch of float labels makes a classifier's loss binary cross-entropy from then on.
#
# Without `problem_type` in its configuration, a sequence classifier guesses the loss from the type of the first labels
# that it is given, and writes the guess into `model.config`. Soft labels (a distribution over the classes, as in
# distillation) are float, so the guess is `multi_label_classification`: binary cross-entropy over independent classes,
# in place of cross-entropy. The guess stays: integer labels after it no longer work, and `save_pretrained` hands it on.
#
# Expected: cross-entropy with a distribution, as `torch.nn.functional.cross_entropy` takes it, or an error.
# Seen: BCE, `problem_type` in config.json, and an error for the integer labels that worked before.
# Cure: compute the loss from `.logits`, or set `problem_type` when the model is made.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - "$folder" <<'P'
import json
import sys

import torch
import transformers
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

folder = sys.argv[1]
torch.manual_seed(0)
config = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3
)
model = BertForSequenceClassification(config).eval()
tokens = torch.randint(1, 50, (4, 7))
distribution = torch.tensor([[0.7, 0.2, 0.1]] * 4)

before = model.config.problem_type
with torch.no_grad():
    out = model(input_ids=tokens, labels=distribution)
cross_entropy = float(functional.cross_entropy(out.logits, distribution))
binary = float(functional.binary_cross_entropy_with_logits(out.logits, distribution))
after = model.config.problem_type
model.save_pretrained(folder + "/saved")
saved = json.load(open(folder + "/saved/config.json")).get("problem_type")
try:
    model(input_ids=tokens, labels=torch.tensor([0, 1, 2, 0]))
    refused = False
except ValueError:
    refused = True
print(f"transformers {transformers.__version__}: loss {float(out.loss):.6f}, BCE {binary:.6f}, cross-entropy {cross_entropy:.6f};")
print(f"problem_type {before} -> {after}, saved {saved}; integer labels refused afterwards: {refused}")
assert before is None
assert abs(float(out.loss) - binary) < 1e-6 and abs(binary - cross_entropy) > 1e-3, "out of date"
assert after == saved == "multi_label_classification" and refused, "out of date"
P
