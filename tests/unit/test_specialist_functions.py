"""Class sets, the dustbin, closed forms of the combination, and the ensemble saved and loaded."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar import fit
from instar.data import InMemoryDataset, half_special
from instar.errors import RunError, UsageError
from instar.networks import build_network, freeze_
from instar.specialists import (
    DUSTBIN,
    ClassSet,
    SpecialistEnsemble,
    add_dustbin_correction_,
    combine_on_demand,
    combine_specialists,
    confusable_class_sets,
    oversampling_correction,
    random_class_sets,
    specialist_data,
    specialist_labels,
    start_from_generalist_,
)

PAIRS = ClassSet([0, 1], 4), ClassSet([2, 3], 4)


def probs_of(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def grouped_predictions(*groups: tuple[int, ...], num_classes: int, rows: int = 400) -> Tensor:
    """Random predictions in which the classes of a group share most of the probability."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, num_classes, generator=generator) / 2
    for row in range(rows):
        logits[row, list(groups[row % len(groups)])] += 4
    return torch.softmax(logits, 1)


@pytest.mark.parametrize("method", ["overlapping", "balanced", "kmeans"])
def test_classes_that_are_predicted_together_are_one_set(method: str) -> None:
    probs = grouped_predictions((0, 3, 6), (1, 4, 7), (2, 5, 8), num_classes=9)
    sets = confusable_class_sets(probs, num_sets=3, classes_per_set=3, seed=1, method=method)
    assert [one.classes for one in sets] == [(0, 3, 6), (1, 4, 7), (2, 5, 8)]


def test_sets_of_many_classes_come_from_a_sketch() -> None:
    groups = [(number, number + 1, number + 2) for number in range(0, 90, 3)]
    probs = grouped_predictions(*groups, num_classes=90, rows=3000)
    options = {"num_sets": 30, "classes_per_set": 3, "seed": 0, "method": "balanced"}
    found = {one.classes for one in confusable_class_sets(probs.split(500), sketch=40, **options)}
    assert len(found & set(groups)) >= 20


def test_overlapping_sets_may_share_a_class_and_have_its_name() -> None:
    probs = grouped_predictions((0, 1, 2), (2, 3, 4), num_classes=5)
    names = ["a", "b", "c", "d", "e"]
    sets = confusable_class_sets(probs, num_sets=2, classes_per_set=3, seed=0, class_names=names)
    assert [one.names for one in sets] == [("a", "b", "c"), ("c", "d", "e")]


def test_random_sets_have_the_same_sizes_and_overlaps() -> None:
    sets = [ClassSet([0, 1, 2], 30), ClassSet([2, 3], 30), ClassSet([8, 9, 10, 11], 30)]
    other = random_class_sets(sets, seed=3)
    assert [len(one) for one in other] == [3, 2, 4]
    assert len(set(other[0].classes) & set(other[1].classes)) == 1
    assert not set(other[0].classes) & set(other[2].classes)
    assert other != sets
    assert other == random_class_sets(sets, seed=3)


def test_a_class_of_no_set_has_its_name_in_a_random_one() -> None:
    names = [f"class {number}" for number in range(30)]
    other = random_class_sets([ClassSet([0, 1], 30), ClassSet([2, 3], 30)], seed=3, class_names=names)
    assert [one.names for one in other] == [tuple(names[number] for number in one.classes) for one in other]


def test_a_specialists_data_are_the_same_examples_with_its_labels() -> None:
    data = InMemoryDataset(torch.rand(5, 2), torch.tensor([0, 1, 2, 3, -1]), class_names=["a", "b", "c", "d"])
    own = specialist_data(data, ClassSet([3, 1], 4, ["d", "b"]))
    assert own.class_names == ("b", "d", DUSTBIN)
    assert own.labels(data.ids).tolist() == [2, 0, 2, 1, -1]
    assert torch.equal(own.gather(data.ids, 0), data.gather(data.ids, 0))
    assert data.labels(data.ids).tolist() == [0, 1, 2, 3, -1]
    assert own.fingerprint != data.fingerprint


def test_the_correction_gives_back_the_proportions_that_were_sampled_away() -> None:
    """A specialist that learned only the class frequencies in its batches predicts the true ones."""
    counts = {"special": 30, "rest": 270}
    share_shown = 0.5
    logit = math.log((1 - share_shown) / share_shown)  # of the dustbin in training
    logit += oversampling_correction(counts["special"], counts["rest"])
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(0.9)


def test_the_correction_is_folded_into_the_last_layer() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    inputs = torch.randn(5, 3)
    before = network(inputs)
    add_dustbin_correction_(network, 2.5, inputs)
    torch.testing.assert_close(network(inputs) - before, torch.tensor([0.0, 0.0, 2.5]).expand(5, 3))


def test_a_specialist_starts_as_the_generalist_where_the_rest_is_all_the_same() -> None:
    """If the rest has equal rows, its distribution is the generalist's, grouped by the dustbin."""
    generalist = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5))
    with torch.no_grad():
        generalist[2].weight[1:4] = generalist[2].weight[1]
        generalist[2].bias[1:4] = generalist[2].bias[1]
    specialist = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs = torch.randn(7, 3)
    start_from_generalist_(specialist, generalist, ClassSet([0, 4], 5), correction=1.5)
    add_dustbin_correction_(specialist, 1.5, inputs)
    whole = torch.softmax(generalist(inputs), 1)
    expected = torch.cat((whole[:, [0, 4]], whole[:, 1:4].sum(1, keepdim=True)), 1)
    torch.testing.assert_close(torch.softmax(specialist(inputs), 1), expected)


def test_one_active_specialist_has_a_closed_form() -> None:
    """Inside the set the mean of both; outside the mean of both masses, in the generalist's proportions."""
    generalist, specialist = probs_of([0.4, 0.2, 0.3, 0.1]), probs_of([0.1, 0.3, 0.6])
    combined = combine_specialists(generalist, [specialist], [PAIRS[0]])
    outside = (0.4 + 0.6) / 2
    expected = probs_of([0.25, 0.25, outside * 0.75, outside * 0.25])
    torch.testing.assert_close(combined, expected, atol=1e-14, rtol=0)


def test_full_distributions_have_a_mean() -> None:
    generalist, specialist = probs_of([0.6, 0.2, 0.1, 0.1]), probs_of([0.2, 0.6, 0.1, 0.1])
    options = {"full_softmax": True}
    mean = combine_specialists(generalist, [specialist], [PAIRS[0]], **options)
    torch.testing.assert_close(mean, probs_of([0.4, 0.4, 0.1, 0.1]))
    geometric = combine_specialists(generalist, [specialist], [PAIRS[0]], **options, mean="geometric")
    roots = (generalist * specialist).sqrt()
    torch.testing.assert_close(geometric, roots / roots.sum())
    alone = combine_specialists(generalist, [specialist], [PAIRS[1]], **options)
    assert torch.equal(alone, generalist)


def test_a_dustbin_whose_classes_the_generalist_rules_out_is_met() -> None:
    combined = combine_specialists(probs_of([1.0, 0.0, 0.0, 0.0]), [probs_of([0.2, 0.0, 0.8])], [PAIRS[0]])
    torch.testing.assert_close(combined, probs_of([0.6, 0.0, 0.2, 0.2]), atol=1e-12, rtol=0)


def test_float32_and_half_precision_keep_their_type() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        generalist, specialist = (
            one.to(dtype) for one in (probs_of([0.5, 0.25, 0.25, 0.0]), probs_of([0.25, 0.25, 0.5]))
        )
        combined = combine_specialists(generalist, [specialist], [PAIRS[0]])
        assert combined.dtype == dtype
        assert float(combined.float().sum()) == pytest.approx(1, abs=1e-2)


def test_a_specialist_that_is_not_active_is_not_evaluated() -> None:
    def predict(number: int, rows: Tensor) -> Tensor:
        raise AssertionError(f"specialist {number} was evaluated")

    combined = combine_on_demand(probs_of([0.1, 0.1, 0.7, 0.1]), predict, [PAIRS[0]])
    assert combined.num_specialists.tolist() == [0]


GENERALIST, SPECIALIST = probs_of([0.4, 0.3, 0.2, 0.1]), probs_of([0.2, 0.2, 0.6])
BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: ClassSet([3], 4), "1 class, expected at least 2"),
    (lambda: ClassSet(range(4), 4), "all 4 classes, expected fewer"),
    (lambda: ClassSet([1, 4], 4), "classes from 1 to 4, expected 0 to 3"),
    (lambda: ClassSet([1, 1], 4), "class 1 occurs twice"),
    (lambda: ClassSet([1, 2], 4, ["one"]), "2 classes and 1 names"),
    (
        lambda: ClassSet.of_names(["cat", "owl"], ["cat", "dog", "lynx"]),
        "not among the generalist's 3, the first 'owl'",
    ),
    (
        lambda: confusable_class_sets(GENERALIST, num_sets=5, classes_per_set=2, seed=0),
        "num_sets is 5, expected 1 to 4",
    ),
    (lambda: confusable_class_sets(GENERALIST, num_sets=2, classes_per_set=4, seed=0), "expected 2 to 3"),
    (lambda: confusable_class_sets(GENERALIST, num_sets=2, classes_per_set=1, seed=0), "expected 2 to 3"),
    (
        lambda: confusable_class_sets(GENERALIST * 2, num_sets=2, classes_per_set=2, seed=0),
        "row 0 sums to 2, expected 1",
    ),
    (lambda: confusable_class_sets(iter([]), num_sets=2, classes_per_set=2, seed=0), "no prediction"),
    (
        lambda: confusable_class_sets(GENERALIST, num_sets=2, classes_per_set=3, seed=0, method="balanced"),
        "need 6 classes, there are 4",
    ),
    (
        lambda: confusable_class_sets(GENERALIST, num_sets=2, classes_per_set=2, seed=0, method="k-means"),
        "unknown method 'k-means'; did you mean kmeans",
    ),
    (lambda: specialist_labels(torch.tensor([0.0]), PAIRS[0]), "integer labels"),
    (lambda: specialist_labels(torch.tensor([9]), PAIRS[0]), "labels from 9 to 9, expected -1 to 3"),
    (lambda: oversampling_correction(0, 9), "0 examples of the class set"),
    (lambda: combine_specialists(GENERALIST, [SPECIALIST], [PAIRS[0]], top_n=0), "top_n is 0, expected 1 to 4"),
    (lambda: combine_specialists(GENERALIST, [SPECIALIST], list(PAIRS)), "1 specialists and 2 class sets"),
    (lambda: combine_specialists(GENERALIST, [GENERALIST], [PAIRS[0]]), r"expected probabilities \(1, 3\)"),
    (
        lambda: combine_specialists(GENERALIST * math.nan, [SPECIALIST], [PAIRS[0]]),
        "generalist_probs: NaN in row 0",
    ),
    (lambda: combine_specialists(GENERALIST, [SPECIALIST * math.nan], [PAIRS[0]]), "specialist 0: NaN in row 0"),
    (lambda: combine_specialists(GENERALIST, [SPECIALIST / 2], [PAIRS[0]]), "specialist 0: row 0 sums to 0.5"),
    (lambda: combine_specialists(GENERALIST, [SPECIALIST - 0.3], [PAIRS[0]]), "below 0; give probabilities"),
    (
        lambda: combine_specialists(GENERALIST, [SPECIALIST], [ClassSet([0, 1], 5)]),
        "specialists are for other data",
    ),
    (
        lambda: combine_specialists(GENERALIST, [SPECIALIST], [PAIRS[0]], mean="geometric"),
        "is for specialists with a full softmax",
    ),
    (
        lambda: combine_specialists(
            probs_of([0.2, 0.8, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
            [probs_of([0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0])],
            [PAIRS[0]],
            full_softmax=True,
            mean="geometric",
        ),
        "row 1 has no geometric mean",
    ),
    (
        lambda: half_special(torch.tensor([9]))(torch.tensor([1, 2]), seed=0, epoch=0),
        "0 special examples and 2 others",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_what_makes_no_sense_is_refused_in_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_batches_are_half_special_and_each_epoch_has_other_examples_of_the_rest() -> None:
    ids = torch.arange(100)
    sampler = half_special(ids[:8])
    first, second = (sampler(ids, seed=0, epoch=epoch) for epoch in (0, 1))
    for order in (first, second):
        assert sorted(order[0::2].tolist()) == list(range(8))
        assert len(set(order[1::2].tolist())) == 8
        assert all(int((batch < 8).sum()) == 2 for batch in order.split(4))
    assert set(first[1::2].tolist()) != set(second[1::2].tolist())
    assert torch.equal(first, sampler(ids.flip(0), seed=0, epoch=0))


def test_few_others_come_in_turns() -> None:
    order = half_special(torch.arange(5))(torch.arange(7), seed=0, epoch=0)
    assert sorted(order[1::2].tolist()) in ([5, 5, 5, 6, 6], [5, 5, 6, 6, 6])


def test_fit_shows_what_the_sampler_returns_and_counts_only_that() -> None:
    inputs, labels = torch.randn(20, 3), torch.arange(20) % 2
    seen: list[int] = []

    def every_second(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        seen.append(epoch)
        return ids[::2]

    result = fit(nn.Sequential(nn.Linear(3, 2)), (inputs, labels), epochs=2, sampler=every_second, batch_size=5)
    assert (result.num_steps, seen[:2]) == (4, [0, 1])  # and once more where it is asked what the fit has seen
    assert all(line["train_loss"] < 5 and line["train_errors"] <= 10 for line in result.metrics)


ARCHITECTURE = {"name": "mlp:8x2", "input_shape": (1, 2, 3)}
NAMES = ["a", "b", "c", "d"]


def small_ensemble(shared: int, *, full_softmax: bool = False) -> SpecialistEnsemble:
    generalist = build_network(**ARCHITECTURE, num_classes=4, seed=0)
    specialists = []
    for number, one in enumerate(PAIRS):
        network = build_network(**ARCHITECTURE, num_classes=4 if full_softmax else 3, seed=number + 1)
        if not full_softmax:
            start_from_generalist_(network, generalist, one)
        else:
            network.load_state_dict(generalist.state_dict())
        if shared:
            freeze_(network, shared)
        with torch.no_grad():
            for value in network.parameters():
                if value.requires_grad:
                    value += 0.3 * torch.randn_like(value)
        specialists.append(network)
    return SpecialistEnsemble(
        generalist,
        specialists,
        PAIRS,
        class_names=NAMES,
        example_inputs=torch.zeros(2, 1, 2, 3),
        full_softmax=full_softmax,
        architecture=ARCHITECTURE,
    )


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("full_softmax", [False, True])
def test_an_ensemble_comes_back_from_its_folder_and_shared_layers_are_kept_once(
    tmp_path: Path, shared: int, full_softmax: bool
) -> None:
    ensemble = small_ensemble(shared, full_softmax=full_softmax)
    assert ensemble.num_shared == shared
    ensemble.save(tmp_path / "saved")
    assert sorted(file.name for file in (tmp_path / "saved").iterdir()) == [
        "ensemble.json",
        "ensemble.safetensors",
    ]
    again = SpecialistEnsemble.load(tmp_path / "saved")
    inputs = torch.randn(30, 1, 2, 3)
    for one, other in zip(ensemble.predict_probs(inputs), again.predict_probs(inputs), strict=True):
        assert torch.equal(one, other)
    assert again.num_shared == shared
    assert [one.classes for one in again.class_sets] == [one.classes for one in ensemble.class_sets]


def test_an_ensemble_predicts_what_its_networks_combine_to() -> None:
    ensemble = small_ensemble(1)
    inputs = torch.randn(30, 1, 2, 3)
    generalist, *specialists = (torch.softmax(network(inputs), 1).detach() for network in ensemble.networks)
    expected = combine_specialists(generalist, specialists, PAIRS)
    found = ensemble.predict_probs(inputs)
    torch.testing.assert_close(found.probs, expected)
    assert found.num_specialists.tolist() == [1] * 30


def test_an_ensemble_refuses_other_data_other_networks_and_damaged_files(tmp_path: Path) -> None:
    ensemble = small_ensemble(0)
    other = InMemoryDataset(torch.rand(2, 1, 2, 3), torch.tensor([0, 1]), class_names=["x", "y", "z", "w"])
    with pytest.raises(UsageError, match="the first 'a'; the data has 4, the first 'x': they are for other data"):
        ensemble.predict(other)
    with pytest.raises(UsageError, match="specialist-0 gives 4 logits, expected 3"):
        SpecialistEnsemble(
            ensemble.networks[0],
            [ensemble.networks[0]],
            PAIRS[:1],
            class_names=NAMES,
            example_inputs=torch.zeros(2, 1, 2, 3),
        )
    with pytest.raises(UsageError, match="top_n is 0, expected 1 to 4"):
        SpecialistEnsemble(
            ensemble.networks[0], [], [], class_names=NAMES, example_inputs=torch.zeros(2, 1, 2, 3), top_n=0
        )
    with pytest.raises(UsageError, match=r"it has no ensemble\.json"):
        SpecialistEnsemble.load(tmp_path)
    ensemble.save(tmp_path)
    about = json.loads((tmp_path / "ensemble.json").read_text())
    (tmp_path / "ensemble.json").write_text(json.dumps({**about, "format_version": 99}))
    with pytest.raises(RunError, match="format version 99"):
        SpecialistEnsemble.load(tmp_path)
    damaged = [{**about, "top_n": 0}, {**about, "class_sets": [[0, 9]]}, {**about, "architecture": None}, [about]]
    damaged += [{name: value for name, value in about.items() if name != key} for key in about]
    for content in ("{", *map(json.dumps, damaged)):
        (tmp_path / "ensemble.json").write_text(content)
        with pytest.raises(RunError, match=r"ensemble\.json is damaged: .*; save the ensemble again"):
            SpecialistEnsemble.load(tmp_path)
