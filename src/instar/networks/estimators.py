"""Teachers from scikit-learn, XGBoost and LightGBM: fitted classifiers, and boosters from their files."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instar.errors import UsageError, first_line
from instar.naming import described, few, import_extra
from instar.networks.asked import LOGITS, PROBABILITIES


class Columns(Protocol):
    """The columns of a table that examples were made of."""

    @property
    def names(self) -> Sequence[str]:
        """Of the columns."""

    def rows(self, inputs: Tensor, /) -> Mapping[str, Any]:
        """Their values, by name, of examples (rows, ...)."""


PIXELS = 0.0, 1.0
"""The normalisation that estimators see: none, pixels from 0 to 1."""

AT_ONCE = 8192
"""Examples in a call. One of a forest of 100 trees takes 7 ms of itself, as long as for 200 more examples."""


class EstimatorTeacher:
    """A fitted classifier as a teacher: its `predict_proba`, on examples as rows of numbers.

    An example is flattened, as the data gives it without mean and std: the pixels of a picture from 0 to 1, row by
    row, one channel after the other. Fit it on the same: `data.gather(data.ids, 0).flatten(1).numpy()`. One that
    was fitted on a frame with columns of the table that the data come from gets these, as they were in the table.

    Args:
        estimator: of scikit-learn, a pipeline too, or any object with `predict_proba` and `classes_`.
        class_names: of the data. `classes_` are matched with them by name; integers that are none of the names are
            the numbers of labels, from 0.
        num_features: numbers in an example; None where it is not known yet.
        table: the columns that examples were made of, where they are rows of a table.
        name: of the teacher, for messages.
        fingerprint: what it is known by; by default a hash of the object.

    Raises:
        UsageError: it is not fitted, was fitted on another number of columns, or its classes are not those of the
            data.

    Example:
        >>> from sklearn.naive_bayes import GaussianNB
        >>> import torch
        >>> estimator = GaussianNB().fit([[0.0], [0.1], [0.9], [1.0]], ["no", "no", "yes", "yes"])
        >>> EstimatorTeacher(estimator, ("yes", "no"))(torch.tensor([[0.95]])).round()
        array([[0., 1.]])
    """

    gives = PROBABILITIES
    input_normalisation = PIXELS
    examples_at_once = AT_ONCE

    def __init__(
        self,
        estimator: Any,
        class_names: Sequence[str],
        *,
        num_features: int | None = None,
        table: Columns | None = None,
        name: str = "the teacher",
        fingerprint: str | None = None,
    ) -> None:
        if not hasattr(estimator, "predict_proba"):
            raise UsageError(
                f"{name}: {type(estimator).__name__} has no predict_proba; take a classifier that has one "
                "(CalibratedClassifierCV(estimator) makes one of any)"
            )
        try:
            classes = estimator.classes_
        except AttributeError:
            raise UsageError(f"{name}: {type(estimator).__name__} is not fitted: call its fit first") from None
        if isinstance(classes, list):
            raise UsageError(
                f"{name}: {type(estimator).__name__} answers {len(classes)} questions; fit it for one"
            )
        self.class_names = names_of_classes(name, classes, class_names)
        columns = getattr(estimator, "feature_names_in_", None)
        self._columns = None if columns is None else [str(one) for one in columns]
        self._table = table if are_columns_of(name, self._columns, table, num_features) else None
        self.reads_text = reads_text(estimator)
        if self._table is None and not self.reads_text:
            check_num_features(name, getattr(estimator, "n_features_in_", None), num_features)
        self._estimator, self._fingerprint, self._name = estimator, fingerprint, name

    @property
    def fingerprint(self) -> str:
        """A hash of the estimator's content, or what was stated."""
        if self._fingerprint is None:
            self._fingerprint = f"{type(self._estimator).__name__} {_content_hash(self._estimator)}"
        return self._fingerprint

    def __call__(self, examples: Tensor | list[str]) -> NDArray[Any]:
        """Probabilities (batch, classes)."""
        rows: Any = examples if isinstance(examples, list) else rows_of(examples)
        if self._table is not None and not isinstance(examples, list) and self._columns is not None:
            rows = frame_of(self._table, examples, self._columns)
        elif self._columns is not None:  # it was fitted on a table, and may choose columns by their names
            import pandas

            rows = pandas.DataFrame(rows, columns=self._columns)
        with warnings.catch_warnings():
            # LightGBM names columns that it was not given, and scikit-learn then misses these names.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            try:
                return np.asarray(self._estimator.predict_proba(rows))
            except (TypeError, ValueError) as error:
                raise UsageError(f"{self._name} cannot be asked about these rows: {first_line(error)}") from error


class BoosterTeacher:
    """A booster that was read from its own file: its raw margins, which are logits.

    Args:
        margins: gives (batch,) or (batch, classes) of rows of numbers, or of a frame.
        class_names: in the order of the margins; None where the file does not say.
        fingerprint: of the file.
        table: the columns that examples were made of, where the booster knows their names; it gets a frame then.
        columns: these names.
        name: of the teacher, for messages.

    Raises:
        UsageError: asked about rows that it cannot take.
    """

    gives = LOGITS
    input_normalisation = PIXELS
    examples_at_once = AT_ONCE

    def __init__(
        self,
        margins: Any,
        class_names: Sequence[str] | None,
        fingerprint: str,
        *,
        table: Columns | None = None,
        columns: Sequence[str] = (),
        name: str = "the teacher",
    ) -> None:
        self._margins, self.class_names, self.fingerprint = margins, class_names, fingerprint
        self._table, self._columns, self._name = table, list(columns), name

    def __call__(self, examples: Tensor) -> NDArray[Any]:
        """Logits (batch, classes); of two classes (0, margin)."""
        rows: Any = rows_of(examples)
        if self._table is not None:
            rows = frame_of(self._table, examples, self._columns, categories=True)
        try:
            margins = np.asarray(self._margins(rows))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self._name} cannot be asked about these rows: {first_line(error)}") from error
        return np.stack([np.zeros_like(margins), margins], axis=1) if margins.ndim == 1 else margins


def reads_text(estimator: Any) -> bool:
    """Whether an estimator takes texts: it counts words, or is a pipeline whose first step does.

    Example:
        >>> from sklearn.feature_extraction.text import TfidfVectorizer
        >>> from sklearn.naive_bayes import MultinomialNB
        >>> from sklearn.pipeline import make_pipeline
        >>> reads_text(make_pipeline(TfidfVectorizer(), MultinomialNB())), reads_text(MultinomialNB())
        (True, False)
    """
    steps = getattr(estimator, "steps", None)
    if steps:
        return reads_text(steps[0][1])
    parts = getattr(estimator, "transformer_list", None)  # a union of several ways to count words
    if parts:
        return all(reads_text(part) for _, part in parts)
    return hasattr(estimator, "build_analyzer")


def rows_of(examples: Tensor) -> NDArray[Any]:
    """Examples as rows of numbers, (batch, features)."""
    rows: NDArray[Any] = examples.flatten(1).numpy()
    return rows


def frame_of(table: Columns, examples: Tensor, columns: Sequence[str], *, categories: bool = False) -> Any:
    """Columns of a table as a frame of pandas.

    Args:
        table: gives them.
        examples: that were made of them.
        columns: their names, in the order that is wanted.
        categories: whether texts are of the type `category`, as boosters want them.
    """
    pandas = import_extra("pandas", "pandas")
    frame = pandas.DataFrame({name: values for name, values in table.rows(examples).items() if name in columns})
    if categories:
        texts = [name for name in frame if not pandas.api.types.is_numeric_dtype(frame[name])]
        frame = frame.astype(dict.fromkeys(texts, "category"))
    return frame[list(columns)]


def are_columns_of(
    name: str, columns: Sequence[str] | None, table: Columns | None, num_features: int | None
) -> bool:
    """Whether the columns that an estimator was fitted on are those of a table, by name.

    Raises:
        UsageError: some are, and others are not.
    """
    if columns is None or table is None:
        return False
    lacking = [one for one in columns if one not in table.names]
    if lacking and len(lacking) < len(columns) and len(columns) != num_features:
        raise UsageError(
            f"{name} was fitted on the columns {few(lacking)} too, which are no features of the data: name them "
            "with --features, or fit it without them"
        )
    return not lacking


def check_num_features(name: str, expected: int | None, found: int | None) -> None:
    """Refuse an estimator that was fitted on another number of columns than an example has.

    Raises:
        UsageError: the numbers differ.
    """
    if expected is not None and found is not None and expected != found:
        raise UsageError(
            f"{name} was fitted on {expected} columns, an example of the data has {found} numbers; fit it on "
            "data.gather(data.ids, 0).flatten(1), or use the data that it was fitted on"
        )


def names_of_classes(name: str, classes: Any, class_names: Sequence[str]) -> list[str]:
    """The names of an estimator's classes: as they are, or those of the labels where they are numbers of labels.

    Raises:
        UsageError: integers of which some are names, and some are not.

    Example:
        >>> names_of_classes("it", np.array([0, 2]), ("ant", "bee", "cat"))
        ['ant', 'cat']
        >>> names_of_classes("it", np.array([8, 7]), ("7", "8"))
        ['8', '7']
    """
    values = np.asarray(classes)
    found = [str(one) for one in values.tolist()]
    known = set(found) & set(class_names)
    numbers = values.tolist() if values.dtype.kind in "iu" else []
    if not numbers or len(known) == len(found) or not all(0 <= one < len(class_names) for one in numbers):
        return found
    if known:
        raise UsageError(
            f"{name} has the classes {described(found)}: some are names of classes and some can only be "
            "numbers of labels; fit it on the names, as texts"
        )
    return [class_names[number] for number in numbers]


def _content_hash(estimator: Any) -> str:
    """A hash of what an object holds; the same where it is fitted again on the same, in another process too."""
    from joblib.hashing import NumpyHasher

    class Hasher(NumpyHasher):  # type: ignore[misc]
        def save(self, value: Any) -> None:
            if isinstance(value, np.ndarray) and value.dtype.names:
                # The nodes of a tree are records; between their fields lies what was in memory before.
                value = {name: np.ascontiguousarray(value[name]) for name in value.dtype.names}
            super().save(value)

    return str(Hasher(hash_name="sha1").hash(estimator))
