"""The store for wide teachers: sparse targets, hidden states, sequences, and what the readings leave out."""

import hashlib
import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar import fused_head
from instar.data import InMemoryDataset
from instar.data.columns import Varying
from instar.data.vocabulary import Vocabulary
from instar.distillation import LabelsInTargets, SoftTargetStore
from instar.distillation.readings import STUDENTS, left_out
from instar.distillation.store_format import FULL, HEAD, LOCK, MANIFEST, SEQUENCES
from instar.distillation.store_rows import draw
from instar.errors import DataError, DataWarning, InstarError, RunError, UsageError
from instar.linear_loss import HeadTargets, linear_distillation_loss
from instar.losses import SoftTargets, distillation_loss
from instar.sparse_targets import SparseTargets
from instar.training import fit
from small_fits import perceptron, state_of

VOCABULARY, K, DRAWS = 200, 6, 5
TEMPERATURES = (1.0, 2.0)
SPARSE: dict[str, Any] = {"top_k": K, "draws": DRAWS, "temperatures": TEMPERATURES}


class Reader(nn.Module):
    """Logits of each position, from the mean of the embeddings up to it."""

    def __init__(self, *, seed: int = 0, width: int = 12, classes: int = VOCABULARY, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding, self.head = nn.Embedding(VOCABULARY, width), nn.Linear(width, classes)
            nn.init.normal_(self.head.weight, std=2.0)

    def hidden(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(1, input_ids.shape[1] + 1)[:, None]
        return self.embedding(input_ids).cumsum(1) / places

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(input_ids))
        return logits if self.scale == 1 else self.scale * logits


def sequences(number: int = 30, *, name: str = "tokenizer-a", first: str = "t") -> InMemoryDataset:
    """Ids of 1 to 9 tokens with their mask, without labels."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 10, (number,), generator=generator)
    ids = torch.randint(VOCABULARY, (int(lengths.sum()),), generator=generator)
    names = [f"{first}{token}" for token in range(VOCABULARY)]
    inputs = {"input_ids": Varying(ids, lengths, 0, Vocabulary(VOCABULARY, name))}
    return InMemoryDataset(inputs, None, class_names=names)


DATA, TEACHER = sequences(), Reader()


def write(
    path: Path, data: InMemoryDataset = DATA, teacher: nn.Module = TEACHER, **options: Any
) -> SoftTargetStore:
    return SoftTargetStore.write(path, {"teacher": teacher}, data, rows_per_shard=40, **options)


def exact(data: InMemoryDataset = DATA) -> tuple[Tensor, Tensor]:
    """All logits, (examples, length, classes) float64, and which positions exist."""
    inputs = data.gather(data.ids, 0)
    with torch.no_grad():
        return TEACHER(**inputs).double(), inputs["attention_mask"].bool()


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> SoftTargetStore:
    """Top k, rest and draws of each position, in several shards that cut sequences."""
    return write(tmp_path_factory.mktemp("stores") / "sparse", **SPARSE)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> SoftTargetStore:
    """Hidden states of each position, and the head."""
    return write(tmp_path_factory.mktemp("stores") / "hidden", hidden=True, temperatures=TEMPERATURES)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_what_is_read_back_is_the_equation_in_float64(sparse: SoftTargetStore, temperature: float) -> None:
    logits, is_there = exact()
    expected = torch.softmax(logits / temperature, -1)
    targets = sparse.soft_targets(DATA.ids, 0, temperature, reading="tail")
    assert isinstance(targets, SparseTargets)
    top = expected.topk(K)
    assert torch.equal(targets.classes[is_there], top.indices[is_there])
    # float16 keeps 11 bits of logits up to 16
    torch.testing.assert_close(targets.probs[is_there].double(), top.values[is_there], rtol=2e-2, atol=1e-6)
    rest = expected.scatter(-1, top.indices, 0.0).sum(-1)
    torch.testing.assert_close(targets.rest[is_there].double(), rest[is_there], rtol=1e-5, atol=1e-9)
    mass = targets.probs.double().sum(-1) + targets.rest.double()
    torch.testing.assert_close(mass, is_there.double(), rtol=0, atol=1e-6)
    assert torch.equal(sparse.lengths(DATA.ids), is_there.sum(1))


def test_draws_are_of_the_others_in_their_shares_and_only_at_their_temperature(tmp_path: Path) -> None:
    teacher = Reader(seed=5)
    many = write(tmp_path / "s", DATA.subset(DATA.ids[:2]), teacher, top_k=3, draws=20_000, temperatures=(1, 2))
    targets = many.soft_targets(DATA.ids[:1], 0, 1.0, reading="drawn")
    assert isinstance(targets, SparseTargets)
    assert targets.drawn is not None
    with torch.no_grad():
        logits = teacher(**DATA.gather(DATA.ids[:1], 0))[0, 0].double()
    others = logits.softmax(-1).scatter(-1, targets.classes[0, 0], 0.0)
    shares = others / others.sum()
    found = torch.bincount(targets.drawn[0, 0], minlength=VOCABULARY).double() / 20_000
    assert not found[targets.classes[0, 0]].any()
    assert float((found - shares).abs().max()) < 4 * float((shares * (1 - shares)).max() / 20_000) ** 0.5
    at_two = many.soft_targets(DATA.ids[:1], 0, 2.0, reading="tail")
    assert isinstance(at_two, SparseTargets)
    assert at_two.drawn is None


def test_draws_are_kept_and_read_where_nobody_says_otherwise(
    sparse: SoftTargetStore, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """`tail` taught a language model less than labels (docs/experiments.md): it is no silent default."""
    store = write(tmp_path / "s", top_k=K, temperatures=(1, 2))
    assert (store.settings.num_draws, store.settings.draws_at) == (16, 1.0)
    targets = sparse.soft_targets(DATA.ids, 0, 1.0)
    assert isinstance(targets, SparseTargets)
    assert targets.reading == "drawn"
    assert store.targets(DATA, temperature=1.0).reading == "drawn"
    assert not recwarn.list
    with pytest.warns(
        DataWarning, match=r"no draws at temperature 2: the classes outside the top 6, 0\.\d+ of the"
    ):
        assert store.targets(DATA, temperature=2.0).reading == "tail"
    without = write(tmp_path / "none", top_k=K, draws=0, temperatures=(1,))
    with pytest.warns(DataWarning, match="has no draws at temperature 1"):
        assert without.targets(DATA, temperature=1.0).reading == "tail"
    most = write(tmp_path / "most", top_k=VOCABULARY - 1, draws=0, temperatures=(1,))
    assert most.targets(DATA, temperature=1.0).reading == "tail"  # the others have no mass to speak of
    everything = write(tmp_path / "all", top_k=VOCABULARY, temperatures=(1,))
    assert everything.settings.num_draws == 0


def test_a_constant_in_the_logits_costs_no_digits_and_large_ones_are_kept(tmp_path: Path) -> None:
    teacher = Reader(seed=5)
    with torch.no_grad():
        teacher.head.bias += 1e4
        teacher.head.bias[3] = -1e5
    store = write(tmp_path / "s", teacher=teacher, **SPARSE)
    with torch.no_grad():
        logits = teacher(**DATA.gather(DATA.ids, 0)).double()
    targets = store.soft_targets(DATA.ids, 0, 1.0)
    assert isinstance(targets, SparseTargets)
    is_there = exact()[1]
    expected = torch.softmax(logits, -1).topk(K).values[is_there]
    torch.testing.assert_close(targets.probs[is_there].double(), expected, rtol=1e-2, atol=1e-4)
    assert store.summary().errors[0].max_l1 < 2e-3


def test_a_draw_never_falls_on_a_class_without_weight() -> None:
    weights = torch.zeros(2000, 7)
    weights[:, 2], weights[:, 5] = 1e-30, 1.0
    found = draw(weights, 50, torch.Generator().manual_seed(0))
    assert found.unique().tolist() == [5]
    assert draw(torch.zeros(1, 7), 3, torch.Generator()).max() < 7


def test_hidden_states_with_the_head_give_the_teachers_probabilities_at_any_temperature(
    hidden: SoftTargetStore,
) -> None:
    logits, is_there = exact()
    for temperature in (1.0, 3.0):
        targets = hidden.soft_targets(DATA.ids, 0, temperature)
        assert isinstance(targets, HeadTargets)
        found = torch.softmax((targets.hidden @ targets.weight.T + targets.bias) / temperature, -1)
        expected = torch.softmax(logits / temperature, -1)
        torch.testing.assert_close(found[is_there].double(), expected[is_there], rtol=2e-2, atol=1e-6)
        assert not targets.hidden[~is_there].any()


def test_the_error_of_hidden_states_has_a_bound_at_any_temperature(hidden: SoftTargetStore) -> None:
    logits, is_there = exact()
    for temperature in (0.5, 7.0):
        *_, bound = hidden.check(temperature=temperature).errors
        targets = hidden.soft_targets(DATA.ids, 0, temperature)
        assert isinstance(targets, HeadTargets)
        found = torch.softmax(
            (targets.hidden.double() @ targets.weight.T.double() + targets.bias) / temperature, -1
        )
        error = (found - torch.softmax(logits.double() / temperature, -1)).abs().sum(-1)[is_there].max()
        assert (bound.temperature, bound.mean_l1) == (temperature, None)
        assert 0 < float(error) <= bound.max_l1 < 2


def test_all_logits_of_positions_are_kept_too(tmp_path: Path) -> None:
    store = write(tmp_path / "s", dtype="float32")
    targets = store.soft_targets(DATA.ids[4:9], 0, 2.0)
    logits, is_there = exact()
    assert isinstance(targets, SoftTargets)
    longest = int(is_there[4:9].sum(1).max())
    expected = torch.softmax(logits / 2, -1).masked_fill(~is_there[..., None], 0.0)[4:9, :longest]
    torch.testing.assert_close(targets.probs.double(), expected, rtol=1e-5, atol=1e-8)
    with pytest.raises(UsageError, match="keeps logits of positions: use its soft_targets"):
        store.logits(DATA.ids, 0)


@pytest.mark.parametrize("kind", ["sparse", "hidden"])
def test_the_loss_on_what_is_read_is_that_of_the_equation(kind: str, request: pytest.FixtureRequest) -> None:
    """With the mask, through the logits and through the head, against float64 written out."""
    store: SoftTargetStore = request.getfixturevalue(kind)
    student, temperature = Reader(seed=9).double(), 2.0
    inputs, where = DATA.gather(DATA.ids, 0), exact()[1]
    targets = store.soft_targets(DATA.ids, 0, temperature, reading="tail" if kind == "sparse" else None)
    log_q = torch.log_softmax(student(**inputs) / temperature, -1)
    p = torch.softmax(exact()[0] / temperature, -1)
    if kind == "sparse":
        top = p.topk(K)
        others = log_q.exp().scatter(-1, top.indices, 0.0).sum(-1).log()
        rows = -(top.values * log_q.gather(-1, top.indices)).sum(-1) - (1 - top.values.sum(-1)) * others
    else:
        rows = -(p * log_q).sum(-1)
    expected = temperature**2 * rows[where].mean()
    expected.backward()
    gradient = student.head.weight.grad
    for through_head in (False, True):
        student.head.weight.grad = None
        if through_head:
            head = student.head
            states = student.hidden(inputs["input_ids"])
            loss = linear_distillation_loss(states, head.weight, targets, bias=head.bias, where=where)
        else:
            loss = distillation_loss(student(**inputs), targets, where=where)
        loss.total.backward()
        torch.testing.assert_close(loss.total, expected, rtol=1e-3, atol=0)
        assert float((student.head.weight.grad - gradient).norm() / gradient.norm()) < 5e-3


def test_padded_positions_of_sparse_targets_have_no_loss_and_no_gradient(sparse: SoftTargetStore) -> None:
    is_there = exact()[1]
    logits = torch.randn(*is_there.shape, VOCABULARY, requires_grad=True)
    for reading in ("tail", "drawn", "even"):
        targets = sparse.soft_targets(DATA.ids, 0, 1.0, reading=reading)
        gradient = torch.autograd.grad(distillation_loss(logits, targets).total, logits)[0]
        assert not gradient[~is_there].any()
        assert gradient[is_there].any(-1).all()


def test_a_store_of_few_bytes_a_token(tmp_path: Path) -> None:
    """At the widths that are recommended: 48 classes and 16 draws are 356 bytes, and id and view are none."""
    data = InMemoryDataset(
        {"input_ids": torch.randint(VOCABULARY, (64, 32))}, None, class_names=DATA.class_names
    )  # without a mask: all positions
    teacher = _WithoutMask()
    store = SoftTargetStore.write(
        tmp_path / "s", {"t": teacher}, data, top_k=48, draws=16, temperatures=(1,), full_rows=0
    )
    assert store.settings.num_positions == 64 * 32
    size = sum(file.stat().st_size for file in store.path.glob("shard-*.arrow"))
    assert 356 <= size / (64 * 32) < 358


class _WithoutMask(Reader):
    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids, input_ids)


def test_written_again_it_has_the_same_bytes_whatever_was_lost(tmp_path: Path) -> None:
    for name, options in (("sparse", SPARSE), ("hidden", {"hidden": True})):
        store = write(tmp_path / name, **options)
        files = {file.name: file.read_bytes() for file in store.path.iterdir()}
        for lost in files.keys() - {MANIFEST, LOCK}:
            (store.path / lost).write_bytes(files[lost][:-3])
            write(tmp_path / name, **options)
            assert {file.name: file.read_bytes() for file in store.path.iterdir()} == files, lost


@pytest.mark.parametrize("name", [SEQUENCES, FULL, HEAD, "shard-00001.arrow"])
def test_a_truncated_a_changed_and_a_lost_file_are_found(
    name: str, sparse: SoftTargetStore, hidden: SoftTargetStore, tmp_path: Path
) -> None:
    store = hidden if name == HEAD else sparse
    path = Path(shutil.copytree(store.path, tmp_path / "copy")) / name
    whole = path.read_bytes()
    for content in (whole[:50], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} is damaged") as caught:
            SoftTargetStore.open(path.parent).check()
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read: No such file"):
        SoftTargetStore.open(path.parent).check()


@pytest.mark.parametrize("kind", ["sparse", "hidden"])
def test_every_flipped_byte_is_found(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole: SoftTargetStore = request.getfixturevalue(kind)
    path = Path(shutil.copytree(whole.path, tmp_path / "copy"))
    files = sorted(file for file in path.iterdir() if file.name != LOCK)
    moments = random.Random(6)
    for trial in range(100):
        file = files[trial % len(files)]
        content = bytearray(file.read_bytes())
        place, mask = moments.randrange(len(content)), moments.randrange(1, 256)
        content[place] ^= mask
        file.write_bytes(content)
        with pytest.raises(InstarError) as caught:
            SoftTargetStore.open(path).check()
        assert file.name in str(caught.value) or "format version" in str(caught.value), (file, place, mask)
        content[place] ^= mask
        file.write_bytes(content)
    SoftTargetStore.open(path).check()


def test_an_unfinished_store_is_refused(sparse: SoftTargetStore, tmp_path: Path) -> None:
    path = Path(shutil.copytree(sparse.path, tmp_path / "copy"))
    content = json.loads((path / MANIFEST).read_text())
    del content["files"][FULL], content["sha256"]
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (path / MANIFEST).write_bytes(json.dumps(content, indent=1).encode() + b"\n")
    with pytest.raises(RunError, match="is not finished"):
        SoftTargetStore.open(path)


def test_stores_without_anything_new_are_written_as_before_and_read_as_before(tmp_path: Path) -> None:
    """What an older instar reads: version 1, its settings and no others; targets over all classes."""
    data = InMemoryDataset(torch.randn(50, 1, 8, 8), None, class_names=[str(number) for number in range(10)])
    store = SoftTargetStore.write(tmp_path / "s", {"t": perceptron()}, data, top_k=3, temperatures=(2,))
    about = json.loads((store.path / MANIFEST).read_text())
    assert about["format_version"] == 1
    assert about.keys() == {"format_version", "settings", "shards", "sha256"}
    assert list(about["settings"]) == [
        *("class_names", "data_fingerprint", "content", "views", "view_seed", "num_views", "teachers", "top_k"),
        *("dtype", "temperatures", "rows_per_shard", "num_examples", "answers"),
    ]
    assert isinstance(store.soft_targets(data.ids, 0, 2.0), SoftTargets)
    read = store.soft_targets(data.ids, 0, 2.0, reading="tail")  # it says enough for that
    assert isinstance(read, SparseTargets)
    dense = store.soft_targets(data.ids, 0, 2.0)
    even = store.soft_targets(data.ids, 0, 2.0, reading="even")
    logits = torch.randn(50, 10)
    torch.testing.assert_close(distillation_loss(logits, even).total, distillation_loss(logits, dense).total)


REFUSED: dict[str, Callable[[SoftTargetStore, SoftTargetStore, Path], object]] = {
    "reading is 'tial', expected one of tail, drawn, even": lambda sparse, hidden, path: sparse.soft_targets(
        DATA.ids, 0, 1.0, reading="tial"
    ),
    "has draws made at temperature 1, which say nothing at 2: read it as 'tail'": lambda sparse, hidden, path: (
        sparse.targets(DATA, temperature=2.0, reading="drawn")
    ),
    "has no draws: read it as 'tail', or write a store with draws": lambda sparse, hidden, path: write(
        path / "none", top_k=K, draws=0, temperatures=(1,)
    ).soft_targets(DATA.ids, 0, 1.0, reading="drawn"),
    "for the temperatures 1, 2, not for 4": lambda sparse, hidden, path: sparse.soft_targets(DATA.ids, 0, 4.0),
    "for the temperatures 1, 2, not for inf": lambda sparse, hidden, path: sparse.targets(
        DATA, temperature=math.inf
    ),
    "keeps hidden states, which are read at a finite temperature": lambda sparse, hidden, path: (
        hidden.soft_targets(DATA.ids, 0, math.inf)
    ),
    "has what all classes need; a reading, 'tail', is for a top-k store": lambda sparse, hidden, path: (
        hidden.soft_targets(DATA.ids, 0, 1.0, reading="tail")
    ),
    "was written for the tokens tokenizer-a, the data has tokenizer-b: use the same tokenizer": (
        lambda sparse, hidden, path: sparse.targets(sequences(name="tokenizer-b"), temperature=1.0)
    ),
    "class 0 is 't0', in the data it is 'u0': use data of the same classes": lambda sparse, hidden, path: (
        sparse.targets(sequences(first="u"), temperature=1.0)
    ),
    "1 of 1 ids are not in": lambda sparse, hidden, path: sparse.soft_targets(torch.tensor([17]), 0, 1.0),
    "is no top-k store of one teacher": lambda sparse, hidden, path: hidden.left_out(),
    "keeps no rows in full: give the teacher and the data": lambda sparse, hidden, path: write(
        path / "few", top_k=K, temperatures=(1,), full_rows=0
    ).left_out(),
    "labels cannot be mixed into SparseTargets": lambda sparse, hidden, path: LabelsInTargets(
        wide_store(path).targets(WIDE, temperature=1.0), WIDE, 0.5
    )(WIDE.ids, 0),
    "the soft targets are SparseTargets, which only the loss 'kd' takes": lambda sparse, hidden, path: fit(
        perceptron(), WIDE, epochs=1, targets=wide_store(path).targets(WIDE, temperature=1.0), soft_loss="dist"
    ),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(
    says: str, sparse: SoftTargetStore, hidden: SoftTargetStore, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        REFUSED[says](sparse, hidden, tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top_k": VOCABULARY + 1, "temperatures": (1,)}, "top_k is 201, expected from 1 to the 200 classes"),
        ({"top_k": VOCABULARY, "draws": 2, "temperatures": (1,)}, "all classes: there are no others to draw from"),
        ({"draws": 3}, "draws are of the classes outside the top k: give top_k too"),
        ({**SPARSE, "draws": -1}, "draws is -1, expected 0 or more"),
        ({**SPARSE, "draws_at": 4.0}, "draws_at is 4.0, expected one of the temperatures 1, 2"),
        ({"top_k": 3, "temperatures": (1,), "draws": 0, "draws_at": 1.0}, "there are no draws: give draws too"),
        ({"full_rows": 4}, "full_rows are for a store that is read sparse"),
        ({**SPARSE, "full_rows": -2}, "full_rows is -2, expected 0 or more"),
        ({**SPARSE, "full_rows": 10**9}, "full_rows is 1000000000, the store has 140 rows: expected no more"),
        ({"hidden": True, "top_k": 3, "temperatures": (1,)}, "kept in place of logits: leave top_k out"),
        (
            {"hidden": True, "teacher": Reader(scale=2.0)},
            "its logits are not the output of a linear layer",
        ),
        ({**SPARSE, "teacher": Reader(classes=150)}, "expected logits"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        write(tmp_path / "store", **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_several_teachers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 teachers: draws, hidden states and sequences are of one"):
        SoftTargetStore.write(tmp_path / "s", {"a": Reader(), "b": Reader(seed=1)}, DATA, **SPARSE)


def test_a_teacher_without_a_linear_head_is_stored_all_the_same(sparse: SoftTargetStore, tmp_path: Path) -> None:
    """Its logits are laid out, a few sequences at a time."""
    other = write(tmp_path / "s", teacher=Reader(scale=1.0001), **SPARSE)
    for ids in (DATA.ids, DATA.ids[3:5]):
        one, same = (store.soft_targets(ids, 0, 1.0) for store in (sparse, other))
        assert isinstance(one, SparseTargets)
        assert isinstance(same, SparseTargets)
        torch.testing.assert_close(one.probs, same.probs, rtol=0, atol=1e-2)


WIDE = InMemoryDataset(
    torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
    None,
    class_names=[str(number) for number in range(10)],
)


def wide_store(path: Path, **options: Any) -> SoftTargetStore:
    """Of examples, not of sequences."""
    options = options or {"top_k": 3, "draws": 4, "temperatures": (1,)}
    return SoftTargetStore.write(path / "wide", {"t": perceptron(3)}, WIDE, **options)


@pytest.mark.parametrize("is_fused", [False, True], ids=["plain", "head fused"])
@pytest.mark.parametrize("reading", ["tail", "drawn", "even", None])
def test_a_fit_on_the_store_is_the_flat_loop_on_the_store(
    reading: str | None, is_fused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With unlabelled examples, through the files at each step; None is the store of hidden states."""
    monkeypatch.setattr(fused_head, "PAYS", 0 if is_fused else 2**60)
    store = wide_store(tmp_path, **({"hidden": True} if reading is None else {}))
    targets = store.targets(WIDE, temperature=1.0, reading=reading)
    assert targets.reading == reading
    network, loop = perceptron(7), perceptron(7)
    order = torch.arange(96)
    options: dict[str, Any] = {"sampler": _in_order, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.0}
    fit(network, WIDE, epochs=2, targets=targets, schedule="constant", **options)
    for _ in range(2):
        for part in order.split(32):
            ids = WIDE.ids[part]
            loss = distillation_loss(loop(WIDE.gather(ids, 0)), store.soft_targets(ids, 0, 1.0, reading=reading))
            loop.zero_grad()
            loss.total.backward()
            with torch.no_grad():
                for value in loop.parameters():
                    value -= 0.1 * value.grad
    for name, value in state_of(network).items():
        torch.testing.assert_close(value, loop.state_dict()[name], rtol=1e-5, atol=1e-6)


def _in_order(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
    return ids


def test_what_readings_leave_out_is_that_of_the_dense_equations() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(5, 60, dtype=torch.float64, generator=generator)
    p = torch.softmax(logits / 2, -1)
    for reading in ("tail", "even", "drawn"):
        targets = SparseTargets.of_logits(logits, 2.0, top_k=4, num_draws=7, reading=reading, generator=generator)
        found = left_out(logits, targets)
        assert [one.student for one in found] == list(STUDENTS)
        assert {(one.reading, one.temperature, one.rows) for one in found} == {(reading, 2.0, 5)}
        own = torch.Generator().manual_seed(0)
        noise = torch.cat([torch.randn(1, 60, dtype=torch.float64, generator=own) for _ in range(5)])
        for one, (share, spread) in zip(found, STUDENTS.values(), strict=True):
            student = (share * logits + spread * noise).requires_grad_()
            log_q = torch.log_softmax(student / 2, -1)
            whole = torch.autograd.grad(-(p * log_q).sum(), student, retain_graph=True)[0]
            told = torch.autograd.grad(targets.cross_entropies(log_q).sum(), student)[0]
            off = float(((told - whole).square().sum() / whole.square().sum()).sqrt())
            if reading == "drawn":  # unbiased: all of it is noise
                assert one.noise == pytest.approx(off, rel=1e-6)
                assert one.bias < 1e-6
            else:
                assert one.bias == pytest.approx(off, rel=1e-6)
                assert one.noise == 0
        each = (targets.rest / 56)[:, None].expand(p.shape).scatter(-1, targets.classes, targets.probs)
        floor = float((p * (p / each).log()).sum(-1).mean()) if reading == "even" else 0.0
        assert found[0].floor_nats == pytest.approx(floor, abs=1e-7)


def test_readings_are_measured_on_kept_rows_and_with_the_teacher_asked_again(sparse: SoftTargetStore) -> None:
    kept = sparse.left_out()
    expected = [(1.0, "tail"), (1.0, "drawn"), (1.0, "even"), (2.0, "tail"), (2.0, "even")]
    assert [(one.temperature, one.reading) for one in kept[::2]] == expected
    asked = sparse.left_out(teachers={"teacher": TEACHER}, data=DATA)
    for one, same in zip(kept, asked, strict=True):  # in the same rows
        numbers = [(each.bias, each.noise, each.floor_nats) for each in (one, same)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-6)
    with pytest.raises(UsageError, match="teacher 'teacher' has other weights"):
        sparse.left_out(teachers={"teacher": Reader(seed=4)}, data=DATA)


@pytest.mark.slow
def test_a_shard_is_never_laid_out_over_all_classes(tmp_path: Path) -> None:
    """Memory of a process that writes 1,024 positions of 131,072 classes: they would be 512 MiB."""
    script = """
import ctypes, sys, torch
from pathlib import Path
from torch import nn
from instar.data import InMemoryDataset
from instar.distillation import SoftTargetStore
torch.set_num_threads(1)

class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(131_072, 8), nn.Linear(8, 131_072)

    def forward(self, ids):
        return self.head(self.embedding(ids))

def status(key):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(key))) * 1024

def write(name, rows):
    ids = torch.randint(131_072, (rows // 64, 64))
    data = InMemoryDataset(ids, None, class_names=[str(number) for number in range(131_072)])
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    start = status("VmRSS")
    SoftTargetStore.write(
        Path(sys.argv[1]) / name, {"t": Teacher()}, data, top_k=48, draws=16, temperatures=(1,), full_rows=2
    )
    return status("VmHWM") - start

write("first", 64)
print(write("second", 1024) / 2**20)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 150
