"""`instar reproduce speech`: folds by speaker, what each system learns from, and the table from the recordings."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import Command
from instar.errors import InstarError, UsageError
from instar.evaluation import predict_logits
from instar.jobs import JobReport
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import checked
from instar.recipes.speech.align_jobs import flat_alignment_job
from instar.recipes.speech.data import forget_recordings, load_frames, load_recordings
from instar.recipes.speech.examples import unit_spans
from instar.recipes.speech.findings import Findings
from instar.recipes.speech.reproduction import STUDY, read_findings
from instar.recipes.speech.reproduction_plan import STUDENT_SEED, Plan, ReproductionConfig, config_for, scores_name
from instar.recipes.speech.settings import Source
from instar.recipes.study import Execution, run_study
from instar.runs import Run
from instar.speech.connected import quiet_id
from instar.speech.fsdd import load_fsdd, speaker_folds
from speech_files import fsdd_archive, made_corpus, write_kaldi_dir

pytest.importorskip("kaldi_native_fbank")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small archive of made digits in INSTAR_DATA, and a cache of its own."""
    folder = tmp_path_factory.mktemp("speech")
    archive = folder / "data" / "fsdd" / "fsdd-recordings.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(fsdd_archive(num_each=17))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTAR_DATA", str(folder / "data"))
        patch.setenv("INSTAR_CACHE", str(folder / "cache"))
        forget_recordings()
        yield folder
    forget_recordings()


@pytest.fixture(scope="module")
def studied(home: Path) -> Path:
    path = home / "run"
    run_study(STUDY, config_for("tiny"), path, Execution(quiet=True))
    return path


@pytest.fixture(scope="module")
def result(studied: Path) -> dict[str, Any]:
    return Run.read(studied).result()


def source(fold: int, data: str = "fsdd") -> Source:
    return Source(data=config_for("tiny", data).data, fold=fold)


def test_every_system_has_a_row_with_its_n(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [
        "baseline",
        "baseline-longer",
        "ensemble-2",
        "ensemble-2-varied",
        "distilled",
        "distilled-T1",
        "distilled-T2",
        "distilled-unlabelled-T1",
        "distilled-unlabelled",
        "hard-30-percent",
        "soft-30-percent",
    ]
    assert all(row["n"] == 2 for row in rows.values())
    assert rows["baseline"]["num_networks"] == 4
    assert rows["ensemble-2"]["num_networks"] == 2
    assert rows["distilled-unlabelled"]["train_frame_accuracy"] is None
    assert rows["baseline"]["paper"] == 58.9


def test_numbers_are_those_of_the_networks(studied: Path) -> None:
    """Frame accuracy of the baseline of the second fold, computed anew from its networks."""
    path = studied / "jobs" / "fold-1"
    test = load_frames(source(1), "test", path / "alignment/network")
    found = [row for row in Run.read(path / "test").result()["rows"] if row["name"] == "baseline"]
    labels = test.labels(test.ids)
    for place, row in enumerate(found):
        right = predict_logits(load_run_network(path / f"baseline/{place}"), test).argmax(1) == labels
        assert row["frame_accuracy"] == pytest.approx(100 * float(right.double().mean()))
        assert sum(row["right"]) == int(right.sum())
    members = [load_run_network(path / f"baseline/{place}") for place in (0, 1)]
    mean = torch.stack([predict_logits(one, test).softmax(-1) for one in members]).mean(0)
    ensemble = next(row for row in Run.read(path / "test").result()["rows"] if row["name"] == "ensemble-2")
    assert sum(ensemble["right"]) == int((mean.argmax(1) == labels).sum())


def test_speakers_are_apart_and_the_noise_keeps_the_states(studied: Path) -> None:
    for fold in (0, 1):
        alignment = studied / "jobs" / f"fold-{fold}" / "alignment/network"
        frames = {
            part: load_frames(source(fold), part, alignment)
            for part in ("train", "untranscribed", "validation", "test")
        }
        heard = {part: {one.speaker for one in data.utterances} for part, data in frames.items()}
        held_out = speaker_folds(load_fsdd())[fold]
        assert heard["train"] == heard["untranscribed"] == set(held_out.train)
        assert heard["validation"] == {held_out.validation}
        assert heard["test"] == {held_out.test}
        assert len(set().union(*heard.values())) == 3
        untranscribed, test = frames["untranscribed"], frames["test"]
        assert set(untranscribed.labels(untranscribed.ids).tolist()) == {-1}
        said = {quiet_id(one) for one in test.utterances}
        assert len(test.utterances) == 3 * len(said)
        for one in sorted(said):
            noisy = [other.id for other in test.utterances if quiet_id(other) == one]
            states = [test.of_utterances([name]) for name in noisy]
            told = [part.labels(part.ids).tolist() for part in states]
            assert told[0] == told[1] == told[2]


def test_what_each_system_learns_from(studied: Path) -> None:
    def config(name: str) -> dict[str, Any]:
        return Run.read(studied / "jobs" / "fold-0" / name).config

    members = ["fold-0/baseline/0", "fold-0/baseline/1"]
    distilled = config("distilled-T2/1")
    assert distilled["soft"]["teachers"] == members
    assert (distilled["soft"]["temperature"], distilled["soft"]["hard_weight"]) == (2.0, 0.5)
    assert distilled["seed"] == STUDENT_SEED + 1
    unlabelled = config("distilled-unlabelled/0")
    assert unlabelled["learning"]["part"] == "untranscribed"
    assert unlabelled["soft"]["hard_weight"] == 0
    few, soft = config("hard-30-percent/1"), config("soft-30-percent/1")
    assert few["learning"] == soft["learning"]
    assert [few["learning"][key] for key in ("part", "share", "seed")] == ["train", 0.3, 1]
    assert few["fit"]["patience"] == few["fit"]["epochs"]
    assert "patience" not in soft["fit"]
    assert soft["soft"]["teachers"] == ["fold-0/baseline/1"]
    assert config("varied/0")["learning"]["share"] == 0.8
    assert config("varied/0")["learning"]["seed"] != config("varied/1")["learning"]["seed"]
    assert config("baseline-longer/0")["fit"]["epochs"] == distilled["fit"]["epochs"]


def test_the_temperature_is_chosen_on_validation(studied: Path, result: dict[str, Any]) -> None:
    for fold in (0, 1):
        errors = {
            temperature: np.mean(
                [
                    Run.read(
                        studied / "jobs" / f"fold-{fold}" / f"distilled-T{temperature:g}" / str(place)
                    ).result()["metrics"]["validation_errors"]
                    for place in (0, 1)
                ]
            )
            for temperature in (1.0, 2.0)
        }
        chosen = min(errors, key=errors.__getitem__)
        assert result["details"]["temperatures"][fold] == chosen
        rows = Run.read(studied / "jobs" / f"fold-{fold}" / "test").result()["rows"]
        told = {
            name: [row["right"] for row in rows if row["name"] == name]
            for name in ("distilled", f"distilled-T{chosen:g}")
        }
        assert told["distilled"] == told[f"distilled-T{chosen:g}"]


def test_a_temperature_that_diverges_is_skipped_and_reported(studied: Path, result: dict[str, Any]) -> None:
    plan = Plan(config_for("tiny"), studied)
    rounds = STUDY.rounds(plan)
    assert not next(rounds).may_fail
    assert rounds.send(JobReport()).may_fail
    last = rounds.send(JobReport(failed={"fold-0/distilled-T2/1": "the loss is nan"}))
    names = [job.name for job in last.jobs]
    assert "fold-0/distilled-T2/1" not in names
    assert "fold-1/distilled-T2/1" in names
    tests = [job for job in last.jobs if job.name.endswith("/test")]
    assert tests[0].config["same"] == {"distilled": "distilled-T1"}
    assert [("distilled-T2" in job.config["singles"]) for job in tests] == [False, True]
    with pytest.raises(StopIteration) as end:
        rounds.send(JobReport())
    lost, found = end.value.value[0].tried[::-1]
    assert lost.row("distilled", {"fold": 0}) == {"name": "distilled", "fold": 0, "failed": "the loss is nan"}
    assert found.errors is not None
    in_result = next(row for row in result["tuning"] if (row["fold"], row["temperature"]) == (0, 1.0))
    assert found.errors.mean == in_result["validation_errors"]


def test_a_system_that_failed_in_one_fold_has_no_row(studied: Path) -> None:
    tests = read_findings(Plan(config_for("tiny"), studied)).tests
    rows = [row for row in tests[1]["rows"] if row["name"] != "distilled-T2"]
    findings = Findings([tests[0], {**tests[1], "rows": rows}])
    assert "distilled-T2" not in findings.names
    assert findings.row("distilled")["n"] == 2


def test_all_temperatures_failing_ends_the_study(studied: Path) -> None:
    rounds = STUDY.rounds(Plan(config_for("tiny"), studied))
    next(rounds)
    rounds.send(JobReport())
    failed = {f"fold-1/distilled-T{temperature}/0": "the loss is nan" for temperature in (1, 2)}
    with pytest.raises(InstarError, match="fold-1/distilled-T1/0 failed: the loss is nan"):
        rounds.send(JobReport(failed=failed))


def test_it_is_run_once_and_published(studied: Path, typed: Command, tmp_path: Path) -> None:
    before = (studied / "result.json").stat().st_mtime_ns
    arguments = ("reproduce", "speech", "--scale", "tiny", "--run-dir", studied)
    done = typed(*arguments, "--json", "--publish", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == Run.read(studied).result()
    assert (studied / "result.json").stat().st_mtime_ns == before
    published = json.loads((tmp_path / "results" / "speech-fsdd-tiny.json").read_text())
    assert published["rows"] == json.loads(done.stdout)["rows"]
    assert "baseline" in typed(*arguments).stdout


def test_the_page_has_sound_and_pictures(studied: Path) -> None:
    page = (studied / "report.html").read_text()
    assert page.count("data:audio/wav;base64,") == 3
    assert page.count("data:image/png;base64,") == 3
    for words in ("Confusion of words", "Word errors by speaker and noise", "Peak and fall at 30 %"):
        assert words in page


def test_a_study_may_leave_out_all_but_the_ensemble_and_its_student(studied: Path, tmp_path: Path) -> None:
    left_out = {"varied_share": None, "fractions": [], "unlabelled_temperatures": []}
    config = config_for("tiny").model_copy(update=left_out)
    for fold in range(config.folds):
        shutil.copytree(studied / "jobs" / f"fold-{fold}", tmp_path / "jobs" / f"fold-{fold}")
        shutil.rmtree(tmp_path / "jobs" / scores_name(fold))
    whole, part = Run.read(studied).result(), run_study(STUDY, config, tmp_path, Execution(quiet=True))
    names = ["baseline", "baseline-longer", "ensemble-2", "distilled", "distilled-T1", "distilled-T2"]
    assert [row["name"] for row in part["rows"]] == names
    assert part["rows"] == [row for row in whole["rows"] if row["name"] in names]
    assert part["differences"] == [one for one in whole["differences"] if {one["name"], one["minus"]} <= {*names}]
    assert "Peak and fall" not in (tmp_path / "report.html").read_text()


def recording(fold: int, name: str, frames: int = 10, words: int = 2) -> dict[str, Any]:
    return {"id": name, "speaker": f"s{fold}", "condition": "clean", "frames": frames, "words": words}


def made_findings(right: dict[str, list[list[int]]]) -> Findings:
    """Findings of two folds of some recordings, from right frames of each system by fold."""
    tests = []
    for fold in (0, 1):
        rows = [
            {
                "name": name,
                "right": by_fold[fold],
                "errors": [1] * len(by_fold[fold]),
                "frame_accuracy": float(10 * np.mean(by_fold[fold])),
                "wer": 50.0,
            }
            for name, by_fold in right.items()
        ]
        num = len(rows[0]["right"])
        tests.append({"rows": rows, "recordings": [recording(fold, str(place)) for place in range(num)]})
    return Findings(tests)


def test_a_share_is_the_ratio_of_two_gains() -> None:
    base = [[4, 5, 6, 4, 5], [3, 4, 5, 4, 4]]
    whole = [[one + 2 for one in several] for several in base]
    part = [[one + 1 for one in several] for several in base]
    findings = made_findings({"base": base, "whole": whole, "part": part})
    share = findings.share("part", "whole", "base")
    assert (share["share"], share["low"], share["high"]) == (0.5, 0.5, 0.5)
    assert share["gain"] == pytest.approx(20)
    assert share["verdict"] == "decided"
    difference = findings.difference("whole", "base")
    assert difference["mean"] == pytest.approx(20)
    assert difference["bootstrap_low"] == pytest.approx(20)
    assert difference["wer"] == 0


def test_a_share_of_nothing_is_undecided() -> None:
    base = [[4, 5, 6, 4, 5], [3, 4, 5, 4, 4]]
    whole = [[6, 3, 8, 2, 5], [2, 5, 5, 5, 3]]
    share = made_findings({"base": base, "whole": whole}).share("base", "whole", "base")
    assert share["share"] is None
    assert share["verdict"] == "undecided"
    one_speaker = [[9, 9, 9, 9, 9], [3, 4, 5, 4, 4]]  # sure over recordings, not over the two speakers
    share = made_findings({"base": base, "whole": one_speaker}).share("base", "whole", "base")
    assert share["gain_low"] > 0
    assert share["verdict"] == "undecided"


def test_strings_in_several_noises_are_drawn_together() -> None:
    """Three copies of a recording tell no more than one: the interval stays as wide."""
    generator = np.random.default_rng(0)
    right = generator.integers(0, 10, 40)
    once = made_findings({"a": [right.tolist(), right.tolist()], "b": [[5] * 40] * 2})
    tests = [
        {
            "rows": [{**row, "right": row["right"] * 3, "errors": row["errors"] * 3} for row in test["rows"]],
            "recordings": list(test["recordings"]) * 3,
        }
        for test in once.tests
    ]
    widths = []
    for findings in (once, Findings(tests)):
        found = findings.difference("a", "b")
        widths.append(found["bootstrap_high"] - found["bootstrap_low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_findings_know_every_recording(studied: Path, result: dict[str, Any]) -> None:
    findings = read_findings(Plan(config_for("tiny"), studied))
    assert len(findings.recordings) == result["details"]["num_recordings"] == 2 * 3 * 2
    assert int(findings.words.sum()) == result["details"]["num_words"]
    assert {row["noise"] for row in result["details"]["by_speaker_and_noise"]} == {"clean", "10 dB", "5 dB"}


def test_states_become_spans_without_the_silence() -> None:
    names = ("sil-0", "one-0", "one-1", "two-0")
    spans = unit_spans(torch.tensor([0, 1, 1, 2, 0, 3, 3, 3]), names)
    assert spans == [("one", 1 / 8, 4 / 8), ("two", 5 / 8, 1)]


@pytest.mark.slow
def test_a_kaldi_directory_can_be_studied(home: Path, tmp_path: Path) -> None:
    folder = write_kaldi_dir(tmp_path / "train", made_corpus(each=3))
    config = config_for("tiny", f"kaldi:{folder}")
    folds = [load_recordings(Source(data=config.data, fold=number)) for number in range(3)]
    assert [fold["test"].speakers for fold in folds] == [("ann",), ("bob",), ("cy",)]
    apart = {one.id for one in folds[0]["untranscribed"].quiet.utterances}
    assert not apart & {one.id for one in folds[0]["train"].quiet.utterances}
    assert len(folds[0]["test"].corpus) == 3 * 27
    fold = config.model_copy(update={"folds": 1, "temperatures": [2.0]})
    made = run_study(STUDY, fold, tmp_path / "run", Execution(quiet=True))
    assert made["rows"][0]["n"] == 1


def test_a_word_that_only_the_test_says_leaves_its_utterance_out(home: Path, tmp_path: Path) -> None:
    folder = write_kaldi_dir(tmp_path / "train", made_corpus(each=3))
    config = config_for("tiny", f"kaldi:{folder}")
    said = load_recordings(Source(data=config.data, fold=0))["untranscribed"].quiet.utterances[
        0
    ]  # training has the words of the others alone
    text = folder / "text"
    text.write_text(text.read_text().replace(f"{said.id} {said.words[0]}\n", f"{said.id} never\n"))
    forget_recordings()
    fold = Source(data=config.data, fold=("ann", "bob", "cy").index(said.speaker))
    job = flat_alignment_job("alignment", fold, config.models)
    with Run(tmp_path / "job", recipe="job", config=job.config) as run:
        found = job.function(run, {})
        assert found["metrics"]["num_skipped"] == 1
        assert f"skipped {said.id}: a word that the lexicon lacks" in (run.path / "log.txt").read_text()
        assert len(load_frames(fold, "test", run.path).utterances) == 8 * 3
    forget_recordings()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: config_for("huge"), "unknown scale 'huge'"),
        (lambda: load_recordings(source(0, "fsd")), "unknown corpus 'fsd'; did you mean fsdd"),
        (lambda: load_recordings(source(3)), "fold 3: fsdd has 3 speakers"),
        (
            lambda: checked(ReproductionConfig, config_for("tiny").model_dump() | {"seeds": 3}),
            "seeds is 3, expected at most the ensemble_size, 2",
        ),
    ],
)
def test_wrong_use_says_what_there_is(home: Path, call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
