"""Connected words and noisy speech made from real recordings; every sample is a pure function of a seed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from instar.data.hashing import key_of
from instar.data.readers.audio import Samples
from instar.errors import DataError, UsageError
from instar.speech.corpus import Corpus, Utterance

Noise = Literal["white", "pink"]

_FORMAT = 1  # to be increased when the samples of a seed change
_FADE_SECONDS = 0.005  # at both ends of a recording, to avoid clicks
_MEDIAN_PAUSE_SECONDS, _PAUSE_SPREAD = 0.12, 0.6  # log-normal: two of three pauses last 0.07 to 0.22 s
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.03, 0.5
_EDGE_SECONDS = 0.1  # of silence before the first word and after the last
_ROOM_FRAME_SECONDS = 0.01
_ROOM_QUANTILE = 0.05  # the quietest frames of a recording give the level of its background noise


def connected_words(
    corpus: Corpus,
    num_per_speaker: int,
    *,
    lengths: tuple[int, int] = (3, 7),
    snr_db: float | None = None,
    noise: Noise = "pink",
    seed: int = 0,
) -> Corpus:
    """Concatenate single words of a speaker into strings, with pauses and optionally with noise.

    The lengths of the pauses are log-normal around 0.12 s; pauses are as loud as the quietest frames of the words
    around them. The signal-to-noise ratio is the mean power of the words, without pauses, over that of the noise.

    Args:
        corpus: utterances of one word each.
        num_per_speaker: number of strings for each speaker.
        lengths: smallest and largest number of words in a string; all lengths are equally probable.
        snr_db: signal-to-noise ratio in dB; None adds no noise.
        noise: `white`, or `pink` (power falls as 1/f).
        seed: determines words, recordings, pauses and noise. Noise does not change the words of a seed.

    Returns: utterances `SPEAKER-NUMBER`, or `SPEAKER-NUMBER-SNRdB` with noise.

    Raises:
        DataError: an utterance of the corpus has several words or none.
        UsageError: num_per_speaker or a length is below 1, or the noise is unknown.

    Example:
        >>> words = [Utterance(f"{word}-{k}", "ann", (word,)) for word in ("yes", "no") for k in range(4)]
        >>> single = Corpus("answers", 8000, words, lambda one: np.full(2000, 0.1, np.float32))
        >>> strings = connected_words(single, 2, lengths=(3, 3), snr_db=10)
        >>> strings.utterances[1].id, len(strings.utterances[1].words), strings.utterances[1].condition
        ('ann-0001-10dB', 3, '10 dB')
    """
    if num_per_speaker < 1 or not 1 <= lengths[0] <= lengths[1] or noise not in get_args(Noise):
        raise UsageError(
            f"connected_words: {num_per_speaker} strings of {lengths[0]} to {lengths[1]} words in {noise} noise; "
            "expected at least 1 string, 1 <= fewest <= most words, and white or pink noise"
        )
    plans = {}
    suffix, condition = ("", "clean") if snr_db is None else (f"-{snr_db:g}dB", f"{snr_db:g} dB")
    for speaker in corpus.speakers:
        recordings = _recordings(corpus, speaker)
        for number in range(num_per_speaker):
            generator = _generator("connected", seed, speaker, number)
            parts = _chosen(recordings, lengths, generator)
            utterance = Utterance(
                f"{speaker}-{number:04d}{suffix}", speaker, tuple(part.words[0] for part in parts), condition
            )
            plans[utterance.id] = (utterance, parts, number)

    def read(utterance: Utterance) -> Samples:
        _, parts, number = plans[utterance.id]
        sounds = [corpus.audio(part) for part in parts]
        generator = _generator("pauses", seed, utterance.speaker, number)
        whole, is_word = _joined(sounds, corpus.sample_rate, generator)
        if snr_db is None:
            return whole
        generator = _generator(f"{noise} noise", seed, utterance.speaker, number)
        return add_noise(whole, snr_db, noise=noise, generator=generator, is_speech=is_word)

    utterances = [plan[0] for plan in plans.values()]
    content = _content(f"connected {corpus.fingerprint} {num_per_speaker} {lengths} {snr_db} {noise}", seed)
    return Corpus(f"{corpus.name}-connected", corpus.sample_rate, utterances, read, content)


def in_noise(corpus: Corpus, snr_db: float, *, noise: Noise = "pink", seed: int = 0) -> Corpus:
    """Add noise to the recordings of a corpus; the signal power is the mean over the whole recording.

    Returns: utterances `ID-SNRdB`.

    Raises:
        UsageError: an unknown noise.

    Example:
        >>> one = Corpus("one", 8000, [Utterance("a", "ann", ("yes",))], lambda _: np.full(800, 0.1, np.float32))
        >>> noisy = in_noise(one, 10)
        >>> noisy.utterances[0].id, noisy.audio("a-10dB").shape
        ('a-10dB', (800,))
    """
    if noise not in get_args(Noise):
        raise UsageError(f"unknown noise {noise!r}; expected white or pink")
    clean = {f"{utterance.id}-{snr_db:g}dB": utterance for utterance in corpus.utterances}

    def read(utterance: Utterance) -> Samples:
        original = clean[utterance.id]
        generator = _generator(f"{noise} noise {original.id}", seed, original.speaker, 0)
        return add_noise(corpus.audio(original), snr_db, noise=noise, generator=generator)

    condition = f"{snr_db:g} dB"
    noisy = [replace(original, id=name, condition=condition) for name, original in clean.items()]
    content = _content(f"in noise {corpus.fingerprint} {snr_db} {noise}", seed)
    return Corpus(f"{corpus.name}-noisy", corpus.sample_rate, noisy, read, content)


def quiet_id(utterance: Utterance) -> str:
    """The id of the clean utterance that a noisy one was made from; a clean one has the same id.

    Example:
        >>> quiet_id(Utterance("ann-0001-10dB", "ann", (), "10 dB")), quiet_id(Utterance("ann-clean", "ann"))
        ('ann-0001', 'ann-clean')
    """
    if utterance.condition == "clean":
        return utterance.id
    return utterance.id.removesuffix("-" + utterance.condition.replace(" ", ""))


def _content(about: str, seed: int) -> str:
    """A hash of the inputs, since hashing the samples would mean to make them all, which takes seconds."""
    return f"{key_of(f'{_FORMAT} {about}', seed) % 2**64:016x}"


def add_noise(
    samples: Samples,
    snr_db: float,
    *,
    noise: Noise = "pink",
    generator: np.random.Generator,
    is_speech: NDArray[np.bool_] | None = None,
) -> Samples:
    """Add noise n to a recording s such that 10 log10(mean(s^2) / mean(n^2)) = snr_db.

    Args:
        samples: (n,) float32.
        snr_db: signal-to-noise ratio in dB.
        noise: `white`, or `pink` (power falls as 1/f).
        generator: source of the noise.
        is_speech: (n,) bool, the samples over which the signal's power is averaged; None means all.

    Returns: (n,) float32, scaled down if the sum goes beyond ±1.
    """
    signal = samples.astype(np.float64)
    power = np.mean(signal**2 if is_speech is None else signal[is_speech] ** 2)
    added = _noise(len(samples), noise, generator)
    noisy = signal + added * np.sqrt(power * 10 ** (-snr_db / 10) / np.mean(added**2))
    scaled: Samples = (noisy / max(1.0, float(np.abs(noisy).max()))).astype(np.float32)
    return scaled


def _noise(length: int, kind: Noise, generator: np.random.Generator) -> NDArray[np.float64]:
    white = generator.standard_normal(length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, length)


def _generator(purpose: str, seed: int, speaker: str, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(key_of(f"{purpose} {speaker}", seed, number) % 2**64))


def _recordings(corpus: Corpus, speaker: str) -> dict[str, list[Utterance]]:
    """A speaker's recordings by word, in an order that does not depend on that of the corpus."""
    recordings: dict[str, list[Utterance]] = {}
    for utterance in sorted(corpus.of_speakers([speaker]).utterances, key=lambda utterance: utterance.id):
        if len(utterance.words) != 1:
            raise DataError(
                f"utterance {utterance.id!r} has {len(utterance.words)} words; connected_words expects exactly one"
            )
        recordings.setdefault(utterance.words[0], []).append(utterance)
    return recordings


def _chosen(
    recordings: dict[str, list[Utterance]], lengths: tuple[int, int], generator: np.random.Generator
) -> list[Utterance]:
    words = sorted(recordings)
    length = int(generator.integers(lengths[0], lengths[1] + 1))
    chosen = []
    for _ in range(length):
        several = recordings[words[int(generator.integers(len(words)))]]
        chosen.append(several[int(generator.integers(len(several)))])
    return chosen


def _joined(
    sounds: Sequence[Samples], sample_rate: int, generator: np.random.Generator
) -> tuple[Samples, NDArray[np.bool_]]:
    """The recordings with pauses between and around them, and whether each sample belongs to a word."""
    rooms = [_room_level(sound, sample_rate) for sound in sounds]
    parts, is_word = [], []
    for number in range(len(sounds) + 1):
        seconds = _MEDIAN_PAUSE_SECONDS * np.exp(_PAUSE_SPREAD * generator.standard_normal())
        seconds = np.clip(seconds, _SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        if number in (0, len(sounds)):
            seconds = _EDGE_SECONDS
        length = round(seconds * sample_rate)
        level = float(np.mean(rooms[max(0, number - 1) : number + 1]))
        parts.append(level * generator.standard_normal(length))
        is_word.append(np.zeros(length, bool))
        if number < len(sounds):
            parts.append(_faded(sounds[number], sample_rate))
            is_word.append(np.ones(len(sounds[number]), bool))
    return np.concatenate(parts).astype(np.float32), np.concatenate(is_word)


def _room_level(sound: Samples, sample_rate: int) -> float:
    """Root mean square of the quietest frames of a recording."""
    length = max(1, round(_ROOM_FRAME_SECONDS * sample_rate))
    num_frames = max(1, len(sound) // length)
    frames = sound[: num_frames * length].reshape(num_frames, -1).astype(np.float64)
    return float(np.quantile(np.sqrt((frames**2).mean(axis=1)), _ROOM_QUANTILE))


def _faded(sound: Samples, sample_rate: int) -> NDArray[np.float64]:
    length = min(round(_FADE_SECONDS * sample_rate), len(sound) // 2)
    faded = sound.astype(np.float64)
    ramp = np.linspace(0, 1, length)
    faded[:length] *= ramp
    faded[len(faded) - length :] *= ramp[::-1]
    return faded
