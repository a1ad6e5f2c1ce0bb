"""The data face: ids from content, gather, labels, subset, fingerprint; and batches from memory and files."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_files import image_bytes, random_images, write_image_folder
from instar.data import (
    InMemoryDataset,
    StreamingDataset,
    as_dataset,
    batches,
    id_batches,
    load_data,
    parse_views,
    shuffled,
)
from instar.data.identity import content_ids
from instar.data.readers.images import ImageForm
from instar.errors import DataError, UsageError

NAMES = ("a", "b", "c")
IMAGES = random_images(30, 2, 5, 4)
LABELS = torch.arange(30) % 3


def dataset(**changes: object) -> InMemoryDataset:
    return InMemoryDataset(IMAGES, LABELS, class_names=NAMES, **changes)  # type: ignore[arg-type]


def streaming(folder: Path, number: int = 23) -> tuple[StreamingDataset, InMemoryDataset]:
    """The same images as files and in one tensor."""
    images, labels = random_images(number, 3, 6, 5), torch.arange(number) % 3
    files = [folder / f"{row}.png" for row in range(number)]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(image_bytes(image))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]
    form = ImageForm("RGB", 6, 5)
    streamed = StreamingDataset(
        files, labels, decode=form.read, class_names=NAMES, example_shape=form.shape, mean=mean, std=std
    )
    return streamed, InMemoryDataset(images, labels, class_names=NAMES, ids=streamed.ids, mean=mean, std=std)


def test_gather_gives_scaled_examples_of_the_ids_asked_for() -> None:
    data = dataset()
    rows = torch.tensor([7, 0, 7, 29])
    assert torch.equal(data.gather(data.ids[rows], 0), IMAGES[rows].float() * (1 / 255))
    assert torch.equal(data.labels(data.ids[rows]), LABELS[rows])
    assert data.gather(data.ids, 0).dtype == torch.float32
    assert data.labels(data.ids).dtype == torch.int64
    assert (len(data), data.num_classes, data.example_shape, data.in_memory) == (30, 3, (2, 5, 4), True)


def test_mean_and_std_come_after_the_views() -> None:
    data = dataset(mean=[0.25, 0.5], std=[0.5, 2.0]).with_views(parse_views("jitter:2"), view_seed=1)
    found = data.gather(data.ids, 1)
    plain = dataset().with_views(parse_views("jitter:2"), view_seed=1).gather(data.ids, 1)
    expected = (plain - torch.tensor([0.25, 0.5]).view(2, 1, 1)) / torch.tensor([0.5, 2.0]).view(2, 1, 1)
    assert torch.equal(found, expected)
    assert bool((found[:, 0] == -0.5).any())  # background is black, not the mean


def test_gather_never_hands_out_the_stored_tensor() -> None:
    data = InMemoryDataset(IMAGES.float(), LABELS, class_names=NAMES)
    data.gather(data.ids, 0).zero_()
    assert torch.equal(data.gather(data.ids, 0), IMAGES.float())


@pytest.mark.slow
def test_ids_are_the_same_in_every_process_and_for_every_copy_of_the_content() -> None:
    code = (
        "import torch; from instar.data import InMemoryDataset as D;"
        "d = D(torch.arange(12, dtype=torch.uint8).view(3, 4), torch.tensor([0, 1, 0]), class_names=['a', 'b']);"
        "print(d.ids.tolist(), d.fingerprint)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    inputs = torch.arange(12, dtype=torch.uint8).view(3, 4)
    data = InMemoryDataset(inputs, torch.tensor([0, 1, 0]), class_names=["a", "b"])
    assert found.strip() == f"{data.ids.tolist()} {data.fingerprint}"


def test_ids_and_fingerprint_survive_another_order() -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    data, other = dataset(), InMemoryDataset(IMAGES[order], LABELS[order], class_names=NAMES)
    assert torch.equal(other.ids, data.ids[order])
    assert other.fingerprint == data.fingerprint


def test_copies_get_ids_of_their_own_that_follow_the_label_not_the_order() -> None:
    inputs = torch.zeros(4, 3, dtype=torch.uint8)
    labels = torch.tensor([1, 0, 2, 0])
    ids = InMemoryDataset(inputs, labels, class_names=NAMES).ids
    assert len(set(ids.tolist())) == 4
    order = torch.tensor([2, 3, 0, 1])
    again = InMemoryDataset(inputs, labels[order], class_names=NAMES).ids
    pairs = sorted(zip(ids.tolist(), labels.tolist(), strict=True))
    assert pairs == sorted(zip(again.tolist(), labels[order].tolist(), strict=True))


def test_a_subset_keeps_ids_and_examples_and_has_another_fingerprint() -> None:
    data = dataset().with_views(parse_views("flip"), view_seed=4)
    chosen = data.ids[torch.tensor([9, 3, 20])]
    part = data.subset(chosen)
    assert torch.equal(part.ids, chosen)
    assert torch.equal(part.gather(chosen, 2), data.gather(chosen, 2))
    assert torch.equal(part.labels(chosen), data.labels(chosen))
    assert data.fingerprint != part.fingerprint == data.subset(chosen.flip(0)).fingerprint
    assert torch.equal(part.subset(chosen[:1]).gather(chosen[:1], 0), data.gather(chosen[:1], 0))
    with pytest.raises(UsageError, match="1 of 1 ids are not in this data set of 3 examples"):
        part.gather(data.ids[:1], 0)


@pytest.mark.parametrize("which", [[], [1, 1]])
def test_a_subset_of_nothing_or_of_one_twice_is_refused(which: list[int]) -> None:
    data = dataset()
    with pytest.raises(UsageError):
        data.subset(data.ids[torch.tensor(which, dtype=torch.int64)])


def test_an_unknown_id_is_refused_by_gather_and_labels() -> None:
    data = dataset()
    unknown = torch.tensor([5, int(data.ids[0]), 2**63 - 1])
    for call in (lambda: data.gather(unknown, 0), lambda: data.labels(unknown)):
        with pytest.raises(UsageError, match="2 of 3 ids are not in this data set of 30 examples, the first 5"):
            call()


def test_the_fingerprint_knows_labels_class_names_and_shape_but_not_views() -> None:
    data = dataset()
    others = [
        InMemoryDataset(IMAGES, LABELS.flip(0), class_names=NAMES, ids=data.ids),
        InMemoryDataset(IMAGES, LABELS, class_names=NAMES[::-1]),
        InMemoryDataset(IMAGES.flatten(1), LABELS, class_names=NAMES),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert data.with_views(parse_views("flip"), view_seed=3).fingerprint == data.fingerprint


def test_with_views_leaves_the_data_set_as_it_was() -> None:
    data = dataset()
    other = data.with_views(parse_views("jitter:1"), view_seed=9)
    assert (data.views, data.view_seed) == (None, 0)
    assert (other.views, other.view_seed) == (parse_views("jitter:1"), 9)
    assert torch.equal(data.gather(data.ids, 5), data.gather(data.ids, 0))
    assert not torch.equal(other.gather(data.ids, 5), other.gather(data.ids, 0))


def test_with_views_refuses_at_once_what_would_fail_in_the_first_epoch() -> None:
    with pytest.raises(UsageError, match="more than 4 pixels, found 5x4"):
        dataset().with_views(parse_views("crop:4"), view_seed=0)
    with pytest.raises(UsageError, match="need images"):
        as_dataset((torch.rand(4, 8), torch.tensor([0, 1, 0, 1]))).with_views(parse_views("flip"), view_seed=0)


def test_view_numbers_may_differ_within_a_batch() -> None:
    data = dataset().with_views(parse_views("jitter:2"), view_seed=0)
    numbers = torch.arange(30) % 4
    found = data.gather(data.ids, numbers)
    for number in range(4):
        rows = numbers == number
        assert torch.equal(found[rows], data.gather(data.ids[rows], number))


def test_moving_to_the_same_device_is_free() -> None:
    data = dataset()
    assert data.to("cpu") is data


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["jitter:2", "crop:2+flip", "affine:12,0.15,0.15,2"])
def test_another_device_shows_the_same_views(name: str, tmp_path: Path) -> None:
    streamed, memory = streaming(tmp_path)
    for data in (memory, memory.subset(memory.ids[4:20]), streamed):
        here = data.with_views(parse_views(name), view_seed=1)
        there = here.to("cuda")
        found = there.gather(there.ids, 3)
        assert found.device.type == there.labels(there.ids).device.type == "cuda"
        tolerance = 1e-4 if "affine" in name else 0.0  # interpolation rounds otherwise, shifts do not
        assert torch.allclose(found.cpu(), here.gather(here.ids, 3), rtol=0, atol=tolerance)
        assert there.fingerprint == here.fingerprint
        wanted = id_batches(there.ids, 7)  # finished together there, one by one here
        for (_, one, labels), ids in zip(batches(there, wanted, view=3), wanted, strict=True):
            assert torch.allclose(one.cpu(), here.gather(ids.cpu(), 3), rtol=0, atol=tolerance)
            assert torch.equal(labels.cpu(), here.labels(ids.cpu()))


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "says"),
    [
        (IMAGES, LABELS + 1, DataError, r"10 of 30 labels are outside the 3 classes, the first 3 in row 2"),
        (IMAGES, LABELS - 2, DataError, r"labels are outside the 3 classes, the first -2 in row 0"),
        (IMAGES, LABELS[:29], DataError, "30 inputs and 29 labels"),
        (IMAGES[:0], LABELS[:0], DataError, "empty"),
        (IMAGES.to(torch.complex64), LABELS, UsageError, "should be numbers"),
        (IMAGES, LABELS.float(), UsageError, "should be integers"),
        (IMAGES, LABELS[:, None], UsageError, r"shape \(examples,\)"),
        (torch.zeros(30), LABELS, UsageError, "shape"),
    ],
)
def test_bad_tensors_are_refused(inputs: Tensor, labels: Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        InMemoryDataset(inputs, labels, class_names=NAMES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_counted_and_named(value: float) -> None:
    inputs = IMAGES.float()
    inputs[17, 0, 0, 0] = inputs[17, 1, 2, 3] = inputs[20, 0, 0, 0] = value
    with pytest.raises(DataError, match="2 of 30 examples hold NaN or infinity, the first in row 17"):
        InMemoryDataset(inputs, LABELS, class_names=NAMES)


@pytest.mark.parametrize("names", [["a"], [], ["a", "a"], "abc", [1, 2]])
def test_bad_class_names_are_refused(names: list[str]) -> None:
    with pytest.raises(UsageError, match="class_names"):
        InMemoryDataset(IMAGES, torch.zeros(30, dtype=torch.int64), class_names=names)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.5]},
        {"std": [1.0, 0.0]},
        {"std": [1.0, -1.0]},
        {"mean": [0.5, float("nan")]},
        {"ids": LABELS},
        {"ids": LABELS.float()},
        {"ids": torch.arange(29)},
    ],
)
def test_bad_options_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        dataset(**changes)


def test_no_labels_is_minus_one_everywhere() -> None:
    data = InMemoryDataset(IMAGES, None, class_names=NAMES)
    assert data.labels(data.ids).tolist() == [-1] * 30


def test_half_precision_and_double_become_float32() -> None:
    for dtype in (torch.float16, torch.float64):
        data = InMemoryDataset(IMAGES.to(dtype), LABELS, class_names=NAMES)
        assert torch.equal(data.gather(data.ids, 0), IMAGES.float())


def test_as_dataset_takes_a_data_set_or_a_pair_of_tensors() -> None:
    data = dataset()
    assert as_dataset(data) is data
    made = as_dataset((IMAGES, LABELS))
    assert made.class_names == ("0", "1", "2")
    assert torch.equal(made.ids, data.ids)
    for wrong in (None, IMAGES, (IMAGES,), (IMAGES, LABELS, LABELS)):
        with pytest.raises(UsageError, match="a pair"):
            as_dataset(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streaming_and_memory_give_the_same_bits(tmp_path: Path, num_workers: int) -> None:
    streamed, memory = streaming(tmp_path)
    assert (streamed.in_memory, streamed.fingerprint) == (False, memory.fingerprint)
    views = parse_views("crop:2+flip")
    streamed, memory = (data.with_views(views, view_seed=2) for data in (streamed, memory))
    before = torch.get_rng_state()
    order = id_batches(shuffled(memory.ids, seed=0, epoch=1), 5)
    pairs = zip(batches(streamed, order, 3, num_workers=num_workers), batches(memory, order, 3), strict=True)
    for (ids, inputs, labels), (ids_2, inputs_2, labels_2) in pairs:
        assert torch.equal(ids, ids_2)
        assert torch.equal(inputs, inputs_2)
        assert torch.equal(labels, labels_2)
    assert torch.equal(torch.get_rng_state(), before)
    part = memory.ids[3:9]
    assert torch.equal(streamed.subset(part).gather(part, 1), memory.gather(part, 1))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_while_streaming_is_the_same_one_line_from_a_worker(tmp_path: Path, num_workers: int) -> None:
    streamed, _ = streaming(tmp_path)
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        list(batches(streamed, id_batches(streamed.ids, 5), 0, num_workers=num_workers))
    assert str(caught.value).startswith(f"{tmp_path / '7.png'}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not in this data set"):
        list(batches(streamed, [torch.tensor([1])], 0, num_workers=num_workers))


def test_a_streaming_data_set_can_be_sent_to_another_process(tmp_path: Path) -> None:
    """Where processes are not forked, workers get it as a pickle."""
    streamed, _ = streaming(tmp_path)
    streamed = streamed.with_views(parse_views("crop:2+affine:5,0,0,1"), view_seed=2)
    sent = pickle.loads(pickle.dumps(streamed))
    assert torch.equal(sent.gather(streamed.ids, 3), streamed.gather(streamed.ids, 3))


def test_streaming_batches_use_workers_unless_told_otherwise(tmp_path: Path) -> None:
    streamed, memory = streaming(tmp_path)
    found = [inputs for _, inputs, _ in batches(streamed, id_batches(streamed.ids, 8), 0)]
    assert torch.equal(torch.cat(found), memory.gather(streamed.ids, 0))
    assert list(batches(streamed, [], 0)) == []


def test_a_folder_has_the_same_ids_and_bits_in_memory_and_streaming(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path)
    memory = load_data(f"folder:{folder}")
    streamed = load_data(f"folder:{folder}", memory_budget_bytes=100)
    assert (memory.train.in_memory, streamed.train.in_memory) == (True, False)
    assert memory.fingerprint == streamed.fingerprint
    ids = memory.train.ids
    assert torch.equal(streamed.train.gather(ids, 0), memory.train.gather(ids, 0))
    contents = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    labels = torch.tensor([0] * 5 + [1] * 5)
    every = torch.cat([memory.train.ids, memory.validation.ids, memory.test.ids])
    assert set(every.tolist()) == set(content_ids(contents, labels).tolist())


def test_some_classes_are_a_task_of_their_own_with_labels_in_their_order() -> None:
    whole = dataset()
    part = whole.of_classes([2, 0])
    assert part.class_names == ("c", "a")
    assert len(part) == 20
    assert torch.equal(part.labels(part.ids), torch.where(whole.labels(part.ids) == 2, 0, 1))
    assert torch.equal(part.gather(part.ids, 0), whole.gather(part.ids, 0))
    assert part.fingerprint != whole.of_classes([0, 2]).fingerprint
    assert torch.equal(whole.labels(whole.ids), LABELS)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([0, 3], "different numbers from 0 to 2"),
        ([1, 1], "different numbers"),
        ([2], "at least two different names"),
    ],
)
def test_classes_that_are_no_task_are_refused(classes: list[int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        dataset().of_classes(classes)
    ones = dataset().subset(dataset().ids[LABELS == 1])
    with pytest.raises(UsageError, match="there is no example of a, c"):
        ones.of_classes([0, 2])


def test_relabelled_examples_are_the_same_and_no_label_stays_none() -> None:
    data = InMemoryDataset(torch.rand(4, 2), torch.tensor([0, 1, 2, -1]), class_names=["a", "b", "c"])
    other = data.relabelled(torch.tensor([1, -1, 0]), ["x", "y"])
    assert other.labels(data.ids).tolist() == [1, -1, 0, -1]
    assert other.class_names == ("x", "y")
    assert data.labels(data.ids).tolist() == [0, 1, 2, -1]
    assert other.fingerprint != data.fingerprint
    for numbers in (torch.tensor([0, 1]), torch.tensor([0, 1, 2]), torch.tensor([0, 1, -2])):
        with pytest.raises(UsageError, match="expected 3 numbers from -1 to 1"):
            data.relabelled(numbers, ["x", "y"])


@pytest.mark.parametrize(("width", "batch_size"), [(64, 16), (3, 5)])  # whole cache lines, and not
def test_batches_made_together_begin_where_batches_made_alone_do(width: int, batch_size: int) -> None:
    """Products of matrices may have other last bits where their memory begins elsewhere in a cache line."""
    data = as_dataset((torch.rand(50, width), torch.arange(50) % 4))
    order = shuffled(data.ids, seed=0, epoch=1)
    for ids, inputs, labels in batches(data, id_batches(order, batch_size), view=1):
        assert torch.equal(inputs, data.gather(ids, 1))
        assert torch.equal(labels, data.labels(ids))
        assert inputs.data_ptr() % 64 == 0
