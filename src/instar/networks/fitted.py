"""Estimators by name, fitted on the training examples: `forest`, `lightgbm`, `xgboost`, `catboost`.

What is fitted is kept as weights are: the bytes of its library's own file (JSON, text, skops), which runs no
code.
"""

import copy
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instar.errors import DataError, UsageError
from instar.logit_values import SMALLEST_PROBABILITY
from instar.naming import import_extra, unknown_name
from instar.networks.estimator_files import estimator_from_skops
from instar.networks.estimators import rows_of

_TREES = 100  # the default of scikit-learn, LightGBM and XGBoost


@dataclass(frozen=True)
class _Kind:
    """A library's estimator: how it is made, kept, read again and asked."""

    make: Callable[[int], Any]
    """of a seed"""
    keep: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    """what is asked"""
    ask: Callable[[Any, NDArray[Any]], NDArray[Any]]
    """log-probabilities or logits of rows: (rows, classes seen), or (rows,) of the second of two"""


class FittedEstimator(nn.Module):
    """A classifier of another library as a teacher that is fitted here: logits of examples as rows of numbers.

    A class that no training example has gets a probability of 1e-6.

    Args:
        name: `forest`, `lightgbm`, `xgboost` or `catboost`.
        num_classes: of the data.
        seed: of what is random in it.

    Raises:
        UsageError: no such name, or its library is not installed.

    Example:
        >>> forest = FittedEstimator("forest", num_classes=2, seed=0)
        >>> inputs, labels = torch.tensor([[0.0], [0.1], [0.9], [1.0]]), torch.tensor([1, 1, 0, 0])
        >>> forest.fit_(inputs, labels)(torch.tensor([[0.95]])).argmax().item()
        0
    """

    def __init__(self, name: str, *, num_classes: int, seed: int) -> None:
        super().__init__()
        if name not in ESTIMATORS:
            raise unknown_name("estimator", name, ESTIMATORS)
        self.name, self._num_classes, self._seed = name, num_classes, seed
        self._kind = ESTIMATORS[name]
        self._kind.make(seed)  # raises now where its library is not installed
        self._file, self._classes = b"", torch.empty(0, dtype=torch.int64)
        self._asked: Any = None

    def new(self) -> Any:
        """The estimator before it is fitted, with `fit` and `predict_proba`."""
        return self._kind.make(self._seed)

    def fit_(self, inputs: Tensor, labels: Tensor) -> Self:
        """Fit it, in place.

        Args:
            inputs: (examples, ...) numbers.
            labels: (examples,) int64.

        Raises:
            DataError: the labels are of one class.
        """
        # Some libraries need 0, 1, ... without a gap.
        present, numbers = np.unique(labels.cpu().numpy(), return_inverse=True)
        if len(present) < 2:
            raise DataError(f"{self.name}: the training examples are of one class, expected more")
        fitted = self.new().fit(rows_of(inputs.cpu()), numbers)
        self._keep(self._kind.keep(fitted), torch.from_numpy(present))
        return self

    @property
    def fingerprint(self) -> str:
        """Of what was fitted."""
        return hashlib.sha256(self.get_extra_state().numpy().tobytes()).hexdigest()

    def _keep(self, file: bytes, classes: Tensor) -> None:
        self._file, self._classes, self._asked = file, classes, None

    def forward(self, examples: Tensor) -> Tensor:
        """Logits (batch, classes), float32."""
        if not self._file:
            raise UsageError(f"{self.name} is not fitted: call its fit_ first")
        if self._asked is None:
            self._asked = self._kind.read(self._file)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)  # of LightGBM
            answers = np.asarray(self._kind.ask(self._asked, rows_of(examples.detach().cpu())), dtype=np.float32)
        if answers.ndim == 1:
            answers = np.stack([np.zeros_like(answers), answers], axis=1)
        logits = torch.log_softmax(torch.from_numpy(answers), -1)
        found = torch.full((len(examples), self._num_classes), float(np.log(SMALLEST_PROBABILITY)))
        found[:, self._classes] = logits
        return found.to(examples.device)

    def get_extra_state(self) -> Tensor:
        """The classes it has seen and the bytes of its file: a run directory keeps them as a tensor."""
        head = torch.tensor([len(self._classes), *self._classes.tolist()], dtype=torch.int64)
        return torch.cat((head.view(torch.uint8), torch.from_numpy(np.frombuffer(self._file, np.uint8).copy())))

    def set_extra_state(self, state: Tensor) -> None:
        """What `get_extra_state` gave."""
        count = int(state[:8].clone().view(torch.int64))
        end = 8 * (1 + count)
        self._keep(state[end:].numpy().tobytes(), state[8:end].clone().view(torch.int64))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A booster cannot be copied, and need not be."""
        return copy.copy(self)


def is_estimator(spec: str) -> bool:
    """Whether a name is that of an estimator that is fitted here.

    Example:
        >>> is_estimator("forest"), is_estimator("lightgbm:model.txt"), is_estimator("mlp:30x2")
        (True, False, False)
    """
    return spec in ESTIMATORS


def _threads() -> int:
    return torch.get_num_threads()


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    import_extra("skops.io", "skops")
    return RandomForestClassifier(_TREES, random_state=seed, n_jobs=_threads())


def _keep_forest(forest: Any) -> bytes:
    import zipfile

    content: bytes = import_extra("skops.io", "skops").dumps(
        forest, compression=zipfile.ZIP_DEFLATED, compresslevel=1
    )
    return content


def _ask_forest(forest: Any, rows: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.log(np.maximum(forest.predict_proba(rows), SMALLEST_PROBABILITY))
    return found


def _lightgbm(seed: int) -> Any:
    lightgbm = import_extra("lightgbm", "lightgbm")
    about = {"random_state": seed, "n_jobs": _threads(), "deterministic": True, "force_row_wise": True}
    # With its own 0.001 a class of 22 among 14,400 rows made it unlearn the others after 30 rounds:
    # findings/lightgbm-unlearns-all-classes-where-one-is-rare.sh. Chosen on validation: docs/experiments.md.
    return lightgbm.LGBMClassifier(n_estimators=_TREES, verbose=-1, min_child_weight=0.1, **about)


def _read_lightgbm(file: bytes) -> Any:
    return import_extra("lightgbm", "lightgbm").Booster(model_str=file.decode())


def _xgboost(seed: int) -> Any:
    xgboost = import_extra("xgboost", "xgboost")
    return xgboost.XGBClassifier(n_estimators=_TREES, random_state=seed, n_jobs=_threads())


def _read_xgboost(file: bytes) -> Any:
    booster = import_extra("xgboost", "xgboost").Booster()
    booster.load_model(bytearray(file))
    return booster


def _ask_xgboost(booster: Any, rows: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = booster.predict(import_extra("xgboost", "xgboost").DMatrix(rows), output_margin=True)
    return found


def _catboost(seed: int) -> Any:
    catboost = import_extra("catboost", "catboost")
    about = {"random_seed": seed, "thread_count": _threads(), "verbose": False, "allow_writing_files": False}
    return catboost.CatBoostClassifier(iterations=_TREES, loss_function="MultiClass", **about)


def _keep_catboost(model: Any) -> bytes:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.cbm"
        model.save_model(str(file))
        return file.read_bytes()


def _read_catboost(file: bytes) -> Any:
    return import_extra("catboost", "catboost").CatBoostClassifier().load_model(blob=file)


ESTIMATORS = {
    "forest": _Kind(_forest, _keep_forest, estimator_from_skops, _ask_forest),
    "lightgbm": _Kind(
        _lightgbm,
        lambda fitted: fitted.booster_.model_to_string().encode(),
        _read_lightgbm,
        lambda booster, rows: booster.predict(rows, raw_score=True),
    ),
    "xgboost": _Kind(
        _xgboost,
        lambda fitted: bytes(fitted.get_booster().save_raw("json")),
        _read_xgboost,
        _ask_xgboost,
    ),
    "catboost": _Kind(
        _catboost,
        _keep_catboost,
        _read_catboost,
        lambda model, rows: model.predict(rows, prediction_type="RawFormulaVal"),
    ),
}
"""By name."""
