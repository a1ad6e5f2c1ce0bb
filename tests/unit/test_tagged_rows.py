"""Lists of words with their tags, from files: pieces of words, parts, what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from instar import build_network, load_data
from instar.data import TaggedSequences
from instar.data.records.conll_file import read_conll
from instar.data.records.tags import numbers_of_tags
from instar.errors import DataError, DataWarning, UsageError
from instar.evaluation import evaluate
from tagged_words import Sentence, sentences, word_classifier_folder, write_conll, write_jsonl

pytest.importorskip("tokenizers")


def test_the_first_piece_of_a_word_has_its_class(tmp_path: Path) -> None:
    rows = sentences()
    splits = load_data(f"jsonl:{write_jsonl(tmp_path / 's.jsonl', rows)}", tokenizer="290")
    data = splits.train
    assert isinstance(data, TaggedSequences)
    assert splits.class_names == ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
    tokenizer = splits.preparation.tokenising.tokenizer  # type: ignore[union-attr]
    known = {" ".join(words): tags for words, tags in rows}
    several = 0
    for row in data.ids[:20].split(1):
        ids, labels = data.gather(row, 0)["input_ids"][0], data.labels(row)[0]
        words = tokenizer.decode(ids.tolist()).split()
        begun = [number for number in labels.tolist() if number >= 0]
        assert [splits.class_names[number] for number in begun] == known[" ".join(words)]
        several += len(ids) - 2 - len(words)
        assert data.documents(row).tolist() == [[int(data.rows(row))] * len(ids)]
        first = 1  # behind the beginning of the sentence
        for place in range(1, len(ids) - 1):
            goes_on = not tokenizer.decode([int(ids[place])]).startswith(" ")
            assert (labels[place] < 0) == goes_on
            first += not goes_on
    assert several > 20  # 290 ids cut words into pieces


def test_all_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    rows = sentences()
    jsonl, conll = write_jsonl(tmp_path / "s.jsonl", rows), write_conll(tmp_path / "s.conll", rows)
    columns = {"tokens": [words for words, _ in rows]}
    names = sorted({tag for _, tags in rows for tag in tags})
    numbers = pa.array([[names.index(tag) for tag in tags] for _, tags in rows])
    about = {"ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}}
    table = pa.table({**columns, "ner_tags": numbers})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": about}})})
    pq.write_table(table, tmp_path / "s.parquet")
    found = [load_data(name) for name in (f"jsonl:{jsonl}", f"conll:{conll}", f"parquet:{tmp_path}/s.parquet")]
    assert {one.fingerprint for one in found} == {found[0].fingerprint}
    assert found[2].notes[:2] == (
        "the words are column 'tokens'",
        "the classes of the words are column 'ner_tags'",
    )
    in_memory = load_data({"w": columns["tokens"], "t": [tags for _, tags in rows]}, text="w", label="t")
    assert in_memory.fingerprint == found[0].fingerprint


def test_rare_tags_are_in_each_part_or_in_training_alone(tmp_path: Path) -> None:
    rows: list[Sentence] = sentences(200)
    for place in (3, 50, 120, 160):
        rows[place] = (rows[place][0], ["B-RARE", *rows[place][1][1:]])
    rows[7] = (rows[7][0], ["B-ONCE", *rows[7][1][1:]])
    splits = load_data(f"jsonl:{write_jsonl(tmp_path / 's.jsonl', rows)}")
    counts = {}
    for part in ("train", "validation", "test"):
        data = getattr(splits, part)
        labels = data.labels(data.ids)
        there = {splits.class_names[number] for number in labels[labels >= 0].tolist()}
        counts[part] = there & {"B-RARE", "B-ONCE"}
    assert counts == {"train": {"B-RARE", "B-ONCE"}, "validation": {"B-RARE"}, "test": {"B-RARE"}}
    assert len(splits.train) + len(splits.validation) + len(splits.test) == len(rows)


def test_words_that_are_cut_are_left_out_and_said(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "s.jsonl", sentences())
    with pytest.warns(DataWarning, match=r"\d+ of [\d,]+ words are left out with their tags: they have no id, or"):
        splits = load_data(f"jsonl:{file}", max_length=6)
    assert splits.train.gather(splits.train.ids, 0)["input_ids"].shape[1] == 6


def test_no_tag_is_no_label(tmp_path: Path) -> None:
    table = pa.table({"words": [["a", "b", "c"], ["d"]], "tags": [["X", None, ""], None]})
    from instar.data.records.roles import Roles

    found = numbers_of_tags(table, Roles(label="tags", text=("words",)), ["X", "Y"])
    assert [one.tolist() for one in found] == [[0, -1, -1], [-1]]


GOOD = sentences(30)
REFUSED = {
    "row 31: 2 words in 'words' and 1 tags in 'tags': each word needs one": [*GOOD, (["a", "b"], ["O"])],
    "row 31: 'words' holds no word, expected a list of words": [*GOOD, ([], ["O"])],
    "row 31: 'words' holds a word that is nothing": [*GOOD, (["a", ""], ["O", "O"])],
    "row 1: tag -7 in 'tags', expected a text or a whole number": [
        (words, [-7] * len(words)) for words, _ in GOOD
    ],
    "expected two or more tags in 'tags', found 'O'": [(words, ["O"] * len(words)) for words, _ in GOOD],
    "expected two or more tags in 'tags', found 0": [(words, [None] * len(words)) for words, _ in GOOD],
}


def test_minus_100_is_no_label_of_a_word_in_any_form(tmp_path: Path) -> None:
    """PyTorch's losses leave such positions out; in the first 10 sentences no word has a label."""
    tags = [
        [int(tag != "O") if row > 9 and place else -100 for place, tag in enumerate(one)]
        for row, (_, one) in enumerate(GOOD)
    ]
    texts = [(words, [str(tag) for tag in one]) for (words, _), one in zip(GOOD, tags, strict=True)]
    words = [words for words, _ in GOOD]
    found = [
        load_data({"words": words, "tags": tags}),
        load_data(f"jsonl:{write_jsonl(tmp_path / 's.jsonl', list(zip(words, tags, strict=True)))}"),
        load_data(f"conll:{write_conll(tmp_path / 's.conll', texts)}"),
    ]
    for data in found:
        parts = (data.train, data.validation, data.test)
        assert data.train.class_names == ("0", "1")
        labels = torch.cat([part.labels(part.ids).flatten() for part in parts])
        assert int((labels >= 0).sum()) == sum(tag >= 0 for one in tags for tag in one)
        assert int(labels.min()) == -1
    test = found[0].test
    about = {"input_shape": test.example_shape, "num_classes": 2, "seed": 0}
    network = build_network("textconv:16-16", **about)
    scored, num = evaluate(network, test), int((test.labels(test.ids) >= 0).sum())
    assert scored["errors"] == pytest.approx((1 - scored["accuracy"]) * num)


def test_rows_without_words_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*GOOD, ([], []), (None, None), *sentences(30, seed=1), ([], None)]
    data = load_data(f"jsonl:{write_jsonl(tmp_path / 's.jsonl', rows)}")
    assert sum(map(len, (data.train, data.validation, data.test))) == 60
    assert "3 of 63 rows have no words and are left out" in data.notes
    empty = pa.table({"words": pa.array([[], None], pa.list_(pa.string())), "tags": pa.array([None, []])})
    with pytest.raises(DataError, match="row 0: 'words' holds no word, nor does any other row"):
        load_data(empty)
    for part, seed in (("train", 0), ("validation", 1), ("test", 2)):
        write_jsonl(tmp_path / "parts" / f"{part}.jsonl", [([], []), *sentences(30, seed=seed)])
    with pytest.warns(DataWarning, match="test examples are byte-identical"):
        parts = load_data(f"jsonl:{tmp_path / 'parts'}")
    assert len(parts.test) == 30
    assert "1 of 31 test rows has no words and is left out" in parts.notes
    assert str(parts.train.files[0]).endswith("train.jsonl, row 2")  # the rows keep their numbers


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_conll_in_utf_16_is_read_and_said(coding: str, tmp_path: Path) -> None:
    file = write_conll(tmp_path / "s.conll", GOOD)
    plain = load_data(f"conll:{file}")
    file.write_bytes(file.read_text().encode(coding))
    with pytest.warns(DataWarning, match="not in UTF-8, read as UTF-16"):
        data = load_data(f"conll:{file}")
    assert data.train.fingerprint == plain.train.fingerprint
    (tmp_path / "s.jsonl").write_bytes(write_jsonl(tmp_path / "s.jsonl", GOOD).read_text().encode(coding))
    with pytest.raises(DataError, match=r"s.jsonl is in UTF-16: save it as UTF-8"):
        load_data(f"jsonl:{tmp_path / 's.jsonl'}")


@pytest.mark.parametrize("says", REFUSED)
def test_odd_rows_are_refused_in_one_line(says: str, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "s.jsonl", REFUSED[says])
    with pytest.raises(DataError) as caught:
        load_data(f"jsonl:{file}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tag_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", GOOD)
    write_jsonl(tmp_path / "test.jsonl", [*GOOD[:3], (["Zoe"], ["B-NEW"])])
    with pytest.raises(
        DataError, match=r"test.jsonl, row 4: tag 'B-NEW' of 'tags' is not one of the training tags"
    ):
        load_data(f"jsonl:{tmp_path}")


def test_a_line_of_another_form_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.conll"
    file.write_text("Ann B-PER\nsees\n")
    with pytest.raises(DataError, match=r"s.conll, line 2: 'sees' has 1, expected 2 columns as above"):
        load_data(f"conll:{file}")
    file.write_bytes(b"Andr\xe9 B-PER\n")
    with pytest.raises(DataError, match=r"s.conll is not UTF-8 \(byte 4\)"):
        load_data(f"conll:{file}")


@pytest.mark.parametrize("name", ["transformer:1x16", "textconv:16-16"])
def test_our_networks_have_logits_of_each_word_whatever_stands_behind(name: str, tmp_path: Path) -> None:
    splits = load_data(f"jsonl:{write_jsonl(tmp_path / 's.jsonl', sentences())}")
    about = {"input_shape": splits.train.example_shape, "num_classes": len(splits.class_names), "seed": 0}
    network = build_network(name, **about).eval()
    inputs = splits.train.gather(splits.train.ids[:8], 0)
    logits = network(**inputs)
    assert logits.shape == (*inputs["input_ids"].shape, len(splits.class_names))
    shortest = int(inputs["attention_mask"].sum(1).argmin())
    length = int(inputs["attention_mask"][shortest].sum())
    alone = network(**{key: value[shortest : shortest + 1, :length] for key, value in inputs.items()})
    torch.testing.assert_close(logits[shortest, :length], alone[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(
        UsageError, match="network 'bag:8' has no order of words, and the data has a class at each"
    ):
        build_network("bag:8", **about)


def test_a_network_of_transformers_is_that_of_the_folder(tmp_path: Path) -> None:
    splits = load_data(f"jsonl:{write_jsonl(tmp_path / 's.jsonl', sentences())}")
    folder = word_classifier_folder(tmp_path / "bert", splits)
    about = {"input_shape": splits.train.example_shape, "num_classes": len(splits.class_names), "seed": 0}
    network = build_network(
        f"transformers:{folder}", class_names=splits.class_names, weights="own", **about
    ).eval()
    inputs = splits.train.gather(splits.train.ids[:4], 0)
    from transformers import AutoModelForTokenClassification

    theirs = AutoModelForTokenClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(**inputs).logits, theirs(**inputs).logits)
    other = load_data(f"jsonl:{tmp_path}/s.jsonl", tokenizer="280").train.example_shape
    with pytest.raises(
        UsageError, match=r"was trained with its own tokenizer .* and the data has the ids of another"
    ):
        build_network(f"transformers:{folder}", weights="own", **(about | {"input_shape": other}))


def test_conll_of_any_writer_has_the_same_sentences(tmp_path: Path) -> None:
    """A mark at the beginning, blanks between sentences, comments, and words with blanks of Unicode."""
    plain = tmp_path / "plain.conll"
    plain.write_text("a\u00a0b X O\nc\u2028d X B\n\ne X O\n")
    other = tmp_path / "other.conll"
    other.write_bytes(
        "\ufeff-DOCSTART- -X- O\r\n\r\n# sent_id = 1\r\na\u00a0b X O\r\nc\u2028d X B\r\n \t\r\ne X O \r\n".encode()
    )
    one, two = read_conll(plain), read_conll(other)
    assert one["words"].to_pylist() == [["a\u00a0b", "c\u2028d"], ["e"]]
    assert one.equals(two)


def test_sentences_in_two_parts_are_warned_of(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_conll(tmp_path / f"{part}.conll", sentences())
    with pytest.warns(DataWarning, match="test examples are byte-identical to (training|validation) examples"):
        load_data(f"conll:{tmp_path}", tokenizer=300)


@pytest.mark.parametrize("length", [0, -3, 2.5, "x", True])
def test_a_length_that_is_none_is_refused(tmp_path: Path, length: Any) -> None:
    source = f"conll:{write_conll(tmp_path / 's.conll', sentences())}"
    with pytest.raises(UsageError, match=f"max_length is {length!r}, expected a whole number of ids from 1 on"):
        load_data(source, max_length=length)
