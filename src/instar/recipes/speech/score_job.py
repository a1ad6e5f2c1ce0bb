"""The job of the study that reads a fold's test speaker: correct frames and word errors of every system."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import Job
from instar.recipes.learning import about_failures
from instar.recipes.loading import load_run_network
from instar.recipes.speech.align_jobs import about
from instar.recipes.speech.data import MODELS, load_frames, load_recordings
from instar.recipes.speech.fit_jobs import training_frames
from instar.recipes.speech.scoring import mean_log_probs, score, scores_by_utterance
from instar.recipes.speech.settings import LearningSettings, Source
from instar.runs import Run
from instar.speech.connected import quiet_id
from instar.speech.corpus import transcripts_of
from instar.speech.decoding import Decoder, tune_decoder
from instar.speech.frames import FrameDataset
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM

_MOST_TRAIN_FRAMES = 20_000  # for the accuracy on the training data, to half a percent
_SECONDS = 1.4  # core-seconds for each network, for the time left
_FEW_WORDS = 50  # up to this many the built-in search, which decodes in batches, is faster
_SCALES, _PENALTIES = (0.1, 0.2, 0.3), (0.0, 3.0)


def scoring_job(
    name: str,
    source: Source,
    *,
    alignment: str,
    singles: Mapping[str, Sequence[str]],
    ensembles: Mapping[str, Sequence[str]],
    same: Mapping[str, str],
) -> Job:
    """A job that reads the test speaker of a fold, once, with every system.

    Args:
        name: of the job.
        source: of the fold.
        alignment: job with the states.
        singles: jobs of the networks by kind; the decoder is tuned on validation with the first network of the
            first kind.
        ensembles: jobs of the members by ensemble.
        same: other names of kinds.
    """
    config = {
        **about(source),
        "alignment": alignment,
        "singles": {kind: list(names) for kind, names in singles.items()},
        "ensembles": {kind: list(names) for kind, names in ensembles.items()},
        "same": dict(same),
    }
    networks = dict.fromkeys(one for kinds in (singles, ensembles) for names in kinds.values() for one in names)
    return Job(name, _test, config, (alignment, *networks), cost=_SECONDS * len(networks))


def _test(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    source, alignment = Source(**config["source"]), needs[config["alignment"]]
    networks = {name: load_run_network(path) for name, path in needs.items() if name != config["alignment"]}
    singles, ensembles = config["singles"], config["ensembles"]
    decoder = _tuned_decoder(networks[next(iter(singles.values()))[0]], source, alignment)
    validation, test = (load_frames(source, part, alignment) for part in ("validation", "test"))

    def scored(kind: str, names: Sequence[str], train: FrameDataset | None) -> dict[str, Any]:
        members = [networks[name] for name in names]
        found = score(members, test, decoder)
        return {
            "name": kind,
            "right": found.num_right,
            "errors": [one.errors for one in found.words.of.values()],
            "confusion": [[*pair, count] for pair, count in sorted(found.words.confusion.items())],
            "frame_accuracy": found.frame_accuracy,
            "wer": 100 * found.words.wer,
            "train_frame_accuracy": None if train is None else _frame_accuracy(members, train),
            "validation_frame_accuracy": _frame_accuracy(members, validation),
            **about_failures([[needs[name] for name in names]]),
        }

    rows = [
        scored(kind, [name], _labelled_training_frames(needs[name], source, alignment))
        for kind, names in singles.items()
        for name in names
    ]
    rows += [scored(kind, names, load_frames(source, "train", alignment)) for kind, names in ensembles.items()]
    for kind, other in config["same"].items():
        rows += [{**row, "name": kind} for row in rows if row["name"] == other]
    return {
        "metrics": {"acoustic_scale": decoder.acoustic_scale, "word_penalty": decoder.word_penalty},
        "rows": rows,
        "recordings": [
            {
                "id": quiet_id(utterance),
                "speaker": utterance.speaker,
                "condition": utterance.condition,
                "frames": len(test.features.of(utterance)),
                "words": len(utterance.words),
            }
            for utterance in test.utterances
        ],
    }


def _tuned_decoder(network: nn.Module, source: Source, alignment: Path) -> Decoder:
    """The decoder of all systems: scale and penalty from the validation speaker, with a baseline."""
    hmm, validation = HMM.load(alignment / MODELS), load_frames(source, "validation", alignment)
    words = hmm.lexicon.words
    if source.data.name == "fsdd":  # any digit may follow any other
        grammar = Grammar.loop(words)
    else:
        train = load_recordings(source)["train"].quiet_utterances
        grammar = Grammar.ngram([utterance.words for utterance in train])
    return tune_decoder(
        hmm,
        grammar,
        scores_by_utterance(validation, predict_logits(network, validation), hmm),
        transcripts_of(validation.utterances),
        acoustic_scales=_SCALES,
        word_penalties=_PENALTIES,
        search="viterbi" if len(words) <= _FEW_WORDS else "auto",
    )


def _labelled_training_frames(job: Path, source: Source, alignment: Path) -> FrameDataset | None:
    """The frames that a network was trained on, if they have labels."""
    learning = LearningSettings(**Run.read(job).config["learning"])
    return training_frames(source, alignment, learning) if learning.part == "train" else None


def _frame_accuracy(networks: Sequence[nn.Module], data: FrameDataset) -> float:
    some = data.subset(data.ids[:: max(1, len(data) // _MOST_TRAIN_FRAMES)])
    return 100 * metrics.accuracy(mean_log_probs(networks, some), some.labels(some.ids))
