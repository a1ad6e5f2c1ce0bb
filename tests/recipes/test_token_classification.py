"""`instar distill --task token-classification`: a class of each word, from the command line and from Python."""

import json
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score

from command_line import Command
from instar import distill_study, load_data
from instar.evaluation import predicted_rows
from instar.recipes.loading import load_run_network
from instar.recipes.splits import load_splits
from instar.recipes.tokens.plan import ALONE, TEACHER, TokensPlan
from instar.recipes.tokens.tagging import read_config
from instar.runs import Run
from tagged_words import sentences, word_classifier_folder, write_conll, write_jsonl

pytest.importorskip("tokenizers")
TASK = ("distill", "--task", "token-classification", "--seeds", "1", "--epochs", "1", "--teacher-epochs", "1")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of ours and students of another form, by all classes and by stored hidden states."""
    folder = tmp_path_factory.mktemp("words")
    write_conll(folder / "s.conll", sentences())
    distill_study(
        task="token-classification",
        data=f"conll:{folder / 's.conll'}",
        teacher={"network": "transformer:1x32", "epochs": 12},
        student={"network": "textconv:16-16", "epochs": 2},
        targets=["full", "hidden"],
        seeds=2,
        run_dir=folder / "run",
        quiet=True,
    )
    return folder / "run"


@pytest.mark.slow
def test_the_measures_are_those_of_the_logits(path: Path) -> None:
    result = Run.read(path).result()
    plan = TokensPlan(read_config({}, path / "config.toml"), path)
    test = load_splits(plan.config.data).test
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [TEACHER, ALONE, "all classes", "hidden states"]
    network = load_run_network(plan.fits(ALONE)[1])
    logits, labels = (torch.cat(one) for one in list(zip(*predicted_rows(network, test), strict=True))[:2])
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    right = (logits.argmax(-1) == labels).double()
    assert rows[ALONE]["values"][1] == pytest.approx(100 * float(right.mean()))
    assert result["num_test"] == len(labels) == sum(len(words) for words, _ in _of_test(path))
    assert rows[TEACHER]["mean"] > 95
    names = [number for number, name in enumerate(test.class_names) if name != "O"]
    other = load_run_network(plan.fits(ALONE)[0])
    found = [
        f1_score(labels, torch.cat([one[0] for one in predicted_rows(each, test)])[_known(test)].argmax(-1),
                 labels=names, average="micro")
        for each in (network, other)
    ]  # fmt: skip
    assert rows[ALONE]["f1_of_names"] == pytest.approx(100 * sum(found) / 2)
    assert rows["hidden states"]["values"] == pytest.approx(rows["all classes"]["values"], abs=3)
    first = result["differences"][0]
    assert (first["name"], first["minus"], first["n"]) == ("all classes", ALONE, 2)
    assert first["low_documents"] <= first["mean"] <= first["high_documents"]
    assert "A class of each word" in (path / "report.html").read_text()


def _known(test: object) -> torch.Tensor:
    labels = test.labels(test.ids)  # type: ignore[attr-defined]
    mask = test.gather(test.ids, 0)["attention_mask"].bool()  # type: ignore[attr-defined]
    return labels[mask] >= 0


def _of_test(path: Path) -> list[tuple[list[str], list[str]]]:
    """The sentences of the test part, found by their words."""
    config = read_config({}, path / "config.toml")
    splits = load_splits(config.data)
    tokenizer = splits.preparation.tokenising.tokenizer  # type: ignore[union-attr]
    ids = splits.test.gather(splits.test.ids, 0)["input_ids"]
    there = {" ".join(tokenizer.decode(one.tolist()).split()) for one in ids}
    return [row for row in sentences() if " ".join(row[0]) in there]


@pytest.mark.slow
def test_networks_of_transformers_teach_and_learn(typed: Command, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "s.jsonl", sentences())
    splits = load_data(f"jsonl:{file}")
    teacher = word_classifier_folder(tmp_path / "bert", splits)
    student = word_classifier_folder(tmp_path / "small", splits, weights=False, hidden_size=8)
    networks = ("--teacher", f"transformers:{teacher}", "--student", f"transformers:{student}")
    done = typed(*TASK, "--data", f"jsonl:{file}", *networks, "--run-dir", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["name"] for row in result["rows"]] == [TEACHER, ALONE, "all classes"]
    assert "tokenizer of bert" in result["details"]["preparation"]


@pytest.mark.parametrize("command", ["predict", "export"])
def test_what_takes_whole_examples_says_so(path: Path, typed: Command, tmp_path: Path, command: str) -> None:
    given = (tmp_path / "new.jsonl",) if command == "predict" else ("--to", "onnx", "--out", tmp_path / "out")
    done = typed(command, f"{path}:teacher", *given)
    assert done.returncode == 2
    assert (
        "is a network of classes of words, which instar.load, predict, export and serve do not take" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_has_no_class_of_each_word_is_refused(typed: Command, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "s.jsonl", sentences(40))
    data = ("--data", f"jsonl:{file}")
    for words, said in (
        (TASK, "which words and tags? --data conll:FILE, jsonl:FILE"),
        ((*TASK, "--data", "digits"), "digits has no class of each word: expected a column with lists of words"),
        ((*TASK, *data, "--student", "bag:8"), "network 'bag:8' has no order of words"),
        ((*TASK, *data, "--targets", "tail"), "top_k is 16, the data has 5 classes: take fewer"),
        (("distill", *data), "has a class of each word: --task token-classification distils such networks"),
    ):
        done = typed(*words)
        errors = [line for line in done.stderr.splitlines() if not line.startswith("data: ")]  # what was guessed
        assert (done.returncode, len(errors)) == (2, 1), done.stderr
        assert said in errors[0]


def test_words_and_tags_are_described(typed: Command, tmp_path: Path) -> None:
    rows = sentences(60)
    file = write_jsonl(tmp_path / "s.jsonl", rows)
    about = json.loads(typed("data", "show", f"jsonl:{file}", "--json").stdout)
    counts = {one["class"]: one["train"] + one["validation"] + one["test"] for one in about["classes"]}
    assert counts == {name: sum(tags.count(name) for _, tags in rows) for name in counts}
    assert about["examples"][0]["class"].startswith("B-PER")
    assert "nothing broken" in typed("data", "check", f"jsonl:{file}").stdout
