"""The data layer for any input: broken files of every format, any batch of any views, any split."""

import functools
import gzip
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_files import (
    CIFAR10_NAMES,
    cifar_archive,
    idx_bytes,
    random_images,
    to_image,
    write_image_folder,
    write_mnist,
    write_table,
)
from file_mutations import Mutation, changed, mutations
from instar.data import Chain, InMemoryDataset, Views, load_data, parse_views, shuffled, stratified_split
from instar.data.readers.cifar import read_cifar_archive
from instar.data.readers.idx import read_idx
from instar.data.readers.images import ImageForm
from instar.data.readers.parquet import read_image_table
from instar.errors import DataError, UsageError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RARE = settings(parent=QUICK, max_examples=20)

# --- broken files: a valid data set, or a DataError that names the file; no other exception, no hang ---


def refusal(call: Callable[[], object]) -> str | None:
    """What a DataError or UsageError says; None where the call goes well. Any other exception fails the test."""
    try:
        call()
    except (DataError, UsageError) as error:
        return str(error)
    return None


def survives(content: bytes, changes: list[Mutation], read: Callable[[Path], object], *, packed: bool) -> None:
    """Break a file, then read it."""
    content = changed(content, changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken"
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        said = refusal(lambda: read(path))
        assert said is None or (str(path) in said and "\n" not in said)


@functools.cache
def table_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_table(path, random_images(20, 3, 6, 5), [row % 10 for row in range(20)], CIFAR10_NAMES)
        return path.read_bytes()


@functools.cache
def picture(form: str) -> bytes:
    stream = io.BytesIO()
    to_image(random_images(3, 16, 12)).save(stream, form)
    return stream.getvalue()


def read_archive(path: Path) -> None:
    for part in read_cifar_archive(path):
        InMemoryDataset(part.images, part.labels, class_names=part.class_names)


def read_table(path: Path) -> None:
    form = ImageForm("RGB", 6, 5)
    part = read_image_table(path, label_column="label", form=form, progress=False)
    InMemoryDataset(part.images, part.labels, class_names=part.class_names)


@functools.cache
def archive_bytes() -> bytes:
    return cifar_archive(hundred=False, per_class=1)


@pytest.mark.parametrize("packed_after", [False, True], ids=["plain or as it is", "packed again"])
@given(changes=mutations)
@QUICK
def test_broken_idx_files(packed_after: bool, changes: list[Mutation]) -> None:
    content = idx_bytes(random_images(6, 28, 28))
    survives(content, changes, functools.partial(read_idx, dims=3), packed=packed_after)
    if not packed_after:
        survives(gzip.compress(content), changes, functools.partial(read_idx, dims=3), packed=False)


@pytest.mark.parametrize("inside", [False, True], ids=["the gzip file", "the tar inside"])
@given(changes=mutations)
@QUICK
def test_broken_cifar_archives(inside: bool, changes: list[Mutation]) -> None:
    content = gzip.decompress(archive_bytes()) if inside else archive_bytes()
    survives(content, changes, read_archive, packed=inside)


@given(changes=mutations)
@QUICK
def test_broken_tables(changes: list[Mutation]) -> None:
    survives(table_bytes(), changes, read_table, packed=False)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
@given(changes=mutations)
@QUICK
def test_broken_images(form: str, changes: list[Mutation]) -> None:
    survives(picture(form), changes, ImageForm("RGB", 16, 12, fit=True).read, packed=False)
    survives(picture(form), changes, ImageForm("RGB", 16, 12).read, packed=False)


@given(changes=mutations, which=st.integers(0, 3))
@RARE
def test_a_broken_file_of_mnist_is_named_by_load_data(changes: list[Mutation], which: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTAR_DATA", folder)
        files = sorted(write_mnist(Path(folder) / "mnist", packed=False).iterdir())
        files[which].write_bytes(changed(files[which].read_bytes(), changes))
        said = refusal(lambda: load_data("mnist"))
        # A label that has become another leaves whole files, in which a class may be too small to split.
        assert said is None or "mnist" in said or "single example" in said


@given(changes=mutations, streaming=st.booleans())
@RARE
def test_a_broken_image_in_a_folder_is_named_by_load_data(changes: list[Mutation], streaming: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        broken = write_image_folder(Path(folder)) / "dog" / "3.png"
        broken.write_bytes(changed(broken.read_bytes(), changes))

        def use() -> None:
            splits = load_data(f"folder:{folder}", memory_budget_bytes=1 if streaming else 2**20, progress=False)
            for part in (splits.train, splits.validation, splits.test):
                part.gather(part.ids, 0)

        said = refusal(use)
        assert said is None or str(broken) in said


# --- views, splits and orders ---

ids_strategy = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=24, unique=True)
view_parts = [
    st.integers(1, 5).map("jitter:{}".format),
    st.integers(1, 5).map("crop:{}".format),
    st.just("flip"),
    st.tuples(st.integers(1, 180), st.floats(0, 0.9), st.floats(0, 1), st.integers(0, 9)).map(
        lambda numbers: "affine:" + ",".join(map(str, numbers))
    ),
]
view_names = st.permutations(view_parts).flatmap(
    lambda parts: st.integers(1, 4).flatmap(lambda n: st.tuples(*parts[:n]).map("+".join))
)


def views_of(name: str) -> Views:
    views = parse_views(name)
    assert views is not None
    return views


@given(name=view_names, ids=ids_strategy, seed=st.integers(0, 2**64), data=st.data())
@QUICK
def test_a_view_depends_on_seed_id_and_number_alone(
    name: str, ids: list[int], seed: int, data: st.DataObject
) -> None:
    views, number = views_of(name), len(ids)
    inputs, id_tensor = random_images(number, 2, 7, 9), torch.tensor(ids)
    numbers = torch.tensor(data.draw(st.lists(st.integers(0, 2**40), min_size=number, max_size=number)))
    whole = views.apply(inputs, id_tensor, numbers, seed)
    assert whole.shape == inputs.shape
    order = torch.tensor(data.draw(st.permutations(range(number))))
    assert torch.equal(views.apply(inputs[order], id_tensor[order], numbers[order], seed), whole[order])
    for row in range(number):
        one = slice(row, row + 1)
        assert torch.equal(views.apply(inputs[one], id_tensor[one], int(numbers[row]), seed), whole[one])
    unchanged = numbers == 0
    assert torch.equal(whole[unchanged].to(torch.uint8), inputs[unchanged])


@given(name=view_names)
@QUICK
def test_a_views_name_makes_it_again(name: str) -> None:
    views = views_of(name)
    again = views_of(views.name)
    assert again == views
    assert again.name == views.name
    assert isinstance(views, Chain) == ("+" in name)


@given(text=st.text(max_size=20) | st.from_regex(r"(jitter|crop|flip|affine)(:[-0-9.,einfa+]*)?", fullmatch=True))
@example("affine:1e400,0,0,0")
@example("jitter:1_0")
@QUICK
def test_any_text_is_views_or_a_usage_error(text: str) -> None:
    try:
        views = parse_views(text)
    except UsageError:
        return
    assert views is None or parse_views(views.name) == views


@given(
    ids=ids_strategy.filter(lambda ids: len(ids) >= 4),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(),
    data=st.data(),
)
@QUICK
def test_a_split_parts_the_ids_in_any_order(
    ids: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    labels = [index % 2 for index in range(len(ids))]
    rest, chosen = stratified_split(torch.tensor(ids), torch.tensor(labels), fraction=fraction, split_seed=seed)
    assert sorted(rest.tolist() + chosen.tolist()) == sorted(ids)
    label_of = dict(zip(ids, labels, strict=True))
    for part in (rest, chosen):
        assert {label_of[one] for one in part.tolist()} == {0, 1}
    order = data.draw(st.permutations(ids))
    again = stratified_split(
        torch.tensor(order), torch.tensor([label_of[one] for one in order]), fraction=fraction, split_seed=seed
    )
    assert set(again[1].tolist()) == set(chosen.tolist())


@given(ids=ids_strategy, seed=st.integers(), epoch=st.integers(0, 10**6), data=st.data())
@QUICK
def test_an_epochs_order_is_a_permutation_that_seeds_alone_decide(
    ids: list[int], seed: int, epoch: int, data: st.DataObject
) -> None:
    order = shuffled(torch.tensor(ids), seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == sorted(ids)
    again = shuffled(torch.tensor(data.draw(st.permutations(ids))), seed=seed, epoch=epoch)
    assert torch.equal(again, order)


@given(contents=st.lists(st.integers(0, 3), min_size=2, max_size=12), data=st.data())
@QUICK
def test_ids_go_with_content_and_label_whatever_the_order(contents: list[int], data: st.DataObject) -> None:
    """With copies among the examples, and copies that differ in label."""
    labels = data.draw(st.lists(st.integers(-1, 1), min_size=len(contents), max_size=len(contents)))

    def made(order: list[int]) -> tuple[list[tuple[int, int, int]], str]:
        inputs = torch.tensor([[contents[row]] * 3 for row in order], dtype=torch.uint8)
        targets = torch.tensor([labels[row] for row in order])
        found = InMemoryDataset(inputs, targets, class_names=["a", "b"])
        rows = zip(found.ids.tolist(), inputs[:, 0].tolist(), targets.tolist(), strict=True)
        return sorted(rows), found.fingerprint

    first, fingerprint = made(list(range(len(contents))))
    assert len({row[0] for row in first}) == len(contents)
    assert made(data.draw(st.permutations(range(len(contents))))) == (first, fingerprint)
