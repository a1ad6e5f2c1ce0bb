"""Find the classes that a generalist confuses: clusters of the columns of its predictions' covariance.

With many classes the covariance is never computed. One pass over the predictions gives a sketch of its columns,
a few hundred numbers per class, that preserves their distances.
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
SKETCH = 512  # numbers per class: they keep distances between columns to about 1 / sqrt(SKETCH / 8) = 12 %

_RESTARTS = 8
_PASSES = 25
_RESTART_LIMIT = 2**24  # classes x sets x sketch: a larger problem takes seconds per start and gets one start


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
    """Sets of classes that are often predicted together, by online K-means on the covariance of the predictions.

    Column j of the covariance shows which classes share probability with class j. Columns are scaled to length
    1, so a frequent and a rare class that are confused with the same classes are close. Labels are not used.

    Args:
        probs: the generalist's predictions (examples, classes) on any data, or an iterable of such batches,
            which is read once. Memory grows with classes x sketch, not with the number of examples or classes x
            classes.
        num_sets: number of sets, at most the number of classes.
        classes_per_set: number of classes in a set.
        seed: seed of the sketch and of the first centres; the same seed gives the same sets.
        method: "overlapping" takes the `classes_per_set` classes nearest to each centre, as in the paper: a
            class may be in several sets or in none. "balanced" makes sets of equal size that share no class.
            "kmeans" keeps the clusters, whose sizes differ: a large cluster is cut to the `classes_per_set`
            classes nearest to its centre, and a cluster of one class also gets the class nearest to it.
        class_names: names of all classes, in the order of the predictions.
        sketch: numbers to keep per column; with fewer classes than that, columns are kept whole.

    Returns:
        `num_sets` different sets; fewer if two centres have the same nearest classes.

    Raises:
        UsageError: an option is out of range, there are more sets than classes, or probabilities do not sum to 1.

    Example:
        >>> often_together = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.6, 0.4]]).repeat(4, 1)
        >>> sets = confusable_class_sets(often_together, num_sets=2, classes_per_set=2, seed=0)
        >>> [class_set.classes for class_set in sets]
        [(0, 1), (2, 3)]

    References:
        Hinton, Vinyals and Dean 2015, section 5.3.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    generator = torch.Generator().manual_seed(seed)
    batches = [probs] if isinstance(probs, Tensor) else probs
    columns = covariance_columns(batches, sketch=sketch, generator=generator)
    check_set_sizes(len(columns), num_sets=num_sets, classes_per_set=classes_per_set, method=method)
    if class_names is not None and len(class_names) != len(columns):
        raise UsageError(f"{len(class_names)} class names for predictions of {len(columns)} classes")
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
    """A sketch C R of the covariance C of predictions P, (classes, sketch), in one pass.

    C R = 1/n P^T (P R) - m (m^T R),  m the mean prediction, R (classes, sketch) Gaussian with E[R R^T] = 1

    C is symmetric, so row j of C R is column j of C projected on `sketch` random directions. That preserves
    distances between columns (Johnson and Lindenstrauss). With at most `sketch` classes R is the identity and C
    R = C.

    Args:
        batches: predictions, (examples, classes) each.
        sketch: numbers per column.
        generator: random generator of R.
        check: check that the rows of each batch are distributions.

    Raises:
        UsageError: no predictions, batches with different numbers of classes, or rows that are not distributions.
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
        raise UsageError("probs: no prediction; class sets are made from at least one")
    mean = sums / num
    return total.div_(num).addr_(mean, mean @ directions.double(), alpha=-1)


def _directions(num_classes: int, sketch: int, generator: torch.Generator) -> Tensor:
    if sketch < 1:
        raise UsageError(f"sketch is {sketch}, expected at least 1")
    if num_classes <= sketch:
        return torch.eye(num_classes)
    return torch.randn(num_classes, sketch, generator=generator) / math.sqrt(sketch)


def check_set_sizes(num_classes: int, *, num_sets: int, classes_per_set: int, method: str) -> None:
    """Check that some classes can be divided into class sets of a size.

    Raises:
        UsageError: they cannot.
    """
    if not 1 <= num_sets <= num_classes:
        raise UsageError(f"num_sets is {num_sets}, expected 1 to {num_classes}, the number of classes")
    if not 2 <= classes_per_set < num_classes:
        raise UsageError(
            f"classes_per_set is {classes_per_set}, expected 2 to {num_classes - 1}: a specialist distinguishes "
            "classes, and at least one is left for its dustbin"
        )
    if method == "balanced" and num_sets * classes_per_set > num_classes:
        raise UsageError(
            f"balanced sets share no class: {num_sets} sets of {classes_per_set} need "
            f"{num_sets * classes_per_set} classes, there are {num_classes}; use fewer or smaller sets, or "
            "method='overlapping'"
        )


def online_kmeans(points: Tensor, num_centres: int, *, generator: torch.Generator) -> Tensor:
    """Cluster centres by online K-means: each point moves its nearest centre by 1 / (points that centre has had).

    Several passes in random order. Several k-means++ starts are tried, and the result with the least inertia is
    kept.

    Args:
        points: (points, dimensions).
        num_centres: number of centres, at most the number of points.
        generator: random generator of starts and orders.

    Returns:
        Centres, (num_centres, dimensions).

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> online_kmeans(points, 2, generator=torch.Generator().manual_seed(0)).sort(0).values
        tensor([[0.0500],
                [5.0500]])

    References:
        MacQueen 1967; Arthur and Vassilvitskii 2007 (k-means++).
    """
    starts = _RESTARTS if len(points) * num_centres * points.shape[1] <= _RESTART_LIMIT else 1
    found = [_one_start(points, num_centres, generator) for _ in range(starts)]
    return min(found, key=lambda pair: pair[0])[1]


def _one_start(points: Tensor, num_centres: int, generator: torch.Generator) -> tuple[float, Tensor]:
    centres = _spread_centres(points, num_centres, generator)
    counts = torch.zeros(num_centres, dtype=points.dtype, device=points.device)
    batch_size = max(1, len(points) // 64)  # points assigned before the centres move
    before = None
    for _ in range(_PASSES):
        order = torch.randperm(len(points), generator=generator).to(points.device)
        counts.clamp_(max=len(points) / num_centres)  # otherwise the first pass would weigh as much as the last
        for rows in order.split(batch_size):  # type: ignore[no-untyped-call]
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
    # With each centre exactly its cluster's mean, the last bits do not depend on the path there.
    sizes = nearest.bincount(minlength=num_centres)
    means = torch.zeros_like(centres).index_add_(0, nearest, points) / sizes.clamp_min(1)[:, None].to(points)
    centres = torch.where((sizes > 0)[:, None], means, centres)
    return float(torch.cdist(points, centres).amin(1).square().sum()), centres


def _spread_centres(points: Tensor, num_centres: int, generator: torch.Generator) -> Tensor:
    """k-means++: draw each centre from the points, in proportion to the squared distance to the nearest one."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen = [first]
    nearest = (points - points[first]).square().sum(1)
    for _ in range(num_centres - 1):
        weights = nearest.cpu().double()
        weights[chosen] = 0
        if not bool(weights.sum() > 0):  # all other points lie on a centre
            weights = torch.ones_like(weights)
            weights[chosen] = 0
        place = torch.rand(1, generator=generator, dtype=torch.float64) * weights.sum()
        row = int(torch.searchsorted(weights.cumsum(0), place).clamp_(max=len(points) - 1))
        chosen.append(row)
        nearest = torch.minimum(nearest, (points - points[row]).square().sum(1))
    return points[chosen].clone()


def _balanced(distances: Tensor, size: int) -> list[list[int]]:
    """Assign classes to centres, nearest pair first, until each centre has `size` classes."""
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


def _clusters(distances: Tensor, columns: Tensor, max_size: int) -> list[list[int]]:
    """The classes nearest to each centre; a single class also gets its nearest class."""
    rows: list[list[int]] = []
    nearest = distances.argmin(1)
    for k in range(distances.shape[1]):
        members = (nearest == k).nonzero().flatten()
        if len(members) == 1:
            to_others = torch.cdist(columns[members], columns)[0]
            to_others[members] = math.inf
            members = torch.cat((members, to_others.argmin()[None].cpu()))
        if len(members):
            rows.append(members[distances[members, k].argsort()[:max_size]].tolist())
    return rows
