"""The jobs that a recogniser is made of: align the training words with states, fit a network to the states."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from instar.distillation import Teacher
from instar.errors import RunError
from instar.evaluation import predict_logits
from instar.files import load_tensors, write_bytes
from instar.jobs import Job, num_gpus
from instar.recipes.fitting import decided_precision, load_run_network, new_network, run_fit
from instar.recipes.settings import FitSettings, Settings, SoftSettings
from instar.recipes.speech.data import (
    PARTS,
    FeatureChoice,
    RecogniserData,
    choose_lexicon,
    load_features,
    load_recordings,
)
from instar.runs import Run
from instar.speech.alignment import ITERATIONS, Alignment, Scores, align, flat_start
from instar.speech.features import Features
from instar.speech.frames import FrameDataset
from instar.speech.gaussians import DiagonalGaussians, cepstra
from instar.speech.hmm import HMM, STATES_OF_PHONE, STATES_OF_SILENCE, STATES_OF_WORD, acoustic_scores
from instar.speech.recogniser import MODELS, Recogniser, state_network

STATES = "{part}.safetensors"


class ModelSettings(Settings):
    """The units of speech and their states."""

    lexicon: str = "digits"
    """digits (phones), words (a model for each word) or the path of a Kaldi lexicon"""
    states_of_phone: Annotated[int, Field(ge=1)] = STATES_OF_PHONE
    states_of_word: Annotated[int, Field(ge=1)] = STATES_OF_WORD
    states_of_silence: Annotated[int, Field(ge=1)] = STATES_OF_SILENCE


def new_models(settings: ModelSettings, data: RecogniserData) -> HMM:
    """Untrained models of the words that a recogniser will know.

    Raises:
        DataError: a word of the training transcripts is not in the lexicon.
        UsageError: there is no such lexicon.
    """
    lexicon = choose_lexicon(settings.lexicon, load_recordings(data))
    return HMM.new(lexicon, **settings.model_dump(exclude={"lexicon"}))


def flat_alignment_job(name: str, models: ModelSettings, data: RecogniserData, features: FeatureChoice) -> Job:
    """A job that trains Gaussian models from words alone, and aligns all parts with them."""
    lexicon = json.dumps(new_models(models, data).lexicon.to_json(), sort_keys=True)
    config = {
        **_about(data, features),
        "models": models.model_dump(),
        "lexicon_digest": hashlib.sha256(lexicon.encode()).hexdigest(),  # a file may say something else by now
        "iterations": ITERATIONS,
    }
    return Job(name, _align_flat, config, cost=10.0 * len(load_recordings(data).train))


def alignment_job(
    name: str,
    data: RecogniserData,
    features: FeatureChoice,
    *,
    needs: tuple[str, ...] = (),
    teacher: Mapping[str, str] | None = None,
) -> Job:
    """A job that aligns all parts with a network: a job's, with the models of another, or a teacher's."""
    config = {**_about(data, features), "teacher": teacher}
    return Job(name, _align, config, needs, cost=2.0 * len(load_recordings(data).train))


def network_job(
    root: Path,
    name: str,
    alignment: str,
    settings: FitSettings,
    hmm: HMM,
    data: RecogniserData,
    features: FeatureChoice,
    *,
    seed: int,
    teacher: Mapping[str, str] | None = None,
    soft: SoftSettings | None = None,
    device: str = "cpu",
) -> Job:
    """A job that fits a network to the states of an alignment, and to the soft targets of a teacher."""
    network = state_network(settings.network, features.settings, hmm, left=features.left, right=features.right)
    precision = decided_precision(root / "jobs" / name, settings.precision, network, device)
    config = {
        **_about(data, features),
        "network": settings.network,
        "input_shape": [(features.left + 1 + features.right) * features.num_mels],
        "class_names": list(hmm.state_names),
        "fit": settings.model_copy(update={"precision": precision}).model_dump(exclude={"network"}),
        "seed": seed,
        "teacher": teacher,
        "soft": soft.model_dump() if soft else None,
    }
    frames = len(load_features(data, features.settings, "train").values)
    cost = settings.epochs * frames * sum(one.numel() for one in network.parameters()) / 1e7
    return Job(name, functools.partial(_fit, device=device), config, (alignment,), cost, 1, num_gpus(device))


def _about(data: RecogniserData, features: FeatureChoice) -> dict[str, Any]:
    return {
        "data": data.model_dump(),
        "data_fingerprint": load_recordings(data).fingerprint,
        "features": features.model_dump(),
    }


def _settings_of(config: Mapping[str, Any]) -> tuple[RecogniserData, FeatureChoice]:
    return RecogniserData(**config["data"]), FeatureChoice(**config["features"])


def transcripts(data: RecogniserData, part: str, hmm: HMM) -> dict[str, tuple[str, ...]]:
    """Words by utterance; of the held-out parts only where the lexicon has them all."""
    corpus = getattr(load_recordings(data), part)
    known = set(hmm.lexicon.words)
    return {one.id: one.words for one in corpus.utterances if part == "train" or set(one.words) <= known}


def _align_flat(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    torch.set_num_threads(1)  # of steps so small, threads that wait for each other cost more than they do
    data, choice = _settings_of(run.config)
    hmm, iterations = new_models(ModelSettings(**run.config["models"]), data), run.config["iterations"]
    train = load_features(data, choice.settings, "train")
    words = transcripts(data, "train", hmm)

    def told(number: int, alignment: Alignment) -> None:
        run.log(f"round {number}: {alignment.log_likelihood:.3f} nats a frame")
        run.report_progress(number / iterations, {"log_likelihood": alignment.log_likelihood})

    values = {name: cepstra(train.of(name)) for name in words}
    hmm, gaussians, alignment = flat_start(hmm, values, words, num_iterations=iterations, progress=told)
    scores = functools.partial(_gaussian_scores, gaussians, data, choice)
    return _write(run, data, hmm, alignment, scores)


def _gaussian_scores(
    gaussians: DiagonalGaussians, data: RecogniserData, choice: FeatureChoice, part: str, name: str
) -> Tensor:
    return gaussians.log_likelihoods(cepstra(load_features(data, choice.settings, part).of(name)))


def _align(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    data, choice = _settings_of(run.config)
    teacher = run.config.get("teacher")
    if teacher is not None:
        recogniser = Recogniser.load(Path(teacher["path"]))
        network, hmm = recogniser.network, recogniser.hmm
    else:
        job = next(path for name, path in needs.items() if "network" in Run.read(path).config)
        network = load_run_network(job)
        hmm = HMM.load(next(path for path in needs.values() if (path / MODELS).exists()) / MODELS)
    parts = {}
    for part in PARTS:
        frames = FrameDataset(
            load_features(data, choice.settings, part),
            class_names=hmm.state_names,
            left=choice.left,
            right=choice.right,
        )
        parts[part] = acoustic_scores(predict_logits(network, frames), hmm.log_priors)

    torch.set_num_threads(1)  # as in the flat start

    def scores(part: str, name: str) -> Tensor:
        return parts[part][slice(*load_features(data, choice.settings, part).places[name])]

    alignment = align(hmm, transcripts(data, "train", hmm), functools.partial(scores, "train"))
    if teacher is None:  # a teacher's models stay as they are: its network knows their states and priors
        hmm = hmm.estimated(alignment.states.values())
    return _write(run, data, hmm, alignment, scores)


def _write(run: Run, data: RecogniserData, hmm: HMM, alignment: Alignment, scores: Any) -> dict[str, Any]:
    """Models and states of all parts; the held-out ones are aligned with what the training part gave."""
    run.log(alignment.summary)
    hmm.save(run.path / MODELS)
    skipped = dict(alignment.skipped)
    for part in PARTS:
        if part != "train":
            part_scores: Scores = functools.partial(scores, part)
            alignment = align(hmm, transcripts(data, part, hmm), part_scores)
            skipped |= alignment.skipped
        content = {name: states.contiguous() for name, states in alignment.states.items()}
        write_bytes(run.path / STATES.format(part=part), save(content))
        if part == "train":
            about = {"log_likelihood": alignment.log_likelihood, "num_aligned": len(alignment.states)}
    rows = [{"utterance": name, "reason": reason} for name, reason in skipped.items()]
    return {"metrics": {**about, "num_skipped": len(skipped)}, "rows": rows}


def read_states(alignment: Path, part: str) -> dict[str, Tensor]:
    """The states of a part's utterances, from the run directory of an alignment."""
    return load_tensors(alignment / STATES.format(part=part))[0]


def aligned_frames(
    data: RecogniserData, choice: FeatureChoice, part: str, alignment: Path, hmm: HMM
) -> FrameDataset:
    """The frames of a part with the states of an alignment; those of skipped utterances are left out.

    Raises:
        RunError: nothing of the part is aligned.
    """
    states = read_states(alignment, part)
    if not states:
        raise RunError(f"{alignment}: no utterance of the {part} part is aligned")
    features: Features = load_features(data, choice.settings, part)
    frames = FrameDataset(features, states, class_names=hmm.state_names, left=choice.left, right=choice.right)
    return frames.of_utterances(list(states))


def _fit(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    data, choice = _settings_of(config)
    settings = FitSettings(network=config["network"], **config["fit"])
    (alignment,) = needs.values()
    hmm = HMM.load(alignment / MODELS)
    train, validation = (aligned_frames(data, choice, part, alignment, hmm) for part in ("train", "validation"))
    network = new_network(settings, config["input_shape"], len(hmm.state_names), seed=config["seed"])
    options: dict[str, Any] = {}
    if config.get("soft"):
        soft = SoftSettings(**config["soft"])
        teacher = Recogniser.load(Path(config["teacher"]["path"])).network
        targets = Teacher(teacher, train, temperature=soft.temperature, class_names=hmm.state_names, device=device)
        options = {"targets": targets, "soft_weight": soft.soft_weight, "hard_weight": soft.hard_weight}
    result = run_fit(run, network, train, validation=validation, device=device, **options)
    about = {"num_train": len(train), "num_validation": len(validation)}
    return {"metrics": {**result.kept, **about}, "rows": result.metrics}
