"""The jobs that align words with frames: a flat start, a trained network, and a recogniser that teaches."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.files import write_bytes
from instar.jobs import Job
from instar.recipes.loading import load_run_network
from instar.recipes.speech.data import (
    ALIGNED,
    MODELS,
    STATES,
    choose_lexicon,
    default_lexicon,
    load_features,
    load_recordings,
    num_frames,
    read_states,
)
from instar.recipes.speech.settings import ModelSettings, Source
from instar.runs import Run
from instar.speech.alignment import Alignment, align, flat_start
from instar.speech.frames import FrameDataset
from instar.speech.gaussians import cepstra
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.recogniser import NETWORK, Recogniser

# Core-seconds for each frame, for the time left.
_FLAT_START_SECONDS, _ALIGNING_SECONDS = 2.5e-5, 5e-5

Scores = Callable[[str, str], Tensor]
"""(frames, states) log likelihoods of an utterance of a part, by the names of both."""


def about(source: Source) -> dict[str, Any]:
    """What the configuration of a job says of its frames."""
    return {"source": source.model_dump(), "data_fingerprint": load_recordings(source).fingerprint}


def source_of(config: Mapping[str, Any]) -> Source:
    """The frames of a job.

    Raises:
        UsageError: the recordings are not those of its plan.
    """
    source = Source(**config["source"])
    if load_recordings(source).fingerprint != config["data_fingerprint"]:
        raise UsageError(f"{source.data.name}: the recordings have changed since the command began; run it again")
    return source


def new_models(settings: ModelSettings, source: Source) -> HMM:
    """Untrained models of the words that a recogniser will know.

    Raises:
        DataError: a word of the training transcripts is not in the lexicon.
        UsageError: there is no such lexicon.
    """
    name = settings.lexicon or default_lexicon(source.data.name)
    lexicon = choose_lexicon(name, load_recordings(source))
    return HMM.new(lexicon, **settings.model_dump(exclude={"lexicon", "iterations"}))


def flat_alignment_job(name: str, source: Source, models: ModelSettings) -> Job:
    """A job that trains Gaussian models from transcripts without times, and aligns all parts with them."""
    lexicon = json.dumps(new_models(models, source).lexicon.to_json(), sort_keys=True)
    digest = hashlib.sha256(lexicon.encode()).hexdigest()  # the content of a lexicon file may change
    config = {**about(source), "models": models.model_dump(), "lexicon_digest": digest}
    cost = _FLAT_START_SECONDS * models.iterations * num_frames(source, "train")
    return Job(name, _align_flat, config, cost=cost)


def alignment_job(
    name: str, source: Source, *, network: str, models: str, estimate: bool = True, new_priors: bool = False
) -> Job:
    """A job that aligns all parts with a network.

    Args:
        name: of the job.
        source: of the frames.
        network: job of the network.
        models: job with its HMM.
        estimate: estimate transition probabilities and priors again from the new alignment; a teacher keeps its
            own, which its network was trained with.
        new_priors: align the held-out parts with the new priors, as in the published study; by default with those
            that the network was trained with.
    """
    names = {"network": network, "models": models}
    config = {**about(source), **names, "estimate": estimate, "new_priors": new_priors}
    needs = tuple(dict.fromkeys((network, models)))
    return Job(name, _align_with_network, config, needs, cost=_ALIGNING_SECONDS * num_frames(source, "train"))


def recogniser_job(name: str, folder: Path) -> Job:
    """A job that takes over the network and HMM of a trained recogniser, to teach another one."""
    recogniser = Recogniser.load(folder)
    config = {
        "recogniser": str(folder.absolute()),
        "network_digest": network_digest(folder),
        "network": recogniser.network_name,
        "input_shape": [(recogniser.left + 1 + recogniser.right) * recogniser.features.num_mels],
        "class_names": list(recogniser.hmm.state_names),
        "fit": {"dropout": 0.0, "input_dropout": 0.0},
    }
    return Job(name, _take_over, config)


def network_digest(folder: Path) -> str:
    """A hash of the network of the recogniser in a folder."""
    return hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()


def _take_over(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    folder = Path(run.config["recogniser"])
    if network_digest(folder) != run.config["network_digest"]:
        raise UsageError(f"{folder} has changed since this run began: choose another --run-dir")
    recogniser = Recogniser.load(folder)
    recogniser.hmm.save(run.path / MODELS)
    run.save_weights(recogniser.network.state_dict(), {})
    return {}


def _align_flat(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    torch.set_num_threads(1)  # the steps are so small that several threads take longer
    source, settings = source_of(run.config), ModelSettings(**run.config["models"])
    hmm = new_models(settings, source)
    words, _ = transcripts(source, "train", hmm)

    def report(number: int, alignment: Alignment) -> None:
        run.log(f"iteration {number}: {alignment.log_likelihood:.3f} nats per frame")
        run.report_progress(number / settings.iterations, {"log_likelihood": alignment.log_likelihood})

    features = load_features(source, "train", quiet=True)
    values = {name: cepstra(features.of(name)) for name in words}
    hmm, gaussians, alignment = flat_start(hmm, values, words, num_iterations=settings.iterations, progress=report)

    def scores(part: str, name: str) -> Tensor:
        return gaussians.log_likelihoods(cepstra(load_features(source, part, quiet=True).of(name)))

    return _write(run, source, hmm, alignment, scores)


def _align_with_network(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    source, models = source_of(config), needs[config["models"]]
    network, hmm = load_run_network(needs[config["network"]]), HMM.load(models / MODELS)
    logits = {}
    for part in ALIGNED:
        features = load_features(source, part, quiet=True)
        window = source.features
        frames = FrameDataset(features, class_names=hmm.state_names, left=window.left, right=window.right)
        names = [utterance.id for utterance in load_recordings(source)[part].quiet_utterances]
        lengths = [len(features.of(name)) for name in names]
        parts = torch.split(predict_logits(network, frames.of_utterances(names)), lengths)
        logits[part] = dict(zip(names, parts, strict=True))
    torch.set_num_threads(1)  # as in the flat start

    def scores(part: str, name: str, priors: HMM = hmm) -> Tensor:
        return acoustic_scores(logits[part][name], priors.log_priors)

    words, _ = transcripts(source, "train", hmm)
    alignment = align(hmm, words, functools.partial(scores, "train"))
    if not config["estimate"]:
        return _write(run, source, hmm, alignment, scores)
    estimated = hmm.estimated(alignment.states.values())
    priors = estimated if config["new_priors"] else hmm
    result = _write(run, source, estimated, alignment, functools.partial(scores, priors=priors))
    result["metrics"]["unchanged"] = _unchanged(read_states(models, "train"), alignment.states)
    return result


def transcripts(source: Source, part: str, hmm: HMM) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Words by utterance, and the held-out utterances with words that the lexicon lacks, with the reason."""
    known = set(hmm.lexicon.words)
    words, unknown = {}, {}
    for utterance in load_recordings(source)[part].quiet_utterances:
        if part == "train" or set(utterance.words) <= known:
            words[utterance.id] = utterance.words
        else:
            unknown[utterance.id] = "a word that the lexicon lacks"
    return words, unknown


def _write(run: Run, source: Source, hmm: HMM, alignment: Alignment, scores: Scores) -> dict[str, Any]:
    """Write models and states of all parts; the held-out ones are aligned with the models of training."""
    hmm.save(run.path / MODELS)
    metrics = {"log_likelihood": alignment.log_likelihood, "num_aligned": len(alignment.states)}
    skipped = dict(alignment.skipped)
    _write_states(run.path, "train", alignment)
    for part in ALIGNED[1:]:
        words, unknown = transcripts(source, part, hmm)
        held_out = align(hmm, words, functools.partial(scores, part))
        _write_states(run.path, part, held_out)
        skipped |= dict(held_out.skipped) | unknown
    for name, reason in skipped.items():
        run.log(f"skipped {name}: {reason}")
    rows = [{"utterance": name, "reason": reason} for name, reason in skipped.items()]
    return {"metrics": {**metrics, "num_skipped": len(skipped)}, "rows": rows}


def _write_states(folder: Path, part: str, alignment: Alignment) -> None:
    content = {name: states.contiguous() for name, states in alignment.states.items()}
    write_bytes(folder / STATES.format(part=part), save(content))


def _unchanged(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """The share of the frames whose state is the same in two alignments."""
    same = sum(int((after[name] == before[name]).sum()) for name in after if name in before)
    return same / sum(len(states) for states in after.values())
