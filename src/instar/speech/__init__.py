"""Speech: corpora, features, hidden Markov models, alignment and decoding around an acoustic network."""

from instar.data.readers.audio import Recording, read_audio
from instar.speech.alignment import Alignment, align, flat_start
from instar.speech.connected import add_noise, connected_words, in_noise
from instar.speech.corpus import Corpus, Utterance
from instar.speech.decoding import Decoder, decode, tune_decoder
from instar.speech.features import Features, FeatureSettings, Statistics, features_of, log_mel
from instar.speech.frames import FrameDataset
from instar.speech.fsdd import load_fsdd, official_split, speaker_folds
from instar.speech.gaussians import DiagonalGaussians, cepstra
from instar.speech.grammar import Grammar
from instar.speech.graph import Graph, compile_graph
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.kaldi_dirs import load_kaldi_dir
from instar.speech.lexicon import Lexicon, digits_lexicon
from instar.speech.recogniser import Recogniser
from instar.speech.scoring import WordErrors, wer_difference, word_errors
from instar.speech.viterbi import Path, Segment, viterbi

__all__ = [
    "HMM",
    "Alignment",
    "Corpus",
    "Decoder",
    "DiagonalGaussians",
    "FeatureSettings",
    "Features",
    "FrameDataset",
    "Grammar",
    "Graph",
    "Lexicon",
    "Path",
    "Recogniser",
    "Recording",
    "Segment",
    "Statistics",
    "Utterance",
    "WordErrors",
    "acoustic_scores",
    "add_noise",
    "align",
    "cepstra",
    "compile_graph",
    "connected_words",
    "decode",
    "digits_lexicon",
    "features_of",
    "flat_start",
    "in_noise",
    "load_fsdd",
    "load_kaldi_dir",
    "log_mel",
    "official_split",
    "read_audio",
    "speaker_folds",
    "tune_decoder",
    "viterbi",
    "wer_difference",
    "word_errors",
]
