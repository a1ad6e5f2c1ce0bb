"""Seconds of work for each second of sound: connected digits of a speaker not heard in training, on one core."""

from functools import partial

import torch

from benchmarks.timing import Way, figure, in_turns, ratio, write_result
from instar.data.readers.audio import Recording
from instar.speech.alignment import flat_start
from instar.speech.connected import connected_words
from instar.speech.decoding import SEARCHES, Decoder
from instar.speech.features import FeatureSettings, features_of
from instar.speech.frames import FrameDataset
from instar.speech.fsdd import load_fsdd, speaker_folds
from instar.speech.gaussians import cepstra
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM
from instar.speech.lexicon import digits_lexicon
from instar.speech.recogniser import Recogniser, average_speaker, state_network
from instar.speech.scoring import word_errors
from instar.training import fit

NETWORKS = ("mlp:256x3", "mlp:1024x4")
NUM_STRINGS = 20
ROUNDS = 5
GOAL = "<= 0.05"


def main() -> None:
    """Measure, and write `results/bench-decoding.json`."""
    torch.set_num_threads(1)
    single = load_fsdd()
    fold = speaker_folds(single)[0]
    strings = connected_words(single.of_speakers([fold.test]), NUM_STRINGS, seed=0)
    recordings = [Recording(strings.audio(one), strings.sample_rate, 1) for one in strings.utterances]
    audio_seconds = sum(len(one.samples) / one.sample_rate for one in recordings)
    train = single.of_speakers(fold.train).share(0.3)
    settings = FeatureSettings()
    features, statistics = features_of(train, settings), average_speaker(train, settings)
    words = {one.id: one.words for one in train.utterances}
    values = {name: cepstra(features.of(name)) for name in words}
    hmm, _, alignment = flat_start(HMM.new(digits_lexicon()), values, words)
    frames = FrameDataset(features, alignment.states, class_names=hmm.state_names)
    grammar = Grammar.loop(hmm.lexicon.words)
    ways: dict[str, Way] = {}
    wer: dict[str, float] = {}
    said = {str(number): one.words for number, one in enumerate(strings.utterances)}
    for name in NETWORKS:
        network = state_network(name, settings, hmm)
        fit(network, frames.of_utterances(list(alignment.states)), epochs=3, batch_size=256, precision="float32")
        for search in SEARCHES[1:]:
            decoder = Decoder(hmm, grammar, acoustic_scale=0.3, word_penalty=10, search=search)
            recogniser = Recogniser(network, name, decoder, settings, statistics, single.sample_rate)
            way = f"{name}, {search}"
            ways[way] = partial(recogniser.recognise, recordings)
            heard = {str(number): one.words for number, one in enumerate(recogniser.recognise(recordings))}
            wer[way] = round(100 * word_errors(said, heard).wer, 1)
    seconds = in_turns(ways, rounds=ROUNDS)
    write_result(
        "decoding",
        config={
            "data": f"fsdd: {NUM_STRINGS} strings of 3 to 7 digits by {fold.test}, {audio_seconds:.1f} s",
            "threads": 1,
            "states": len(hmm.state_names),
            "from": "samples in memory to words and their times",
            "wer": wer,
            "ratio": "seconds of work over seconds of sound (real-time factor)",
        },
        seconds=seconds,
        ratios={
            way: ratio(values, [audio_seconds] * len(values), goal=GOAL if NETWORKS[0] in way else None)
            for way, values in seconds.items()
        },
        figures={way: figure(values, unit="seconds") for way, values in seconds.items()},
    )


if __name__ == "__main__":
    main()
