"""What a fold's test speaker is told by every system: right frames and wrong words of each recording."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar import metrics
from instar.data import Dataset
from instar.evaluation import predict_logits
from instar.jobs import Job
from instar.recipes.fitting import load_run_network
from instar.recipes.speech_study.data import FoldData, SpeechDataSettings, load_recordings
from instar.recipes.speech_study.jobs import fold_data
from instar.runs import Run
from instar.speech.connected import quiet_id
from instar.speech.decoding import Decoder, decode, tune_decoder
from instar.speech.frames import FrameDataset
from instar.speech.grammar import Grammar
from instar.speech.hmm import acoustic_scores
from instar.speech.scoring import word_errors

_MOST_TRAIN_FRAMES = 20_000  # that tell the accuracy on the training data: half a percent at most
_TESTING_COST = 2e7  # of a network, beside a fit's epochs x strings x weights, for the time left
_FEW_WORDS = 50  # up to here the built-in search, which takes recordings together, is the faster one
_SCALES, _PENALTIES = (0.1, 0.2, 0.3), (0.0, 3.0)


def scoring_job(
    name: str,
    data: SpeechDataSettings,
    fold: int,
    *,
    alignment: str,
    singles: Mapping[str, Sequence[str]],
    ensembles: Mapping[str, Sequence[str]],
    same: Mapping[str, str],
) -> Job:
    """A job that reads the test speaker of a fold, once, with every system.

    Args:
        name: of the job.
        data, fold: whose test speaker.
        alignment: the job that told the states.
        singles: jobs of the networks of each kind of single net; the first kind's first net sets the decoder on
            validation.
        ensembles: jobs of the members of each ensemble.
        same: names for what another kind is.
    """
    config = {
        "data": data.model_dump(),
        "data_fingerprint": load_recordings(data).fingerprint,
        "fold": fold,
        "alignment": alignment,
        "singles": {kind: list(names) for kind, names in singles.items()},
        "ensembles": {kind: list(names) for kind, names in ensembles.items()},
        "same": dict(same),
    }
    needs = dict.fromkeys(one for several in (singles, ensembles) for names in several.values() for one in names)
    return Job(name, _test, config, (alignment, *needs), cost=_TESTING_COST * len(needs))


def _test(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    data = fold_data(config, needs)
    networks = {name: load_run_network(path) for name, path in needs.items() if name != config["alignment"]}
    singles, ensembles = config["singles"], config["ensembles"]
    first = networks[next(iter(singles.values()))[0]]
    decoder = _decoder(first, data, SpeechDataSettings(**config["data"]))
    rows = []
    for kind, names in singles.items():
        for name in names:
            train = _learned_from(needs[name], data)
            rows.append({"name": kind, **_told([networks[name]], data, decoder, train)})
    for kind, names in ensembles.items():
        rows.append({"name": kind, **_told([networks[name] for name in names], data, decoder, data.train)})
    for kind, other in config["same"].items():
        rows += [{**row, "name": kind} for row in rows if row["name"] == other]
    return {
        "metrics": {"acoustic_scale": decoder.acoustic_scale, "word_penalty": decoder.word_penalty},
        "rows": rows,
        "recordings": [
            {
                "id": quiet_id(one),
                "speaker": one.speaker,
                "condition": one.condition,
                "frames": len(data.test.features.of(one)),
                "words": len(one.words),
            }
            for one in data.test.utterances
        ],
    }


def _decoder(network: nn.Module, data: FoldData, settings: SpeechDataSettings) -> Decoder:
    """Scale and penalty from the validation speaker, by a baseline, for all systems alike."""
    recordings = load_recordings(settings)
    if settings.name == "fsdd":  # any digit may follow any
        grammar = Grammar.loop(recordings.lexicon.words)
    else:
        grammar = Grammar.ngram(
            [one.words for one in recordings.train.quiet.of_speakers(data.fold.train).utterances]
        )
    return tune_decoder(
        data.hmm,
        grammar,
        _scores(data, data.validation, predict_logits(network, data.validation)),
        {one.id: one.words for one in data.validation.utterances},
        acoustic_scales=_SCALES,
        word_penalties=_PENALTIES,
        search="viterbi" if len(recordings.lexicon.words) <= _FEW_WORDS else "auto",
    )


def _learned_from(path: Path, data: FoldData) -> Dataset | None:
    """What a network learned from, where its labels are known."""
    learning = Run.read(path).config["learning"]
    return None if learning["part"] == "untranscribed" else data.training_part(**learning)


def _told(
    networks: Sequence[nn.Module], data: FoldData, decoder: Decoder, train: Dataset | None
) -> dict[str, Any]:
    """Right frames, word errors and words confused of a network, or of an ensemble's mean probabilities."""
    logits, labels = _mean_log_probs(networks, data.test), data.test.labels(data.test.ids)
    right = torch.split(logits.argmax(-1) == labels, _lengths(data.test))
    said = {one.id: one.words for one in data.test.utterances}
    words = word_errors(said, decode(decoder, _scores(data, data.test, logits)))
    return {
        "right": [int(one.sum()) for one in right],
        "errors": [words.of[one].errors for one in said],
        "confusion": [[*pair, count] for pair, count in sorted(words.confusion.items())],
        "frame_accuracy": 100 * float((logits.argmax(-1) == labels).double().mean()),
        "wer": 100 * words.wer,
        "train_frame_accuracy": None if train is None else _accuracy(networks, train),
        "validation_frame_accuracy": _accuracy(networks, data.validation),
    }


def _accuracy(networks: Sequence[nn.Module], data: Dataset) -> float:
    some = data.subset(data.ids[:: max(1, len(data) // _MOST_TRAIN_FRAMES)])
    return 100 * metrics.accuracy(_mean_log_probs(networks, some), some.labels(some.ids))


def _scores(data: FoldData, frames: FrameDataset, logits: Tensor) -> dict[str, Tensor]:
    priors = data.hmm.log_priors
    parts = torch.split(logits, _lengths(frames))
    return {one.id: acoustic_scores(part, priors) for one, part in zip(frames.utterances, parts, strict=True)}


def _lengths(frames: FrameDataset) -> list[int]:
    return [len(frames.features.of(one)) for one in frames.utterances]


def _mean_log_probs(networks: Sequence[nn.Module], data: Dataset) -> Tensor:
    """Logarithm of the mean of the networks' probabilities, up to a constant: (len(data), classes)."""
    return torch.stack([predict_logits(one, data).log_softmax(-1) for one in networks]).logsumexp(0)
