"""Teachers that are no network: whatever answers a batch of examples, as a module that gives logits.

A teacher needs three things: it is called on a batch of examples, it has `class_names`, and it has a
`fingerprint`.
"""

import copy
import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from instar.errors import DataWarning, TrainingError, UsageError
from instar.logit_values import SMALLEST_PROBABILITY, are_distributions, logits_of_probabilities
from instar.naming import few
from instar.networks.inputs import Normalisation, serve_own_needs_
from instar.structures import TEXT, Inputs, device_of, map_tensors, num_examples
from instar.tokenising import texts_in

PROBABILITIES, LOGITS = "probabilities", "logits"


class AskedTeacher(Protocol):
    """A teacher that is no network.

    Three attributes more are possible: `gives`, "probabilities" or "logits", where the numbers leave it open;
    `input_normalisation`, (mean, std), where it needs its examples otherwise than the data gives them; and
    `examples_at_once`, how many it is asked about in a call where a network would be in 128, for a call that costs
    much of itself.
    """

    @property
    def class_names(self) -> Sequence[str] | None:
        """Classes in the order of its answers; None where they are those of the data, in their order."""

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever its answers do."""

    def __call__(self, examples: Any, /) -> Any:
        """Probabilities or logits (batch, classes), a tensor or an array, of examples (batch, ...) float32, or a
        mapping or a tuple of tensors, as the data gives them; one that `reads_text` gets a list of texts.
        """


def is_asked(value: Any) -> bool:
    """Whether a value is a teacher that is no network: called on one batch, with class names and a fingerprint.

    Example:
        >>> is_asked(nn.Linear(2, 2)), is_asked(lambda examples: examples)
        (False, False)
    """
    if isinstance(value, nn.Module | type) or not callable(value):
        return False
    if not hasattr(value, "class_names") or not hasattr(value, "fingerprint"):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    return len(needed) == 1  # soft targets take ids and views


class AskedNetwork(nn.Module):
    """A teacher that is no network as a module: its answers as logits, for the classes of the data in their order.

    Probabilities become logits (`logits_of_probabilities`). Classes are matched by name: another order is put
    right; of a teacher with more classes the others are left out and the rest renormalised, which a warning says;
    a class that it does not know has a probability of 1e-6, which a warning says too.

    Args:
        teacher: see `AskedTeacher`.
        class_names: of the data.
        name: of the teacher, for messages.
        given: the normalisation that examples have, which is undone where the teacher states its own.

    Raises:
        UsageError: other classes, another number of answers than classes, or numbers that are neither
            probabilities nor logits.
        TrainingError: probabilities that hold NaN, or that do not add up to 1 in a later batch.

    Warns:
        DataWarning: see above; and, once, that a row of the answers is all zeros.

    Example:
        >>> class Coin:
        ...     class_names, fingerprint = ("tails", "heads"), "a fair coin"
        ...     def __call__(self, examples):
        ...         return torch.tensor([0.25, 0.75]).expand(len(examples), 2)
        >>> network = AskedNetwork(Coin(), ("heads", "tails"), name="a coin")
        >>> [round(number, 2) for number in network(torch.zeros(2, 3)).softmax(-1)[0].tolist()]
        [0.75, 0.25]
    """

    def __init__(
        self,
        teacher: AskedTeacher,
        class_names: Sequence[str],
        *,
        name: str = "the teacher",
        given: Normalisation | None = None,
    ) -> None:
        super().__init__()
        self.teacher, self.name = teacher, name
        self._gives = getattr(teacher, "gives", None)
        if self._gives not in (None, PROBABILITIES, LOGITS):
            raise UsageError(f"{name}: gives is {self._gives!r}, expected {PROBABILITIES!r} or {LOGITS!r}")
        own = teacher.class_names
        self._num_own = len(class_names) if own is None else len(own)
        self._columns = None if own is None else class_columns(name, own, class_names)
        self._has_warned = False
        if hasattr(teacher, "input_normalisation"):
            self.input_normalisation = teacher.input_normalisation
            serve_own_needs_(self, given)

    @property
    def fingerprint(self) -> str:
        """That of the teacher."""
        return self.teacher.fingerprint

    @property
    def examples_at_once(self) -> int | None:
        """How many examples it is best asked about in a call; None where the teacher does not say."""
        return getattr(self.teacher, "examples_at_once", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A session or a booster cannot be copied, and need not be: nothing here is trained."""
        return copy.copy(self)

    def get_extra_state(self) -> dict[str, str]:
        """What a run directory keeps of it: the teacher itself stays where it is."""
        return {"fingerprint": self.fingerprint}

    def set_extra_state(self, state: dict[str, str]) -> None:
        """Refuse another teacher than the one that was saved.

        Raises:
            UsageError: it answers otherwise now.
        """
        if state != self.get_extra_state():
            raise UsageError(f"{self.name} is another teacher now than when this run began; use another --run-dir")

    @property
    def reads_text(self) -> bool:
        """Whether it is asked about texts, not about tensors."""
        return bool(getattr(self.teacher, "reads_text", False))

    def forward(self, *tensors: Tensor, **named: Tensor) -> Tensor:
        """Logits (batch, classes), float32, of a batch as `call` gives it; of texts as `seen_by` does."""
        examples: Inputs = named or (tensors if len(tensors) > 1 else tensors[0])
        if (list(named) == [TEXT]) != self.reads_text:
            raise UsageError(f"{self.name} takes {'texts' if self.reads_text else 'tensors of numbers'} alone")
        answers = self._answers(map_tensors(lambda one: one.detach().cpu(), examples))
        if self._gives is None:
            self._gives = self._what(answers)
        logits = answers.float() if self._gives == LOGITS else self._logits(answers)
        if self._columns is not None:
            logits = _choose(logits, self._columns)
        return logits.to(device_of(examples))

    def _answers(self, examples: Inputs) -> Tensor:
        found = self.teacher(texts_in(examples[TEXT]) if self.reads_text else examples)
        try:
            answers = found.detach().cpu() if isinstance(found, Tensor) else torch.from_numpy(np.asarray(found))
        except TypeError:
            raise UsageError(
                f"{self.name} gives {type(found).__name__}, expected a tensor or an array of numbers"
            ) from None
        expected = (num_examples(examples), self._num_own)
        if tuple(answers.shape) != expected:
            raise UsageError(
                f"{self.name} gives {tuple(answers.shape)} for {expected[0]} examples, expected {expected}: a "
                "number for each class"
            )
        return answers

    def _what(self, answers: Tensor) -> str:
        """Whether answers are probabilities or logits; sigmoids are neither."""
        filled = answers[answers.ne(0).any(-1)]
        if len(filled) and bool(are_distributions(filled).all()):
            return PROBABILITIES
        if len(filled) and bool(((filled >= 0) & (filled <= 1)).all()):
            total = float(filled[~are_distributions(filled)][0].sum())
            raise UsageError(
                f"{self.name} gives numbers from 0 to 1 that add up to {total:.3g} in a row: neither "
                'probabilities of one class nor logits; if they are logits, say gives = "logits" in an attribute'
            )
        return LOGITS

    def _logits(self, answers: Tensor) -> Tensor:
        if not self._has_warned and bool((empty := ~answers.any(-1)).any()):
            self._has_warned = True
            warnings.warn(
                f"{self.name}: nothing but zeros in {int(empty.sum())} of {len(empty)} rows of a batch; there, "
                "and in later batches, all classes are taken to be equally likely",
                DataWarning,
                stacklevel=2,
            )
        try:
            return logits_of_probabilities(self.name, answers)
        except UsageError as error:  # the first batch was right
            raise TrainingError(str(error)) from error


def class_columns(name: str, own: Sequence[str], wanted: Sequence[str]) -> Tensor | None:
    """Where a teacher has the classes of the data, -1 for a class that it lacks; None where they are the same.

    Raises:
        UsageError: a name occurs twice; or the teacher has classes that the data lacks and lacks some of the data.

    Warns:
        DataWarning: the teacher has more classes, or fewer.

    Example:
        >>> class_columns("it", ["cat", "ant", "bee"], ["ant", "bee", "cat"]).tolist()
        [1, 2, 0]
    """
    own, wanted = [str(one) for one in own], [str(one) for one in wanted]
    if len(set(own)) < len(own):
        twice = next(one for one in own if own.count(one) > 1)
        raise UsageError(f"{name} has two classes called {twice!r}; give each class its own name")
    if own == wanted:
        return None
    places = {one: place for place, one in enumerate(own)}
    lacking, more = [one for one in wanted if one not in places], [one for one in own if one not in set(wanted)]
    if lacking and more:
        raise UsageError(
            f"{name} has other classes: {few(more)} {'is' if len(more) == 1 else 'are'} not in the data, whose "
            f"{few(lacking)} it lacks; give its classes the names that the data has"
        )
    if lacking:
        said = f"lacks {few(lacking)}: a probability of {SMALLEST_PROBABILITY:g} for each example"
        warnings.warn(f"{name} {said}", DataWarning, stacklevel=3)
    if more:
        said = f"has {len(own)} classes, of which the data has {len(wanted)}: renormalised over these"
        warnings.warn(f"{name} {said}", DataWarning, stacklevel=3)
    return torch.tensor([places.get(one, -1) for one in wanted])


def _choose(logits: Tensor, columns: Tensor) -> Tensor:
    """Logits of the classes of the data."""
    if bool((columns >= 0).all()):
        return logits[:, columns]
    known = torch.log_softmax(logits, -1)[:, columns.clamp(min=0)]
    return known.where(columns >= 0, math.log(SMALLEST_PROBABILITY))
