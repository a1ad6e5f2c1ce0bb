"""What generalist and specialists say together: one distribution over all classes for each example.

Examples differ in which specialists they use; they are computed in batches all the same.
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
Ask = Callable[[int, Tensor], Tensor]
"""Probabilities of specialist m for the examples of some rows: (rows, classes of the set + 1)."""

_BYTES_AT_ONCE = 2**25  # of one array of (rows, classes) while it is worked on


class Combined(NamedTuple):
    """Probabilities (examples, classes), and how many specialists each example used (examples,)."""

    probs: Tensor
    num_specialists: Tensor


def check_top_n(top_n: int, num_classes: int) -> None:
    """Refuse another number of choosing classes than there can be.

    Raises:
        UsageError: top_n out of range.
    """
    if not 1 <= top_n <= num_classes:
        raise UsageError(f"top_n is {top_n}, expected 1 to {num_classes}: how many classes choose the specialists")


def active_specialists(generalist_probs: Tensor, class_sets: Sequence[ClassSet], *, top_n: int = 1) -> Tensor:
    """Which specialists each example asks: those with one of the generalist's n most probable classes.

    Args:
        generalist_probs: (examples, classes).
        class_sets: of the specialists.
        top_n: n, 1 in the paper.

    Returns:
        (examples, specialists), bool; a row may have none.

    Raises:
        UsageError: top_n out of range, or sets for another number of classes.

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
    """The distribution that generalist and active specialists agree on best.

    q = argmin over q of  KL(p_g, q) + sum over active m of KL(p_m, q grouped by m's dustbin)

    where the mass of q on all classes outside S_m is summed into one. Convex in q; at the optimum, with A active
    specialists,

    q_i = ( p_g_i + sum_m p'_m_i ) / (1 + A),
    p'_m_i = p_m_i for i in S_m, else p_m,dustbin q_i / sum_{j not in S_m} q_j

    that is, each one's dustbin is spread over the classes it lumps in proportion to q. Solved to float64's last
    digits by this fixed point (one step where one specialist is active) and by Newton's method on the dual.

    Args:
        generalist_probs: p_g, (examples, classes).
        specialist_probs: p_m of each specialist, (examples, classes of its set + 1), the dustbin last. Rows in
            which it is not active are not looked at.
        class_sets: of the specialists, in the same order.
        top_n: how many of the generalist's classes choose the active specialists.
        full_softmax: the specialists give all classes, (examples, classes); there is no dustbin, and q is a mean.
        mean: with `full_softmax` the "arithmetic" mean minimises KL(p, q), the "geometric" one KL(q, p).

    Returns:
        q, (examples, classes), in the type of `generalist_probs` and computed in float64; of an example without
        an active specialist p_g, to the bit.

    Raises:
        UsageError: rows that are no distributions, shapes that do not fit, an option out of its range, a geometric
            mean of distributions that have no class in common.

    Example:
        >>> class_set = ClassSet([0, 1], 4)
        >>> generalist, specialist = torch.tensor([[0.4, 0.3, 0.2, 0.1]]), torch.tensor([[0.1, 0.5, 0.4]])
        >>> combine_specialists(generalist, [specialist], [class_set])
        tensor([[0.2500, 0.4000, 0.2333, 0.1167]])

    References:
        Hinton, Vinyals and Dean 2015, section 5.4, equation 5, solved there by gradient descent on each image's
        logits.
    """
    if len(specialist_probs) != len(class_sets):
        raise UsageError(f"{len(specialist_probs)} specialists and {len(class_sets)} class sets; each has one")
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
    ask: Ask,
    class_sets: Sequence[ClassSet],
    *,
    top_n: int = 1,
    full_softmax: bool = False,
    mean: str = "arithmetic",
    rows_at_once: int | None = None,
) -> Combined:
    """`combine_specialists`, where a specialist is only asked for the examples in which it is active.

    Args:
        generalist_probs: (examples, classes).
        ask: `ask(m, rows)` gives the probabilities of specialist m for some rows; never called with no row.
        class_sets: of the specialists.
        top_n: how many of the generalist's classes choose the active specialists.
        full_softmax: as for `combine_specialists`.
        mean: as for `combine_specialists`.
        rows_at_once: how many examples are worked on together, by default as many as 32 MiB hold: beside the
            result, memory is a few times rows_at_once x classes, and what the active specialists give for them.

    Returns:
        The probabilities, and how many specialists each example used.

    Raises:
        UsageError: as `combine_specialists`.

    Example:
        >>> asked = []
        >>> def ask(m: int, rows: Tensor) -> Tensor:
        ...     asked.append((m, rows.tolist()))
        ...     return torch.tensor([[0.2, 0.7, 0.1]]).repeat(len(rows), 1)
        >>> probs = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
        >>> combine_on_demand(probs, ask, [ClassSet([0, 1], 4), ClassSet([1, 2], 4)]).num_specialists, asked
        (tensor([1, 0]), [(0, [0])])
    """
    if mean not in MEANS:
        raise unknown_name("mean", mean, MEANS)
    if mean == "geometric" and not full_softmax:
        raise UsageError(
            "the geometric mean is for specialists with a full softmax: with a dustbin KL(q, p) has none"
        )
    probs = checked_probs("generalist_probs", generalist_probs)
    inside = _inside(class_sets, probs.shape[1]).to(probs.device)
    active = active_specialists(probs, class_sets, top_n=top_n)
    combined = probs.clone()
    using = active.any(1).nonzero().flatten()
    if len(using):
        using = using[torch.unique(active[using], dim=0, return_inverse=True)[1].argsort(stable=True)]
    rows_at_once = rows_at_once or max(1, _BYTES_AT_ONCE // (8 * probs.shape[1]))
    for rows in using.split(rows_at_once):  # type: ignore[no-untyped-call]
        if full_softmax:
            combined[rows] = _mean_of_full(probs, ask, active, rows, mean).to(probs.dtype)
        else:
            combined[rows] = _grouped(probs, ask, active, rows, inside).to(probs.dtype)
    return Combined(combined, active.sum(1))


def combination_objective(
    probs: Tensor,
    generalist_probs: Tensor,
    specialist_probs: Sequence[Tensor],
    class_sets: Sequence[ClassSet],
    active: Tensor,
) -> Tensor:
    """What `combine_specialists` minimises: KL(p_g, q) + sum over active m of KL(p_m, q grouped by its dustbin).

    Args:
        probs: q, (examples, classes).
        generalist_probs: (examples, classes).
        specialist_probs: of each specialist, (examples, classes of its set + 1).
        class_sets: of the specialists.
        active: (examples, specialists), bool.

    Returns:
        (examples,), float64, in nats; infinite where q gives 0 to what a model holds possible.

    Example:
        >>> half = torch.tensor([[0.5, 0.5, 0.0]])
        >>> combination_objective(half, half, [torch.tensor([[1.0, 0.0, 0.0]])], [ClassSet([0, 1], 3)],
        ...     torch.tensor([[True]]))
        tensor([0.6931], dtype=torch.float64)
    """
    q = probs.double()
    objective = _divergence(generalist_probs.double(), q)
    for number, (theirs, class_set) in enumerate(zip(specialist_probs, class_sets, strict=True)):
        special = torch.zeros(class_set.num_classes, dtype=torch.bool, device=q.device)
        special[list(class_set.classes)] = True
        grouped = torch.cat((q[:, special], q[:, ~special].sum(1, keepdim=True)), 1)
        objective += torch.where(active[:, number], _divergence(theirs.double(), grouped), 0.0)
    return objective


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(1)


def _inside(class_sets: Sequence[ClassSet], num_classes: int) -> Tensor:
    inside = membership(class_sets)
    if not class_sets:
        return inside.new_zeros(0, num_classes)
    if inside.shape[1] != num_classes:
        raise UsageError(
            f"class sets of a generalist with {inside.shape[1]} classes, these predictions have {num_classes}: "
            "the specialists are for other data"
        )
    return inside


def _mean_of_full(probs: Tensor, ask: Ask, active: Tensor, rows: Tensor, mean: str) -> Tensor:
    """The mean of the distributions of generalist and active specialists, (rows, classes)."""

    def as_summed(one: Tensor) -> Tensor:
        return one.log() if mean == "geometric" else one

    total = as_summed(_normalised(probs[rows]))
    for number, places in _asked(active[rows]):
        theirs = checked_probs(f"specialist {number}", ask(number, rows[places]), probs.shape[1])
        total[places] += as_summed(_normalised(theirs))
    total /= 1 + active[rows].sum(1, keepdim=True)
    if mean == "arithmetic":
        return total
    empty = (total == -torch.inf).all(1)
    if bool(empty.any()):
        raise UsageError(
            f"row {int(rows[empty].min())} has no geometric mean: no class is possible for the generalist and all "
            "active specialists; take the arithmetic mean"
        )
    return torch.softmax(total, 1)


def _grouped(probs: Tensor, ask: Ask, active: Tensor, rows: Tensor, inside: Tensor) -> Tensor:
    """The fixed point for rows that have active specialists, (rows, classes), float64."""
    generalist = _normalised(probs[rows])
    used = active[rows].any(0).nonzero().flatten()
    fixed = generalist.clone()  # of what is known of each class: p_g_i + sum of p_m_i over the m whose set has i
    dustbins = generalist.new_zeros(len(rows), len(used))
    place_of = {number: place for place, number in enumerate(used.tolist())}
    for number, places in _asked(active[rows]):
        own = inside[number].nonzero().flatten()
        asked = ask(number, rows[places])
        theirs = _normalised(checked_probs(f"specialist {number}", asked, len(own) + 1))
        fixed[places[:, None], own] += theirs[:, :-1]
        dustbins[places, place_of[number]] = theirs[:, -1]
    weight = 1 + active[rows].sum(1, keepdim=True).double()
    outside = (~inside[used]).double()
    return best_agreement(generalist, fixed, dustbins, weight, outside)


def _asked(active: Tensor) -> list[tuple[int, Tensor]]:
    """Each specialist that is active anywhere, and in which rows."""
    found = [(number, active[:, number].nonzero().flatten()) for number in range(active.shape[1])]
    return [(number, places) for number, places in found if len(places)]


def _normalised(probs: Tensor) -> Tensor:
    probs = probs.double()
    return probs / probs.sum(1, keepdim=True)
