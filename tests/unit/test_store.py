"""The soft-target store: what comes back, what is refused, what is found damaged."""

import hashlib
import json
import math
import multiprocessing
import random
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
import torch
from torch import Tensor, nn

from instar.data import InMemoryDataset, parse_views
from instar.distillation import SoftTargetStore, Teacher
from instar.distillation.store_format import (
    LOCK,
    MANIFEST,
    Manifest,
    ShardEntry,
    lock_store,
    map_shard,
    shard_bytes,
)
from instar.distillation.store_writing import store_settings, write_rows
from instar.errors import DataError, InstarError, RunError, TrainingError, UsageError
from instar.evaluation import predict_logits
from instar.guards import views_of
from instar.losses import ensemble_soft_targets, soft_targets
from instar.training import fit
from small_fits import blots, normalised_network, perceptron, same_bits, state_of

PLAIN = blots(60)
SHAKEN = PLAIN.with_views(parse_views("jitter:1"), view_seed=3)
TEACHERS = {"one": perceptron(1), "two": normalised_network(2).eval()}
ALL = PLAIN.ids


def write(path: Path, data: InMemoryDataset = SHAKEN, **options: Any) -> SoftTargetStore:
    views = {"views": 3} if data.views is not None else {}
    return SoftTargetStore.write(path, TEACHERS, data, **{**views, "rows_per_shard": 50, **options})


def exact(view: int) -> Tensor:
    data = SHAKEN.subset(ALL)
    return torch.stack([predict_logits(network.eval(), data, view=view) for network in TEACHERS.values()])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SoftTargetStore:
    """Three views, two members, four shards, float16."""
    return write(tmp_path_factory.mktemp("store") / "full")


@pytest.fixture(scope="module")
def precise(tmp_path_factory: pytest.TempPathFactory) -> SoftTargetStore:
    """The same in float32."""
    return write(tmp_path_factory.mktemp("store") / "precise", dtype="float32")


def test_logits_come_back(store: SoftTargetStore, precise: SoftTargetStore) -> None:
    assert (store.members, store.num_views, store.views, store.view_seed) == (("one", "two"), 3, "jitter:1", 3)
    assert torch.equal(store.ids, ALL.sort().values)
    for view in range(3):
        torch.testing.assert_close(precise.logits(ALL, view), exact(view), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(store.logits(ALL, view), exact(view), rtol=2**-11, atol=1e-5)
    assert torch.equal(store.logits(ALL, 5), store.logits(ALL, 2))
    views = torch.arange(len(ALL)) % 4
    each = torch.cat([store.logits(ALL[i : i + 1], int(view)) for i, view in enumerate(views)], dim=1)
    assert torch.equal(store.logits(ALL, views), each)
    assert store.logits(ALL[:0], 1).shape == (2, 0, 10)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_soft_targets_are_those_of_the_logits(precise: SoftTargetStore, mean: str) -> None:
    expected = ensemble_soft_targets(precise.logits(ALL, 1), 4.0, mean=mean)
    assert torch.equal(precise.soft_targets(ALL, 1, 4.0, mean=mean).probs, expected.probs)


@pytest.mark.parametrize("top_k", [1, 3, 10])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_top_k_keeps_the_mass_of_the_rest(tmp_path: Path, top_k: int, mean: str) -> None:
    """Against the equation: the top k as they are, the rest's mass in equal parts."""
    store = write(tmp_path / "store", dtype="float32", top_k=top_k, temperatures=(8, 2))
    assert store.temperatures == (2.0, 8.0)
    members = torch.softmax(exact(2).double() / 8, -1)
    largest = members.topk(top_k)
    parts = (1 - largest.values.sum(-1, keepdim=True)) / max(10 - top_k, 1)
    members = parts.expand(-1, -1, 10).scatter(-1, largest.indices, largest.values)
    expected = members.mean(0) if mean == "arithmetic" else torch.softmax(members.log().mean(0), -1)
    found = store.soft_targets(ALL, 2, 8.0, mean=mean).probs
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


def test_the_rest_may_weigh_nothing(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        teacher[1].weight.zero_()
        teacher[1].bias.copy_(torch.linspace(0, 3000, 10))
    store = SoftTargetStore.write(tmp_path / "s", {"sure": teacher}, PLAIN, top_k=1, temperatures=(1,))
    probs = store.soft_targets(ALL, 0, 1.0).probs
    torch.testing.assert_close(probs, torch.eye(10)[9].expand(60, 10), rtol=0, atol=1e-37)


def test_check_states_the_error_that_was_measured(store: SoftTargetStore, precise: SoftTargetStore) -> None:
    report = store.check(temperature=3.0)
    assert (report.rows, report.shards) == (180, 4)
    assert report.bytes == sum(file.stat().st_size for file in store.path.glob("*.arrow"))
    for error in report.errors[:-1]:
        distances = torch.stack(
            [
                (soft_targets(precise.logits(ALL, view), error.temperature).probs
                 - soft_targets(store.logits(ALL, view), error.temperature).probs).abs().sum(-1)
                for view in range(3)
            ]
        )  # fmt: skip
        assert error.max_l1 == pytest.approx(float(distances.max()), abs=2e-7)
        assert error.mean_l1 == pytest.approx(float(distances.mean()), abs=2e-8)
        assert error.max_l1 > 0
    bound = report.errors[-1]
    assert (bound.temperature, bound.mean_l1) == (3.0, None)
    assert report.errors[2].max_l1 < bound.max_l1 < 0.01  # measured at 4, so less than at 3
    assert [error.max_l1 for error in precise.check(temperature=3.0).errors] == [0.0] * 6


def test_a_bound_holds_where_it_was_not_measured(store: SoftTargetStore, precise: SoftTargetStore) -> None:
    for temperature in (0.3, 1.5, 50.0):
        bound = store.check(temperature=temperature).errors[-1].max_l1
        for view in range(3):
            ours, theirs = (soft_targets(each.logits(ALL, view), temperature).probs for each in (store, precise))
            assert float((ours - theirs).abs().sum(-1).max()) <= bound


@pytest.mark.parametrize("remembered_bytes", [2**30, 0])
def test_a_fit_on_the_store_is_a_fit_on_the_teacher(precise: SoftTargetStore, remembered_bytes: int) -> None:
    """Teacher and student see the same view, in epochs beyond the stored ones too."""
    data = SHAKEN.with_views(SHAKEN.views, view_seed=3, num_views=3)
    live = Teacher(list(TEACHERS.values()), data, temperature=4.0)
    for targets in (precise.targets(data, temperature=4.0, remembered_bytes=remembered_bytes), live):
        assert targets.views == views_of(data)
        network = perceptron(7)
        fit(network, data, epochs=5, targets=targets, batch_size=16, learning_rate=0.05)
        if targets is not live:
            stored = state_of(network)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(stored[name], value, rtol=1e-4, atol=1e-5)


def test_read_from_the_files_or_prepared_is_the_same(store: SoftTargetStore) -> None:
    some = SHAKEN.subset(ALL[7:40]).with_views(SHAKEN.views, view_seed=3, num_views=3)
    for temperature in (4.0, math.inf):
        prepared = store.targets(some, temperature=temperature)
        asked = store.targets(some, temperature=temperature, remembered_bytes=0)
        for view in (0, 2, 4):
            one, other = prepared(some.ids[:9], view), asked(some.ids[:9], view)
            values = "logits" if temperature == math.inf else "probs"
            assert torch.equal(getattr(one, values), getattr(other, values))
    with pytest.raises(UsageError, match="3 of 3 ids are not in the data of these soft targets"):
        prepared(ALL[:3], 0)


def test_other_tools_open_the_shards(store: SoftTargetStore) -> None:
    table = pa.feather.read_table(store.path / "shard-00001.arrow")
    assert table.column_names == ["id", "view", "one", "two"]
    assert table.schema.field("one").type == pa.list_(pa.float16(), 10)
    assert json.loads(table.schema.metadata[b"class_names"]) == list(PLAIN.class_names)
    row = table.to_pylist()[17]
    ids, view = torch.tensor([row["id"]]), row["view"]
    assert row["two"] == store.logits(ids, view)[1, 0].tolist()
    assert view == (50 + 17) // 60


def test_writing_again_keeps_what_is_whole_and_makes_anew_what_is_not(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    files = {file.name: file.read_bytes() for file in store.path.iterdir()}
    assert set(files) == {LOCK, MANIFEST, *(f"shard-{number:05d}.arrow" for number in range(4))}
    damaged, missing = store.path / "shard-00001.arrow", store.path / "shard-00002.arrow"
    damaged.write_bytes(files[damaged.name][:-1] + b"!")
    missing.unlink()
    (store.path / ".shard-00003.arrow.123.tmp").write_bytes(b"left over")
    untouched = (store.path / "shard-00000.arrow").stat().st_mtime_ns
    told: list[float] = []
    write(tmp_path / "store", progress=told.append)
    assert {file.name: file.read_bytes() for file in store.path.iterdir()} == files
    assert (store.path / "shard-00000.arrow").stat().st_mtime_ns == untouched
    assert told == [0.25, 0.5, 0.75, 1.0]


OTHER_SETTINGS: dict[str, Callable[[Path], object]] = {
    "views is 'jitter:1' there and 'none' here": lambda path: write(path, PLAIN),
    "view_seed is 3 there and 4 here": lambda path: write(path, PLAIN.with_views(SHAKEN.views, view_seed=4)),
    "num_views is 3 there and 2 here": lambda path: write(path, views=2),
    "data_fingerprint is": lambda path: write(path, SHAKEN.subset(ALL[:50])),
    "top_k is None there and 2 here": lambda path: write(path, top_k=2, temperatures=(1, 2, 4, 8, 20)),
    "dtype is 'float16' there and 'float32' here": lambda path: write(path, dtype="float32"),
    "rows_per_shard is 50 there and 60 here": lambda path: write(path, rows_per_shard=60),
    "teachers.two is": lambda path: SoftTargetStore.write(
        path, {"one": TEACHERS["one"], "two": perceptron(5)}, SHAKEN, views=3, rows_per_shard=50
    ),
    "class 0 is '0', in the data it is '1': the same in another order": lambda path: write(
        path, renamed("1023456789")
    ),
    "is 'x': use data of the same": lambda path: write(path, renamed("012345678x")),
}  # fmt: skip


def renamed(names: str) -> InMemoryDataset:
    """The same examples, whose classes have other names."""
    inputs, labels = PLAIN.gather(ALL, 0), PLAIN.labels(ALL)
    other = InMemoryDataset(inputs, labels, class_names=list(names), ids=ALL)
    return other.with_views(SHAKEN.views, view_seed=3)


@pytest.mark.parametrize("says", OTHER_SETTINGS)
def test_a_store_of_other_settings_is_refused_by_name(store: SoftTargetStore, says: str) -> None:
    before = {file.name: file.read_bytes() for file in store.path.iterdir()}
    with pytest.raises(UsageError) as caught:
        OTHER_SETTINGS[says](store.path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in store.path.iterdir()} == before


def test_a_student_of_other_data_is_refused_by_name(store: SoftTargetStore) -> None:
    repeated = {"view_seed": 3, "num_views": 3}
    views = SHAKEN.views
    other_content = InMemoryDataset(PLAIN.gather(ALL, 0) + 1, None, class_names=PLAIN.class_names, ids=ALL)
    for data, says in (
        (PLAIN, "holds views jitter:1 (view_seed 3), the data has none"),
        (PLAIN.with_views(views, view_seed=4), "the data has jitter:1 (view_seed 4)"),
        (SHAKEN, "has 3 views, the data shows a new one in each epoch: pass num_views=3 to data.with_views"),
        (PLAIN.with_views(views, view_seed=3, num_views=2), "has 3 views, the data shows 2"),
        (blots(70).with_views(views, **repeated), "70 of the 70 examples are not in it"),
        (renamed("1023456789").with_views(views, **repeated), "the same in another order"),
        (other_content.with_views(views, **repeated), "has other content in this data"),
    ):
        with pytest.raises(UsageError) as caught:
            store.targets(data, temperature=4.0)
        assert says in str(caught.value)
    with pytest.raises(UsageError, match="2 of 5 ids are not in "):
        store.logits(torch.cat((ALL[:3], torch.tensor([1, 2]))), 0)


def test_other_teachers_are_refused_by_name(store: SoftTargetStore) -> None:
    store.check_teachers(TEACHERS)
    with pytest.raises(UsageError, match="teacher 'two' has other weights"):
        store.check_teachers({**TEACHERS, "two": perceptron(4)})
    for others in ({"one": TEACHERS["one"]}, {**TEACHERS, "three": perceptron(3)}):
        with pytest.raises(UsageError, match="holds the teachers one, two, not one"):
            store.check_teachers(others)


def test_a_top_k_store_is_refused_at_temperatures_that_it_does_not_name(tmp_path: Path) -> None:
    store = write(tmp_path / "store", PLAIN, top_k=3, temperatures=(2, 8))
    for ask in (
        lambda: store.soft_targets(ALL, 0, 4.0),
        lambda: store.targets(PLAIN, temperature=4.0),
        lambda: store.targets(PLAIN, temperature=math.inf),
        lambda: store.check(temperature=4.0),
    ):
        with pytest.raises(UsageError, match="top 3 of 10 classes for the temperatures 2, 8, not for"):
            ask()
    with pytest.raises(UsageError, match="keeps the top 3 logits, not all"):
        store.logits(ALL, 0)
    with pytest.raises(UsageError, match="temperature is 0"):
        store.check(temperature=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top_k": 11, "temperatures": (2,)}, "top_k is 11, expected from 1 to the 10 classes"),
        ({"top_k": 0, "temperatures": (2,)}, "top_k is 0"),
        ({"top_k": 3}, "give one or more"),
        ({"temperatures": (0,)}, "finite numbers above 0"),
        ({"temperatures": (math.inf,)}, "finite numbers above 0"),
        ({"dtype": "int8"}, "dtype is 'int8', expected one of float16, float32"),
        ({"views": 0}, "views is 0"),
        ({"rows_per_shard": 0}, "rows_per_shard is 0"),
    ],
)
def test_arguments_out_of_range_leave_nothing(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        write(tmp_path / "store", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("teachers", "says"),
    [
        ({}, "no teacher"),
        ({"id": perceptron()}, "do not give distinct columns"),
        ({"small": perceptron(classes=9)}, r"'small' returns \(60, 9\) .*, expected logits \(60, 10\)"),
    ],
)
def test_wrong_teachers_leave_nothing(tmp_path: Path, teachers: dict[str, nn.Module], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SoftTargetStore.write(tmp_path / "store", teachers, PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_logits_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    for factor, kind, says in (
        (math.nan, TrainingError, "NaN or infinity in 60 of 60 rows"),
        (1e6, UsageError, "too large for float16"),
    ):
        teacher = perceptron()
        with torch.no_grad():
            teacher[-1].weight.mul_(factor)
        with pytest.raises(kind, match=says):
            SoftTargetStore.write(tmp_path / str(factor), {"teacher": teacher}, PLAIN)
    with pytest.raises(UsageError, match="views is 3, but the data has no views"):
        SoftTargetStore.write(tmp_path / "views", TEACHERS, PLAIN, views=3)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    moments = random.Random(5)
    files = sorted(file for file in store.path.iterdir() if file.name != LOCK)
    for trial in range(200):
        file = files[trial % len(files)]
        whole = bytearray(file.read_bytes())
        place, mask = moments.randrange(len(whole)), moments.randrange(1, 256)
        whole[place] ^= mask
        file.write_bytes(whole)
        with pytest.raises(InstarError) as caught:
            SoftTargetStore.open(store.path).check()
        assert file.name in str(caught.value) or "format version" in str(caught.value), (place, mask)
        assert "\n" not in str(caught.value)
        whole[place] ^= mask
        file.write_bytes(whole)
    SoftTargetStore.open(store.path).check()


def test_damage_is_found_when_a_shard_is_first_read(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    file = store.path / "shard-00003.arrow"  # the last rows of view 2
    whole = file.read_bytes()
    for content in (whole[:100], whole + b"!", b"", bytes([whole[0] ^ 1]) + whole[1:]):
        file.write_bytes(content)
        store = SoftTargetStore.open(store.path)
        store.logits(ALL, 1)
        with pytest.raises(DataError, match=r"shard-00003.arrow is damaged.*replace this shard"):
            store.logits(ALL, 2)
    file.unlink()
    with pytest.raises(DataError, match=r"shard-00003.arrow cannot be read: No such file"):
        SoftTargetStore.open(store.path).check()


def test_nan_in_a_shard_that_is_as_it_was_written_is_found(tmp_path: Path) -> None:
    store = write(tmp_path / "store", PLAIN, rows_per_shard=60)
    manifest = Manifest.read(store.path)
    name, entry = next(iter(manifest.shards.items()))
    columns = {key: values.copy() for key, values in map_shard(store.path / name, entry).items()}
    columns["two"][3, 4] = np.nan
    content = shard_bytes(columns, {})
    (store.path / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    manifest.shards[name] = ShardEntry(60, len(content), digest, entry.max_l1, entry.mean_l1)
    manifest.write()
    with pytest.raises(DataError, match="two holds NaN or infinity"):
        SoftTargetStore.open(store.path).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"rows_per_shard": 0},
        {"rows_per_shard": [50]},
        {"num_views": -1},
        {"num_examples": 10**30},
        {"num_examples": 59},
        {"class_names": []},
        {"class_names": 5},
        {"teachers": ["one", "two"]},
        {"top_k": 1000},
        {"temperatures": [1.0]},
    ],
)
def test_a_manifest_whose_checksum_is_right_and_whose_values_are_not_is_damaged(
    store: SoftTargetStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """A faulty writer signs what it writes."""
    path = sign(shutil.copytree(store.path, tmp_path / "signed"), changes)
    with pytest.raises(DataError, match=r"store\.json is damaged"):
        SoftTargetStore.open(path)


@pytest.mark.parametrize("changes", [{"top_k": 2}, {"class_names": ["a", "b", "c"]}])
def test_shards_of_another_form_than_the_manifest_says_are_refused(
    store: SoftTargetStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    signed = SoftTargetStore.open(sign(shutil.copytree(store.path, tmp_path / "signed"), changes))
    with pytest.raises(DataError, match=r"shard-00000\.arrow has other columns or rows than store\.json says"):
        signed.soft_targets(ALL[:1], 0, 4.0)


def sign(path: Path, changes: dict[str, Any]) -> Path:
    content = json.loads((path / MANIFEST).read_text())
    del content["sha256"]
    content["settings"] |= changes
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (path / MANIFEST).write_bytes(json.dumps(content, indent=1).encode() + b"\n")
    return path


def test_an_unfinished_a_newer_and_no_store_are_refused(store: SoftTargetStore, tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(store.path, tmp_path / "unfinished"))
    manifest = Manifest.read(unfinished)
    del manifest.shards["shard-00002.arrow"]
    manifest.write()
    with pytest.raises(RunError, match=r"not finished \(3 of 4 shards\).*to resume"):
        SoftTargetStore.open(unfinished)
    assert write(unfinished).check().rows == 180

    newer = Path(shutil.copytree(store.path, tmp_path / "newer"))
    text = (newer / MANIFEST).read_text()
    (newer / MANIFEST).write_text(text.replace('"format_version": 1', '"format_version": 3'))
    with pytest.raises(RunError, match="has format version 3, this instar reads up to 2: update instar"):
        SoftTargetStore.open(newer)

    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="is not a soft-target store"):
            SoftTargetStore.open(path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is neither empty nor a soft-target store"):
        write(tmp_path / "full")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["letter.txt"]
    with pytest.raises(RunError, match="cannot be written"):
        write(tmp_path / "full" / "letter.txt")


def _hold(path: Path, is_held: Any, may_end: Any) -> None:
    with lock_store(path):
        is_held.set()
        may_end.wait(30)


@pytest.mark.slow
def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    is_held, may_end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "store", is_held, may_end), daemon=True)
    other.start()
    assert is_held.wait(30)
    with pytest.raises(RunError, match="is being written by another process"):
        write(tmp_path / "store")
    may_end.set()
    other.join()
    assert write(tmp_path / "store").check().rows == 180


def test_views_begin_again_after_num_views() -> None:
    repeated = PLAIN.with_views(SHAKEN.views, view_seed=3, num_views=3)
    for view in range(7):
        assert torch.equal(repeated.gather(ALL, view), SHAKEN.gather(ALL, view % 3))
    views = torch.arange(60)
    assert torch.equal(repeated.gather(ALL, views), SHAKEN.gather(ALL, views % 3))
    assert views_of(SHAKEN) == (SHAKEN.views, 3)
    assert views_of(repeated) == (SHAKEN.views, 3, 3)
    assert views_of(PLAIN.with_views(None, view_seed=3, num_views=3)) is None
    with pytest.raises(UsageError, match="num_views is 0"):
        PLAIN.with_views(None, view_seed=0, num_views=0)
    network = perceptron()
    with pytest.raises(TrainingError, match=r"views jitter:1 \(view_seed 3\), .* \(view_seed 3, 3 of them\)"):
        fit(network, repeated, epochs=1, targets=Teacher(perceptron(1), SHAKEN, temperature=2.0))


def test_writing_leaves_the_teachers_as_they_were(tmp_path: Path) -> None:
    teacher = normalised_network(3).train()
    before = state_of(teacher)
    SoftTargetStore.write(tmp_path / "store", {"teacher": teacher}, PLAIN)
    assert teacher.training
    assert same_bits(teacher.state_dict(), before)


def test_of_a_shard_no_more_than_two_pieces_of_logits_are_in_memory(tmp_path: Path) -> None:
    living, most = list[weakref.ref[Tensor]](), 0

    def logits_of(rows: range) -> Iterator[Tensor]:
        nonlocal most
        for start in range(rows.start, rows.stop, 10):
            piece = torch.randn(1, 10, 50, generator=torch.Generator().manual_seed(start))
            living.append(weakref.ref(piece))
            most = max(most, sum(one() is not None for one in living))
            yield piece
            del piece

    data = InMemoryDataset(torch.randn(80, 2), None, class_names=[str(number) for number in range(50)])
    about: dict[str, Any] = {"views": 1, "top_k": 4, "dtype": "float32", "temperatures": [1], "split": None}
    settings = store_settings({"one": "its fingerprint"}, data, answers=None, rows_per_shard=None, **about)
    ids = data.ids.sort().values
    write_rows(tmp_path, settings, ids, logits_of)
    store = SoftTargetStore.open(tmp_path)
    assert most <= 2
    assert store.summary().shards == 1
    whole = torch.cat(list(logits_of(range(80))), dim=1)[0]
    found = store.soft_targets(ids, 0, 1.0).probs.topk(4).values
    torch.testing.assert_close(found, whole.softmax(-1).topk(4).values)


def test_a_shard_over_many_classes_has_fewer_rows() -> None:
    about: dict[str, Any] = {"views": 1, "dtype": "float16", "temperatures": [1], "split": None}
    for classes, top_k, rows in ((10, None, 65_536), (131_072, None, 512), (131_072, 48, 65_536)):
        data = InMemoryDataset(torch.randn(2, 2), None, class_names=[str(number) for number in range(classes)])
        settings = store_settings({"one": ""}, data, answers=None, rows_per_shard=None, top_k=top_k, **about)
        assert settings.rows_per_shard == rows
