"""Combine a generalist and its specialists into one distribution over all classes per example.

Examples differ in the specialists that are active for them, but are still computed in batches.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.naming import unknown_name
from instar.specialists.agreement import best_agreement
from instar.specialists.class_sets import ClassSet, membership
from instar.specialists.probabilities import checked_probs

MEANS = ("arithmetic", "geometric")
PredictSpecialist = Callable[[int, Tensor], Tensor]
"""`predict(m, rows)`: probabilities of specialist m for the examples `rows`, (rows, classes of its set + 1)."""

_MAX_BYTES = 2**25  # size of one (rows, classes) array of intermediate results


class Combined(NamedTuple):
    """Probabilities (examples, classes), and the number of specialists used for each example (examples,)."""

    probs: Tensor
    num_specialists: Tensor


def check_top_n(top_n: int, num_classes: int) -> None:
    """Check that top_n is a possible number of classes.

    Raises:
        UsageError: top_n is out of range.
    """
    if not 1 <= top_n <= num_classes:
        raise UsageError(
            f"top_n is {top_n}, expected 1 to {num_classes}: the number of top classes that activate specialists"
        )


def active_specialists(generalist_probs: Tensor, class_sets: Sequence[ClassSet], *, top_n: int = 1) -> Tensor:
    """Whether each specialist is active: its set contains one of the generalist's n most probable classes.

    Args:
        generalist_probs: (examples, classes).
        class_sets: class sets of the specialists.
        top_n: n, 1 in the paper.

    Returns:
        (examples, specialists), bool; an example may have no active specialist.

    Raises:
        UsageError: top_n is out of range, or the sets are for a different number of classes.

    Example:
        >>> active_specialists(torch.tensor([[0.7, 0.2, 0.1]]), [ClassSet([0, 1], 3), ClassSet([1, 2], 3)])
        tensor([[ True, False]])

    References:
        Hinton, Vinyals and Dean 2015, section 5.4, step 1.
    """
    num_classes = generalist_probs.shape[-1]
    check_top_n(top_n, num_classes)
    inside = _inside(class_sets, num_classes).to(generalist_probs.device)
    top = generalist_probs.topk(top_n, -1).indices
    return inside.T[top].any(1)


def combine_specialists(
    generalist_probs: Tensor,
    specialist_probs: Sequence[Tensor],
    class_sets: Sequence[ClassSet],
    *,
    top_n: int = 1,
    full_softmax: bool = False,
    mean: str = "arithmetic",
) -> Tensor:
    """The distribution with the least total divergence from the generalist and the active specialists.

    q = argmin over q of  KL(p_g, q) + sum over active m of KL(p_m, q grouped by m's dustbin)

    Grouping sums the mass of q on all classes outside S_m into one. The problem is convex in q; at the optimum,
    with A active specialists,

    q_i = ( p_g_i + sum_m p'_m_i ) / (1 + A),
    p'_m_i = p_m_i for i in S_m, else p_m,dustbin q_i / sum_{j not in S_m} q_j

    so each dustbin probability is spread over the classes outside its set, in proportion to q. It is solved to
    float64 precision by this fixed point (one step for one active specialist) and by Newton's method on the
    dual.

    Args:
        generalist_probs: p_g, (examples, classes).
        specialist_probs: p_m of each specialist, (examples, classes of its set + 1), the dustbin last. Rows in
            which a specialist is not active are ignored.
        class_sets: class sets of the specialists, in the same order.
        top_n: a specialist is active if its set contains one of the generalist's `top_n` most probable classes.
        full_softmax: the specialists predict all classes, (examples, classes). There is no dustbin; q is a mean.
        mean: with `full_softmax`, "arithmetic" minimises KL(p, q) and "geometric" KL(q, p).

    Returns:
        q, (examples, classes), computed in float64 and returned in the dtype of `generalist_probs`. An example
        without an active specialist keeps p_g bit for bit.

    Raises:
        UsageError: a row is not a distribution, shapes do not match, an option is out of range, or distributions
            without a common class have no geometric mean.

    Example:
        >>> class_set = ClassSet([0, 1], 4)
        >>> generalist, specialist = torch.tensor([[0.4, 0.3, 0.2, 0.1]]), torch.tensor([[0.1, 0.5, 0.4]])
        >>> combine_specialists(generalist, [specialist], [class_set])
        tensor([[0.2500, 0.4000, 0.2333, 0.1167]])

    References:
        Hinton, Vinyals and Dean 2015, section 5.4, equation 5. The paper solves it by gradient descent on the
        logits of each image.
    """
    if len(specialist_probs) != len(class_sets):
        raise UsageError(
            f"{len(specialist_probs)} specialists and {len(class_sets)} class sets; give one set each"
        )
    for number, (probs, class_set) in enumerate(zip(specialist_probs, class_sets, strict=True)):
        width = class_set.num_classes if full_softmax else len(class_set) + 1
        if probs.shape != (len(generalist_probs), width):
            raise UsageError(
                f"specialist {number}: expected probabilities {(len(generalist_probs), width)}, found "
                f"{tuple(probs.shape)}"
            )
    return combine_on_demand(
        generalist_probs,
        lambda number, rows: specialist_probs[number][rows],
        class_sets,
        top_n=top_n,
        full_softmax=full_softmax,
        mean=mean,
    ).probs


def combine_on_demand(
    generalist_probs: Tensor,
    predict: PredictSpecialist,
    class_sets: Sequence[ClassSet],
    *,
    top_n: int = 1,
    full_softmax: bool = False,
    mean: str = "arithmetic",
    rows_at_once: int | None = None,
) -> Combined:
    """`combine_specialists` that evaluates each specialist only on the examples for which it is active.

    Args:
        generalist_probs: (examples, classes).
        predict: `predict(m, rows)` gives the probabilities of specialist m for the examples `rows`. It is called
            only for specialists that are active for at least one example.
        class_sets: class sets of the specialists.
        top_n: as for `combine_specialists`.
        full_softmax: as for `combine_specialists`.
        mean: as for `combine_specialists`.
        rows_at_once: number of examples combined in one step; by default 32 MiB of float64. Apart from the result,
            memory is a few times rows_at_once x classes, plus the specialists' predictions for these rows.

    Returns:
        The probabilities, and the number of specialists used for each example.

    Raises:
        UsageError: as for `combine_specialists`.

    Example:
        >>> calls = []
        >>> def predict(m: int, rows: Tensor) -> Tensor:
        ...     calls.append((m, rows.tolist()))
        ...     return torch.tensor([[0.2, 0.7, 0.1]]).repeat(len(rows), 1)
        >>> probs = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
        >>> combine_on_demand(probs, predict, [ClassSet([0, 1], 4), ClassSet([1, 2], 4)]).num_specialists, calls
        (tensor([1, 0]), [(0, [0])])
    """
    if mean not in MEANS:
        raise unknown_name("mean", mean, MEANS)
    if mean == "geometric" and not full_softmax:
        raise UsageError(
            "the geometric mean is for specialists with a full softmax: distributions with dustbins have none"
        )
    probs = checked_probs("generalist_probs", generalist_probs)
    inside = _inside(class_sets, probs.shape[1]).to(probs.device)
    active = active_specialists(probs, class_sets, top_n=top_n)
    combined = probs.clone()
    using = active.any(1).nonzero().flatten()
    if len(using):
        using = using[torch.unique(active[using], dim=0, return_inverse=True)[1].argsort(stable=True)]
    rows_at_once = rows_at_once or max(1, _MAX_BYTES // (8 * probs.shape[1]))
    for rows in using.split(rows_at_once):  # type: ignore[no-untyped-call]
        if full_softmax:
            combined[rows] = _mean_of_full(probs, predict, active, rows, mean).to(probs.dtype)
        else:
            combined[rows] = _grouped(probs, predict, active, rows, inside).to(probs.dtype)
    return Combined(combined, active.sum(1))


def combination_objective(
    probs: Tensor,
    generalist_probs: Tensor,
    specialist_probs: Sequence[Tensor],
    class_sets: Sequence[ClassSet],
    active: Tensor,
) -> Tensor:
    """The objective of `combine_specialists`: KL(p_g, q) + sum over active m of KL(p_m, q grouped by its dustbin).

    Args:
        probs: q, (examples, classes).
        generalist_probs: p_g, (examples, classes).
        specialist_probs: p_m of each specialist, (examples, classes of its set + 1).
        class_sets: class sets of the specialists.
        active: whether each specialist is active, (examples, specialists), bool.

    Returns:
        (examples,), float64, in nats; infinite where q is 0 and a model's probability is not.

    Example:
        >>> half = torch.tensor([[0.5, 0.5, 0.0]])
        >>> combination_objective(half, half, [torch.tensor([[1.0, 0.0, 0.0]])], [ClassSet([0, 1], 3)],
        ...     torch.tensor([[True]]))
        tensor([0.6931], dtype=torch.float64)
    """
    q = probs.double()
    objective = _divergence(generalist_probs.double(), q)
    for number, (predicted, class_set) in enumerate(zip(specialist_probs, class_sets, strict=True)):
        special = torch.zeros(class_set.num_classes, dtype=torch.bool, device=q.device)
        special[list(class_set.classes)] = True
        grouped = torch.cat((q[:, special], q[:, ~special].sum(1, keepdim=True)), 1)
        objective += torch.where(active[:, number], _divergence(predicted.double(), grouped), 0.0)
    return objective


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(1)


def _inside(class_sets: Sequence[ClassSet], num_classes: int) -> Tensor:
    inside = membership(class_sets)
    if not class_sets:
        return inside.new_zeros(0, num_classes)
    if inside.shape[1] != num_classes:
        raise UsageError(
            f"class sets of a generalist with {inside.shape[1]} classes, the predictions have {num_classes}: the "
            "specialists are for other data"
        )
    return inside


def _mean_of_full(probs: Tensor, predict: PredictSpecialist, active: Tensor, rows: Tensor, mean: str) -> Tensor:
    """The mean distribution of generalist and active specialists, (rows, classes)."""

    def summand(values: Tensor) -> Tensor:
        return values.log() if mean == "geometric" else values

    total = summand(_normalised(probs[rows]))
    for number, places in _rows_by_specialist(active[rows]):
        predicted = checked_probs(f"specialist {number}", predict(number, rows[places]), probs.shape[1])
        total[places] += summand(_normalised(predicted))
    total /= 1 + active[rows].sum(1, keepdim=True)
    if mean == "arithmetic":
        return total
    empty = (total == -torch.inf).all(1)
    if bool(empty.any()):
        raise UsageError(
            f"row {int(rows[empty].min())} has no geometric mean: for every class, the generalist or an active "
            "specialist has probability 0; use mean='arithmetic'"
        )
    return torch.softmax(total, 1)


def _grouped(probs: Tensor, predict: PredictSpecialist, active: Tensor, rows: Tensor, inside: Tensor) -> Tensor:
    """The optimum q for rows with active specialists, (rows, classes), float64."""
    generalist = _normalised(probs[rows])
    used = active[rows].any(0).nonzero().flatten()
    fixed = generalist.clone()  # a_i = p_g_i + sum of p_m_i over the specialists m whose set contains i
    dustbins = generalist.new_zeros(len(rows), len(used))
    column_of = {number: column for column, number in enumerate(used.tolist())}
    for number, places in _rows_by_specialist(active[rows]):
        own = inside[number].nonzero().flatten()
        predicted = checked_probs(f"specialist {number}", predict(number, rows[places]), len(own) + 1)
        predicted = _normalised(predicted)
        fixed[places[:, None], own] += predicted[:, :-1]
        dustbins[places, column_of[number]] = predicted[:, -1]
    weight = 1 + active[rows].sum(1, keepdim=True).double()
    outside = (~inside[used]).double()
    return best_agreement(generalist, fixed, dustbins, weight, outside)


def _rows_by_specialist(active: Tensor) -> list[tuple[int, Tensor]]:
    """The rows for which each specialist is active; specialists that are never active are left out."""
    found = [(number, active[:, number].nonzero().flatten()) for number in range(active.shape[1])]
    return [(number, rows) for number, rows in found if len(rows)]


def _normalised(probs: Tensor) -> Tensor:
    probs = probs.double()
    return probs / probs.sum(1, keepdim=True)
