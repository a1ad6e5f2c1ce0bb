"""What holds of a class bias for any logits, those that are equal or nearly so among them."""

from random import Random

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from instar import metrics
from instar.distillation import fit_class_bias
from instar.errors import UsageError
from instar.logit_values import refuse_probabilities

quick = settings(deadline=None, max_examples=300)
quarters = st.integers(-20, 20).map(lambda number: number / 4)
equal = st.integers(-1, 1).map(float)
nearly_equal = st.integers(-3, 3).map(lambda number: 16384 + number / 512)  # the numbers next to each other
any_logits = st.sampled_from([st.floats(-100, 100, width=32), equal, nearly_equal])


def are_logits(rows: Tensor) -> bool:
    """Whether they are taken for logits: a few zeros and ones may look like probabilities, which are refused."""
    try:
        refuse_probabilities("", rows)
    except UsageError:
        return False
    return True


@st.composite
def judged(
    draw: st.DrawFn, kinds: st.SearchStrategy[st.SearchStrategy[float]]
) -> tuple[Tensor, Tensor, list[int]]:
    """Logits (n, classes) float32, labels with -1 among them, and some of the classes, each with a label."""
    n, num_classes = draw(st.integers(2, 12)), draw(st.integers(2, 5))
    logits = torch.from_numpy(draw(arrays("float32", (n, num_classes), elements=draw(kinds))))
    assume(are_logits(logits))
    labels = torch.from_numpy(draw(arrays("int64", n, elements=st.integers(-1, num_classes - 1))))
    labels[0] = draw(st.integers(0, num_classes - 1))
    present = sorted(set(labels[labels >= 0].tolist()))
    most = min(len(present), num_classes - 1)
    return logits, labels, draw(st.lists(st.sampled_from(present), min_size=1, max_size=most, unique=True))


def errors(logits: Tensor, labels: Tensor) -> int:
    return int(metrics.errors(logits, labels))


@quick
@given(judged(any_logits))
def test_a_bias_never_makes_more_errors_than_none_and_one_for_each_no_more_than_one_for_all(
    given_: tuple[Tensor, Tensor, list[int]],
) -> None:
    logits, labels, classes = given_
    shared, each = (
        fit_class_bias(logits, labels, classes=classes, shared=is_shared) for is_shared in (True, False)
    )
    assert errors(logits + shared, labels) <= errors(logits, labels)
    assert errors(logits + each, labels) <= errors(logits + shared, labels)
    for bias in (shared, each):
        assert not bias[[k for k in range(logits.shape[1]) if k not in classes]].any()
    assert len(set(shared[classes].tolist())) == 1


@quick
@given(judged(st.just(quarters)), st.integers(-40, 40), st.booleans(), st.randoms())
def test_a_bias_depends_on_neither_a_constant_of_each_row_nor_the_order(
    given_: tuple[Tensor, Tensor, list[int]], quarters_more: int, shared: bool, random: Random
) -> None:
    logits, labels, classes = given_
    expected = fit_class_bias(logits, labels, classes=classes, shared=shared)
    constants = torch.tensor([[quarters_more * row / 4] for row in range(len(labels))])  # sums without rounding
    assert torch.equal(fit_class_bias(logits + constants, labels, classes=classes, shared=shared), expected)
    order = random.sample(range(len(labels)), len(labels))
    again = fit_class_bias(logits[order], labels[order], classes=classes[::-1], shared=shared)
    assert torch.equal(again, expected)
