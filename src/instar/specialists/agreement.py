"""The distribution that diverges least from generalist and specialists, for a batch of examples, in float64.

The solution q minimises  -sum_i a_i log q_i - sum_m d_m log Q_m.  a_i = p_g_i + sum of p_m_i over the active
specialists m whose set S_m contains class i; d_m is the dustbin probability of specialist m; Q_m is the mass of q
outside S_m; A is the number of active specialists.

Two exact methods are combined:

- EM, the fixed point q_i <- (a_i + q_i sum_{m: i not in S_m} d_m / Q_m) / (1 + A). It never increases the
  objective. It needs one step for one specialist, but thousands where many overlapping specialists contradict
  each other.
- Newton's method on the dual, with one unknown for each active specialist, r_m = d_m / Q_m. It needs about ten
  steps: minimise -sum_i a_i log(1 + A - w_i) - sum_m d_m log r_m  with  w_i = sum_{m: i not in S_m} r_m; then
  q_i = a_i / (1 + A - w_i). It loses precision where a_i is tiny and q_i is not; EM finishes such rows.
"""

import torch
from torch import Tensor

_FLOOR = 1e-290  # smallest start value: EM cannot leave 0, but a dustbin may need mass where the generalist has 0

_STEP_TOLERANCE = 1e-14  # a row has converged when no probability moves by more than this,
_GAP_TOLERANCE = 1e-11  # and no tiny one is about to grow: the objective is at most this times (1 + A) too high
_MIN_FIXED = 1e-12  # smallest a_i for Newton: q_i can be positive where a_i is 0, if a dustbin alone supports it
_NEWTON_TOLERANCE = 1e-9  # relative step after which Newton stops: convergence is quadratic
_EM_STEPS_BEFORE = 4
_EM_STEPS_AFTER = 5000  # for the rows that Newton cannot solve
_NEWTON_STEPS = 40
_MAX_STEP = 0.95  # share of the way to where an unknown or a class would become negative


def best_agreement(start: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    """The distribution q that minimises -sum_i a_i log q_i - sum_m d_m log Q_m.

    Args:
        start: first guess of q, (rows, classes), float64.
        fixed: a, (rows, classes).
        dustbins: d, (rows, specialists); 0 for a specialist that is not active or has no dustbin mass.
        weight: 1 + A = sum_i a_i + sum_m d_m, (rows, 1).
        outside: (specialists, classes), 1 where a class is in the dustbin.

    Returns:
        q, (rows, classes).
    """
    q, is_done = _em(start.clamp_min(_FLOOR), fixed, dustbins, weight, outside, num_steps=_EM_STEPS_BEFORE)
    left = (~is_done).nonzero().flatten()
    if not len(left):
        return q
    guess = q[left]
    parts = fixed[left], dustbins[left], weight[left]
    solved = _newton(guess, fixed[left].clamp_min(_MIN_FIXED), *parts[1:], outside)
    gaps = [_gap(_em_step(rows, *parts, outside), rows) for rows in (solved, guess)]
    is_better = (gaps[0] <= gaps[1])[:, None]  # False where Newton's result is not finite
    q[left], _ = _em(torch.where(is_better, solved, guess), *parts, outside, num_steps=_EM_STEPS_AFTER)
    return q


def _em_step(q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    ratio = torch.where(dustbins > 0, dustbins / (q @ outside.T), 0.0)
    return (ratio @ outside).mul_(q).add_(fixed).div_(weight)


def _gap(new: Tensor, q: Tensor) -> Tensor:
    """The largest relative growth of a class in one EM step, (rows,); at most 0 at the optimum.

    The objective is convex, and new_i / q_i - 1 is its slope towards class i divided by -(1 + A). So the objective
    is at most (1 + A) times this value above its minimum.
    """
    return torch.where(q == 0, 0.0, new / q).amax(1) - 1


def _em(
    q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor, *, num_steps: int
) -> tuple[Tensor, Tensor]:
    """At most `num_steps` of EM: q, and which rows have converged."""
    result, is_done = q.clone(), torch.zeros(len(q), dtype=torch.bool, device=q.device)
    left = torch.arange(len(q), device=q.device)
    for _ in range(num_steps):
        new = _em_step(q, fixed, dustbins, weight, outside)
        converged = (new - q).abs_().amax(1) <= _STEP_TOLERANCE
        if bool(converged.any()):
            converged[converged.clone()] = _gap(new[converged], q[converged]) <= _GAP_TOLERANCE
        q = result[left] = new
        if bool(converged.any()):
            is_done[left[converged]] = True
            left, q, fixed, dustbins, weight = (rows[~converged] for rows in (left, q, fixed, dustbins, weight))
            if not len(left):
                break
    return result, is_done


def _newton(q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor) -> Tensor:
    """Newton's method on the dual from a guess q; rows with the same active specialists form a batch."""
    patterns, number = torch.unique(dustbins > 0, dim=0, return_inverse=True)
    groups = torch.split(number.argsort(stable=True), number.bincount(minlength=len(patterns)).tolist())
    result = torch.empty_like(q)
    for pattern, rows in zip(patterns, groups, strict=True):
        own = dustbins[rows][:, pattern]
        result[rows] = _newton_same_specialists(q[rows], fixed[rows], own, weight[rows], outside[pattern])
    return result


def _newton_same_specialists(
    q: Tensor, fixed: Tensor, dustbins: Tensor, weight: Tensor, outside: Tensor
) -> Tensor:
    """Newton's method for rows in which all specialists are active; `outside` is (specialists, classes).

    It works with relative steps dr / r, which scale the equations: the gradient is r Q - d, the Hessian r H r + d.
    """
    num = len(outside)
    upper = torch.triu_indices(num, num, device=q.device)
    both = (outside[upper[0]] * outside[upper[1]]).T  # (classes, pairs): outside both sets
    r = dustbins / (q @ outside.T)
    r = r * (_MAX_STEP * weight / (r @ outside).amax(1, keepdim=True)).clamp(max=1)
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
        limit = torch.maximum(change.amax(1), (-step).amax(1)).clamp_min(_MAX_STEP)[:, None]
        r = r * (1 + step * (_MAX_STEP / limit))
        if not bool((step.abs() > _NEWTON_TOLERANCE).any()):  # NaN compares False: a failed row asks for no step
            break
    q = fixed / (weight - r @ outside)
    return q / q.sum(1, keepdim=True)
