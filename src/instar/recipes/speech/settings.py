"""Settings shared by `instar speech` and `instar reproduce speech`: recordings, features, models, training."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from instar.errors import UsageError
from instar.recipes.settings import Count, Settings
from instar.speech.alignment import ITERATIONS
from instar.speech.features import FeatureSettings, Normalisation
from instar.speech.frames import LEFT, RIGHT
from instar.speech.hmm import STATES_OF_PHONE, STATES_OF_SILENCE, STATES_OF_WORD

NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Ratio = float | Literal["clean"]
"""Signal-to-noise ratio in dB."""


KALDI = "kaldi:"


def _corpus_name(name: Any) -> Any:
    """A folder is a Kaldi data directory."""
    if not isinstance(name, str) or name == "fsdd" or name.startswith(KALDI):
        return name
    if not Path(name).is_dir():
        raise UsageError(f"{name!r} is no folder; expected fsdd or a Kaldi data directory with wav.scp and text")
    return KALDI + name


CorpusName = Annotated[str, BeforeValidator(_corpus_name)]


class RecogniserData(Settings):
    """Recordings for a recogniser, and the speakers held out of its training."""

    name: CorpusName = "fsdd"
    """fsdd, or a Kaldi data directory (with wav.scp, text and utt2spk)"""
    validation: CorpusName | None = None
    """a data directory of validation recordings; by default speakers are held out"""
    test: CorpusName | None = None
    """a data directory of test recordings; by default speakers are held out"""
    validation_speakers: tuple[str, ...] | None = None
    """speakers held out for validation"""
    test_speakers: tuple[str, ...] | None = None
    """speakers held out for testing"""
    fraction: Fraction = 1.0
    """fraction of the recordings of each part that is used"""
    strings: NotNegative = 40
    """fsdd only: strings of connected digits for each speaker, beside the single digits"""
    seed: int = 0
    """seed of the held-out speakers and the strings"""


class StudyData(Settings):
    """Recordings for the study: strings of words in noise."""

    name: str = "fsdd"
    """fsdd, or kaldi:FOLDER with at least three speakers"""
    train_strings: Count = 60
    """fsdd only: strings for each speaker; the noises take turns"""
    untranscribed_strings: Count = 60
    """fsdd only: strings for each speaker, made of other recordings"""
    test_strings: Count = 20
    """fsdd only: strings for each speaker, each in every noise"""
    train_noise: tuple[Ratio, ...] = ("clean", 15.0, 5.0)
    test_noise: tuple[Ratio, ...] = ("clean", 10.0, 5.0)
    seed: int = 0
    """seed of strings, pauses and noise"""


class InputSettings(Settings):
    """The network's input: a window of log-mel features; see `FeatureSettings`."""

    num_mels: Count = 40
    normalisation: Normalisation = "speaker"
    """normalisation of the features"""
    left: NotNegative = LEFT
    """frames of context before the predicted frame; the paper's window has 26 frames"""
    right: NotNegative = RIGHT
    """frames of context after it"""

    @property
    def features(self) -> FeatureSettings:
        """The settings without the context."""
        return FeatureSettings(num_mels=self.num_mels, normalisation=self.normalisation)

    @property
    def input_shape(self) -> tuple[int]:
        """The shape of an example: (window * num_mels,)."""
        return ((self.left + 1 + self.right) * self.num_mels,)


class Source(Settings):
    """Where frames come from: recordings, features and, in the study, the fold."""

    data: RecogniserData | StudyData
    features: InputSettings = InputSettings()
    fold: int | None = None
    """of the study: determines the speakers that are held out"""


class ModelSettings(Settings):
    """The units of speech, their states, and the flat start."""

    lexicon: str | None = None
    """pronunciations: digits (phones), words (whole-word models) or a file of Kaldi, MFA or CMU; by default digits
    for fsdd, else the lexicon.txt of the data directory, or words"""
    states_of_phone: Count = STATES_OF_PHONE
    states_of_word: Count = STATES_OF_WORD
    states_of_silence: Count = STATES_OF_SILENCE
    iterations: Count = ITERATIONS
    """iterations of Viterbi training from a flat start"""


class LearningSettings(Settings):
    """The frames that a network is trained and validated on."""

    part: Literal["train", "untranscribed"] = "train"
    share: Fraction = 1.0
    """fraction of each speaker's training utterances"""
    seed: int = 0
    """determines which utterances"""
    quiet: bool = False
    """train and validate on the recordings without noise"""
    validation_every: Count = 1
    """validate on every n-th frame; neighbouring frames are alike"""
