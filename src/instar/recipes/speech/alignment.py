"""`instar speech align`: the times of the words of recordings, from a trained recogniser."""

from pathlib import Path

from safetensors.torch import save

from instar.data.readers.audio import Recording
from instar.files import write_bytes
from instar.speech.alignment import Alignment, align
from instar.speech.corpus import transcripts_of
from instar.speech.features import Statistics, features_of
from instar.speech.kaldi_dirs import load_kaldi_dir
from instar.speech.recogniser import Recogniser

CTM, STATES = "words.ctm", "states.safetensors"


def align_directory(recogniser: Recogniser, folder: Path) -> Alignment:
    """Align the utterances of a Kaldi data directory.

    Raises:
        DataError: the directory is damaged, or a word is not in the lexicon.
    """
    corpus = load_kaldi_dir(folder, sample_rate=recogniser.sample_rate)
    statistics: Statistics | None = None
    if recogniser.features.normalisation == "global":
        statistics = recogniser.statistics
    features = features_of(corpus, recogniser.features, statistics=statistics, keep=False)
    return align(
        recogniser.hmm, transcripts_of(corpus.utterances), lambda name: recogniser.scores(features.of(name))
    )


def align_file(recogniser: Recogniser, name: str, recording: Recording, words: tuple[str, ...]) -> Alignment:
    """Align one recording."""
    (frames,) = recogniser.normalised([recording])
    return align(recogniser.hmm, {name: words}, lambda _: recogniser.scores(frames))


def ctm_lines(alignment: Alignment, recogniser: Recogniser) -> list[str]:
    """A line `UTTERANCE 1 BEGIN DURATION WORD` for each word, in seconds: the CTM format of NIST and Kaldi."""
    shift = recogniser.features.shift_ms / 1000
    return [
        f"{name} 1 {begin * shift:.2f} {(end - begin) * shift:.2f} {word}"
        for name, segments in alignment.segments.items()
        for word, begin, end in segments
    ]


def write_alignment(alignment: Alignment, recogniser: Recogniser, folder: Path) -> None:
    """Write the times of the words and the states of the frames, with `state_names` in the file's metadata."""
    lines = "".join(f"{line}\n" for line in ctm_lines(alignment, recogniser))
    write_bytes(folder / CTM, lines.encode())
    tensors = {name: values.contiguous() for name, values in alignment.states.items()}
    write_bytes(folder / STATES, save(tensors, metadata={"state_names": "\n".join(recogniser.hmm.state_names)}))
