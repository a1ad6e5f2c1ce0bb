"""Reads estimators from the files of their own libraries, of which none runs code: skops, JSON, text."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instar.errors import DataError, UsageError, first_line
from instar.files import file_hash
from instar.naming import import_extra
from instar.networks.asked import AskedTeacher
from instar.networks.estimators import (
    BoosterTeacher,
    Columns,
    EstimatorTeacher,
    are_columns_of,
    check_num_features,
    names_of_classes,
)

_OURS = ("sklearn.", "numpy.")
_MOST_TYPES = 5  # that a message lists
_PICKLES = (".pkl", ".pickle", ".joblib", ".sav", ".dill")


def read_sklearn(
    name: str, path: Path, class_names: Sequence[str], num_features: int | None, table: Columns | None = None
) -> AskedTeacher:
    """An estimator or a pipeline that skops saved.

    Only types that skops trusts are made, and classes of scikit-learn and numpy.

    Raises:
        UsageError: skops is not installed, the file is a pickle or is not there, or holds other types.
        DataError: the file is damaged, or is not of skops.
    """
    refuse_pickle(name, path, "skops.io.dump(estimator, 'FILE.skops'), and --teacher sklearn:FILE.skops")
    fingerprint = file_hash(path)
    estimator = estimator_from_skops(path.read_bytes(), f"{name}: {path}")
    about: dict[str, Any] = {
        "num_features": num_features,
        "name": name,
        "fingerprint": fingerprint,
        "table": table,
    }
    return EstimatorTeacher(estimator, class_names, **about)


def estimator_from_skops(content: bytes, name: str = "the forest of this run") -> Any:
    """What skops saved, of types that it trusts and of classes of scikit-learn and numpy.

    Raises:
        UsageError: skops is not installed, or it holds other types.
        DataError: it is damaged, or is not of skops.
    """
    skops = import_extra("skops.io", "skops")
    try:
        unknown = [one for one in skops.get_untrusted_types(data=content) if not _is_class_of_ours(one)]
        if unknown:
            more = f", ... ({len(unknown)})" if len(unknown) > _MOST_TYPES else ""
            raise UsageError(
                f"{name} holds types that are neither scikit-learn's nor numpy's, and are not made from a file: "
                f"{', '.join(unknown[:_MOST_TYPES])}{more}; load it in Python if you trust them, and pass the "
                "object"
            )
        return skops.loads(content, trusted=skops.get_untrusted_types(data=content))
    except UsageError:
        raise
    except Exception as error:  # of a zip file, of JSON, of a class that another version does not have
        raise DataError(f"{name} cannot be read as skops: {first_line(error)}") from error


def _is_class_of_ours(name: str) -> bool:
    """Whether a name is that of a class of scikit-learn or numpy: a function could do anything."""
    if not name.startswith(_OURS):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        return isinstance(getattr(importlib.import_module(module), attribute, None), type)
    except ImportError:
        return False


def read_xgboost(
    name: str, path: Path, class_names: Sequence[str], num_features: int | None, table: Columns | None = None
) -> AskedTeacher:
    """A classifier that XGBoost saved as JSON or UBJSON; one that stopped early answers by its best round.

    Raises:
        UsageError: XGBoost is not installed, the file is something else, or the booster is no classifier or takes
            another number of columns.
        DataError: the file is damaged.
    """
    if path.suffix not in (".json", ".ubj"):
        raise UsageError(
            f"{name}: expected FILE.json or FILE.ubj, as model.save_model writes it; no pickle is read"
        )
    fingerprint = file_hash(path)
    xgboost = import_extra("xgboost", "xgboost")
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError as error:
        raise DataError(f"{name}: {path} cannot be read by XGBoost: {first_line(error)}") from error
    objective = _objective_of_xgboost(booster)
    if not objective.startswith(("multi:soft", "binary:logi")):
        raise _no_classifier(name, objective)
    best = booster.attr("best_iteration")
    rounds = (0, 0 if best is None else int(best) + 1)  # 0 is all of them
    columns = booster.feature_names
    about = _about_columns(name, columns, booster.num_features(), table, num_features)

    def margins(rows: Any) -> Any:
        matrix = xgboost.DMatrix(rows, feature_names=columns, enable_categorical=True)
        return booster.predict(matrix, output_margin=True, iteration_range=rounds)

    return BoosterTeacher(margins, named_in_file(path), fingerprint, **about)


def _about_columns(
    name: str, columns: Sequence[str] | None, number: int, table: Columns | None, num_features: int | None
) -> dict[str, Any]:
    """What a booster is asked about: columns of a table where it has their names, or the numbers of an example."""
    if columns is not None and are_columns_of(name, columns, table, num_features):
        return {"table": table, "columns": columns, "name": name}
    check_num_features(name, number, num_features)
    return {"name": name}


def _objective_of_xgboost(booster: Any) -> str:
    import json

    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def read_lightgbm(
    name: str, path: Path, class_names: Sequence[str], num_features: int | None, table: Columns | None = None
) -> AskedTeacher:
    """A classifier that LightGBM saved as text.

    Raises:
        UsageError: LightGBM is not installed, the file is something else, or the booster is no classifier or takes
            another number of columns.
        DataError: the file is damaged.
    """
    if path.suffix != ".txt":
        raise UsageError(f"{name}: expected FILE.txt, as booster.save_model writes it; no pickle is read")
    fingerprint = file_hash(path)
    lightgbm = import_extra("lightgbm", "lightgbm")
    try:
        lines = path.read_text().splitlines()
        if lines[:1] != ["tree"]:  # LightGBM would print what it thinks of it, too
            raise DataError(f"{name}: {path} cannot be read by LightGBM: it does not begin with 'tree'")
        if "end of trees" not in lines:  # LightGBM may end the whole process over a file that was cut off
            raise DataError(f"{name}: {path} is cut off: it has no line 'end of trees'; save it again")
        booster = lightgbm.Booster(model_file=path)
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: {path} cannot be read by LightGBM: {first_line(error)}") from error
    objective = next((line.partition("=")[2] for line in lines if line.startswith("objective=")), "none")
    kind, *options = objective.split()
    if kind not in ("binary", "multiclass"):
        raise _no_classifier(name, kind)
    about = _about_columns(name, booster.feature_name(), booster.num_feature(), table, num_features)
    slope = next((float(one.partition(":")[2]) for one in options if one.startswith("sigmoid:")), 1.0)

    # The margins of a forest (boosting="rf") are a mean over its trees; LightGBM gives their sum.
    rounds = booster.num_trees() // booster.num_model_per_iteration() if "average_output" in lines else 1

    def margins(rows: Any) -> Any:
        found = booster.predict(rows, raw_score=True) / rounds
        return slope * found if found.ndim == 1 else found  # p = 1 / (1 + exp(-slope * margin))

    return BoosterTeacher(margins, named_in_file(path), fingerprint, **about)


def read_catboost(
    name: str, path: Path, class_names: Sequence[str], num_features: int | None, table: Columns | None = None
) -> AskedTeacher:
    """A classifier that CatBoost saved in its own format, cbm or JSON; its classes are matched by name.

    Raises:
        UsageError: CatBoost is not installed, the file is something else, or takes another number of columns.
        DataError: the file is damaged.
    """
    if path.suffix not in (".cbm", ".json"):
        raise UsageError(
            f"{name}: expected FILE.cbm or FILE.json, as model.save_model writes it; no pickle is read"
        )
    fingerprint = file_hash(path)
    catboost = import_extra("catboost", "catboost")
    model = catboost.CatBoostClassifier()
    try:
        model.load_model(str(path), format=path.suffix[1:])
        classes = names_of_classes(name, model.classes_, class_names)
    except catboost.CatBoostError as error:
        raise DataError(f"{name}: {path} cannot be read by CatBoost: {first_line(error)}") from error
    if len(classes) < 2:
        raise _no_classifier(name, "a number")
    columns = model.feature_names_
    about = _about_columns(name, columns, len(columns), table, num_features)
    texts = model.get_cat_feature_indices()

    def margins(rows: Any) -> Any:
        if "table" in about:  # CatBoost wants texts, and one for those that are missing
            given = {columns[place]: rows[columns[place]].astype(object) for place in texts}
            rows = rows.assign(**{name: values.where(values.notna(), "nan") for name, values in given.items()})
        return model.predict(rows, prediction_type="RawFormulaVal")

    return BoosterTeacher(margins, classes, fingerprint, **about)


def _no_classifier(name: str, objective: str) -> UsageError:
    return UsageError(
        f"{name} was trained for {objective!r}, which gives no probabilities of classes: a teacher is a "
        "classifier of one class among others (multi:softprob, multiclass, binary)"
    )


def named_in_file(path: Path) -> list[str] | None:
    """The class names that lie beside a file that holds none: `FILE.classes.txt` for `FILE.json`, one a line."""
    names = path.with_suffix(".classes.txt")
    if not names.is_file():
        return None
    try:
        return names.read_text().rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{names} is no text; expected a class on each line") from error


def refuse_pickle(name: str, path: Path, instead: str) -> None:
    """Refuse a file that would run code.

    Raises:
        UsageError: it is a pickle, by its name.
    """
    if path.suffix in _PICKLES:
        raise UsageError(f"{name}: a pickle runs code when it is read, so none is; save it with {instead}")
