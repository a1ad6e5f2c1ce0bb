"""The distribution that models with dustbins agree on best, for many examples at once, in float64.

With a_i = p_g_i + sum of the p_m_i that are known of class i alone, d_m the dustbins and Q_m the mass of q outside
S_m, q minimises  -sum_i a_i log q_i - sum_m d_m log Q_m.

Two ways, both exact. The EM fixed point q_i <- (a_i + q_i sum_{m: i not in S_m} d_m / Q_m) / (1 + A) always goes
down and needs one step with one specialist, but thousands where many overlapping ones contradict each other.
Newton's method on the dual, with one unknown for each active specialist, r_m = d_m / Q_m, needs about ten steps:
minimise -sum_i a_i log(1 + A - w_i) - sum_m d_m log r_m  with  w_i = sum_{m: i not in S_m} r_m; then
q_i = a_i / (1 + A - w_i). It loses its digits where a_i is tiny and q_i is not; such rows go on with EM.
"""

import torch
from torch import Tensor

FLOOR = 1e-290  # of the generalist's zeros at the start: a dustbin whose other classes all have 0 can be met

_STEP = 1e-14  # a row is done when no probability moves by more,
_GAP = 1e-11  # and none that is tiny is about to grow: the objective is then at most this times 1 + A too high
_LEAST = 1e-12  # of a_i for Newton: where it is 0, q_i need not be, for a dustbin may be all that feeds it
_SURE = 1e-9  # of the unknowns: the step that is this small is the last, for the next would square it
_FIRST_STEPS = 4  # of EM, before Newton
_LAST_STEPS = 5000  # of EM, for the rows that Newton cannot do
_NEWTON_STEPS = 40
_TO_THE_EDGE = 0.95  # of the way to where a unknown or a class would become negative


def best_agreement(start: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    """The q that minimises -sum_i a_i log q_i - sum_m d_m log Q_m over the distributions.

    Args:
        start: (rows, classes), distributions, float64.
        fixed: a, (rows, classes).
        dustbins: d, (rows, specialists); 0 where one is not active or has no dustbin mass.
        weight: 1 + A = sum_i a_i + sum_m d_m, (rows, 1).
        outside: (specialists, classes), 1 where a class is in the dustbin.

    Returns:
        (rows, classes).
    """
    q, is_done = _em(start.clamp_min(FLOOR), fixed, dustbins, weight, outside, num_steps=_FIRST_STEPS)
    left = (~is_done).nonzero().flatten()
    if not len(left):
        return q
    guess = q[left]
    parts = fixed[left], dustbins[left], weight[left]
    jump = _newton(guess, fixed[left].clamp_min(_LEAST), *parts[1:], outside)
    gaps = [_gap(_em_step(one, *parts, outside), one) for one in (jump, guess)]
    is_better = (gaps[0] <= gaps[1])[:, None]  # false where the jump is not finite
    q[left], _ = _em(torch.where(is_better, jump, guess), *parts, outside, num_steps=_LAST_STEPS)
    return q


def _em_step(q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    ratio = torch.where(dustbins > 0, dustbins / (q @ outside.T), 0.0)
    return (ratio @ outside).mul_(q).add_(fixed).div_(weight)


def _gap(new: Tensor, q: Tensor) -> Tensor:
    """How much the class that grows most grows in a step, (rows,): at the optimum none does.

    The objective is convex, and new_i / q_i - 1 is its slope towards class i over -(1 + A): it is at most (1 + A)
    times this too high.
    """
    return torch.where(q == 0, 0.0, new / q).amax(1) - 1


def _em(
    q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor, *, num_steps: int
) -> tuple[Tensor, Tensor]:
    """EM until no row moves, or some steps: q, and which rows stand still."""
    result, is_done = q.clone(), torch.zeros(len(q), dtype=torch.bool, device=q.device)
    left = torch.arange(len(q), device=q.device)
    for _ in range(num_steps):
        new = _em_step(q, fixed, dustbins, weight, outside)
        stands = (new - q).abs_().amax(1) <= _STEP
        if bool(stands.any()):
            stands[stands.clone()] = _gap(new[stands], q[stands]) <= _GAP
        q = result[left] = new
        if bool(stands.any()):
            is_done[left[stands]] = True
            goes_on = ~stands
            left, q, fixed, dustbins, weight = (one[goes_on] for one in (left, q, fixed, dustbins, weight))
            if not len(left):
                break
    return result, is_done


def _newton(q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    """Newton's method on the dual from a guess q; rows that use the same specialists together."""
    patterns, kind = torch.unique(dustbins > 0, dim=0, return_inverse=True)
    by_kind = torch.split(kind.argsort(stable=True), kind.bincount(minlength=len(patterns)).tolist())
    result = torch.empty_like(q)
    for pattern, rows in zip(patterns, by_kind, strict=True):
        own = dustbins[rows][:, pattern]
        result[rows] = _newton_of_pattern(q[rows], fixed[rows], own, weight[rows], outside[pattern])
    return result


def _newton_of_pattern(q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    """The same where all rows use all specialists: (specialists, classes) is `outside`.

    In relative steps dr / r, which scale the equations: the gradient is r Q - d, the Hessian r H r + d.
    """
    num = len(outside)
    upper = torch.triu_indices(num, num, device=q.device)
    both = (outside[upper[0]] * outside[upper[1]]).T  # (classes, pairs): outside both
    r = dustbins / (q @ outside.T)
    r = r * (_TO_THE_EDGE * weight / (r @ outside).amax(1, keepdim=True)).clamp(max=1)
    for _ in range(_NEWTON_STEPS):
        room = weight - r @ outside
        q = fixed / room
        gradient = r * (q @ outside.T) - dustbins
        hessian = q.new_empty(len(q), num, num)
        hessian[:, upper[0], upper[1]] = hessian[:, upper[1], upper[0]] = (q / room) @ both
        hessian *= r[:, :, None] * r[:, None, :]
        hessian.diagonal(dim1=1, dim2=2).add_(dustbins)
        size = hessian.diagonal(dim1=1, dim2=2).sqrt()
        hessian /= size[:, :, None] * size[:, None, :]
        step = -torch.linalg.solve_ex(hessian, gradient / size)[0] / size
        change = ((r * step) @ outside) / room
        limit = torch.maximum(change.amax(1), (-step).amax(1)).clamp_min(_TO_THE_EDGE)[:, None]
        r = r * (1 + step * (_TO_THE_EDGE / limit))
        if not bool((step.abs() > _SURE).any()):  # a row that has become NaN is not worth a step more
            break
    q = fixed / (weight - r @ outside)
    return q / q.sum(1, keepdim=True)
