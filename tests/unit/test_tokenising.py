"""Tokenizers, the preparation of texts, and what is wrong with some."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from instar.data import load_data, numbered
from instar.data.kinds import read_preparation
from instar.data.kinds.text import TextPreparation, fit_text
from instar.data.records.roles import Roles
from instar.errors import DataError, DataWarning, UsageError
from instar.tokenising import read_tokenising, train_tokenising

TEXTS = [
    f"{verb} the {colour} {thing} {number}"
    for verb in ("Take", "show", "sell")
    for colour in ("red", "green", "dark-blue")
    for thing in ("tree", "seaside", "Straße", "road's end")
    for number in (3, 17)
]
ROLES, PAIR = Roles(text=("text",)), Roles(text=("text", "other"))


def table(texts: list[Any], other: list[Any] | None = None) -> pa.Table:
    return pa.table({"text": texts} | ({} if other is None else {"other": other}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as transformers saves it: a WordPiece, whose pairs are told apart."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("tokenizer")
    own = tokenizers.BertWordPieceTokenizer(lowercase=True)
    own.train_from_iterator(TEXTS, vocab_size=150, min_frequency=1, show_progress=False)
    names = {key: f"[{key[:3].upper()}]" for key in ("pad_token", "cls_token", "sep_token", "unk_token")}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=own._tokenizer, mask_token="[MASK]", model_max_length=24, **names
    ).save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"type_vocab_size": 2, "max_position_embeddings": 24}))
    return path


def test_training_gives_the_same_ids_in_any_order_and_process(tmp_path: Path) -> None:
    one, other = (train_tokenising(texts, size=300) for texts in (TEXTS, TEXTS[::-1]))
    code = f"from instar.tokenising import train_tokenising; print(train_tokenising({TEXTS!r}, size=300).name)"
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert one.name == other.name == there.stdout.strip()
    encoded = one.encode(["An unknown ☃ 東京"])
    assert one.tokenizer.decode(encoded.ids.tolist()) == " an unknown ☃ 東京"  # nothing is unknown to bytes


def test_ids_are_those_of_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = read_tokenising(folder, max_length=8)
    texts, others = TEXTS[:5], ["a red road", "the end", "sell", "the tree by the road's end", "17"]
    for given, expected in (
        (texts, theirs(texts, truncation=True, max_length=8)),
        (list(zip(texts, others, strict=True)), theirs(texts, others, truncation=True, max_length=8)),
    ):
        found = ours.encode(given)
        lengths = found.lengths.tolist()
        assert [ids.tolist() for ids in torch.from_numpy(found.ids).split(lengths)] == expected["input_ids"]
        theirs._tokenizer.enable_truncation(8)
        types = [one.type_ids for one in theirs._tokenizer.encode_batch(given)]
        assert [ids.tolist() for ids in torch.from_numpy(found.type_ids).split(lengths)] == types
    assert (ours.pad, ours.mask) == (theirs.pad_token_id, theirs.mask_token_id)
    assert read_tokenising(folder).max_length == 24
    with pytest.raises(UsageError, match=r"max_length is 25, and the network of tokenizer .* takes 24 ids"):
        read_tokenising(folder, max_length=25)


def test_a_preparation_is_read_back_on_another_machine(folder: Path) -> None:
    for tokenizer, roles in (("300", ROLES), (str(folder), PAIR)):
        rows = table(TEXTS, TEXTS[::-1])
        fitted = fit_text(rows, roles, tokenizer=tokenizer)
        again = read_preparation(json.loads(json.dumps(fitted.record(), sort_keys=True)))
        assert isinstance(again, TextPreparation)
        assert again.in_words() == fitted.in_words()
        one, other = (preparation.inputs(rows, roles) for preparation in (fitted, again))
        assert list(one) == (["input_ids", "token_type_ids"] if roles is PAIR else ["input_ids"])
        for name in one:
            assert torch.equal(one[name].values, other[name].values)
            assert one[name].form == other[name].form


def test_ids_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path))
    monkeypatch.setattr("instar.data.kinds.text._WORTH_KEEPING", 10)
    rows = table(TEXTS)
    first = fit_text(rows, ROLES, tokenizer="300")
    ids = first.inputs(rows, ROLES)["input_ids"]
    kept = sorted((tmp_path / "tokenised").iterdir())
    assert sorted(path.suffix for path in kept) == [".arrow", ".json"]
    monkeypatch.setattr("instar.data.kinds.text.train_tokenising", None)
    monkeypatch.setattr("instar.tokenising.Tokenising.encode", None)
    again = fit_text(rows, ROLES, tokenizer="300")
    assert again.tokenising.name == first.tokenising.name
    assert torch.equal(again.inputs(rows, ROLES)["input_ids"].values, ids.values)
    monkeypatch.undo()
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path))
    monkeypatch.setattr("instar.data.kinds.text._WORTH_KEEPING", 10)
    for path in kept:  # what is damaged is made again
        path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(fit_text(rows, ROLES, tokenizer="300").inputs(rows, ROLES)["input_ids"].values, ids.values)


def test_long_texts_are_cut_and_counted() -> None:
    rows = table(["a b c d e f g", "a b"])
    preparation = fit_text(rows, ROLES, tokenizer="300", max_length=5)
    with pytest.warns(DataWarning, match=r"1 of 2 texts are longer than 5 ids, and are cut there"):
        found = preparation.inputs(rows, ROLES)["input_ids"]
    assert found.lengths.tolist() == [5, 4]
    assert found.values[4] == found.values[-1]  # it still ends in [SEP]


@pytest.mark.parametrize(
    ("rows", "roles", "message"),
    [
        (table(["a", "  ", None]), ROLES, r"row 1: 'text' holds no text \(2 such rows of 3\)"),
        (table(["a", None, "b"]), ROLES, "row 1: 'text' holds no text"),
        (table([1, 2]), ROLES, "text column 'text' holds int64, expected texts"),
    ],
)
def test_what_is_no_text_is_refused(rows: pa.Table, roles: Roles, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_text(rows, roles)


def test_tokenizers_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    rows = table(TEXTS)
    with pytest.raises(UsageError, match=r"there is no tokenizer.json; AutoTokenizer"):
        fit_text(rows, ROLES, tokenizer=str(tmp_path))
    broken = tmp_path / "tokenizer.json"
    for content in ("{", "[]", '{"model": {"type": "Mystery"}}', (folder / "tokenizer.json").read_text()[:300]):
        broken.write_text(content)
        with pytest.raises(DataError, match=rf"tokenizer {tmp_path}"):
            fit_text(rows, ROLES, tokenizer=str(tmp_path))
    with pytest.raises(UsageError, match=r"a vocabulary of 20 ids: expected at least 261"):
        fit_text(rows, ROLES, tokenizer="20")
    with pytest.raises(UsageError, match=r"text: expected 1 column, found 2"):
        fit_text(rows, ROLES, tokenizer="300").inputs(table(TEXTS, TEXTS), PAIR)


def test_numbered_ids() -> None:
    assert numbered([[1, 2], [3]], 4).form == ("int64<4", "<=2")
    with pytest.raises(UsageError, match=r"ids go from 1 to 3, expected 0 to 2"):
        numbered([[1, 2], [3]], 3)


def test_texts_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    lines = [f'"{text}, please",{text.split()[0]}' for text in TEXTS]
    file.write_text("\n".join(["question,intent", *lines]))
    splits = load_data(f"csv:{file}", label="intent", text="question", tokenizer="300")
    assert splits.class_names == ("Take", "sell", "show")
    assert splits.train.vocabulary is not None
    assert splits.train.texts is not None
    text = splits.test.texts.take(splits.test.rows(splits.test.ids[:1]).tolist())[0].as_py()  # type: ignore[union-attr]
    ids = splits.test.gather(splits.test.ids[:1], 0)["input_ids"][0].tolist()
    tokenizer = splits.preparation.tokenising.tokenizer  # type: ignore[union-attr]
    assert tokenizer.decode(ids).strip() == text.lower()


def test_named_data_sets_of_texts() -> None:
    if not (Path(os.environ.get("INSTAR_DATA", "")) / "sst2").is_dir():
        pytest.skip("needs sst2 in INSTAR_DATA")
    splits = load_data("sst2")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6920, 872, 1821]
    assert splits.class_names == ("negative", "positive")
