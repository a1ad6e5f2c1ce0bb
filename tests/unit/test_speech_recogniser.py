"""A recogniser as an object: it hears what its network was trained on, and comes back from its folder."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from instar.data.readers.audio import Recording
from instar.errors import DataError, RunError
from instar.speech.corpus import Corpus
from instar.speech.decoding import Decoder
from instar.speech.features import FeatureSettings, Statistics, features_of, log_mel
from instar.speech.frames import FrameDataset
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.lexicon import Lexicon
from instar.speech.recogniser import PRIOR_FRAMES, Recogniser, average_speaker, state_network
from speech_files import TONES, made_corpus, made_word
from speech_models import random_hmm

pytest.importorskip("kaldi_native_fbank")


def recogniser_for(corpus: Corpus, settings: FeatureSettings) -> Recogniser:
    """An untrained network: what it hears is nonsense, but always the same."""
    hmm = random_hmm(Lexicon.of_words(TONES), seed=0, states=3)
    network = state_network("mlp:16x1", settings, hmm, left=3, right=1).eval()
    decoder = Decoder(hmm, Grammar.loop(TONES), acoustic_scale=0.3, word_penalty=2.0)
    statistics = average_speaker(corpus, settings)
    return Recogniser(network, "mlp:16x1", decoder, settings, statistics, corpus.sample_rate, 3, 1)


def recordings_of(corpus: Corpus, speaker: str) -> list[Recording]:
    own = [one for one in corpus.utterances if one.speaker == speaker]
    return [Recording(corpus.audio(one), corpus.sample_rate, 1) for one in own]


def test_with_global_normalisation_a_file_gives_the_features_of_the_corpus() -> None:
    corpus, settings = made_corpus(), FeatureSettings(normalisation="global")
    recogniser = recogniser_for(corpus, settings)
    features = features_of(corpus, settings, statistics=recogniser.statistics, keep=False)
    for one in corpus.utterances[:4]:
        (frames,) = recogniser.normalised([Recording(corpus.audio(one), corpus.sample_rate, 1)])
        assert torch.equal(frames, features.of(one))


def test_with_normalisation_by_speaker_her_own_statistics_weigh_as_much_as_she_has_said() -> None:
    corpus, settings = made_corpus(each=2), FeatureSettings()
    recogniser = recogniser_for(corpus, settings)
    recordings = recordings_of(corpus, "bob")
    raw = [log_mel(one.samples, one.sample_rate, settings) for one in recordings]
    frames = torch.cat(raw)
    weight = len(frames) / (len(frames) + PRIOR_FRAMES)
    speakers = [[log_mel(one.samples, 8000) for one in recordings_of(corpus, name)] for name in corpus.speakers]
    average = torch.stack([torch.cat(one).mean(0) for one in speakers]).mean(0)
    mean = weight * frames.mean(0) + (1 - weight) * average
    found = torch.cat(recogniser.normalised(recordings))
    deviation = (frames - mean) / found
    assert torch.allclose(deviation, deviation[:1].expand_as(deviation), rtol=1e-2)  # one number a filter
    everything = torch.cat(recogniser.normalised(recordings * 200))
    own = Statistics.of(frames).normalise(frames)
    assert torch.allclose(everything[: len(own)], own, atol=0.02)


def test_scores_are_those_of_the_frames_as_they_were_trained() -> None:
    corpus, settings = made_corpus(each=1), FeatureSettings(normalisation="none")
    recogniser = recogniser_for(corpus, settings)
    features = features_of(corpus, settings, keep=False)
    data = FrameDataset(features, class_names=recogniser.hmm.state_names, left=3, right=1)
    with torch.no_grad():
        logits = recogniser.network(data.gather(data.ids, 0))
    expected = acoustic_scores(logits, recogniser.hmm.log_priors)
    for one in corpus.utterances[:3]:
        start, end = features.places[one.id]
        assert torch.allclose(recogniser.scores(features.of(one)), expected[start:end], atol=1e-5)


@pytest.mark.parametrize("normalisation", ["speaker", "global", "none"])
def test_a_recogniser_comes_back_from_its_folder(tmp_path: Path, normalisation: str) -> None:
    corpus = made_corpus(each=2)
    recogniser = recogniser_for(corpus, FeatureSettings(normalisation=normalisation))  # type: ignore[arg-type]
    recogniser.save(tmp_path)
    again = Recogniser.load(tmp_path)
    recordings = recordings_of(corpus, "cy")
    for one, other in zip(recogniser.recognise(recordings), again.recognise(recordings), strict=True):
        assert one.words == other.words
        assert one.path.score == other.path.score
        assert torch.equal(one.path.states, other.path.states)
        assert one.audio_seconds == pytest.approx(0.3)
        assert one.real_time_factor == one.seconds / one.audio_seconds
    assert again.decoder.settings == recogniser.decoder.settings
    about = json.loads((tmp_path / "recogniser.json").read_text())
    (tmp_path / "recogniser.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(RunError, match="has format 99"):
        Recogniser.load(tmp_path)


def test_another_sample_rate_is_resampled() -> None:
    corpus = made_corpus(each=1)
    recogniser = recogniser_for(corpus, FeatureSettings(normalisation="global"))
    word = made_word("low")
    (once,) = recogniser.normalised([Recording(word, 8000, 1)])
    (twice,) = recogniser.normalised([Recording(torch.from_numpy(word).repeat_interleave(2).numpy(), 16000, 1)])
    assert once.shape == twice.shape
    assert float((once - twice).abs().median()) < 0.2


def test_no_recording_and_one_without_a_frame() -> None:
    recogniser = recogniser_for(made_corpus(each=1), FeatureSettings())
    assert recogniser.recognise([]) == []
    with pytest.raises(DataError, match="20 samples is too short"):
        recogniser.recognise([Recording(made_word("low")[:20], 8000, 1)])


def test_a_network_for_other_states_is_refused(tmp_path: Path) -> None:
    recogniser = recogniser_for(made_corpus(each=1), FeatureSettings())
    recogniser.save(tmp_path)
    other = HMM.new(Lexicon.of_words(TONES), states_of_word=4)
    dataclasses.replace(recogniser, decoder=Decoder(other, Grammar.loop(TONES))).hmm.save(tmp_path / "hmm.json")
    with pytest.raises(DataError, match=r"network\.safetensors"):
        Recogniser.load(tmp_path)
