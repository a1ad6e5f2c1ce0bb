"""Small corpora of made sounds, and the files that they lie in, for the tests to use and to break."""

import io
import zipfile
from pathlib import Path

import numpy as np

from instar.data.readers.audio import Samples, wav_bytes
from instar.speech.corpus import Corpus, Utterance

RATE = 8000
TONES = {
    "low": (300.0, 700.0),
    "high": (1800.0, 900.0),
    "up": (500.0, 2500.0),
}  # a word glides from one to another


def made_word(word: str, *, seed: int = 0, pitch: float = 1.0, seconds: float = 0.3) -> Samples:
    """A word as a glide between two tones, with a little noise: a classifier can tell them apart."""
    generator = np.random.default_rng([seed, *word.encode()])
    time = np.arange(round(seconds * RATE)) / RATE
    first, last = TONES[word]
    phase = 2 * np.pi * pitch * (first * time + (last - first) * time**2 / (2 * seconds))
    return (0.3 * np.sin(phase) + 0.01 * generator.standard_normal(len(time))).astype(np.float32)


def made_corpus(speakers: tuple[str, ...] = ("ann", "bob", "cy"), *, each: int = 3) -> Corpus:
    """Every speaker says every word some times."""
    samples = {}
    utterances = []
    for number, speaker in enumerate(speakers):
        for word in TONES:
            for index in range(each):
                one = Utterance(f"{word}_{speaker}_{index}", speaker, (word,))
                samples[one.id] = made_word(word, seed=100 * number + index, pitch=1 + 0.05 * number)
                utterances.append(one)
    return Corpus("made", RATE, utterances, lambda one: samples[one.id])


def write_kaldi_dir(folder: Path, corpus: Corpus) -> Path:
    """A data directory with a wav file for each utterance."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for one in corpus.utterances:
        (folder / f"{one.id}.wav").write_bytes(wav_bytes(corpus.audio(one), corpus.sample_rate))
        lines["wav.scp"].append(f"{one.id} {one.id}.wav")
        lines["text"].append(f"{one.id} {' '.join(one.words)}")
        lines["utt2spk"].append(f"{one.id} {one.speaker}")
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    return folder


def fsdd_archive(*, num_each: int = 2, speakers: tuple[str, ...] = ("george", "theo", "lucas")) -> bytes:
    """An archive of the form of the Free Spoken Digit Dataset, of made sounds."""
    words = list(TONES)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for digit in range(10):
            for number, speaker in enumerate(speakers):
                for index in range(num_each):
                    sound = made_word(words[digit % 3], seed=digit, pitch=1 + 0.1 * number, seconds=0.2)
                    archive.writestr(f"recordings/{digit}_{speaker}_{index}.wav", wav_bytes(sound, RATE))
    return stream.getvalue()
