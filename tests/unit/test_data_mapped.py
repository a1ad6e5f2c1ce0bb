"""Examples in mapped files: the same bits as in memory, whatever their structure; little of them is in memory."""

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from torch import nn

from instar.data import InMemoryDataset, batches, id_batches, like_length, shuffled
from instar.data.identity import IdIndex, content_ids
from instar.data.mapped import MappedDataset, _file_bytes_in_memory, is_whole, read_examples, write_examples
from instar.data.records.reading import read_records
from instar.data.records.roles import Roles
from instar.distillation import SoftTargetStore
from instar.errors import DataError, UsageError
from instar.runs import Run
from instar.structures import map_tensors, tensors_in
from instar.training import fit

NAMES = ["a", "b", "c"]


def examples(kind: str, number: int, *, seed: int = 0) -> Any:
    chance = torch.Generator().manual_seed(seed)
    numbers = torch.randn(number, 6, generator=chance)
    pixels = torch.randint(0, 256, (number, 1, 4, 4), generator=chance, dtype=torch.uint8)
    lengths = torch.randint(1, 9, (number,), generator=chance).tolist()
    words = [torch.randint(0, 50, (length,), generator=chance) for length in lengths]
    return {
        "numbers": numbers,
        "pixels": pixels,
        "words": {"input_ids": words},
        "words and numbers": ({"input_ids": words, "age": numbers}),
        "tuple": (words, pixels),
    }[kind]


def some(inputs: Any, first: int, last: int) -> Any:
    return map_tensors(lambda one: one[first:last], inputs)


def both(
    folder: Path, kind: str, number: int = 100, labels: torch.Tensor | None = None
) -> tuple[InMemoryDataset, MappedDataset]:
    inputs, labels = examples(kind, number), torch.arange(number) % 3 if labels is None else labels
    memory = InMemoryDataset(inputs, labels, class_names=NAMES)
    write_examples(folder, (some(inputs, first, first + 30) for first in range(0, number, 30)))
    return memory, MappedDataset(folder, some(inputs, 0, 1), labels, class_names=NAMES, ids=memory.ids)


@pytest.mark.parametrize("kind", ["numbers", "pixels", "words", "words and numbers", "tuple"])
def test_mapped_examples_have_the_bits_of_those_in_memory(tmp_path: Path, kind: str) -> None:
    memory, mapped = both(tmp_path / "kept", kind)
    assert mapped.example_shape == memory.example_shape
    assert mapped.fingerprint == memory.fingerprint
    assert mapped.identity == memory.identity
    order = id_batches(shuffled(memory.ids, seed=1, epoch=2), 16)
    for one, other in zip(batches(memory, order, view=0), batches(mapped, order, view=0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[::2], other[::2], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(tensors_in(one[1]), tensors_in(other[1]), strict=True))
    part, same = memory.subset(memory.ids[10:20]), mapped.subset(mapped.ids[10:20])
    assert part.fingerprint == same.fingerprint
    like = some(examples(kind, 2), 0, 1)
    again = InMemoryDataset(read_examples(tmp_path / "kept", like), None, class_names=NAMES, ids=memory.ids)
    assert again.identity["values"] == memory.identity["values"]
    if kind == "words":
        assert torch.equal(like_length(mapped, batch_size=8)(mapped.ids, seed=0, epoch=0),
                           like_length(memory, batch_size=8)(memory.ids, seed=0, epoch=0))  # fmt: skip


def test_what_was_read_is_let_go_again_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.data.mapped._RESIDENT_BYTES", 2**23)
    inputs = torch.randn(160_000, 50)  # 32 MB
    ids, labels = torch.arange(len(inputs)), torch.zeros(len(inputs), dtype=torch.int64)
    write_examples(tmp_path / "kept", torch.split(inputs, 20_000))
    data = MappedDataset(tmp_path / "kept", inputs[:1], labels, class_names=NAMES, ids=ids)
    before, most = _file_bytes_in_memory(), 0
    for batch in id_batches(shuffled(ids, seed=0, epoch=0), 8)[:500]:
        assert torch.equal(data.gather(batch, 0), inputs[batch])
        most = max(most, _file_bytes_in_memory() - before)
    assert 0 < most < 3 * 2**23


def test_rows_that_are_read_ahead_are_those_in_memory_and_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.data.mapped._RESIDENT_BYTES", 2**22)
    monkeypatch.setattr("instar.data.mapped._AHEAD_BYTES", 2**20)
    inputs = torch.randn(160_000, 16)  # 10 MB, of which 1 MB is read at a time: six times, and a rest
    ids, labels = torch.randperm(len(inputs)), torch.arange(len(inputs)) % 3
    write_examples(tmp_path / "kept", torch.split(inputs, 20_000))
    data = MappedDataset(tmp_path / "kept", inputs[:1], labels, class_names=NAMES, ids=ids)
    memory = InMemoryDataset(inputs, labels, class_names=NAMES, ids=ids)
    order, before, most = id_batches(shuffled(ids, seed=0, epoch=0)[:99_999], 48), _file_bytes_in_memory(), 0
    read_at_once: list[int] = []
    raw = MappedDataset.raw
    monkeypatch.setattr(
        MappedDataset, "raw", lambda self, rows: (read_at_once.append(len(rows)), raw(self, rows))[1]
    )
    for one, other in zip(batches(data, order, view=0), batches(memory, order, view=0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        most = max(most, _file_bytes_in_memory() - before)
    assert max(read_at_once) == 4096
    assert 0 < most < 3 * 2**22


def test_an_index_takes_at_most_32_bytes_an_example() -> None:
    ids = torch.randperm(10_000)
    data = InMemoryDataset(torch.zeros(10_000, 1), ids % 3, class_names=NAMES, ids=ids)
    for one in (data, data.subset(ids[:5_000])):
        held = [value for value in vars(one).values() if isinstance(value, torch.Tensor)]
        held += [value for value in vars(one._by_id.index).values() if isinstance(value, torch.Tensor)]
        held.append(one._by_id.rows)
        index = [value for value in held if value is not one._labels and value is not one._inputs]
        assert sum(value.nbytes for value in index) <= 32 * len(one)


def test_many_contents_get_their_ids_and_copies_theirs() -> None:
    labels = torch.tensor([2, 0, 1, 0, 0])
    contents = [b"one", b"two", b"one", b"one", b"three"]
    ids = content_ids(iter(contents), labels)
    assert len(set(ids.tolist())) == 5
    order = [3, 0, 4, 2, 1]
    assert torch.equal(content_ids([contents[row] for row in order], labels[order]), ids[order])
    assert ids[3] == content_ids([b"one"], labels[:1])[0]  # the first by its label


def test_many_ids_are_found_as_few_are() -> None:
    chance = torch.Generator().manual_seed(0)
    ids = torch.randperm(100_000, generator=chance) * 0x9E3779B97F4A7C1 % 2**62
    index, asked = IdIndex(ids, "the data", "take others"), ids[torch.randperm(len(ids), generator=chance)]
    assert torch.equal(index.ids[index.find(asked)], asked)
    assert torch.equal(index.find(asked)[:500], index.find(asked[:500]))
    assert bool(index.holds(asked).all())
    assert not bool(index.holds(asked + 1).any())
    with pytest.raises(UsageError, match="1 of 100000 ids are not in the data, the first 7"):
        index.find(torch.cat([asked[1:], torch.tensor([7])]))


def test_parts_that_differ_and_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="some examples are 3, those before 2"):
        write_examples(tmp_path / "kept", [torch.zeros(4, 2), torch.zeros(4, 3)])
    with pytest.raises(DataError, match="the data set is empty"):
        write_examples(tmp_path / "kept", [])
    assert list(tmp_path.iterdir()) == []
    write_examples(tmp_path / "kept", [torch.zeros(4, 2)])
    write_examples(tmp_path / "kept", [torch.zeros(4, 2)])  # another process was faster
    about: dict[str, Any] = {"class_names": NAMES, "ids": torch.arange(4)}
    with pytest.raises(DataError, match="4 examples and 3 labels"):
        MappedDataset(tmp_path / "kept", torch.zeros(1, 2), torch.zeros(3, dtype=torch.int64), **about)
    with (tmp_path / "kept" / "0.values").open("ab") as file:
        file.write(b"more")
    assert not is_whole(tmp_path / "kept")
    with pytest.raises(DataError, match="kept: not whole; remove it"):
        MappedDataset(tmp_path / "kept", torch.zeros(1, 2), torch.zeros(4, dtype=torch.int64), **about)


class Interrupting(nn.Module):
    """Gets a signal in the middle of a step."""

    def __init__(self, at_step: int = 0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer, self.steps_left = nn.Linear(6, 3), at_step

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps_left -= 1
            if self.steps_left == 0:
                os.kill(os.getpid(), signal.SIGINT)
        logits: torch.Tensor = self.layer(inputs)
        return logits


def test_a_fit_that_was_interrupted_in_an_epoch_of_mapped_examples_ends_as_one_in_memory(tmp_path: Path) -> None:
    teacher = nn.Linear(6, 3)
    memory, mapped = both(tmp_path / "kept", "numbers", labels=teacher(examples("numbers", 100)).argmax(1))
    store = SoftTargetStore.write(tmp_path / "store", {"teacher": teacher}, mapped)  # by id, beside the examples
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "hard_weight": 0.5, "learning_rate": 0.1}
    whole = fit(Interrupting(), memory, targets=store.targets(memory, temperature=2.0), **options)
    with Run(tmp_path / "run", recipe="fit", config={}) as run:
        targets = store.targets(mapped, temperature=2.0)
        with pytest.raises(KeyboardInterrupt):
            fit(Interrupting(at_step=10), mapped, targets=targets, run=run, **options)
        loaded = run.load_checkpoint()
        assert loaded is not None
        assert (loaded[1]["epoch"], loaded[1]["batch"]) == (1, 3)
        resumed = fit(Interrupting(), mapped, targets=targets, run=run, **options)
    assert torch.equal(resumed.network.layer.weight, whole.network.layer.weight)  # type: ignore[union-attr]
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_on_disk_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    chance = torch.Generator().manual_seed(0)
    columns = {name: torch.randn(500, generator=chance).double().numpy() for name in "ab"}
    table = pa.table({**columns, "word": [f"w{number % 7}" for number in range(500)], "y": ["no", "yes"] * 250})
    (tmp_path / "rows").mkdir()
    for number in range(2):
        half, file = table.slice(250 * number, 250), tmp_path / "rows" / f"{number}.{ending}"
        if ending == "csv":
            pa.csv.write_csv(half, file)
        else:
            words = half["word"].combine_chunks().dictionary_encode()  # other categories in other batches
            pa.parquet.write_table(half.set_column(2, "word", words), file, row_group_size=90)
    source, roles = f"{ending}:{tmp_path / 'rows'}", Roles(label="y", features=("a", "b", "word"))
    memory = read_records(source, roles)
    monkeypatch.setattr("instar.data.records.on_disk._LARGE_BYTES", 1)
    monkeypatch.setattr("instar.data.records.on_disk._ROWS_AT_ONCE", 64)
    disk = read_records(source, roles)
    for part in ("train", "validation", "test"):
        assert disk.parts[part].equals(memory.parts[part])
        assert (
            disk.parts[part].schema.metadata == memory.parts[part].schema.metadata
        )  # its rows are known by place
        assert torch.equal(disk.ids[part], memory.ids[part])
        assert torch.equal(disk.labels[part], memory.labels[part])
    assert list((tmp_path / "cache" / "rows").iterdir()) == []  # nothing to clean up
