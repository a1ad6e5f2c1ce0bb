"""`instar speech`: train on a data directory, decode and align files, distil; and what it refuses."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import instar
from command_line import Command
from instar.data.readers.audio import Samples, wav_bytes
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.recipes import fitting, from_python
from instar.recipes.loading import load_run_network
from instar.recipes.speech import fit_jobs
from instar.recipes.speech.data import load_frames, load_recordings
from instar.recipes.speech.plan import QUICK, read_config
from instar.recipes.speech.settings import InputSettings, RecogniserData, Source
from instar.runs import Run
from instar.speech.hmm import HMM
from instar.speech.recogniser import Recogniser
from instar.training import FitResult
from speech_files import RATE, fsdd_archive, made_corpus, made_word, write_kaldi_dir

LEXICON = "low L OW\nhigh HH AY\nup AH P\nunused ZZ\nlowly L OW L AY\n"
SMALL = ("--network", "mlp:32x1", "--epochs", "6", "--context", "4,2", "--set", "network.dropout=0.0")
SMALL += (
    "--set",
    "network.batch_size=64",
    "--learning-rate",
    "0.1",
    "--set",
    "models.states_of_phone=2",
    "--quiet",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of four speakers with a lexicon; `low` of ann is too short once."""
    folder = write_kaldi_dir(
        tmp_path_factory.mktemp("kaldi") / "four", made_corpus(("ann", "bob", "cy", "di"), each=5)
    )
    (folder / "lexicon.txt").write_text(LEXICON)
    (folder / "low_cy_0.wav").write_bytes(wav_bytes(made_word("low")[: RATE // 50], RATE))  # 2 frames
    return folder


@pytest.fixture(scope="module")
def trained(instar: Command, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "recogniser"
    done = instar("speech", "train", folder, *SMALL, "--run-dir", path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "of ann, not in the training data" in " ".join(done.stdout.split())
    return path


@pytest.fixture
def word(tmp_path: Path) -> Callable[..., Path]:
    """Write a word that a speaker of her own says, in a form of file."""

    def write(name: str, samples: Samples, rate: int = RATE, **form: str) -> Path:
        soundfile.write(tmp_path / name, samples, rate, **form)
        return tmp_path / name

    return write


def test_a_held_out_speaker_is_understood(trained: Path, folder: Path) -> None:
    result = Run.read(trained).result()
    (row,) = result["rows"]
    details = result["details"]
    assert details["speakers"] == {"train": ["cy", "di"], "validation": ["bob"], "test": ["ann"]}
    assert (row["name"], row["num_words"], row["num_recordings"]) == ("network", 15, 15)
    assert row["mean"] < 20
    assert row["bootstrap_low"] <= row["mean"] <= row["bootstrap_high"]
    assert details["num_words"] == 3 + 1  # `lowly` has phones that were trained, `unused` has none
    assert details["skipped"] == [{"utterance": "low_cy_0", "reason": "2 frames, its words need 4"}]
    assert details["num_states"] == len(HMM.load(trained / "recogniser" / "hmm.json").state_names) == 2 * 6 + 3
    page = (trained / "report.html").read_text()
    for words in ("low_cy_0", "2 frames, its words need 4", "Use it", "recording.wav", "cy, di"):
        assert words in page


def test_frame_accuracy_is_that_of_the_kept_network_on_the_test_alignment(trained: Path) -> None:
    config = Run.read(trained).config
    source = Source(data=RecogniserData(**config["data"]), features=InputSettings(**config["features"]))
    assert load_recordings(source)["train"].speakers == ("cy", "di")
    recogniser = Recogniser.load(trained / "recogniser")
    frames = load_frames(source, "test", trained / "jobs/alignment/network")
    labels = frames.labels(frames.ids)
    logits = predict_logits(recogniser.network, frames)
    assert torch.equal(logits, predict_logits(load_run_network(trained / "jobs/network"), frames))
    accuracy = 100 * float((logits.argmax(1) == labels).float().mean())
    assert Run.read(trained).result()["metrics"]["frame_accuracy"] == pytest.approx(accuracy, abs=1e-4)


def test_decode_prints_the_words_of_a_speaker_whom_it_never_heard(
    typed: Command, trained: Path, word: Callable[..., Path]
) -> None:
    said = np.concatenate([made_word(one, seed=50, pitch=1.07) for one in ("up", "low", "high")])
    file = word("three.wav", said)
    done = typed("speech", "decode", trained, file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{file}  up low high\n"
    assert "real-time factor 0." in done.stderr
    assert "(0.9 s of audio)" in done.stderr
    found = json.loads(typed("speech", "decode", trained, file, "--json").stdout)
    assert found[0]["words"] == ["up", "low", "high"]
    assert [one[0] for one in found[0]["times"]] == ["up", "low", "high"]
    assert found[0]["times"][1][1] == pytest.approx(0.3, abs=0.06)  # seconds
    built_in = json.loads(typed("speech", "decode", trained, file, "--json", "--search", "viterbi").stdout)
    assert built_in[0]["words"] == found[0]["words"]
    assert built_in[0]["times"] == found[0]["times"]
    _, *lines = typed("speech", "decode", trained, file, "--times").stdout.splitlines()
    assert lines == [f"  {begin:7.2f} {end:7.2f}  {said}" for said, begin, end in found[0]["times"]]


@pytest.mark.parametrize("form", ["PCM_24", "FLOAT", "PCM_U8", "flac"])
def test_decode_reads_other_forms_of_files(
    typed: Command, trained: Path, word: Callable[..., Path], form: str
) -> None:
    said = np.concatenate([made_word(one, seed=51) for one in ("high", "low")])
    file = word("two.flac", said) if form == "flac" else word("two.wav", said, subtype=form)
    done = typed("speech", "decode", trained, file)
    assert done.stdout == f"{file}  high low\n"


def test_decode_resamples_and_averages_and_says_so(
    typed: Command, trained: Path, word: Callable[..., Path]
) -> None:
    said = np.concatenate([made_word(one, seed=52) for one in ("low", "up")])
    twice = np.repeat(said, 2)
    both = word("two.wav", np.stack((twice, twice), 1), 2 * RATE)
    done = typed("speech", "decode", trained, both)
    assert done.stdout == f"{both}  low up\n"
    assert f"{both}: its 2 channels are averaged; resampled from 16000 to 8000 Hz" in done.stderr


BROKEN = {
    "empty": (b"", "the file is empty"),
    "text": (b"this is no sound at all", "cannot be read as wav, flac, ogg or mp3"),
    "no samples": (wav_bytes([], RATE), "contains no samples"),
    "truncated": (wav_bytes(made_word("low"), RATE)[:-100], "truncated"),
    "too short": (wav_bytes([0.0] * 20, RATE), "20 samples are too short for a frame of 10 ms"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_decode_refuses_what_is_no_recording(typed: Command, trained: Path, tmp_path: Path, kind: str) -> None:
    content, message = BROKEN[kind]
    (tmp_path / "broken.wav").write_bytes(content)
    done = typed("speech", "decode", trained, tmp_path / "broken.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "broken.wav" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_very_short_recording_has_no_words(typed: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(wav_bytes(made_word("low")[:100], RATE))
    done = typed("speech", "decode", trained, tmp_path / "short.wav")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "short.wav"))


def test_decode_needs_a_run_that_holds_a_recogniser(
    typed: Command, trained: Path, finished_run: Path, tmp_path: Path, folder: Path
) -> None:
    file = folder / "up_ann_0.wav"
    assert "is not a run directory" in typed("speech", "decode", tmp_path, file).stderr
    other = typed("speech", "decode", finished_run, file)
    assert (other.returncode, other.stdout) == (1, "")
    assert "holds no recogniser" in other.stderr
    missing = typed("speech", "decode", trained, tmp_path / "none.wav")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "none.wav: cannot be read" in missing.stderr
    assert typed("speech", "decode", trained).returncode == 2
    assert "unknown search 'dfs'" in typed("speech", "decode", trained, file, "--search", "dfs").stderr


@pytest.mark.parametrize("name", ["recogniser.json", "hmm.json", "network.safetensors"])
def test_a_damaged_recogniser_says_so(
    typed: Command, trained: Path, folder: Path, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("jobs"))
    damaged = copy / "recogniser" / name
    damaged.write_bytes(damaged.read_bytes()[:-40])
    done = typed("speech", "decode", copy, folder / "up_ann_0.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_decode_needs_nothing_but_the_folder_of_the_recogniser(
    typed: Command, trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path))
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("jobs", "result.json", "report.html"))
    assert sorted(file.name for file in (copy / "recogniser").iterdir()) == [
        "hmm.json",
        "network.safetensors",
        "recogniser.json",
    ]
    done = typed("speech", "decode", copy, folder / "up_ann_1.wav", folder / "low_ann_1.wav")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["up", "low"]


def test_align_says_when_each_word_is_said(typed: Command, trained: Path, folder: Path, tmp_path: Path) -> None:
    done = typed("speech", "align", trained, folder, "--out", tmp_path / "aligned")
    assert done.returncode == 0, done.stderr
    assert "59 utterances aligned, 1 skipped: low_cy_0 (2 frames, its words need 4)" in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 59
    assert (tmp_path / "aligned/words.ctm").read_text() == done.stdout
    utterance, channel, begin, duration, said = lines[0].split()
    assert (channel, said) == ("1", utterance.partition("_")[0])
    assert float(begin) + float(duration) <= 0.31
    states = load_file(tmp_path / "aligned/states.safetensors")
    assert states["up_ann_0"].shape == (30,)
    one = typed("speech", "align", trained, folder / "up_ann_0.wav", "--words", "up")
    assert one.stdout.split()[4] == "up"


def test_align_refuses_words_that_do_not_fit(typed: Command, trained: Path, folder: Path) -> None:
    file = folder / "up_ann_0.wav"
    unknown = typed("speech", "align", trained, file, "--words", "upp")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "unknown word 'upp'; did you mean up?" in unknown.stderr
    long = typed("speech", "align", trained, file, "--words", " ".join(["up"] * 20))
    assert "30 frames, its words need 80" in long.stderr
    assert "a file needs its transcript: --words" in typed("speech", "align", trained, file).stderr
    assert (
        "a data directory has its words in `text`"
        in typed("speech", "align", trained, folder, "--words", "up").stderr
    )


def test_a_recogniser_is_distilled_into_a_smaller_network(
    instar: Command, typed: Command, trained: Path, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "student"
    small = [*SMALL, "--network", "mlp:8x1", "--teacher", trained]
    done = instar("speech", "train", folder, *small, "--run-dir", path)
    assert done.returncode == 0, done.stderr
    result = Run.read(path).result()
    assert [row["name"] for row in result["rows"]] == ["distilled", "alone", "teacher"]
    assert result["rows"][0]["parameters"] < result["rows"][2]["parameters"]
    assert [row["network"] for row in result["rows"]] == ["mlp:8x1", "mlp:8x1", "mlp:32x1"]
    teacher, student = (Recogniser.load(one / "recogniser") for one in (trained, path))
    assert teacher.hmm.state_names == student.hmm.state_names
    assert torch.equal(teacher.hmm.priors, student.hmm.priors)
    lines = Run.read(path / "jobs/distilled").metrics()
    assert all(math.isfinite(line["train_soft_loss"]) for line in lines)
    assert "train_soft_loss" not in Run.read(path / "jobs/alone").metrics()[0]
    assert typed("speech", "decode", path, folder / "up_ann_0.wav").returncode == 0
    other = typed("speech", "train", folder, *small, "--context", "3,2", "--run-dir", tmp_path / "other")
    assert other.returncode == 2
    assert "takes 7 frames of 40 filters (speaker) at 8000 Hz, the student would take 6 frames" in other.stderr


def test_the_network_of_a_recogniser_is_made_as_its_settings_say(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[torch.nn.Module, dict[str, Any]]] = []

    def noted(network: torch.nn.Module, data: Any, **options: Any) -> FitResult:
        made.append((network, options))
        return FitResult(network, [{}], 0)

    monkeypatch.setattr(fitting, "fit", noted)
    config, needs = (
        Run.read(trained / "jobs/network").config,
        {"alignment/network": trained / "jobs/alignment/network"},
    )
    changes = {"initialiser": "gaussian:0.01", "bias_rate_factor": 2.0}
    for name, fit in (("as-it-was", {}), ("changed", changes)):
        with Run(tmp_path / name, recipe="job", config={**config, "fit": {**config["fit"], **fit}}) as run:
            fit_jobs._fit(run, needs, device="cpu")
    (was, options), (changed, changed_options) = made
    assert options["learning_rate_factors"] == {}
    assert set(changed_options["learning_rate_factors"].values()) == {2.0}
    first, first_changed = (next(network.parameters()).detach().std() for network in (was, changed))
    assert first > 0.05
    assert first_changed == pytest.approx(0.01, rel=0.1)


def test_a_teacher_that_knows_who_is_held_out_is_refused(
    typed: Command, trained: Path, folder: Path, tmp_path: Path
) -> None:
    student = (*SMALL, "--teacher", trained, "--run-dir", tmp_path / "student")
    for part in ("test", "validation"):
        done = typed("speech", "train", folder, *student, f"--{part}-speakers", "cy,bob")
        assert done.returncode == 2
        assert f"{trained} was trained on cy, held out here for validation or test" in done.stderr
    assert not (tmp_path / "student").exists()


def test_no_recording_is_in_two_parts_though_speakers_may_be(tmp_path: Path) -> None:
    whole = made_corpus(("ann", "bob"), each=4)
    train, test = (
        write_kaldi_dir(tmp_path / name, whole.where(lambda one, there=there: one.id[-1] in there))
        for name, there in (("train", "012"), ("test", "3"))
    )
    data = RecogniserData(name=f"kaldi:{train}", test=f"kaldi:{test}")
    recordings = load_recordings(Source(data=data))
    assert recordings["train"].speakers == recordings["test"].speakers == ("ann", "bob")
    for heard in train.glob("low_ann_*.wav"):  # all of them: one may be validation
        shutil.copy(heard, test / "low_ann_3.wav")
        with pytest.raises(UsageError, match=f"'low_ann_3' is in (train|validation) too, as '{heard.stem}'"):
            load_recordings(Source(data=data.model_copy(update={"seed": int(heard.stem[-1]) + 1})))


def test_the_defaults_hold_for_a_single_epoch() -> None:
    settings = read_config({"network": {"epochs": 1}})
    assert (settings.network.epochs, settings.network.gradient_clip) == (1, 1.0)
    assert read_config(QUICK).network.network == "mlp:128x2"


def test_the_data_of_a_file_are_taken_unless_others_are_typed(typed: Command, tmp_path: Path) -> None:
    config = tmp_path / "speech.toml"
    config.write_text('[data]\nname = "kaldi:of-the-file"\n')
    done = typed("speech", "train", "--config", config, cwd=tmp_path)
    assert "of-the-file/wav.scp: cannot be read" in done.stderr
    done = typed("speech", "train", "kaldi:typed", "--config", config, cwd=tmp_path)
    assert "typed/wav.scp: cannot be read" in done.stderr


WRONG_USE = {
    "--quiet train {folder}": "goes after the command: instar speech train",
    "train nowhere": "'nowhere' is no folder; expected fsdd or a Kaldi data directory",
    "train {folder} --lexicon none.txt": "lexicon 'none.txt' should be digits, words",
    "train {folder} --grammar trigram": "grammar 'trigram' should be loop, one or ngram:N",
    "train {folder} --grammar ngram:0": "grammar 'ngram:0' should be loop, one or ngram:N",
    "train {folder} --context 5": "--context '5' should be two numbers of frames",
    "train {folder} --test-speakers eve": "unknown speaker 'eve'",
    "train {folder} --test-speakers ann,bob,cy,di": "test_speakers holds out every speaker",
    "train {folder} --test {folder} --test-speakers ann": "test and test_speakers are both given",
    "train {folder} --test {folder}": "test recording 'low_bob_0' is in train too, as 'low_bob_0'",
    "train {folder} --network mpl:8x1": "unknown network 'mpl:8x1'; did you mean mlp",
    "train {folder} --set features.mels=3": "unknown setting 'features.mels'",
    "train {folder} --set network.views=jitter:2": "network.views is jitter:2, expected none",
    "train {folder} --set network.input_dropout=0.2": "network.input_dropout is 0.2, expected 0",
    "train {folder} --set network.pretrained=true": "network.pretrained is True, expected false",
    "train {folder} --set network.learning_rate=[0.1,0.2]": "network.learning_rate should be a valid number",
    "train {folder} --teacher nowhere": "nowhere/recogniser holds no recogniser",
    "train {folder} --temperature 0": "temperature should be greater than 0",
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use(typed: Command, folder: Path, tmp_path: Path, arguments: str) -> None:
    words = arguments.format(folder=folder).split()
    done = typed("speech", *words, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == (1 if "--teacher" in words else 2)
    assert WRONG_USE[arguments] in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def edited(folder: Path, tmp_path: Path, file: str, change: Callable[[str], str]) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / file).write_text(change((copy / file).read_text()))
    return copy


def test_a_call_from_python_reads_recordings_that_have_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, found = edited(folder, tmp_path, "text", str), []

    def noted(study: str, config: Any, path: Any, execution: Any) -> Any:
        found.append(load_recordings(Source(data=config.data)).words)
        return study, path, {}

    monkeypatch.setattr(from_python, "run_experiment", noted)
    for _ in range(2):
        instar.speech_study(data=copy, fraction=0.9)
        (copy / "text").write_text((copy / "text").read_text().replace(" up", " upwards"))
    assert found == [("high", "low", "up"), ("high", "low", "upwards")]


BROKEN_FOLDERS: dict[str, tuple[str, Callable[[str], str], str]] = {
    "a command": ("wav.scp", lambda text: text.replace("up_ann_0.wav", "touch ran |"), "is a command"),
    "a missing file": ("wav.scp", lambda text: text.replace("up_ann_0.wav", "gone.wav"), "gone.wav, does not"),
    "an id twice": ("text", lambda text: text + text.splitlines()[0] + "\n", "occurs twice"),
    "text without audio": ("text", lambda text: text + "more up\n", "no audio for 'more'"),
    "audio without text": ("text", lambda text: "\n".join(text.splitlines()[1:]), "no line for"),
    "an unknown word": ("text", lambda text: text.replace("up_cy_0 up", "up_cy_0 down"), "unknown word 'down'"),
    "a bad lexicon": ("lexicon.txt", lambda text: text + "down\n", "line 6: expected WORD PHONE"),
}


@pytest.mark.parametrize("kind", BROKEN_FOLDERS)
def test_a_broken_data_directory_is_refused(typed: Command, folder: Path, tmp_path: Path, kind: str) -> None:
    file, change, message = BROKEN_FOLDERS[kind]
    copy = edited(folder, tmp_path, file, change)
    done = typed("speech", "train", copy, *SMALL, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (copy / "ran").exists()


def test_without_data_and_network_one_line_says_what_to_do(instar: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    nowhere = {"INSTAR_DATA": str(tmp_path / "data"), "INSTAR_CACHE": str(tmp_path / "cache")}
    nowhere |= dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = instar("speech", cwd=tmp_path, **nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "fsdd-recordings.zip" in done.stderr


@pytest.mark.slow
def test_without_options_a_small_recogniser_of_digits(instar: Command, tmp_path: Path) -> None:
    archive = tmp_path / "data" / "fsdd" / "fsdd-recordings.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(fsdd_archive(num_each=4))
    places = {"INSTAR_DATA": str(tmp_path / "data"), "INSTAR_CACHE": str(tmp_path / "cache")}
    done = instar("speech", cwd=tmp_path, **places)
    assert done.returncode == 0, done.stderr
    assert "Word error rate " in done.stdout
    (path,) = (tmp_path / "runs/speech").iterdir()
    assert f"Use it: instar speech decode runs/speech/{path.name} recording.wav" in done.stdout
    assert Run.read(path).result()["details"]["speakers"]["test"] == ["george"]
