"""`instar distill --task causal-lm`: language models compared on test, from the command line and from Python."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import Command
from instar import distill_study
from instar.data import TokenDataset
from instar.errors import UsageError
from instar.evaluation import predicted_rows
from instar.intervals import bootstrap_mean
from instar.recipes.loading import load_run_network
from instar.recipes.splits import load_splits
from instar.recipes.tokens.plan import ALONE, STORED, TARGETS, TEACHER, TokensPlan, config_for, read_config
from instar.recipes.tokens.recipe import STUDY
from instar.runs import Run
from running_text import language_model_folder, sequences, write_texts

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of transformers with weights, and students from its configuration, on all kinds of targets."""
    folder = tmp_path_factory.mktemp("tokens")
    splits = sequences(folder)
    teacher = language_model_folder(folder / "teacher", splits)
    student = language_model_folder(folder / "student", splits, weights=False, n_embd=8)
    distill_study(
        task="causal-lm",
        data={"name": f"text:{folder / 'texts'}", "max_length": 16},
        teacher=f"transformers:{teacher}",
        student={"network": f"transformers:{student}", "batch_size": 4},
        targets=list(TARGETS),
        top_k=8,
        draws=4,
        temperature=1.0,
        seeds=2,
        run_dir=folder / "run",
        quiet=True,
    )
    return folder / "run"


@pytest.mark.slow
def test_the_measures_are_those_of_the_logits(path: Path) -> None:
    run = Run.read(path)
    result = run.result()
    plan = TokensPlan(read_config({}, path / "config.toml"), path)
    test = load_splits(plan.config.data).test
    assert isinstance(test, TokenDataset)
    teacher = load_run_network(plan.fits(TEACHER)[0])
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [TEACHER, ALONE, *TARGETS.values()]
    student = load_run_network(plan.fits(ALONE)[1])
    parts = [(logits, labels) for logits, labels, _ in predicted_rows(student, test)]
    taught = torch.cat([logits for logits, _, _ in predicted_rows(teacher, test)])
    logits, labels = (torch.cat(one) for one in zip(*parts, strict=True))
    known = labels >= 0
    nll = float(torch.nn.functional.cross_entropy(logits[known], labels[known]))
    assert rows[ALONE]["values"][1] == pytest.approx(nll, rel=1e-5)
    row = rows[ALONE]
    assert row["perplexity"] == pytest.approx(math.exp(row["mean"]))
    num_bytes = int(test.num_bytes.sum())
    assert row["perplexity_per_byte"] == pytest.approx(math.exp(row["mean"] * int(known.sum()) / num_bytes))
    assert result["num_test"] == int(known.sum())
    assert 0 < row["teacher_agreement"] <= 1
    assert row["kl_from_teacher"] > 0
    other = load_run_network(plan.fits(ALONE)[0])
    agrees = [
        float(
            (torch.cat([one for one, _, _ in predicted_rows(each, test)]).argmax(-1) == taught.argmax(-1))[known]
            .double()
            .mean()
        )
        for each in (student, other)
    ]
    assert row["teacher_agreement"] == pytest.approx(sum(agrees) / 2)
    first = result["differences"][0]
    assert (first["name"], first["minus"], first["n"]) == (TARGETS["full"], ALONE, 2)
    assert first["low_documents"] <= first["mean"] <= first["high_documents"]


@pytest.mark.slow
def test_all_classes_are_the_same_from_a_store_of_hidden_states(path: Path) -> None:
    rows = {row["name"]: row["values"] for row in Run.read(path).result()["rows"]}
    assert rows[TARGETS["hidden"]] == pytest.approx(rows[TARGETS["full"]], rel=1e-3)
    assert rows[TARGETS["tail"]] != rows[TARGETS["even"]]


@pytest.mark.slow
def test_students_learn_from_a_store(typed: Command, tmp_path: Path) -> None:
    """Written for the same data: with all classes the student is that of a teacher beside it, but for float16."""
    text = ("--data", f"text:{write_texts(tmp_path / 'texts')}", "--tokenizer", "300", "--max-length", "16")
    task = ("distill", "--task", "causal-lm", *text, "--student", "causal:1x16", "--seeds", "1", "--json")
    done = typed(*task, "--teacher", "causal:1x16", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    beside = {row["name"]: row["mean"] for row in json.loads(done.stdout)["rows"]}
    teacher = f"{tmp_path / 'run'}:teacher"
    kept = {"full": (), "states": ("--hidden",), "top": ("--top-k", "8", "--temperature", "1,2")}
    for name, options in kept.items():
        written = typed("targets", "write", "--teacher", teacher, "--out", tmp_path / name, "--quiet", *options)
        assert written.returncode == 0, written.stderr
    assert "at 1 drawn (the draws), at 2 tail (one class" in " ".join(written.stdout.split())
    found = {}
    for name in kept:
        done = typed(*task, "--targets", tmp_path / name, "--run-dir", tmp_path / f"from-{name}")
        assert done.returncode == 0, done.stderr
        rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
        assert list(rows) == [ALONE, STORED]
        assert rows[ALONE]["mean"] == pytest.approx(beside[ALONE])
        assert "kl_from_teacher" not in rows[STORED]
        found[name] = rows[STORED]["mean"]
    for name in ("full", "states"):
        assert found[name] == pytest.approx(beside[TARGETS["full"]], rel=1e-3)
    assert found["top"] != pytest.approx(found["full"], rel=1e-3)
    compared = ("--targets", tmp_path / "top", "--teacher", teacher, "--run-dir", tmp_path / "compared")
    rows = json.loads(typed(*task, *compared).stdout)["rows"]
    assert [row["name"] for row in rows] == [TEACHER, ALONE, STORED]
    assert rows[2]["kl_from_teacher"] > 0
    again = ("distill", "--task", "causal-lm", "--config", tmp_path / "from-top" / "config.toml", "--json")
    assert typed(*again, "--run-dir", tmp_path / "from-top").returncode == 0
    for options, said in (
        (("--targets", tmp_path / "top", "--tokenizer", "290"), "the data has"),
        (("--targets", tmp_path / "top", "--temperature", "3"), "for the temperatures 1, 2, not for 3"),
        (("--targets", tmp_path / "top", "--temperature", "2", "--reading", "drawn"), "say nothing at 2"),
        (("--targets", tmp_path / "states", "--reading", "tail"), "is for a top-k store: leave it out"),
        (("--targets", tmp_path / "none"), "is not a soft-target store"),
        (("--targets", tmp_path / "top", "--teacher", "causal:1x16"), "a teacher is compared with, not trained"),
        (
            ("--targets", tmp_path / "top", "--teacher", f"{tmp_path / 'run'}:labels-alone/seed-0"),
            "has other weights now than when it was written",
        ),
        (("--reading", "tail"), "reading tail is of stored soft targets: name their folder"),
    ):
        refused = typed(*task, *options, "--run-dir", tmp_path / "other")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert said in refused.stderr


def test_what_is_not_running_text_is_refused(typed: Command, tmp_path: Path) -> None:
    task = ("distill", "--task", "causal-lm")
    cases: list[tuple[tuple[str, ...], str]] = [
        (
            (*task, "--data", "digits"),
            "digits is no running text, of which next tokens are predicted: text:FILES is",
        ),
        (("distill", "--task", "causal"), "unknown task 'causal'; did you mean causal-lm?"),
        (("distill", "--data", f"text:{write_texts(tmp_path)}"), "without classes: --task causal-lm"),
        ((*task, "--loss", "dkd"), "loss"),
        ((*task, "--sweep", "temperature=1,2"), "leave out --sweep"),
        (
            (*task, "--targets", "tail", "--set", "top_k=300", "--data", f"text:{tmp_path}", "--tokenizer", "300"),
            "top_k is 300",
        ),
    ]
    for words, said in cases:
        done = typed(*words)
        assert done.returncode == 2, words
        assert said in done.stderr
        assert len([line for line in done.stderr.splitlines() if not line.startswith("data: ")]) == 1


def test_running_text_is_described(instar: Command, tmp_path: Path) -> None:
    folder = write_texts(tmp_path)
    (folder / "copy.md").write_text((folder / "03.txt").read_text())
    shown = instar("data", "show", f"text:{folder}", "--tokenizer", "300", "--json")
    about = json.loads(shown.stdout)
    assert [part["documents"] for part in about["parts"]] == [9, 1, 2]
    assert "1 documents are copies of others and are left out" in about["notes"]
    assert "in sequences of 128" in instar("data", "show", f"text:{folder}", "--tokenizer", "300").stdout
    refused = instar("data", "check", f"text:{folder}")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_targets_are_named_with_commas() -> None:
    assert read_config({"targets": "hidden,tail"}).targets == ["hidden", "tail"]
    with pytest.raises(
        UsageError, match="targets should be 'full', 'hidden', 'tail', 'drawn' or 'even', found 'store'"
    ):
        read_config({"targets": "store"})


def test_scales_and_the_place_of_results() -> None:
    for scale in ("tiny", "small"):
        assert STUDY.published(config_for(scale)) == f"tokens-{scale}"
    with pytest.raises(UsageError, match="unknown scale 'huge'"):
        config_for("huge")


def test_documents_are_drawn_not_tokens() -> None:
    counts = torch.tensor([1, 1, 1, 97])
    found = bootstrap_mean(torch.tensor([[0.0, 0.0, 0.0, 97.0], [0.0, 0.0, 0.0, 97.0]]), counts, seed=0)
    assert found.mean == 0.97
    assert found.low < 0.1
    assert found.n == 4
    with pytest.raises(UsageError, match="expected sums and counts of the same documents"):
        bootstrap_mean(torch.zeros(3), counts, seed=0)


@pytest.mark.slow
def test_the_page_and_the_config_are_whole(path: Path) -> None:
    result: dict[str, Any] = json.loads((path / "result.json").read_text())
    assert result["recipe"] == "tokens"
    assert "documents" in result["details"]
    assert "Language models" in (path / "report.html").read_text()
