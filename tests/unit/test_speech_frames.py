"""Features of a corpus and their windows: kept once, gathered on the fly, learned from like any other data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from instar import fit, transfer_set
from instar.data.sources import cache_folder
from instar.errors import DataError, UsageError
from instar.networks import build_network
from instar.speech import features as module
from instar.speech.corpus import Corpus, Utterance
from instar.speech.features import Features, FeatureSettings, Statistics, features_of, log_mel
from instar.speech.frames import FrameDataset, frame_ids
from speech_files import RATE, TONES, made_corpus

pytest.importorskip("kaldi_native_fbank")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path))
    return tmp_path


def made_features(lengths: tuple[int, ...] = (7, 1, 30), num_mels: int = 3) -> Features:
    values = torch.randn(sum(lengths), num_mels, generator=torch.Generator().manual_seed(0))
    utterances = tuple(Utterance(f"utterance-{row}", "ann") for row in range(len(lengths)))
    return Features(values, utterances, lengths, RATE, FeatureSettings(num_mels=num_mels))


def states_of(features: Features) -> dict[str, torch.Tensor]:
    return {one.id: torch.arange(len(features.of(one))) % 2 for one in features.utterances}


def test_a_window_is_the_frames_around_one_and_never_another_utterance() -> None:
    features = made_features()
    data = FrameDataset(features, class_names=["a", "b"], left=4, right=2)
    windows = data.gather(data.ids, 0).view(-1, 7, 3)
    row = 0
    for one in features.utterances:
        frames = features.of(one)
        for frame in range(len(frames)):
            expected = [frames[min(max(frame + offset, 0), len(frames) - 1)] for offset in range(-4, 3)]
            torch.testing.assert_close(windows[row], torch.stack(expected), rtol=0, atol=0)
            row += 1
    assert row == len(data) == 38


def test_the_default_is_the_paper_s_window_whose_21st_frame_is_told() -> None:
    features = made_features((60,), num_mels=40)
    data = FrameDataset(features, class_names=["a", "b"])
    assert data.example_shape == (1040,)
    window = data.gather(data.ids[30:31], 0).view(26, 40)
    torch.testing.assert_close(window[20], features.values[30], rtol=0, atol=0)


def test_subsets_transfer_sets_and_labels_work_as_for_pictures() -> None:
    features = made_features()
    data = FrameDataset(features, states_of(features), class_names=["a", "b"])
    part = data.of_utterances(["utterance-2"])
    assert len(part) == 30
    assert torch.isin(part.ids, data.ids).all()
    torch.testing.assert_close(part.gather(part.ids, 0), data.gather(part.ids, 0), rtol=0, atol=0)
    assert part.labels(part.ids).tolist() == [0, 1] * 15
    assert part._values is data._values  # nothing is copied
    assert len(transfer_set(data, fraction=0.5)) == 19
    assert set(data.without_labels(part.ids).labels(part.ids).tolist()) == {-1}
    assert len(part.union(data.of_utterances(["utterance-0"]))) == 37
    with pytest.raises(UsageError, match="'utterance-9' is not in"):
        data.of_utterances(["utterance-9"])
    with pytest.raises(UsageError, match="no utterance"):
        data.of_utterances([])


def test_an_utterance_without_an_alignment_has_no_labels() -> None:
    features = made_features()
    data = FrameDataset(features, {"utterance-0": torch.ones(7, dtype=torch.int64)}, class_names=["a", "b"])
    assert data.labels(data.ids).tolist() == [1] * 7 + [-1] * 31


@pytest.mark.parametrize(
    ("alignment", "error", "message"),
    [
        (
            {"utterance-0": torch.zeros(8, dtype=torch.int64)},
            DataError,
            r"has 7 frames, its alignment has shape \(8,\)",
        ),
        ({"utterance-0": torch.full((7,), 2)}, DataError, "7 of 38 labels are outside the 2 classes"),
        ({"other": torch.zeros(8, dtype=torch.int64)}, UsageError, "utterance 'other', which has no features"),
    ],
)
def test_a_wrong_alignment_is_refused(
    alignment: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FrameDataset(made_features(), alignment, class_names=["a", "b"])


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(UsageError, match="expected at least 0"):
        FrameDataset(made_features(), class_names=["a", "b"], left=-1)


def test_ids_do_not_depend_on_the_order_or_the_rest_of_the_corpus() -> None:
    corpus = made_corpus()
    settings = FeatureSettings(normalisation="none")
    whole = features_of(corpus, settings)
    turned = features_of(corpus.subset(list(corpus.utterances)[:4:-1]), settings)
    places = {one.id: turned.places[one.id] for one in turned.utterances}
    ids, others = frame_ids(whole), frame_ids(turned)
    assert len(ids.unique()) == len(ids)
    for name, (start, end) in places.items():
        first, last = whole.places[name]
        assert ids[first:last].tolist() == others[start:end].tolist()


def test_a_network_learns_which_word_a_frame_is_of() -> None:
    corpus = made_corpus()
    features = features_of(corpus)
    names = sorted(TONES)
    labels = {
        one.id: torch.full((length,), names.index(one.words[0]))
        for one, length in zip(features.utterances, features.lengths, strict=True)
    }
    data = FrameDataset(features, labels, class_names=names)
    network = nn.Sequential(nn.Linear(1040, 16), nn.ReLU(), nn.Linear(16, 3))
    result = fit(network, data, epochs=5, learning_rate=0.05, precision="float32")
    assert result.metrics[-1]["train_errors"] < 0.05 * len(data)


@pytest.mark.slow
def test_the_paper_s_network_has_its_weights_and_makes_a_step() -> None:
    features = made_features((6,), num_mels=40)
    names = [f"state-{number}" for number in range(14_000)]
    data = FrameDataset(features, {"utterance-0": torch.arange(6) * 2000}, class_names=names)
    network = build_network("mlp:2560x8", input_shape=data.example_shape, num_classes=14_000, seed=0)
    weights = [value for name, value in network.named_parameters() if name.endswith("weight")]
    assert [tuple(value.shape) for value in weights] == [(2560, 1040), *[(2560, 2560)] * 7, (14_000, 2560)]
    assert sum(value.numel() for value in weights) == 84_377_600
    before = weights[-1].detach().clone()
    result = fit(network, data, epochs=1, batch_size=6, learning_rate=0.01)
    assert result.num_steps == 1
    assert np.isfinite(result.metrics[0]["train_loss"])
    assert not torch.equal(before, weights[-1])


def test_features_are_computed_once_and_mapped(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = made_corpus()
    first = features_of(corpus)
    files = list((cache_folder() / "features").iterdir())
    assert len(files) == 1
    with monkeypatch.context() as patch:
        patch.setattr(module, "log_mel", None)  # would fail if it were called
        again = features_of(made_corpus())
    torch.testing.assert_close(again.values, first.values, rtol=0, atol=0)
    assert again.places == first.places
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if files[0].name in line]
    assert mapped or not Path("/proc/self/maps").exists()
    for change in (
        FeatureSettings(num_mels=23),
        FeatureSettings(normalisation="none"),
        FeatureSettings(normalisation="global"),
    ):
        features_of(corpus, change)
    assert len(list((cache_folder() / "features").iterdir())) == 4
    files[0].unlink()  # not changed in place: it is mapped
    files[0].write_bytes(b"damaged")
    torch.testing.assert_close(features_of(corpus).values, first.values, rtol=0, atol=0)


def test_normalisation_is_by_session_or_global() -> None:
    corpus = made_corpus()
    features = features_of(corpus)
    for speaker in corpus.speakers:
        own = torch.cat([features.of(one) for one in corpus.utterances if one.speaker == speaker])
        torch.testing.assert_close(own.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
        torch.testing.assert_close(own.std(0, correction=0), torch.ones(40), atol=1e-3, rtol=0)
    plain = features_of(corpus, FeatureSettings(normalisation="none"))
    statistics = Statistics.of(plain.values)
    one = corpus.of_speakers(["ann"])
    ours = features_of(one, FeatureSettings(normalisation="global"), statistics=statistics)
    torch.testing.assert_close(ours.values, statistics.normalise(plain.values[: len(ours.values)]))
    with pytest.raises(UsageError, match="statistics are for normalisation 'global'"):
        features_of(one, statistics=statistics)


def test_silence_has_a_finite_floor() -> None:
    assert log_mel(np.zeros(800, np.float32), RATE).abs().max() == 0
    silent = Corpus("silent", RATE, [Utterance("a", "ann")], lambda _: np.zeros(800, np.float32))
    assert features_of(silent).values.abs().max() == 0


def test_what_is_too_short_for_a_frame_is_named() -> None:
    short = Corpus("short", RATE, [Utterance("click", "ann")], lambda _: np.zeros(30, np.float32))
    with pytest.raises(DataError, match="utterance 'click': a recording of 30 samples is too short"):
        features_of(short)


@pytest.mark.parametrize("options", [{"num_mels": 0}, {"shift_ms": 30.0}, {"normalisation": "sometimes"}])
def test_wrong_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FeatureSettings(**options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'other': it is not in the corpus"):
        made_features().of("other")
