"""Files of running text: documents once, split by file, as sequences in which each token predicts the next."""

from pathlib import Path

import numpy as np
import pytest
import torch

from instar.data import TokenDataset, documents, load_data, parse_views, transfer_set
from instar.data.documents import read_corpus
from instar.data.kinds.tokens import fit_tokens, read, token_data
from instar.errors import DataError, UsageError
from instar.structures import predicts_next
from running_text import sequences, write_texts

pytest.importorskip("tokenizers")


def whole(data: TokenDataset) -> list[int]:
    """The tokens of a data set, one after another."""
    inputs = data.gather(data.ids, 0)
    ids: list[int] = inputs["input_ids"][inputs["attention_mask"].bool()].tolist()
    return ids


def test_each_token_of_each_document_is_predicted_once(tmp_path: Path) -> None:
    splits = sequences(tmp_path)
    data, tokenizer = splits.train, splits.preparation.tokenising.tokenizer  # type: ignore[union-attr]
    assert isinstance(data, TokenDataset)
    assert predicts_next(data.example_shape)
    corpus = read_corpus(splits.name)
    texts = [one.text for one in corpus.documents("train")]
    labels, of = data.labels(data.ids), data.documents(data.ids)
    for number, text in enumerate(texts):
        *found, end = labels[of == number].tolist()
        assert tokenizer.decode(found) == text
        assert end == 0
        assert data.num_bytes[number] == len(text.encode())
    assert int((labels >= 0).sum()) == data.num_positions == int((of >= 0).sum())
    assert labels[of < 0].unique().tolist() == [-1]
    assert tokenizer.decode(whole(data), skip_special_tokens=False) == "".join(
        f"<|endoftext|>{one}" for one in texts
    )


def test_labels_are_the_ids_that_follow(tmp_path: Path) -> None:
    data = sequences(tmp_path).validation
    inputs, labels = data.gather(data.ids, 0), data.labels(data.ids)
    assert torch.equal(inputs["input_ids"][:, 1:][labels[:, :-1] >= 0], labels[:, :-1][labels[:, :-1] >= 0])
    assert torch.equal(labels[:-1, -1], inputs["input_ids"][1:, 0])  # over the end of a sequence


def test_documents_are_there_once_and_in_one_part(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    (folder / "copy.txt").write_text((folder / "03.txt").read_text() + "\n\n")
    (folder / "empty.txt").write_text("  \n")
    (folder / "latin.txt").write_bytes("Käfer".encode("latin-1"))
    corpus = read_corpus(f"text:{folder}")
    keys = [key for part in corpus.parts.values() for key in part]
    assert len(keys) == len(set(keys)) == 12
    assert "1 documents are copies of others and are left out" in corpus.notes
    assert any("not UTF-8" in note and "latin.txt" in note for note in corpus.notes)
    again = read_corpus(f"text:{folder}/*.txt")
    assert again.parts == corpus.parts  # by content, whatever the names are
    assert read_corpus(f"text:{folder}", split_seed=1).parts["test"] == corpus.parts["test"]
    assert any(read_corpus(f"text:{folder}", split_seed=seed).parts != corpus.parts for seed in (1, 2, 3))


def test_documents_of_a_file_stay_together_unless_they_are_split(tmp_path: Path) -> None:
    for place in range(5):
        pieces = "".join(f"Piece {place} {number}.\n%%\n" for number in range(6))
        (tmp_path / f"{place}.txt").write_text(pieces)
    corpus = read_corpus(f"text:{tmp_path}", separator="%%")
    for part in corpus.parts:
        files = {one.file for one in corpus.documents(part)}
        assert len(list(corpus.documents(part))) == 6 * len(files)
    single = f"text:{tmp_path / '0.txt'}"
    by_document = read_corpus(single, separator="%%", by="document")
    assert {part: len(keys) for part, keys in by_document.parts.items()} == {
        "train": 4,
        "validation": 1,
        "test": 1,
    }
    with pytest.raises(
        DataError, match=r"1 files with a text of their own, expected at least 3.*--split-by document"
    ):
        read_corpus(single, separator="%%")


def test_files_that_are_named_as_parts_are_these(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / f"wiki.{part}.txt").write_text("%%".join(f"{part} {number}" for number in range(6)))
    corpus = read_corpus(f"text:{tmp_path}", separator="%%")
    assert {part: len(keys) for part, keys in corpus.parts.items()} == {"train": 6, "validation": 6, "test": 6}
    assert {one.text.partition(" ")[0] for one in corpus.documents("validation")} == {"valid"}
    assert "split as their files are named" in corpus.notes[-1]
    (tmp_path / "wiki.valid.txt").unlink()
    with pytest.raises(
        DataError, match="1 files with a text of their own, expected at least 2; --split-by document"
    ):
        read_corpus(f"text:{tmp_path}", separator="%%")
    cut = read_corpus(f"text:{tmp_path}", separator="%%", by="document")
    assert {part: len(keys) for part, keys in cut.parts.items()} == {"train": 5, "validation": 1, "test": 6}
    (tmp_path / "wiki.valid.txt").write_text("valid")
    (tmp_path / "wiki.train.txt").write_text("test 1")
    with pytest.raises(DataError, match="the train part has no document that is not in another one too"):
        read_corpus(f"text:{tmp_path}", separator="%%")


def test_docstrings_of_a_module_are_documents() -> None:
    corpus = read_corpus("text:docs-of:safetensors,docs-of:tokenizers")
    found = [one for part in corpus.parts for one in corpus.documents(part)]
    assert {one.file.partition("/")[0] for one in found} == {"safetensors", "tokenizers"}
    assert all("def " not in one.text.partition("\n")[0] for one in found)


def test_a_tokenizer_without_an_end_predicts_no_first_token(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    tokenizer = sequences(tmp_path).preparation.tokenising.tokenizer  # type: ignore[union-attr]
    bare = __import__("json").loads(tokenizer.to_str())
    bare["added_tokens"] = []
    bare["model"]["vocab"]["<none>"] = bare["model"]["vocab"].pop("<|endoftext|>")
    (tmp_path / "tokenizer.json").write_text(__import__("json").dumps(bare))
    data = load_data(f"text:{folder}", tokenizer=str(tmp_path / "tokenizer.json"), max_length=16).train
    assert isinstance(data, TokenDataset)
    labels, of = data.labels(data.ids), data.documents(data.ids)
    lengths = of[of >= 0].bincount()
    assert int((labels >= 0).sum()) == int(lengths.sum()) - len(lengths)
    flat, place = labels[of >= 0], of[of >= 0]
    assert flat[torch.cat((place[1:] != place[:-1], torch.tensor([True])))].unique().tolist() == [-1]


def test_the_tokenizer_sees_the_training_part_alone(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    corpus = read_corpus(f"text:{folder}")
    test = next(iter(corpus.documents("test")))
    Path(test.file).write_text("zyzzyva " * 50)
    changed = read_corpus(f"text:{folder}")
    same = changed.parts["train"] == corpus.parts["train"]
    tokens = fit_tokens(changed, tokenizer="400").class_names
    assert not same or not any("zyz" in token for token in tokens)
    assert fit_tokens(corpus, tokenizer="400").record() == fit_tokens(corpus, tokenizer="400").record()


def test_tokens_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = read_corpus(f"text:{write_texts(tmp_path / 'texts')}")
    preparation = fit_tokens(corpus, tokenizer="300", max_length=16)
    first = token_data(corpus, "train", preparation)
    kept = list((tmp_path / "cache").rglob("*.tokens"))
    assert len(kept) == 1
    assert np.fromfile(kept[0], np.int32)[:-1].tolist() == whole(first)
    kept[0].write_bytes((np.fromfile(kept[0], np.int32) * 0 + 7).astype(np.int32).tobytes())
    assert set(whole(token_data(corpus, "train", preparation))) == {7}  # it is read, and not made again


def test_what_a_run_keeps_of_texts_is_read_again(tmp_path: Path) -> None:
    preparation = sequences(tmp_path).preparation
    assert preparation is not None
    assert read(preparation.record()).record() == preparation.record()


def test_ids_are_of_the_content(tmp_path: Path) -> None:
    data = sequences(tmp_path).train
    part = data.subset(data.ids[[3, 1]])
    assert torch.equal(part.labels(part.ids[:1]), data.labels(data.ids[3:4]))
    assert torch.equal(part.gather(part.ids, 0)["input_ids"], data.gather(data.ids[[3, 1]], 0)["input_ids"])
    assert part.fingerprint != data.fingerprint
    assert int((data.without_labels(data.ids[:2]).labels(data.ids[:2]) >= 0).sum()) == 0
    assert len(transfer_set(data)) == len(data)


def test_bad_files_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_texts(tmp_path / "texts")
    with pytest.raises(UsageError, match=r"text:.*nowhere: no such file; expected a file, a folder or a pattern"):
        read_corpus(f"text:{tmp_path}/nowhere")
    with pytest.raises(UsageError, match="docs-of:no_such_module: there is no such package"):
        read_corpus("text:docs-of:no_such_module")
    with pytest.raises(UsageError, match="split_by is 'line', expected file or document"):
        read_corpus(f"text:{folder}", by="line")
    with pytest.raises(UsageError, match="separator is empty"):
        read_corpus(f"text:{folder}", separator="")
    with pytest.raises(UsageError, match="max_length is 1, expected at least 2"):
        load_data(f"text:{folder}", tokenizer="300", max_length=1)
    with pytest.raises(UsageError, match="a vocabulary of 256 ids: expected at least 257"):
        load_data(f"text:{folder}", tokenizer="256")
    with pytest.raises(UsageError, match="split_by and separator are for text:FILES"):
        load_data("digits", split_by="document")
    monkeypatch.setattr(documents, "LARGEST_BYTES", 100)
    with pytest.raises(DataError, match=r"00.txt has 0.0 GiB, and a file is read whole: split it"):
        read_corpus(f"text:{folder}")


def test_words_of_sequences_do_not_move(tmp_path: Path) -> None:
    data = sequences(tmp_path).train
    with pytest.raises(UsageError, match="sequences of tokens have none, since each token is a label too"):
        data.with_views(parse_views("drop:0.1"), view_seed=0)
