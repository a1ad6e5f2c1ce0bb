"""The answers of a file as logits of the classes of the data: by name, at temperature 1, each row complete."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.distillation.answers import Answers
from instar.errors import DataError, UsageError
from instar.logit_values import logits_of_probabilities
from instar.naming import few

_TOLERANCE = 1e-2  # of the sum of a row: probabilities that were rounded to two or three digits
_FEW = 3  # rows or classes that a message names


def as_logits(
    path: Path, answers: Answers, class_names: Sequence[str], *, made_at: float, renormalise: bool
) -> tuple[Tensor, list[str]]:
    """The answers as logits of the classes of the data, and what was done to them, in sentences.

    Of probabilities p made at temperature T the logits are T log p: softmax(T log p) are the probabilities at
    temperature 1. The rest of a row of top k answers is spread evenly over the classes that the row does not
    answer.

    Args:
        path: of the file, for messages.
        answers: from `read_answers`.
        class_names: of the data.
        made_at: T.
        renormalise: leave out the classes that the data has not, and let the others add up to 1.

    Returns:
        (rows, classes) float32, and the sentences.

    Raises:
        UsageError: classes that the data has not, a temperature out of range.
        DataError: NaN, probabilities that do not add up to 1, logits that are missing.
    """
    values, given, done = _of_classes(path, answers, class_names, renormalise)
    _refuse(path, answers, given & ~np.isfinite(values), "NaN or infinity in", "repair what wrote them")
    if answers.are_logits:
        _refuse(path, answers, ~given, "no logit for some classes in", "give one for each class, or probabilities")
        if not 0 < made_at < np.inf:
            raise UsageError(f"{path}: made at temperature {made_at:g}, expected finite and above 0")
        return torch.from_numpy(made_at * values).float(), done
    _refuse(path, answers, given & (values < 0), "negative numbers in", "for logits say --logits")
    probs, more = _filled(path, answers, np.where(given, values, 0.0), given, renormalise)
    return logits_of_probabilities(str(path), torch.from_numpy(probs), made_at=made_at), done + more


def _of_classes(
    path: Path, answers: Answers, class_names: Sequence[str], renormalise: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """The columns in the order of the data's classes."""
    unknown = [name for name in answers.class_names if name not in set(class_names)]
    missing = [name for name in class_names if name not in set(answers.class_names)]
    done = []
    if unknown and (not renormalise or len(missing) == len(class_names)):
        cure = "" if len(missing) == len(class_names) else "; --renormalise leaves them out"
        raise UsageError(
            f"{path}: {few(unknown, _FEW)} {'is' if len(unknown) == 1 else 'are'} no class of the data, which has "
            f"{few(class_names, _FEW)}{cure}"
        )
    if unknown:
        done.append(f"left out {len(unknown)} classes that the data has not, and renormalised")
    if missing:
        done.append(f"no answers for {few(missing, _FEW)}, which share what the others leave")
    places = {name: place for place, name in enumerate(answers.class_names)}
    columns = [places.get(name, -1) for name in class_names]
    values = np.concatenate([answers.values, np.full((len(answers.values), 1), np.nan)], axis=1)[:, columns]
    given = np.concatenate([answers.given, np.zeros((len(answers.given), 1), bool)], axis=1)[:, columns]
    return values, given, done


def _filled(
    path: Path, answers: Answers, probs: NDArray[np.float64], given: NDArray[np.bool_], renormalise: bool
) -> tuple[NDArray[np.float64], list[str]]:
    """Probabilities with the rest of each row spread evenly over the classes that it does not answer."""
    totals = np.where(answers.given, answers.values, 0.0).sum(1)  # of all classes of the file
    unanswered = (~given).sum(1)
    is_whole = unanswered == 0
    rest = np.where(is_whole, 0.0, 1 - totals) if answers.rest is None else answers.rest
    empty = is_whole & (totals == 0) & (rest == 0)
    wrong = ~empty & ~((np.abs(totals + rest - 1) <= _TOLERANCE) & (rest >= -_TOLERANCE))  # NaN is wrong, too
    first = totals[wrong][0] if wrong.any() else 0.0
    _refuse(
        path, answers, wrong[:, None], f"probabilities that add up to {first:.3g} in", "for logits say --logits"
    )
    share = np.clip(rest, 0, None) / np.maximum(unanswered, 1)
    filled = np.where(given, probs, share[:, None])
    done = []
    if (~is_whole).any():
        done.append(
            f"spread the rest of {int((~is_whole).sum())} rows evenly over the classes that they do not answer, "
            f"{float(np.clip(rest[~is_whole], 0, None).mean()):.3g} of a row on average"
        )
    if renormalise:
        filled = filled / np.maximum(filled.sum(1, keepdims=True), np.finfo(float).tiny)
        empty = empty | (filled.sum(1) == 0)
    if empty.any():
        done.append(f"took all classes to be equally likely in {int(empty.sum())} rows of zeros")
    return filled, done


def _refuse(path: Path, answers: Answers, wrong: NDArray[np.bool_], what: str, cure: str) -> None:
    rows = np.flatnonzero(wrong.any(1))
    if len(rows):
        names = ", ".join(answers.name(int(row)) for row in rows[:_FEW]) + (", ..." if len(rows) > _FEW else "")
        raise DataError(f"{path}: {what} {len(rows)} of {len(wrong)} rows ({names}); {cure}")
