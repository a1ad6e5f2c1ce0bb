"""Estimators by name: fitted on label numbers, kept as bytes of their library's file, asked as networks are."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from instar.errors import DataError, UsageError
from instar.networks import FittedEstimator, build_network, is_estimator, is_teacher_file, network_fingerprint
from instar.networks.weights import load_state_

LIBRARIES = {"forest": "skops", "lightgbm": "lightgbm", "xgboost": "xgboost", "catboost": "catboost"}


def rows(number=300):
    inputs = torch.randn(number, 4, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] + inputs[:, 1] > 0).long() + 2 * (inputs[:, 2] > 1).long()


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("binary", [False, True])
def test_an_estimator_answers_as_its_library_does_and_is_read_again(name, binary):
    pytest.importorskip(LIBRARIES[name])
    inputs, labels = rows()
    if binary:
        labels = 3 * (labels % 2)  # classes 0 and 3 of 5
    fitted = build_network(name, input_shape=(4,), num_classes=5, seed=0).fit_(inputs, labels)
    logits = fitted(inputs)
    present, numbers = np.unique(labels.numpy(), return_inverse=True)
    theirs = fitted.new().fit(inputs.numpy(), numbers).predict_proba(inputs.numpy())
    assert np.allclose(logits.softmax(-1)[:, present].numpy(), theirs, atol=1e-5)
    absent = [number for number in range(5) if number not in present]
    assert torch.allclose(logits[:, absent].exp(), torch.tensor(1e-6))
    again = build_network(name, input_shape=(4,), num_classes=5, seed=1)
    assert network_fingerprint(again) != network_fingerprint(fitted)
    load_state_(again, load(save(fitted.state_dict())), name, "a run")
    assert torch.equal(again(inputs), logits)
    assert network_fingerprint(again) == network_fingerprint(fitted)


def test_names_and_what_cannot_be_fitted():
    assert is_estimator("lightgbm")
    assert not is_teacher_file("lightgbm")
    assert is_teacher_file("lightgbm:model.txt")
    with pytest.raises(UsageError, match="forest is not fitted"):
        FittedEstimator("forest", num_classes=2, seed=0)(torch.zeros(1, 2))
    with pytest.raises(DataError, match="lightgbm: the training examples are of one class"):
        FittedEstimator("lightgbm", num_classes=2, seed=0).fit_(torch.zeros(3, 2), torch.zeros(3).long())
    with pytest.raises(UsageError, match="forest takes rows of numbers, an example is"):
        build_network("forest", input_shape={"ids": ("int64", 4)}, num_classes=2, seed=0)


def test_lightgbm_does_not_unlearn_what_it_knows_for_a_rare_class():
    # That its default of 0.001 does: findings/lightgbm-unlearns-all-classes-where-one-is-rare.sh.
    pytest.importorskip("lightgbm")
    assert FittedEstimator("lightgbm", num_classes=2, seed=0).new().get_params()["min_child_weight"] == 0.1
