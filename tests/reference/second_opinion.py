"""The equations once more, slowly: float64, plain Python loops over nested lists, nothing of the library."""

import math
from collections.abc import Sequence

Row = Sequence[float]
Rows = Sequence[Row]


def softmax(logits: Row, temperature: float = 1.0) -> list[float]:
    """q_i = exp(z_i / T) / sum_j exp(z_j / T)"""
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def log_softmax(logits: Row, temperature: float = 1.0) -> list[float]:
    highest = max(logits)
    rest = math.log(math.fsum(math.exp((z - highest) / temperature) for z in logits))
    return [(z - highest) / temperature - rest for z in logits]


def arithmetic_mean(members: Rows) -> list[float]:
    return [math.fsum(member[i] for member in members) / len(members) for i in range(len(members[0]))]


def geometric_mean(members: Rows) -> list[float]:
    roots = [math.prod(member[i] for member in members) ** (1 / len(members)) for i in range(len(members[0]))]
    return [root / math.fsum(roots) for root in roots]


def soft_term(logits: Rows, probs: Rows, temperature: float, where: Sequence[bool]) -> float:
    """T^2 times the mean over examples of -sum_i p_i log q_i, i with p_i > 0"""
    losses = []
    for row, p, counts in zip(logits, probs, where, strict=True):
        if counts:
            log_q = log_softmax(row, temperature)
            losses.append(-math.fsum(p[i] * log_q[i] for i in range(len(row)) if p[i] > 0))
    return temperature**2 * math.fsum(losses) / len(losses) if losses else 0.0


def hard_term(logits: Rows, labels: Sequence[int], where: Sequence[bool]) -> float:
    """The mean over examples with a label of -log q_label"""
    losses = []
    for row, label, counts in zip(logits, labels, where, strict=True):
        if counts and label != -1:
            losses.append(-log_softmax(row)[label])
    return math.fsum(losses) / len(losses) if losses else 0.0


def soft_gradient(logits: Rows, probs: Rows, temperature: float, where: Sequence[bool]) -> list[list[float]]:
    """dC/dz_i = 1/T (q_i - p_i) for each example's cross-entropy, times T^2, over the number of examples"""
    gradient = []
    for row, p, counts in zip(logits, probs, where, strict=True):
        q = softmax(row, temperature)
        gradient.append([temperature * (q[i] - p[i]) / sum(where) if counts else 0.0 for i in range(len(row))])
    return gradient


def hard_gradient(logits: Rows, labels: Sequence[int], where: Sequence[bool]) -> list[list[float]]:
    """dC/dz_i = q_i - [i is the label], over the number of examples with a label"""
    num_labelled = sum(counts and label != -1 for label, counts in zip(labels, where, strict=True))
    gradient = []
    for row, label, counts in zip(logits, labels, where, strict=True):
        q = softmax(row)
        if counts and label != -1:
            gradient.append([(q[i] - (i == label)) / num_labelled for i in range(len(row))])
        else:
            gradient.append([0.0] * len(row))
    return gradient


def logit_matching(student: Rows, teacher: Rows) -> float:
    """1/(2N) sum_i (z_i - v_i)^2 of zero-mean logits, the mean over examples"""
    total = 0.0
    for z, v in zip(student, teacher, strict=True):
        mean_z, mean_v = math.fsum(z) / len(z), math.fsum(v) / len(v)
        total += math.fsum(((z[i] - mean_z) - (v[i] - mean_v)) ** 2 for i in range(len(z))) / (2 * len(z))
    return total / len(student)


def argmax(logits: Row) -> int:
    """The first of the highest."""
    return list(logits).index(max(logits))


def labelled(logits: Rows, labels: Sequence[int]) -> list[tuple[Row, int]]:
    return [(row, label) for row, label in zip(logits, labels, strict=True) if label != -1]


def num_errors(logits: Rows, labels: Sequence[int]) -> int:
    return sum(argmax(row) != label for row, label in labelled(logits, labels))


def top_k_accuracy(logits: Rows, labels: Sequence[int], k: int) -> float:
    pairs = labelled(logits, labels)
    num_right = 0
    for row, label in pairs:
        best_first = sorted(range(len(row)), key=lambda i: (-row[i], i))
        num_right += label in best_first[:k]
    return num_right / len(pairs)


def calibration_error(logits: Rows, labels: Sequence[int], num_bins: int, bins: str) -> float:
    """sum_b n_b/n |accuracy_b - confidence_b|"""
    examples = []
    for row, label in labelled(logits, labels):
        examples.append((max(softmax(row)), float(argmax(row) == label)))
    binned: list[list[tuple[float, float]]] = [[] for _ in range(num_bins)]
    if bins == "equal-width":
        for confidence, correct in examples:
            for b in range(num_bins):
                above = b == 0 or confidence > b / num_bins
                if above and (b == num_bins - 1 or confidence <= (b + 1) / num_bins):
                    binned[b].append((confidence, correct))
    else:
        for rank, (confidence, _) in enumerate(sorted(examples)):
            tied = [correct for other, correct in examples if other == confidence]
            binned[rank * num_bins // len(examples)].append((confidence, sum(tied) / len(tied)))
    error = 0.0
    for members in binned:
        if members:
            mean_confidence = math.fsum(confidence for confidence, _ in members) / len(members)
            mean_accuracy = math.fsum(correct for _, correct in members) / len(members)
            error += len(members) / len(examples) * abs(mean_accuracy - mean_confidence)
    return error


def kl_divergence(p: Row, q: Row) -> float:
    """sum_i p_i log(p_i / q_i)"""
    return math.fsum(p[i] * math.log(p[i] / q[i]) for i in range(len(p)) if p[i] > 0)


def confusion(logits: Rows, labels: Sequence[int], num_classes: int) -> list[list[int]]:
    cells = [[0] * num_classes for _ in range(num_classes)]
    for row, label in labelled(logits, labels):
        cells[label][argmax(row)] += 1
    return cells


def bootstrap_distribution(differences: Sequence[int]) -> dict[int, float]:
    """The exact distribution of the sum of n draws with replacement: one draw added after another."""
    n = len(differences)
    sums = {0: 1.0}
    for _ in range(n):
        after: dict[int, float] = {}
        for total, probability in sums.items():
            for difference in differences:
                after[total + difference] = after.get(total + difference, 0.0) + probability / n
        sums = after
    return sums


def combination_objective(
    q: Row, generalist: Row, specialists: Rows, sets: Sequence[Sequence[int]], active: Sequence[int]
) -> float:
    """KL(p_g, q) + sum over active m of KL(p_m, q grouped by m's dustbin)"""

    def divergence(p: Row, other: Row) -> float:
        return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, other, strict=True) if a > 0)

    total = divergence(generalist, q)
    for m in active:
        outside = [i for i in range(len(q)) if i not in sets[m]]
        total += divergence(specialists[m], [*(q[i] for i in sets[m]), math.fsum(q[i] for i in outside)])
    return total


def combined_by_gradient_descent(
    generalist: Row,
    specialists: Rows,
    sets: Sequence[Sequence[int]],
    active: Sequence[int],
    *,
    steps: int,
    rate: float,
) -> list[float]:
    """The paper's way: q = softmax(z), gradient descent on z for one example, from the generalist's logits.

    dF/dz_i = (1 + A) q_i - p_g_i - sum_m (p_m_i in S_m, else p_m,dustbin q_i / Q_m)
    """
    z = [math.log(max(p, 1e-12)) for p in generalist]
    for _ in range(steps):
        q = softmax(z)
        gradient = [(1 + len(active)) * q[i] - generalist[i] for i in range(len(q))]
        for m in active:
            mass = math.fsum(q[i] for i in range(len(q)) if i not in sets[m])
            for i in range(len(q)):
                if i in sets[m]:
                    gradient[i] -= specialists[m][list(sets[m]).index(i)]
                elif mass > 0:
                    gradient[i] -= specialists[m][-1] * q[i] / mass
        z = [value - rate * slope for value, slope in zip(z, gradient, strict=True)]
    return softmax(z)


def column_distances(probs: Rows) -> list[list[float]]:
    """Distances between the columns of the covariance of predictions, each scaled to length 1."""
    n, width = len(probs), len(probs[0])
    mean = [math.fsum(row[i] for row in probs) / n for i in range(width)]
    covariance = [
        [math.fsum((row[i] - mean[i]) * (row[j] - mean[j]) for row in probs) / n for j in range(width)]
        for i in range(width)
    ]
    lengths = [math.sqrt(math.fsum(value**2 for value in column)) for column in covariance]
    columns = [[value / length for value in column] for column, length in zip(covariance, lengths, strict=True)]
    return [[math.dist(one, other) for other in columns] for one in columns]
