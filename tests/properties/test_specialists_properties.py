"""Properties of class sets and of the combined distribution, for any probabilities including zeros."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from instar.specialists import (
    METHODS,
    ClassSet,
    active_specialists,
    combination_objective,
    combine_on_demand,
    combine_specialists,
    confusable_class_sets,
    specialist_labels,
)

quick = settings(deadline=None, max_examples=100)
few = settings(deadline=None, max_examples=10)  # for what takes a tenth of a second each
weights = st.one_of(st.floats(0.01, 1), st.just(0.0), st.floats(1e-12, 1e-3))


def distributions(rows: int, width: int) -> st.SearchStrategy[Tensor]:
    def normalised(values: object) -> Tensor:
        probs = torch.as_tensor(values).clone()
        probs[probs.sum(1) == 0] = 1.0
        return probs / probs.sum(1, keepdim=True)

    return arrays("float64", (rows, width), elements=weights).map(normalised)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, list[Tensor], list[ClassSet], int]:
    num_classes, rows = draw(st.integers(3, 7)), draw(st.integers(1, 4))
    numbers = st.integers(0, num_classes - 1)
    kinds = st.lists(numbers, min_size=2, max_size=num_classes - 1, unique=True)
    sets = [ClassSet(one, num_classes) for one in draw(st.lists(kinds, min_size=1, max_size=5))]
    specialists = [draw(distributions(rows, len(one) + 1)) for one in sets]
    return draw(distributions(rows, num_classes)), specialists, sets, draw(st.integers(1, num_classes))


def by_descent(generalist: Tensor, specialists: list[Tensor], sets: list[ClassSet], active: Tensor) -> Tensor:
    """A reference solver: gradient descent on the logits of all rows, as in the paper."""
    z = generalist.clamp_min(1e-9).log().requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.1)
    for step in range(150):
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * 0.99**step
        optimiser.zero_grad()
        combination_objective(torch.softmax(z, 1), generalist, specialists, sets, active).sum().backward()
        if not bool(z.grad.isfinite().all()):  # a probability became 0, and its log infinite
            break
        optimiser.step()
    return torch.softmax(z.detach(), 1)


@quick
@given(problems(), st.data())
def test_no_other_distribution_has_a_lower_objective(
    problem: tuple[Tensor, list[Tensor], list[ClassSet], int], data: st.DataObject
) -> None:
    generalist, specialists, sets, top_n = problem
    active = active_specialists(generalist, sets, top_n=top_n)
    combined = combine_specialists(generalist, specialists, sets, top_n=top_n)
    torch.testing.assert_close(combined.sum(1), torch.ones(len(combined), dtype=torch.float64))
    ours = combination_objective(combined, generalist, specialists, sets, active)
    tried = data.draw(distributions(len(generalist), generalist.shape[1]))
    for other in (generalist, tried, (combined + tried) / 2, combined.lerp(tried, 1e-4)):
        theirs = combination_objective(other, generalist, specialists, sets, active)
        assert bool((ours <= theirs + 1e-9).all())


@few
@given(problems())
def test_the_papers_descent_on_logits_finds_nothing_better(
    problem: tuple[Tensor, list[Tensor], list[ClassSet], int],
) -> None:
    generalist, specialists, sets, top_n = problem
    active = active_specialists(generalist, sets, top_n=top_n)
    ours, theirs = (
        combination_objective(q, generalist, specialists, sets, active)
        for q in (
            combine_specialists(generalist, specialists, sets, top_n=top_n),
            by_descent(generalist, specialists, sets, active),
        )
    )
    assert bool((ours <= theirs + 1e-9).all())


@quick
@given(problems(), st.randoms())
def test_the_order_of_the_specialists_changes_nothing(
    problem: tuple[Tensor, list[Tensor], list[ClassSet], int], random: object
) -> None:
    generalist, specialists, sets, top_n = problem
    order = list(range(len(sets)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = combine_specialists(generalist, specialists, sets, top_n=top_n)
    other = combine_specialists(generalist, [specialists[m] for m in order], [sets[m] for m in order], top_n=top_n)
    torch.testing.assert_close(other, one, atol=1e-12, rtol=0)


@quick
@given(problems())
def test_without_an_active_specialist_it_is_the_generalist_bit_for_bit_and_none_is_evaluated(
    problem: tuple[Tensor, list[Tensor], list[ClassSet], int],
) -> None:
    generalist, specialists, sets, top_n = problem
    evaluated: list[tuple[int, int]] = []

    def predict(number: int, rows: Tensor) -> Tensor:
        evaluated.extend((row, number) for row in rows.tolist())
        return specialists[number][rows]

    active = active_specialists(generalist, sets, top_n=top_n)
    combined = combine_on_demand(generalist, predict, sets, top_n=top_n)
    alone = ~active.any(1)
    assert torch.equal(combined.probs[alone], generalist[alone])
    assert sorted(evaluated) == [tuple(pair) for pair in active.nonzero().tolist()]
    assert torch.equal(combined.num_specialists, active.sum(1))
    assert torch.equal(combined.probs, combine_specialists(generalist, specialists, sets, top_n=top_n))


@quick
@given(problems(), st.integers(1, 3))
def test_how_many_rows_are_worked_on_together_changes_nothing(
    problem: tuple[Tensor, list[Tensor], list[ClassSet], int], rows_at_once: int
) -> None:
    generalist, specialists, sets, top_n = problem
    whole, parts = (
        combine_on_demand(
            generalist, lambda m, rows: specialists[m][rows], sets, top_n=top_n, rows_at_once=at_once
        ).probs
        for at_once in (None, rows_at_once)
    )
    torch.testing.assert_close(parts, whole, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9), st.sampled_from(METHODS), st.integers(1, 4), st.integers(2, 3))
def test_class_sets_are_stable_by_seed_whatever_the_batches(
    seed: int, method: str, num_sets: int, size: int
) -> None:
    logits = 2 * torch.randn(60, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    probs = torch.softmax(logits, 1)
    options = {"num_sets": num_sets, "classes_per_set": size, "seed": seed, "method": method}
    sets = confusable_class_sets(probs, **options)
    assert sets == confusable_class_sets(iter(probs.split(17)), **options)
    assert all(2 <= len(one) <= size for one in sets)
    assert len(set(sets)) == len(sets) <= num_sets
    if method != "kmeans":
        assert {len(one) for one in sets} == {size}
    if method == "balanced":
        assert len({number for one in sets for number in one.classes}) == num_sets * size == sum(map(len, sets))


@quick
@given(st.integers(3, 9), st.data())
def test_specialist_labels_are_the_places_in_the_set_and_the_dustbin_last(
    num_classes: int, data: st.DataObject
) -> None:
    numbers = st.integers(0, num_classes - 1)
    chosen = ClassSet(data.draw(st.lists(numbers, min_size=2, max_size=num_classes - 1, unique=True)), num_classes)
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, num_classes - 1), min_size=1, max_size=9)))
    for label, own in zip(labels.tolist(), specialist_labels(labels, chosen).tolist(), strict=True):
        if label == -1:
            assert own == -1
        elif label in chosen.classes:
            assert chosen.classes[own] == label
        else:
            assert own == len(chosen)
