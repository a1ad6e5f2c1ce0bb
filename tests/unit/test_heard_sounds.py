"""Networks of transformers that hear sounds by their feature extractors: the library is the second opinion."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import instar
from command_line import Command
from instar.data import Splits, load_data, parse_views, seen_by
from instar.data.kinds import read_preparation
from instar.data.readers.audio import read_audio, resample
from instar.deploy import cost_of
from instar.errors import DataError, InstarError, UsageError
from instar.networks import as_logits, build_network, call, cut, described, forward_logits, head_change, layers_of
from instar.networks.libraries.hearing import SoundReader
from instar.networks.libraries.of_transformers import transformers
from library_networks import sound_folder, vit_folder
from speech_files import RATE, TONES, made_word

OWN_RATE = 16_000
NAMES = ["up", "low", "high"]  # of the networks: the data has another order
EXTRACTORS: dict[str, dict[str, Any]] = {
    "wav2vec2": {"sampling_rate": OWN_RATE},
    "masked": {"sampling_rate": OWN_RATE, "return_attention_mask": True},
    "ast": {"sampling_rate": OWN_RATE},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each network."""
    found = {kind: tmp_path_factory.mktemp("network") / kind for kind in EXTRACTORS}
    for kind, path in found.items():
        sound_folder(path, "ast" if kind == "ast" else "wav2vec2", NAMES, **EXTRACTORS[kind])
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 8 clips of each of three words, of 0.2 to 0.3 s at half the rate that the networks take."""
    path = tmp_path_factory.mktemp("clips")
    for word in TONES:
        (path / word).mkdir()
        for take in range(8):
            samples = made_word(word, seed=take, pitch=1 + 0.02 * take, seconds=0.2 + 0.0143 * take)
            soundfile.write(path / word / f"{take}.wav", samples, RATE)
    return path


def load(clips: Path, **options: Any) -> Splits:
    return load_data(f"folder:{clips}", progress=False, **options)


def built(path: Path, data: Any, **options: Any) -> Any:
    about = {"num_classes": 3, "seed": 0, "class_names": data.class_names}
    options = {"input_shape": data.example_shape, **about, **options}
    return build_network(f"transformers:{path}", **options).eval()


def heard_by_the_library(path: Path, files: list[str]) -> list[torch.Tensor]:
    """The features of each file by itself, resampled."""
    extractor = transformers().AutoFeatureExtractor.from_pretrained(path)
    found = []
    for file in files:
        samples = resample(read_audio(file).samples, RATE, OWN_RATE)
        features = extractor(samples, sampling_rate=OWN_RATE, return_tensors="pt")
        found.append(features["input_values"][0])
    return found


def logits_of_the_library(path: Path, files: list[str]) -> torch.Tensor:
    network = transformers().AutoModelForAudioClassification.from_pretrained(path).eval()
    with torch.no_grad():
        return torch.cat([network(one[None]).logits for one in heard_by_the_library(path, files)])


def files_of(data: Any) -> list[str]:
    """The files of the examples, in the order of the ids."""
    return [re.sub(r"^.*: ", "", str(data.sounds.table["file"][row])) for row in data.rows(data.ids).tolist()]


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_a_teacher_hears_the_clips_that_a_student_sees_the_filterbanks_of(
    kind: str, folders: dict[str, Path], clips: Path
) -> None:
    data = load(clips).train
    some = data.subset(data.ids[[5, 2, 9]])
    teacher = built(folders[kind], some, weights="own")
    assert isinstance(teacher, SoundReader)
    order = [NAMES.index(name) for name in data.class_names]
    expected = logits_of_the_library(folders[kind], files_of(some))[:, order]
    assert expected.std(0).min() > 1e-4  # the clips differ
    torch.testing.assert_close(instar.predict_logits(teacher, some), expected, atol=1e-5, rtol=0)
    again = built(folders[kind], some, weights="none", described=described(f"transformers:{folders[kind]}"))
    again.load_state_dict(teacher.state_dict())
    torch.testing.assert_close(instar.predict_logits(again, some), expected, atol=1e-5, rtol=0)
    assert cost_of(teacher, data.example_shape, repeats=1).parameters == sum(
        p.numel() for p in teacher.parameters()
    )


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_a_student_sees_what_its_feature_extractor_makes(kind: str, folders: dict[str, Path], clips: Path) -> None:
    splits = load(clips, feature_extractor=str(folders[kind]))
    data, preparation = splits.train, splits.preparation
    assert preparation is not None
    assert "resampled" in preparation.in_words()
    again: Any = read_preparation(json.loads(json.dumps(preparation.record())))
    inputs = data.gather(data.ids, 0)
    for row, features in enumerate(heard_by_the_library(folders[kind], files_of(data))):
        values = inputs["input_values"][row]
        length = min(len(features), len(values))
        if len(features) == length:  # one that is cut has another mean
            torch.testing.assert_close(values[:length], features[:length], atol=1e-5, rtol=0)
        assert not values[length:].any()
        if kind == "masked":
            assert int(inputs["attention_mask"][row].sum()) == length
    assert set(inputs) == {"input_values", *(["attention_mask"] if kind == "masked" else [])}
    assert splits.roles is not None
    file = files_of(data)[0]
    made = again.inputs(data.sounds.take(data.rows(data.ids[:1])).table, splits.roles)  # type: ignore[union-attr]
    first = made["input_values"].values if kind == "masked" else made["input_values"][0]
    torch.testing.assert_close(first, inputs["input_values"][0][: len(first)], msg=file)


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_every_cut_gives_the_same_logits(kind: str, folders: dict[str, Path], clips: Path) -> None:
    data = load(clips, feature_extractor=str(folders[kind])).train
    network, inputs = built(folders[kind], data), data.gather(data.ids[:3], 0)
    names = [layer.name for layer in layers_of(network, inputs)]
    assert [name for name in names if ".layers." in name] == [
        f"{'audio_spectrogram_transformer' if kind == 'ast' else 'wav2vec2.encoder'}.layers.{n}" for n in (0, 1)
    ]
    assert names[-1] == "classifier"
    assert "by name" in head_change(network)
    with torch.no_grad():
        expected = forward_logits(network, inputs)
        for n in range(len(names) + 1):
            parts = cut(network, n, inputs)
            if parts.cacheable:
                found = as_logits(call(parts.rest, call(parts.prefix, inputs)), network)
                torch.testing.assert_close(found, expected, msg=f"cut {n}")
        assert sum(cut(network, n, inputs).cacheable for n in range(len(names) + 1)) > len(names) // 2


def test_training_does_not_depend_on_the_random_state_of_numpy(folders: dict[str, Path], clips: Path) -> None:
    """Its masks of time and of features are drawn from it, and fail on short clips."""
    data = load(clips, feature_extractor=str(folders["masked"])).train
    network, inputs = built(folders["masked"], data).train(), data.gather(data.ids[:2], 0)
    found = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(0)
        found.append(forward_logits(network, inputs))
    assert torch.equal(*found)


def _without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def _set(key: str, value: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))

    return act


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_without("preprocessor_config.json"), r"there is no preprocessor_config.json; AutoFeatureExtractor"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("["), "is not JSON of one"),
        (
            _set("feature_extractor_type", "ViTImageProcessor"),
            "ViTImageProcessor is no feature extractor of sounds",
        ),
        (_set("feature_extractor_type", "EarExtractor"), "EarExtractor is no feature extractor of sounds"),
        (_set("sampling_rate", None), r"sampling_rate is None, expected 1000 to 400000 Hz"),
    ],
)
def test_a_feature_extractor_that_cannot_be_used_is_one_line(
    spoil: Callable[[Path], Any], error: str, folders: dict[str, Path], clips: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(folders["ast"], folder)
    spoil(folder)
    for act in (
        lambda: load(clips, feature_extractor=str(folder)),
        lambda: built(folder, load(clips).train, weights="own"),
    ):
        with pytest.raises(InstarError, match=error) as found:
            act()
        assert "\n" not in str(found.value)


def test_what_does_not_fit_is_refused_by_name(folders: dict[str, Path], clips: Path, tmp_path: Path) -> None:
    data = load(clips).train
    with pytest.raises(UsageError, match=r"examples are filterbanks: name it, --feature-extractor .*ast"):
        built(folders["ast"], data)
    spectrograms = load(clips, feature_extractor=str(folders["ast"])).train
    with pytest.raises(UsageError, match=r"the examples are input_values 48x16: name it, --feature-extractor"):
        built(folders["wav2vec2"], spectrograms)
    assert isinstance(built(folders["wav2vec2"], spectrograms, weights="own"), SoundReader)
    with pytest.raises(UsageError, match=r"sample_rate 8000: the feature extractor of .* takes 16000 Hz"):
        load(clips, feature_extractor=str(folders["ast"]), sample_rate=8000)
    teacher = built(folders["ast"], data, weights="own")
    viewed = data.with_views(parse_views("time-shift:2"), view_seed=0)
    with pytest.raises(
        UsageError, match=r"hears the clips themselves, and would not see the views 'time-shift:2'"
    ):
        seen_by(teacher, viewed)
    digits = load_data("digits").train
    with pytest.raises(UsageError, match="hears sounds, and the examples hold none"):
        instar.predict_logits(teacher, digits)
    vit_folder(tmp_path / "vit", NAMES)
    with pytest.raises(UsageError, match="is a vit, which transformers has no classification of sounds for"):
        built(tmp_path / "vit", spectrograms)


def test_a_clip_that_is_shorter_than_a_frame_gets_zeros(folders: dict[str, Path]) -> None:
    from instar.listening import read_listening

    listening = read_listening(folders["ast"])
    short = np.ones(10, np.float32)
    found = listening.features(short)
    padded = np.zeros(1600, np.float32)
    padded[:10] = 1
    assert torch.equal(found, listening.features(padded))
    with pytest.raises(DataError, match="ASTFeatureExtractor makes nothing of it"):
        listening.features(np.full((2000, 3, 2), "a"))  # type: ignore[arg-type]


@pytest.mark.slow
def test_distilled_from_one_that_hears_into_another_and_shipped(
    instar: Command, clips: Path, tmp_path: Path
) -> None:
    folders, own = {"ast": tmp_path / "ast", "wav2vec2": tmp_path / "wav2vec2"}, sorted(NAMES)
    for kind, path in folders.items():
        sound_folder(path, kind, own, sampling_rate=OWN_RATE)
    fits = ["--epochs", "2", "--seeds", "1", "--tuning-seeds", "1"]
    fits += ["--temperature", "2", "--learning-rate", "0.02"]
    networks = ["--teacher", f"transformers:{folders['ast']}", "--student", f"transformers:{folders['wav2vec2']}"]
    run = tmp_path / "run"
    done = instar("distill", "--data", f"folder:{clips}", *networks, *fits, "--run-dir", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CLIP_OR_FOLDER" in done.stdout
    clip = clips / "up" / "3.wav"
    for name, kind in ((":teacher", "ast"), ("", "wav2vec2")):
        done = instar("predict", f"{run}{name}", clip, "--format", "jsonl", "--top-k", "3")
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        if name:
            expected = logits_of_the_library(folders[kind], [str(clip)]).softmax(-1)[0]
            found = {answer[f"class{end}"]: answer[f"probability{end}"] for end in ("", "_2", "_3")}
            assert [found[one] for one in own] == pytest.approx(expected.tolist(), abs=1e-5)
    done = instar("export", run, "--to", "transformers", "--out", tmp_path / "shipped")
    assert done.returncode == 0, done.stdout + done.stderr
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert 'pipeline_tag: "audio-classification"' in card
    samples = resample(read_audio(clip).samples, RATE, OWN_RATE)
    soundfile.write(tmp_path / "shipped" / "clip.wav", samples, OWN_RATE, subtype="FLOAT")
    code = re.search(r"```python\n(.*?)```", card, re.S)
    assert code is not None
    said: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "shipped")
        exec(code[1], {"print": lambda *words: said.append(words)})
    assert said == [(answer["class"], pytest.approx(answer["probability"], abs=1e-4))]
    done = instar("predict", tmp_path / "shipped", clip, "--format", "jsonl", "--top-k", "3")
    assert json.loads(done.stdout) == pytest.approx(answer, abs=1e-5)
