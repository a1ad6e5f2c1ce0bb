"""Examples of any structure: how they are kept, padded, known by their content, and given to a network."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import instar
from instar.data import (
    Dataset,
    InMemoryDataset,
    as_dataset,
    batches,
    id_batches,
    like_length,
    parse_views,
    shuffled,
)
from instar.data.copies import copies_of
from instar.deploy import cost_of
from instar.distillation import SoftTargetStore, Teacher
from instar.errors import DataError, UsageError
from instar.networks import call, cut, freeze_, layers_of, network_identity
from instar.structures import examples_in, read_form, written_form
from instar.transfer.features import features_at, prefix_features
from small_fits import Words, same_bits, state_of

NAMES = ["a", "b", "c"]
GENERATOR = torch.Generator().manual_seed(0)
NUMBER = 90
LENGTHS = torch.randint(1, 9, (NUMBER,), generator=GENERATOR).tolist()
IDS = [torch.randint(1, 20, (length,), generator=GENERATOR) for length in LENGTHS]
LABELS = torch.tensor([int(ids.max()) % 3 for ids in IDS])
X, Y = torch.randn(NUMBER, 4, generator=GENERATOR), torch.randint(5, (NUMBER, 3), generator=GENERATOR)


def words(rows: list[int] | range = range(NUMBER), **options: Any) -> InMemoryDataset:
    return InMemoryDataset(
        {"input_ids": [IDS[row] for row in rows]}, LABELS[list(rows)], class_names=NAMES, **options
    )


def pairs() -> InMemoryDataset:
    return InMemoryDataset((X, Y), LABELS, class_names=NAMES)


class Two(nn.Module):
    """Numbers and ids, by position."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.numbers, self.ids, self.head = nn.Linear(4, 8), nn.Embedding(5, 8), nn.Linear(8, 3)

    def forward(self, numbers: Tensor, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.numbers(numbers) + self.ids(ids).sum(1)))


def test_a_batch_is_padded_to_its_longest_and_its_mask_says_where() -> None:
    data = words(pad=7)
    rows = [3, 50, 8]
    found = data.gather(data.ids[rows], 0)
    longest = max(LENGTHS[row] for row in rows)
    for row, ids, mask in zip(rows, found["input_ids"], found["attention_mask"], strict=True):
        assert ids.tolist() == IDS[row].tolist() + [7] * (longest - LENGTHS[row])
        assert mask.tolist() == [1] * LENGTHS[row] + [0] * (longest - LENGTHS[row])
    assert found["input_ids"].dtype == found["attention_mask"].dtype == torch.int64
    assert data.lengths.tolist() == LENGTHS
    assert data.subset(data.ids[rows]).lengths.tolist() == [LENGTHS[row] for row in rows]


def test_the_mask_has_the_name_that_is_chosen_or_its_place_or_there_is_none() -> None:
    inputs: Any
    for inputs, options, keys in (
        ({"x": IDS}, {"mask": "valid"}, ["x", "valid"]),
        ({"x": IDS}, {"mask": None}, ["x"]),
        ({"x": IDS, "attention_mask": [torch.ones_like(ids) for ids in IDS]}, {}, ["attention_mask", "x"]),
    ):
        data = InMemoryDataset(inputs, LABELS, class_names=NAMES, **options)
        assert list(data.gather(data.ids, 0)) == keys
    values, mask = (data := InMemoryDataset(IDS, LABELS, class_names=NAMES)).gather(data.ids, 0)
    assert torch.equal(values > 0, mask == 1)
    alone = InMemoryDataset(IDS, LABELS, class_names=NAMES, mask=None)
    assert torch.equal(alone.gather(alone.ids, 0), values)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.uint8, torch.float32), (torch.float64, torch.float32), (torch.float16, torch.float32),
        (torch.int32, torch.int32), (torch.int64, torch.int64), (torch.int16, torch.int64),
        (torch.bool, torch.bool),
    ],
)  # fmt: skip
def test_pixels_are_scaled_and_ids_stay_what_they_are(given: torch.dtype, kept: torch.dtype) -> None:
    values = torch.arange(12).view(6, 2) % 2
    for inputs in (values.to(given), {"x": values.to(given)}):
        data = InMemoryDataset(inputs, torch.arange(6) % 3, class_names=NAMES)
        found = data.gather(data.ids, 0)
        found = found["x"] if isinstance(found, dict) else found
        assert found.dtype == kept
        assert torch.equal(found, values.to(kept) / 255 if given == torch.uint8 else values.to(kept))


def test_ids_come_from_the_content_of_all_tensors_and_from_no_padding() -> None:
    data, few = words(), words([70, 2, 30])
    assert torch.equal(few.ids, data.ids[[70, 2, 30]])
    reversed_names = InMemoryDataset({"b": Y, "a": X}, LABELS, class_names=NAMES)
    assert torch.equal(reversed_names.ids, InMemoryDataset({"a": X, "b": Y}, LABELS, class_names=NAMES).ids)
    for other in ({"a": X, "b": Y + 1}, {"a": X, "c": Y}, {"a": X, "b": Y.int()}, {"a": X}, (X, Y)):
        ids = InMemoryDataset(other, LABELS, class_names=NAMES).ids
        assert not torch.isin(ids, reversed_names.ids).any()
    assert data.subset(few.ids).fingerprint == few.fingerprint
    assert words(range(60)).fingerprint != few.fingerprint
    ids, same = copies_of(data, few)
    assert ids.tolist() == same.tolist() == few.ids.tolist()


def test_one_tensor_keeps_the_ids_and_the_fingerprint_of_before() -> None:
    """Pinned by the version that knew one tensor alone: stores and runs of before are still found."""
    for inputs, ids, fingerprint in (
        (
            torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2),
            [-7437326522806203910, -1578096704051813950, -308569473890829112],
            "09fd29cc9d8f6537",
        ),
        (
            torch.arange(12.0).view(3, 4),
            [5495844738850925895, 8255143636859913923, 594736546639451124],
            "4724b3bf2f03b4ec",
        ),
    ):
        data = InMemoryDataset(inputs, torch.arange(3), class_names=NAMES)
        assert data.ids.tolist() == ids
        assert data.fingerprint.startswith(fingerprint)


def test_batches_are_those_of_gather() -> None:
    for data in (words(), pairs()):
        order = shuffled(data.ids, seed=1, epoch=2)
        for ids, inputs, labels in batches(data, id_batches(order, 16), view=0):
            expected = data.gather(ids, 0)
            assert same_bits(dict(enumerate_structure(inputs)), dict(enumerate_structure(expected)))
            assert torch.equal(labels, data.labels(ids))


def enumerate_structure(inputs: Any) -> list[tuple[str, Tensor]]:
    return [(str(name), one) for name, one in (inputs.items() if isinstance(inputs, dict) else enumerate(inputs))]


@pytest.mark.parametrize(("data", "make"), [(words(), Words), (pairs(), Two)], ids=["mapping", "tuple"])
def test_a_fit_is_the_same_loop_written_by_hand(data: Dataset, make: type[nn.Module]) -> None:
    found = instar.fit(make(), data, epochs=2, batch_size=32, learning_rate=0.5, momentum=0.0, schedule="constant")
    network = make()
    optimiser = torch.optim.SGD(network.parameters(), 0.5)
    for epoch in range(2):
        for ids in id_batches(shuffled(data.ids, seed=0, epoch=epoch), 32):
            inputs = data.gather(ids, 0)
            logits = network(**inputs) if isinstance(inputs, dict) else network(*inputs)
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits, data.labels(ids)).backward()
            optimiser.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], value)


@pytest.mark.parametrize(("data", "make"), [(words(), Words), (pairs(), Two)], ids=["mapping", "tuple"])
def test_a_store_gives_the_teachers_soft_targets(data: Dataset, make: type[nn.Module], tmp_path: Any) -> None:
    teacher = instar.train(make(1), data, epochs=3, learning_rate=0.5).network
    store = SoftTargetStore.write(tmp_path / "store", {"one": teacher}, data, dtype="float32")
    stored = store.targets(data, temperature=2.0)(data.ids[:20], 0).probs
    live = Teacher(teacher, data, temperature=2.0)(data.ids[:20], 0).probs
    torch.testing.assert_close(stored, live, atol=1e-6, rtol=0)
    targets: tuple[Any, Any] = teacher, store.targets(data, temperature=2.0)
    students = [instar.distill(one, make(2), data, epochs=2, temperature=2.0) for one in targets]
    for name, value in students[0].network.state_dict().items():
        torch.testing.assert_close(students[1].network.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    changed: Any = {"input_ids": [ids % 19 + 1 for ids in IDS]} if make is Words else (X + 1, Y)
    other = InMemoryDataset(changed, LABELS, class_names=NAMES, ids=data.ids)
    with pytest.raises((UsageError, DataError)):
        store.check_data(other)


def test_a_run_directory_knows_the_data_and_the_network(tmp_path: Any) -> None:
    def run(data: Dataset, seed: int = 0) -> Any:
        return instar.train(Words(seed), data, epochs=2, run_dir=tmp_path / "run")

    first = run(words())
    assert same_bits(state_of(run(words()).network), state_of(first.network))
    changed = InMemoryDataset({"input_ids": [*IDS[:-1], IDS[-1] % 19 + 1]}, LABELS, class_names=NAMES)
    for data, seed in ((changed, 0), (words(pad=3), 0), (words(), 1)):
        with pytest.raises(instar.RunError):
            run(data, seed)


def test_batches_of_like_length_are_a_pure_function_of_seed_and_epoch() -> None:
    data = words()
    sampler = like_length(data, batch_size=8)
    order = sampler(data.ids, seed=3, epoch=1)
    assert torch.equal(order, sampler(data.ids.flip(0), seed=3, epoch=1))
    assert sorted(order.tolist()) == sorted(data.ids.tolist())
    for seed, epoch in ((3, 2), (4, 1)):
        assert not torch.equal(order, sampler(data.ids, seed=seed, epoch=epoch))

    def padding(order: Tensor) -> int:
        return sum(int((one["attention_mask"] == 0).sum()) for _, one, _ in batches(data, id_batches(order, 8), 0))

    assert padding(order) < 0.3 * padding(shuffled(data.ids, seed=3, epoch=1))
    part = data.ids[10:40]
    assert sorted(sampler(part, seed=0, epoch=0).tolist()) == sorted(part.tolist())
    with pytest.raises(UsageError, match="not in the data of this sampler"):
        sampler(torch.tensor([1]), seed=0, epoch=0)
    with pytest.raises(UsageError, match="all of one length"):
        like_length(pairs(), batch_size=8)
    with pytest.raises(UsageError, match="batch_size"):
        like_length(data, batch_size=0)


def test_a_cut_network_gives_what_the_whole_one_gives() -> None:
    for network, data in ((Words(), words()), (Two(), pairs())):
        inputs = data.gather(data.ids[:8], 0)
        expected = call(network, inputs)
        layers = [layer.name for layer in layers_of(network, inputs)]
        assert len(layers) == (4 if isinstance(network, Words) else 3)
        found = {n: cut(network, n, inputs) for n in range(3)}
        assert found[0].cacheable
        assert torch.equal(call(found[0].rest, call(found[0].prefix, inputs)), expected)
        if network.__class__ is Words:
            assert found[1].cacheable
            assert found[2].cacheable
            assert torch.equal(call(found[2].rest, call(found[2].prefix, inputs)), expected)


def test_a_frozen_prefix_is_computed_once_with_the_mask_that_is_read_behind_it() -> None:
    """Fixed lengths: features and mask are kept, and a fit of the rest is the fit of the whole."""
    values = torch.randint(1, 20, (NUMBER, 6), generator=GENERATOR)
    mask = (torch.arange(6) < torch.randint(1, 7, (NUMBER, 1), generator=GENERATOR)).long()
    data = InMemoryDataset({"input_ids": values, "attention_mask": mask}, LABELS, class_names=NAMES)
    splits, results = instar.Splits(data, data, data), []
    for caches in (False, True):
        network = Words()
        freeze_(network, 2, example_input=data.gather(data.ids[:2], 0))
        found = prefix_features(network, 2, splits, precision="float32")
        assert found is not None
        fitted, train = (found.rest, found.train) if caches else (network, data)
        instar.fit(fitted, train, epochs=3, learning_rate=0.5)
        results.append(network.head.weight.detach())
    torch.testing.assert_close(results[0], results[1])
    varying = words()
    assert prefix_features(network, 2, instar.Splits(varying, varying, varying), precision="float32") is None


def test_features_at_a_cut_do_not_see_the_padding() -> None:
    network, data = Words(), words()
    found = features_at(network, [1, 2], data)
    for row in (0, 5, 60):
        expected = network.embedding(IDS[row]).mean(0)
        torch.testing.assert_close(found[1][row], expected)


def test_the_cost_is_that_of_the_longest_example() -> None:
    assert cost_of(Words(), words().example_shape, repeats=1).multiplications == 8 * 8 * 8 + 8 * 3
    assert cost_of(Two(), pairs().example_shape, repeats=1).multiplications == 4 * 8 + 8 * 3


def test_a_form_is_read_from_what_a_configuration_holds() -> None:
    for data in (words(), pairs(), InMemoryDataset(X, LABELS, class_names=NAMES)):
        form = data.example_shape
        assert read_form(written_form(form)) == form
        made = examples_in(form, 3)
        shapes = [one.dtype for one in (made.values() if isinstance(made, dict) else made)]
        assert len(shapes)
    network_identity(Words(), examples_in(words().example_shape, 4))


def test_predictions_do_not_depend_on_the_order_of_the_batch_or_its_padding() -> None:
    network, data = Words(), words()
    logits = instar.predict_logits(network, data)
    for row in range(0, NUMBER, 9):
        alone = network(IDS[row][None], torch.ones_like(IDS[row][None]))
        torch.testing.assert_close(logits[row : row + 1], alone, atol=1e-5, rtol=0)


def test_a_view_of_the_users_that_knows_the_structure_is_seen_by_teacher_and_student() -> None:
    class Unknown:
        name = "unknown"

        def apply(self, inputs: Any, ids: Tensor, views: Tensor | int, view_seed: int) -> Any:
            ids = torch.where((inputs["input_ids"] + views) % 5 == 0, 19, inputs["input_ids"])
            return {**inputs, "input_ids": ids} if views else inputs

    data = words().with_views(Unknown(), view_seed=0)  # type: ignore[arg-type]
    assert not torch.equal(data.gather(data.ids, 1)["input_ids"], data.gather(data.ids, 0)["input_ids"])
    instar.distill(Words(1), Words(), data, epochs=2)


INPUTS = {"input_ids": IDS}
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no tensor": ({}, UsageError, "expected tensors by name"),
    "numbers as names": ({1: X}, UsageError, r"expected tensors by name, found the keys \[1\]"),
    "an empty tuple": ((), UsageError, "the tuple is empty"),
    "fewer examples": ((X, Y[:9]), UsageError, r"inputs\[1\] has 9 examples, inputs\[0\] has 90"),
    "texts": ({"text": ["a", "b"]}, UsageError, r"inputs\['text'\]\[0\]: expected .* found 'a'"),
    "an array of texts": (np.array(["a"]), UsageError, "found an array of <U1"),
    "objects": ([object()], UsageError, "expected a tensor, an array or a list of numbers, found object"),
    "NaN": ({"x": X, "y": X.log()}, DataError, r"of 90 examples of inputs\['y'\] hold NaN or infinity"),
    "NaN in a list": ([torch.ones(2), torch.full((3,), torch.nan)], DataError, "1 of 2 examples hold .* in row 1"),
    "an empty example": ([[1], []], DataError, r"inputs\[1\] is empty"),
    "an empty list": ([], DataError, "empty list"),
    "other widths": (
        [torch.zeros(2, 3), torch.zeros(2, 4)],
        UsageError,
        "may differ in their first dimension alone",
    ),
    "a number among lists": ([torch.tensor([1]), torch.tensor(1)], UsageError, r"inputs\[1\] has shape \(\)"),
    "two lengths": ({"a": IDS, "b": IDS[::-1]}, UsageError, "differ in length in row .* mask=None"),
    "complex": (X.to(torch.complex64), UsageError, "should be numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_examples_is_refused_in_one_line(name: str) -> None:
    inputs, error, says = REFUSED[name]
    with pytest.raises(error, match=says) as caught:
        InMemoryDataset(inputs, None, class_names=NAMES)
    assert "\n" not in str(caught.value)


def test_what_only_suits_one_tensor_is_refused_in_one_line(tmp_path: Any) -> None:
    for call_it, says in (
        (lambda: words().with_views(parse_views("jitter:1"), view_seed=0), "need images"),
        (lambda: words(mean=[0.5]), "mean: only a single tensor of numbers is normalised"),
        (lambda: words(scale=2.0), "scale: only a single tensor"),
        (lambda: instar.Splits(words(), words(), words()).normalised("data"), "only a single tensor"),
        (lambda: instar.build_network("mlp:8x1", input_shape=words().example_shape, num_classes=3, seed=0),
         "takes single tensors of numbers, an example is input_ids int64 <=8, attention_mask mask <=8"),
        (lambda: instar.Splits(words(), pairs(), words()), "example_shape of the validation data"),
    ):  # fmt: skip
        with pytest.raises((UsageError, DataError), match=says) as caught:
            call_it()
        assert "\n" not in str(caught.value)
    instar.Splits(words(range(3)), words(), words())  # the longest of a part may be shorter


def test_a_network_that_does_not_take_the_structure_is_told_how_it_is_called() -> None:
    for network, data, says in (
        (Two(), words(), "its forward is called with the names"),
        (Words(), pairs(), "should be the same|must be|argument|expected"),
        (nn.Sequential(nn.Linear(3, 3)), as_dataset((Y, LABELS)), "integers stay what they are, as ids"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            instar.train(network, data, epochs=1)
        assert "\n" not in str(caught.value)
