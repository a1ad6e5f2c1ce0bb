#!/usr/bin/env bash
# onnxmltools 1.16.0: a LightGBM random forest of many classes becomes an ONNX file of two, which answers the first class.
#
# `boosting_type="rf"` averages its trees. The converter writes this as averaged probabilities of two classes, whatever
# the number of classes is, and puts no class but the first into the labels. Also with two classes the probabilities are
# others. Neither conversion nor inference fails; the same model with `gbdt` or `dart` is converted right.
#
# Expected: the probabilities of LightGBM, or a refusal.
# Seen: ten classes: probabilities of shape (899, 2) where LightGBM gives (899, 10), label 0 for each row, 10 % right.
# Two classes: label 0 for each row, probabilities that differ by 0.87. gbdt: 2e-7.
# Cure: distil from LightGBM itself, or convert a model of another boosting type; compare shape and values afterwards.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxmltools==1.16.0 skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 lightgbm==4.7.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'P'
import lightgbm
import numpy as np
import onnxmltools
import onnxruntime
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_digits

onnxruntime.set_default_logger_severity(4)
print(f"onnxmltools {onnxmltools.__version__}, lightgbm {lightgbm.__version__}")
inputs, labels = load_digits(return_X_y=True)
inputs = inputs.astype(np.float32)


def compare(num_classes, **options):
    """Probabilities of LightGBM and of the ONNX file, its labels, and the share of labels that agree."""
    x, y = inputs[labels < num_classes], labels[labels < num_classes]
    half = len(y) // 2
    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1, **options).fit(x[:half], y[:half])
    exported = onnxmltools.convert_lightgbm(model, initial_types=[("X", FloatTensorType([None, 64]))], zipmap=False)
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    found, theirs = session.run(None, {"X": x[half:]})
    return model.predict_proba(x[half:]), theirs, found, (found == model.predict(x[half:])).mean()


forest = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}
own, theirs, found, same = compare(10)
print(f"gbdt, 10 classes: largest difference {abs(own - theirs).max():.1e}, {same:.0%} of the labels agree")
assert abs(own - theirs).max() < 1e-5, "gbdt differs too: another fault"
own, theirs, found, same = compare(10, **forest)
print(f"rf, 10 classes: probabilities of lightgbm {own.shape}, of the ONNX file {theirs.shape}; its labels {sorted(set(found.tolist()))}; {same:.0%} agree")
assert theirs.shape != own.shape and set(found.tolist()) == {0}, "another answer: this finding is out of date"
own, theirs, found, same = compare(2, **forest)
print(f"rf, 2 classes: largest difference {abs(own - theirs).max():.2f}; its labels {sorted(set(found.tolist()))}; {same:.0%} agree")
assert abs(own - theirs).max() > 0.1, "the probabilities agree now: this finding is out of date"
P
