"""Teachers that read texts themselves: pipelines that count words, networks with a tokenizer of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import instar
from instar.data import Splits, load_data, seen_by, texts_of
from instar.distillation import SoftTargetStore, Teacher
from instar.errors import UsageError
from instar.networks import build_network, network_fingerprint, read_teacher
from instar.networks.libraries.operators import repair_torchvision
from instar.networks.libraries.reading import TextReader
from instar.recipes.importing import import_store
from instar.tokenising import text_bytes

COLOURS = {"warm": ("red", "orange", "pink"), "cold": ("blue", "green", "grey")}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Sentences of two classes, which one of their words tells."""
    file = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = [
        f"{verb} the {colour} {thing} now,{name}"
        for name, colours in COLOURS.items()
        for colour in colours
        for verb in ("Take", "show", "sell", "paint")
        for thing in ("tree", "seaside", "Straße", "door")
    ]
    file.write_text("\n".join(["text,label", *rows]))
    return load_data(f"csv:{file}", label="label", text="text", tokenizer="300")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a WordPiece of its own, as transformers saves both."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    repair_torchvision()
    path = tmp_path_factory.mktemp("bert")
    own = tokenizers.BertWordPieceTokenizer(lowercase=True)
    words = [word for colours in COLOURS.values() for word in colours]
    others = "take show sell paint the tree seaside straße door now"
    own.train_from_iterator([*words, others], vocab_size=90, min_frequency=1, show_progress=False)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=own._tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]", mask_token="[MASK]",
    ).save_pretrained(path)  # fmt: skip
    config = transformers.BertConfig(
        vocab_size=90, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, id2label={0: "warm", 1: "cold"}, label2id={"warm": 0, "cold": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pipeline(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of weighted counts of words, as skops saves it."""
    skops = pytest.importorskip("skops.io")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train = splits.train
    names = [train.class_names[label] for label in train.labels(train.ids).tolist()]
    fitted = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(
        texts_of(splits.train), names
    )
    path = tmp_path_factory.mktemp("tfidf") / "model.skops"
    skops.dump(fitted, path)
    return path


def test_a_pipeline_is_asked_about_the_texts_of_a_subset(splits: Splits, pipeline: Path) -> None:
    from skops import io

    fitted = io.load(pipeline, trusted=io.get_untrusted_types(file=pipeline))
    some = splits.train.subset(splits.train.ids[[7, 3, 20, 11]])
    teacher = read_teacher(f"sklearn:{pipeline}", class_names=some.class_names, example_shape=some.example_shape)
    found = torch.softmax(instar.predict_logits(teacher, some), -1)
    places = [some.class_names.index(name) for name in fitted.classes_]
    expected = fitted.predict_proba([texts_of(splits.train)[row] for row in (7, 3, 20, 11)])
    np.testing.assert_allclose(found[:, places].numpy(), expected, atol=1e-5)
    asked = Teacher(fitted, some, temperature=1.0)  # the object itself, too
    np.testing.assert_allclose(asked(some.ids, 0).probs[:, places].numpy(), expected, atol=1e-5)


def test_networks_and_a_pipeline_teach_together_and_are_stored(
    splits: Splits, pipeline: Path, tmp_path: Path
) -> None:
    train = splits.train
    shape = train.example_shape
    network = build_network("bag:8", input_shape=shape, num_classes=2, seed=0)
    linear = read_teacher(f"sklearn:{pipeline}", class_names=train.class_names, example_shape=shape)
    student = build_network("bag:4", input_shape=shape, num_classes=2, seed=1)
    result = instar.distill(
        [network, linear], student, train, validation=splits.validation, epochs=15, batch_size=16,
        learning_rate=0.03, optimiser="adamw", temperature=1.0,
    )  # fmt: skip
    assert not result.failed_to_learn
    store = SoftTargetStore.write(tmp_path / "store", {"bag": network.eval(), "words": linear}, train)
    expected = [instar.predict_logits(one, train) for one in (network, linear)]
    kept = store.targets(train, temperature=1.0)(train.ids, 0).probs
    mean = torch.stack([torch.softmax(one, -1) for one in expected]).mean(0)
    torch.testing.assert_close(kept, mean, atol=2e-3, rtol=0)  # float16


def test_a_network_with_its_own_tokenizer_reads_the_texts(splits: Splits, bert: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    data = splits.validation
    about = {"input_shape": data.example_shape, "num_classes": 2, "seed": 0, "class_names": data.class_names}
    teacher = build_network(f"transformers:{bert}", weights="own", **about)  # type: ignore[arg-type]
    assert isinstance(teacher, TextReader)
    theirs = AutoModelForSequenceClassification.from_pretrained(bert).eval()
    batch = AutoTokenizer.from_pretrained(bert)(texts_of(splits.validation), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    places = [["warm", "cold"].index(name) for name in data.class_names]
    torch.testing.assert_close(instar.predict_logits(teacher, data), expected[:, places], atol=1e-5, rtol=0)
    described = {path.name: path.read_text() for path in bert.glob("*.json")}
    again = build_network(f"transformers:{bert}", weights="none", described=described, **about)  # type: ignore[arg-type]
    again.load_state_dict(teacher.state_dict())
    assert network_fingerprint(again) == network_fingerprint(teacher)


def test_a_network_of_the_data_s_tokenizer_is_trained_on_its_ids(
    splits: Splits, bert: Path, tmp_path: Path
) -> None:
    about = {"num_classes": 2, "seed": 0, "class_names": splits.class_names}
    shape = splits.train.example_shape
    with pytest.raises(UsageError, match=r"was trained with its own tokenizer.* --tokenizer "):
        build_network(f"transformers:{bert}", input_shape=shape, **about)  # type: ignore[arg-type]
    source = splits.name
    same = load_data(source, label="label", text="text", tokenizer=str(bert))
    network = build_network(f"transformers:{bert}", input_shape=same.train.example_shape, **about)  # type: ignore[arg-type]
    assert type(network).__name__ == "BertForSequenceClassification"
    result = instar.train(network, same.train, epochs=20, batch_size=16, learning_rate=0.002, optimiser="adamw")
    assert instar.evaluate(result.network, same.train)["accuracy"] > 0.9
    layers = instar.layers_of(network, same.train.gather(same.train.ids[:2], 0))
    assert layers[0].name == "bert.embeddings"
    few = {**same.train.example_shape, "input_ids": ("int64<200", "<=8")}
    (tmp_path / "config.json").write_text(
        (bert / "config.json").read_text()
    )  # without weights any tokenizer will do
    assert build_network(f"transformers:{tmp_path}", input_shape=same.train.example_shape, **about) is not None  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"takes 90 ids of words, the data has 200: name its tokenizer"):
        build_network(f"transformers:{tmp_path}", input_shape=few, **about)  # type: ignore[arg-type]


def test_what_does_not_go_together(splits: Splits, pipeline: Path) -> None:
    from sklearn.naive_bayes import GaussianNB

    shape = splits.train.example_shape
    teacher = read_teacher(f"sklearn:{pipeline}", class_names=splits.class_names, example_shape=shape)
    digits = load_data("digits").train
    with pytest.raises(UsageError, match=r"reads texts, and the examples hold none"):
        seen_by(teacher, digits)
    shown = splits.train.with_views(instar.data.parse_views("drop:0.2"), view_seed=0)
    with pytest.raises(UsageError, match=r"would not see the views 'drop:0.2' of their ids"):
        Teacher(teacher, shown, temperature=1.0)
    with pytest.raises(UsageError, match=r"takes texts alone"):
        teacher(torch.zeros(1, 4))
    rows = GaussianNB().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(UsageError, match=r"takes rows of numbers, an example is .*; of texts it is asked where"):
        Teacher(rows, splits.train, temperature=1.0)


def test_texts_as_bytes() -> None:
    assert json.dumps(text_bytes(["é", ""]).tolist()) == "[[195, 169], [0, 0]]"


@pytest.mark.slow
def test_all_defaults_of_texts_learn_from_every_kind_of_teacher(
    splits: Splits, pipeline: Path, bert: Path, tmp_path: Path
) -> None:
    about = {"data": splits.name, "label": "label", "text": "text", "quick": True, "quiet": True}
    found = instar.distill_study(**about, run_dir=tmp_path / "defaults")  # type: ignore[arg-type]
    networks = {row["name"]: row["network"] for row in found["rows"]}
    assert networks == {"teacher": "bag:256", "student-alone": "bag:32", "student-distilled": "bag:32"}
    model = instar.load(tmp_path / "defaults")  # which has the tokenizer beside its weights
    assert model.predict(["Take the red seaside now", "paint the grey door now"]) == ["warm", "cold"]
    teacher = f"sklearn:{pipeline},{tmp_path / 'defaults'}:teacher,transformers:{bert}"
    both = instar.distill_study(**about, teacher=teacher, run_dir=tmp_path / "both")  # type: ignore[arg-type]
    failed = [row["name"] for row in [*found["rows"], *both["rows"]] if row.get("failed_to_learn")]
    assert failed == ["teacher"]  # the BERT, which nobody trained
    assert both["details"]["members"][0]["network"] == f"sklearn:{pipeline}"
    member = instar.load(f"{tmp_path / 'both'}:teacher/member-2")  # which reads texts by its own tokenizer
    with torch.no_grad():
        expected = member.network(text_bytes(["Take the red seaside now"])).softmax(-1)
    torch.testing.assert_close(member.predict_proba(["Take the red seaside now"]), expected)


def test_answers_in_a_file_are_matched_by_the_text(splits: Splits, tmp_path: Path) -> None:
    file, rows = tmp_path / "answers.csv", []
    for part in ("train", "validation", "test"):
        rows += [
            (text, 0.9 if any(colour in text for colour in COLOURS["warm"]) else 0.2)
            for text in texts_of(getattr(splits, part))
        ]
    file.write_text("\n".join(["text,warm,cold", *(f"{text},{warm},{1 - warm}" for text, warm in rows[::-1])]))
    about = {"name": splits.name, "label": "label", "text": ["text"], "tokenizer": "300"}
    import_store(tmp_path / "store", file, data=about)
    store = SoftTargetStore.open(tmp_path / "store")
    probs = store.targets(splits.train, temperature=1.0)(splits.train.ids, 0).probs
    warm = probs[:, splits.class_names.index("warm")]
    expected = [dict(rows)[text] for text in texts_of(splits.train)]
    torch.testing.assert_close(warm, torch.tensor(expected), atol=1e-4, rtol=0)
    file.write_text("text,warm,cold\nno such text,0.5,0.5\n")
    with pytest.raises(UsageError, match=r"1 key \('no such text'\) is no key of an example of .*, a text"):
        import_store(tmp_path / "other", file, data=about)
