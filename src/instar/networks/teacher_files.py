"""Teachers that are no network, by name: `onnx:FILE`, `sklearn:FILE`, `xgboost:FILE`, ..."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from instar.errors import UsageError
from instar.networks.asked import AskedNetwork, is_asked
from instar.networks.estimator_files import read_catboost, read_lightgbm, read_sklearn, read_xgboost
from instar.networks.estimators import Columns, EstimatorTeacher
from instar.networks.fitted import is_estimator
from instar.networks.inputs import Normalisation
from instar.networks.onnx_file import OnnxTeacher
from instar.structures import Form, form_in_words, is_plain

_ESTIMATORS = {
    "sklearn": read_sklearn,
    "xgboost": read_xgboost,
    "lightgbm": read_lightgbm,
    "catboost": read_catboost,
}
TEACHER_FORMS = ("onnx:FILE", "sklearn:FILE.skops", "xgboost:FILE.json", "lightgbm:FILE.txt", "catboost:FILE.cbm")


def is_teacher_file(spec: str) -> bool:
    """Whether a name is that of a teacher in a file, which comes with what it has learned.

    Example:
        >>> is_teacher_file("onnx:model.onnx"), is_teacher_file("mlp:30x2")
        (True, False)
    """
    return not is_estimator(spec) and spec.partition(":")[0] in {"onnx", *_ESTIMATORS}


def read_teacher(
    spec: str,
    *,
    class_names: Sequence[str],
    example_shape: Form,
    normalisation: Normalisation | None = None,
    table: Columns | None = None,
) -> nn.Module:
    """A teacher in a file, as a module that gives logits of the classes of the data.

    Args:
        spec: `onnx:FILE`, or `onnx:FILE#OUTPUT` where it has several outputs; `sklearn:FILE.skops`;
            `xgboost:FILE.json`; `lightgbm:FILE.txt`; `catboost:FILE.cbm`.
        class_names: of the data.
        example_shape: of the data.
        normalisation: `mean` and `std` that the examples have been normalised with.
        table: the columns that examples were made of, where they are rows of a table.

    Raises:
        UsageError: a package is not installed, there is no such file, or it does not fit the data.
        DataError: the file cannot be read.
    """
    kind, _, place = spec.partition(":")
    if not place:
        form = next(one for one in TEACHER_FORMS if one.startswith(kind))
        raise UsageError(f"teacher {spec!r} should be {form}")
    if kind == "onnx":
        file, _, output = place.rpartition("#") if "#" in place else (place, "", "")
        path = Path(file).expanduser()
        teacher: Any = OnnxTeacher(path, output=output or None, example_shape=example_shape, name=spec)
    else:
        features = prod(example_shape) if is_plain(example_shape) else None
        teacher = _ESTIMATORS[kind](spec, Path(place).expanduser(), class_names, features, table)
        _check_takes(teacher, spec, example_shape)
    return AskedNetwork(teacher, class_names, name=spec, given=normalisation)


def _check_takes(teacher: Any, name: str, form: Form) -> None:
    """Refuse texts for an estimator of rows of numbers."""
    if not is_plain(form) and not getattr(teacher, "reads_text", False):
        raise UsageError(
            f"{name} takes rows of numbers, an example is {form_in_words(form)}; of texts it is asked where its "
            "first step counts words (a pipeline that begins with TfidfVectorizer)"
        )


def asked_network(
    teacher: Any,
    *,
    class_names: Sequence[str],
    example_shape: Form,
    normalisation: Normalisation | None = None,
    table: Columns | None = None,
    name: str = "the teacher",
) -> Any:
    """A teacher that is no network as a module; anything else as it is.

    Args:
        teacher: a fitted classifier of scikit-learn or one with `predict_proba`; an `AskedTeacher`; a name,
            `onnx:FILE`, as for `read_teacher`; or anything else.
        class_names, example_shape, normalisation, table: as for `read_teacher`.
        name: of the teacher, for messages.
    """
    if isinstance(teacher, str) and is_teacher_file(teacher):
        return read_teacher(
            teacher,
            class_names=class_names,
            example_shape=example_shape,
            normalisation=normalisation,
            table=table,
        )
    can_answer = hasattr(teacher, "predict_proba") or (hasattr(teacher, "fit") and hasattr(teacher, "predict"))
    if can_answer and not isinstance(teacher, nn.Module | type):
        features = prod(example_shape) if is_plain(example_shape) else None
        stated = getattr(teacher, "fingerprint", None)
        about: dict[str, Any] = {"num_features": features, "table": table, "name": name, "fingerprint": stated}
        teacher = EstimatorTeacher(teacher, class_names, **about)
        _check_takes(teacher, name, example_shape)
    return AskedNetwork(teacher, class_names, name=name, given=normalisation) if is_asked(teacher) else teacher
