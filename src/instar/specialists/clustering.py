"""Which classes a generalist confuses: clusters of the columns of the covariance of its predictions.

The covariance is never made where there are many classes: one pass over the predictions gives a sketch of its
columns, a few hundred numbers for each class, that keeps their distances.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.naming import unknown_name
from instar.specialists.class_sets import ClassSet
from instar.specialists.probabilities import checked_probs

METHODS = ("overlapping", "balanced", "kmeans")
SKETCH = 512  # numbers for each class: distances between columns are kept to about 1 / sqrt(SKETCH / 8) = 12 %

_RESTARTS = 8
_PASSES = 25
_RESTART_LIMIT = 2**24  # classes x sets x sketch; one start is enough beyond, where each takes seconds


def confusable_class_sets(
    probs: Tensor | Iterable[Tensor],
    *,
    num_sets: int,
    classes_per_set: int,
    seed: int,
    method: str = "overlapping",
    class_names: Sequence[str] | None = None,
    sketch: int = SKETCH,
) -> list[ClassSet]:
    """Sets of classes that are often predicted together: online K-means on the covariance of the predictions.

    Column j of the covariance of p says with which classes class j shares its probability. Each column is scaled
    to length 1, so that a frequent class and a rare one that are confused with the same others are close. No
    label is looked at.

    Args:
        probs: the generalist's predictions (examples, classes) on any data, or an iterable of such batches, read
            once: memory grows with classes x sketch, not with the examples nor with classes x classes.
        num_sets: how many sets, at most as many as there are classes.
        classes_per_set: how many classes a set has.
        seed: of the sketch and of the clusters' first centres; the same seed gives the same sets.
        method: "overlapping": the `classes_per_set` classes nearest to each centre, as in the paper, where a class
            may be in several sets or in none. "balanced": the same size, and no class in two sets. "kmeans": the
            clusters as they are, of different sizes; of a large one the `classes_per_set` classes nearest to its
            centre, and one with a single class gets that class's nearest.
        class_names: of all classes, in the order of the predictions.
        sketch: numbers kept of each column; all of it where there are fewer classes.

    Returns:
        `num_sets` different sets; fewer where two centres have the same nearest classes.

    Raises:
        UsageError: an option out of its range, more sets than classes, probabilities that do not sum to one.

    Example:
        >>> often_together = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.6, 0.4]]).repeat(4, 1)
        >>> [one.classes for one in confusable_class_sets(often_together, num_sets=2, classes_per_set=2, seed=0)]
        [(0, 1), (2, 3)]

    References:
        Hinton, Vinyals and Dean 2015, section 5.3.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    generator = torch.Generator().manual_seed(seed)
    batches = [probs] if isinstance(probs, Tensor) else probs
    columns = covariance_columns(batches, sketch=sketch, generator=generator)
    _check_sizes(len(columns), num_sets, classes_per_set, method, class_names)
    columns = columns / columns.norm(dim=1, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)
    centres = online_kmeans(columns, num_sets, generator=generator)
    distances = torch.cdist(columns, centres).cpu()
    if method == "overlapping":
        rows = [distances[:, k].topk(classes_per_set, largest=False).indices.tolist() for k in range(num_sets)]
    elif method == "balanced":
        rows = _balanced(distances, classes_per_set)
    else:
        rows = _clusters(distances, columns, classes_per_set)
    names = class_names or [str(number) for number in range(len(columns))]
    unique = sorted({tuple(sorted(row)) for row in rows})
    return [ClassSet.of_numbers(row, names) for row in unique]


def covariance_columns(
    batches: Iterable[Tensor], *, sketch: int, generator: torch.Generator, check: bool = True
) -> Tensor:
    """A sketch of the columns of the covariance of some predictions, (classes, sketch): C R, in one pass.

    C R = 1/n P^T (P R) - m (m^T R),  m the mean prediction, R (classes, sketch) Gaussian with E[R R^T] = 1

    C is symmetric, so row j of C R is column j of C seen from `sketch` random directions: distances between
    columns are kept (Johnson and Lindenstrauss). With no more classes than `sketch`, R = 1 and this is C itself.

    Args:
        batches: (examples, classes) each.
        sketch: numbers for each column.
        generator: of R.
        check: whether each batch is checked.

    Raises:
        UsageError: no batch, batches of different classes, rows that are no probabilities.
    """
    total: Tensor | None = None
    directions, num = None, 0
    for batch in batches:
        rows = (checked_probs("probs", batch) if check else batch).float()
        if total is None:
            directions = _directions(rows.shape[1], sketch, generator).to(rows.device)
            total = torch.zeros(rows.shape[1], directions.shape[1], dtype=torch.float64, device=rows.device)
            sums = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
        if directions is None or rows.shape[1] != len(total):
            raise UsageError(f"probs: a batch of {rows.shape[1]} classes after batches of {len(total)}")
        total += rows.T @ (rows @ directions)
        sums += rows.sum(0)
        num += len(rows)
    if total is None or directions is None or num == 0:
        raise UsageError("probs: there is no prediction to make class sets from")
    mean = sums / num
    return total.div_(num).addr_(mean, mean @ directions.double(), alpha=-1)


def _directions(num_classes: int, sketch: int, generator: torch.Generator) -> Tensor:
    if sketch < 1:
        raise UsageError(f"sketch is {sketch}, expected at least 1")
    if num_classes <= sketch:
        return torch.eye(num_classes)
    return torch.randn(num_classes, sketch, generator=generator) / math.sqrt(sketch)


def _check_sizes(
    num_classes: int, num_sets: int, classes_per_set: int, method: str, class_names: Sequence[str] | None
) -> None:
    if not 1 <= num_sets <= num_classes:
        raise UsageError(f"num_sets is {num_sets}, expected 1 to {num_classes}: no more sets than classes")
    if not 2 <= classes_per_set < num_classes:
        raise UsageError(
            f"classes_per_set is {classes_per_set}, expected 2 to {num_classes - 1}: one class is nothing to tell "
            "apart, and all of them leave nothing for the dustbin"
        )
    if method == "balanced" and num_sets * classes_per_set > num_classes:
        raise UsageError(
            f"balanced sets share no class: {num_sets} sets of {classes_per_set} need "
            f"{num_sets * classes_per_set} classes, there are {num_classes}; take fewer, or overlapping sets"
        )
    if class_names is not None and len(class_names) != num_classes:
        raise UsageError(f"{len(class_names)} class names for predictions of {num_classes} classes")


def online_kmeans(points: Tensor, num_centres: int, *, generator: torch.Generator) -> Tensor:
    """Centres of clusters of points: each point moves its nearest centre by 1 / (points it has had).

    Several passes in random order, from k-means++ starts, of which the one with the least inertia is kept.

    Args:
        points: (points, dimensions).
        num_centres: at most as many as points.
        generator: of starts and orders.

    Returns:
        (num_centres, dimensions).

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> online_kmeans(points, 2, generator=torch.Generator().manual_seed(0)).sort(0).values
        tensor([[0.0500],
                [5.0500]])

    References:
        MacQueen 1967; Arthur and Vassilvitskii 2007 for the starts.
    """
    starts = _RESTARTS if len(points) * num_centres * points.shape[1] <= _RESTART_LIMIT else 1
    found = [_one_start(points, num_centres, generator) for _ in range(starts)]
    return min(found, key=lambda pair: pair[0])[1]


def _one_start(points: Tensor, num_centres: int, generator: torch.Generator) -> tuple[float, Tensor]:
    centres = _spread_centres(points, num_centres, generator)
    counts = torch.zeros(num_centres, dtype=points.dtype, device=points.device)
    together = max(1, len(points) // 64)  # points that are assigned before the centres move
    before = None
    for _ in range(_PASSES):
        order = torch.randperm(len(points), generator=generator).to(points.device)
        counts.clamp_(max=len(points) / num_centres)  # else the first pass, from far, would weigh as the last
        for rows in order.split(together):  # type: ignore[no-untyped-call]
            nearest = torch.cdist(points[rows], centres).argmin(1)
            new = nearest.bincount(minlength=num_centres).to(points)
            counts += new
            sums = torch.zeros_like(centres).index_add_(0, nearest, points[rows])
            centres += (sums - new[:, None] * centres) / counts.clamp_min(1)[:, None]
        distances = torch.cdist(points, centres)
        nearest = distances.argmin(1)
        if before is not None and torch.equal(nearest, before):
            break
        before = nearest
    # Where each centre has its clusters' mean, the last bits no longer depend on the path that led there.
    sizes = nearest.bincount(minlength=num_centres)
    means = torch.zeros_like(centres).index_add_(0, nearest, points) / sizes.clamp_min(1)[:, None].to(points)
    centres = torch.where((sizes > 0)[:, None], means, centres)
    return float(torch.cdist(points, centres).amin(1).square().sum()), centres


def _spread_centres(points: Tensor, num_centres: int, generator: torch.Generator) -> Tensor:
    """k-means++: each next centre is a point, drawn in proportion to its squared distance from those so far."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen = [first]
    nearest = (points - points[first]).square().sum(1)
    for _ in range(num_centres - 1):
        weights = nearest.cpu().double()
        weights[chosen] = 0
        if not bool(weights.sum() > 0):  # all others stand on a centre
            weights = torch.ones_like(weights)
            weights[chosen] = 0
        place = torch.rand(1, generator=generator, dtype=torch.float64) * weights.sum()
        row = int(torch.searchsorted(weights.cumsum(0), place).clamp_(max=len(points) - 1))
        chosen.append(row)
        nearest = torch.minimum(nearest, (points - points[row]).square().sum(1))
    return points[chosen].clone()


def _balanced(distances: Tensor, size: int) -> list[list[int]]:
    """Nearest pair of class and centre first, until each centre has `size` classes."""
    num_classes, num_sets = distances.shape
    rows: list[list[int]] = [[] for _ in range(num_sets)]
    is_free = [True] * num_classes
    missing = num_sets * size
    for place in distances.flatten().argsort(stable=True).tolist():
        number, k = divmod(place, num_sets)
        if is_free[number] and len(rows[k]) < size:
            rows[k].append(number)
            is_free[number] = False
            missing -= 1
            if not missing:
                break
    return rows


def _clusters(distances: Tensor, columns: Tensor, most: int) -> list[list[int]]:
    rows: list[list[int]] = []
    nearest = distances.argmin(1)
    for k in range(distances.shape[1]):
        members = (nearest == k).nonzero().flatten()
        if len(members) == 1:
            apart = torch.cdist(columns[members], columns)[0]
            apart[members] = math.inf
            members = torch.cat((members, apart.argmin()[None].cpu()))
        if len(members):
            rows.append(members[distances[members, k].argsort()[:most]].tolist())
    return rows
