"""Combined specialists and the covariance that class sets come from, against plain Python."""

import pytest
import torch
from torch import Tensor

from instar.specialists import (
    ClassSet,
    active_specialists,
    combination_objective,
    combine_specialists,
    covariance_columns,
)
from reference import second_opinion as second


def random_problem(
    seed: int, *, num: int = 5, num_classes: int = 7
) -> tuple[Tensor, list[Tensor], list[ClassSet]]:
    generator = torch.Generator().manual_seed(seed)

    def probs(width: int) -> Tensor:
        return torch.softmax(2 * torch.randn(num, width, generator=generator, dtype=torch.float64), 1)

    sets = []
    for size in (2, 3, 4, 3):
        sets.append(ClassSet(torch.randperm(num_classes, generator=generator)[:size].tolist(), num_classes))
    return probs(num_classes), [probs(len(one) + 1) for one in sets], sets


@pytest.mark.parametrize("seed", range(4))
def test_the_papers_gradient_descent_on_logits_ends_where_the_fixed_point_does(seed: int) -> None:
    generalist, specialists, sets = random_problem(seed)
    active = active_specialists(generalist, sets, top_n=2)
    ours = combine_specialists(generalist, specialists, sets, top_n=2)
    for row in range(len(generalist)):
        theirs = second.combined_by_gradient_descent(
            generalist[row].tolist(),
            [one[row].tolist() for one in specialists],
            [one.classes for one in sets],
            active[row].nonzero().flatten().tolist(),
            steps=4000,
            rate=1.0,
        )
        torch.testing.assert_close(ours[row], torch.tensor(theirs, dtype=torch.float64), atol=1e-3, rtol=0)
        objective = [
            second.combination_objective(
                q,
                generalist[row].tolist(),
                [one[row].tolist() for one in specialists],
                [one.classes for one in sets],
                active[row].nonzero().flatten().tolist(),
            )
            for q in (ours[row].tolist(), theirs)
        ]
        assert objective[0] <= objective[1] + 1e-12
        assert objective[1] - objective[0] < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_the_sum_of_the_divergences(seed: int) -> None:
    generalist, specialists, sets = random_problem(seed)
    active = active_specialists(generalist, sets)
    ours = combination_objective(generalist.flip(1), generalist, specialists, sets, active)
    for row in range(len(generalist)):
        expected = second.combination_objective(
            generalist[row].flip(0).tolist(),
            generalist[row].tolist(),
            [one[row].tolist() for one in specialists],
            [one.classes for one in sets],
            active[row].nonzero().flatten().tolist(),
        )
        assert float(ours[row]) == pytest.approx(expected, abs=1e-12)


def test_a_class_that_the_generalist_excludes_gets_what_the_dustbins_agree_on() -> None:
    """Class 1 has p_g = 0 and is in no active set; at the optimum it still has mass."""
    sets = [ClassSet([2, 3], 6), ClassSet([0, 2, 4, 5], 6)]
    generalist = torch.tensor([[1.0, 0, 8, 1, 1, 1]], dtype=torch.float64) / 12
    specialists = [torch.tensor([[0.5, 0.0, 0.5]]).double(), torch.full((1, 5), 0.2).double()]
    ours = combine_specialists(generalist, specialists, sets)[0]

    def objective(q: Tensor) -> float:
        predicted = [one[0].tolist() for one in specialists]
        return second.combination_objective(
            q.tolist(), generalist[0].tolist(), predicted, [one.classes for one in sets], [0, 1]
        )

    towards_each_class = [
        ours.lerp(one, 1e-4) for one in torch.eye(6, dtype=torch.float64)
    ]  # enough, since it is convex
    assert min(map(objective, towards_each_class)) > objective(ours)
    assert float(ours[1]) > 0.01


def test_the_columns_are_those_of_the_covariance() -> None:
    probs = torch.softmax(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double(), 1)
    columns = covariance_columns(probs.split(7), sketch=6, generator=torch.Generator())
    columns = columns / columns.norm(dim=1, keepdim=True)
    expected = torch.tensor(second.column_distances(probs.tolist()), dtype=torch.float64)
    torch.testing.assert_close(torch.cdist(columns, columns), expected, atol=1e-5, rtol=0)


def test_a_sketch_keeps_the_distances_between_columns() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(3 * torch.randn(2000, 200, generator=generator), 1)
    whole = covariance_columns([probs], sketch=200, generator=generator)
    sketched = covariance_columns(probs.split(300), sketch=128, generator=generator)
    ratio = torch.pdist(sketched) / torch.pdist(whole)
    assert abs(float(ratio.mean()) - 1) < 0.05
    assert float(ratio.std()) < 0.12
