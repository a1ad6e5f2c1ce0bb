"""The jobs of the speech study: an alignment for each fold, networks on its frames, what an ensemble says."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn

from instar.data import Dataset
from instar.distillation import SoftTargetStore
from instar.evaluation import predict_logits
from instar.files import write_bytes
from instar.jobs import Job, num_gpus
from instar.networks import build_network
from instar.recipes.fitting import STORE, decided_precision, fit_options, load_run_network, run_fit, soft_options
from instar.recipes.settings import FitSettings, Settings, SoftSettings
from instar.recipes.speech_study.data import (
    MODELS,
    STATES,
    FoldData,
    SpeechDataSettings,
    fold_of,
    load_fold,
    load_recordings,
    part_features,
)
from instar.runs import Run
from instar.speech.alignment import Alignment, align, flat_start
from instar.speech.corpus import Utterance
from instar.speech.features import Features
from instar.speech.frames import LEFT, RIGHT, FrameDataset
from instar.speech.gaussians import cepstra
from instar.speech.hmm import HMM, acoustic_scores
from instar.training import fit

_EVERY = 3  # of validation's frames one in three is looked at after an epoch: neighbours are alike
ALIGNER_SEED = 20_000  # of no network that is reported
# Beside a fit's epochs x strings x weights, for the time left: to align a string, and to ask a teacher about it.
_ALIGNING_COST, _ASKING_COST = 5e6, 1e5
_Count = Annotated[int, Field(ge=1)]


class AlignerSettings(Settings):
    """The separate net that tells the states of all systems: its own, and never one of theirs."""

    states_of_word: _Count = 8
    states_of_phone: _Count = 3
    iterations: _Count = 8
    """of Viterbi training from a flat start"""
    fit: FitSettings = FitSettings(network="mlp:256x2", epochs=4, batch_size=256, learning_rate=0.05)
    """of the net on the Gaussians' alignment, by which everything is aligned anew"""


class LearningSettings(Settings):
    """What a network learns from."""

    part: Literal["train", "untranscribed"] = "train"
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """of each speaker's utterances"""
    seed: int = 0
    """chooses which"""


def models_of(data: SpeechDataSettings, aligner: AlignerSettings) -> HMM:
    """The HMM of the words, before it has seen anything."""
    return HMM.new(
        load_recordings(data).lexicon,
        states_of_word=aligner.states_of_word,
        states_of_phone=aligner.states_of_phone,
    )


def _about(data: SpeechDataSettings, fold: int) -> dict[str, Any]:
    return {"data": data.model_dump(), "data_fingerprint": load_recordings(data).fingerprint, "fold": fold}


def alignment_job(name: str, data: SpeechDataSettings, fold: int, aligner: AlignerSettings) -> Job:
    """A job that tells the states of a fold's utterances, from their quiet versions.

    It learns from the training speakers alone; what the other two say is aligned by what it has learned.
    """
    config = {**_about(data, fold), "aligner": aligner.model_dump()}
    return Job(name, _align, config, cost=_ALIGNING_COST * _num_strings(data, fold))


def _num_strings(data: SpeechDataSettings, fold: int) -> int:
    return data.train_strings * len(fold_of(data, fold).train)


def _align(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    data, aligner = SpeechDataSettings(**config["data"]), AlignerSettings(**config["aligner"])
    fold, quiet = fold_of(data, config["fold"]), part_features(data, "train", is_quiet=True)
    own = [one for one in quiet.utterances if one.speaker in fold.train]
    models, _, first = flat_start(
        models_of(data, aligner),
        {one.id: cepstra(quiet.of(one)) for one in own},
        {one.id: one.words for one in own},
        num_iterations=aligner.iterations,
    )
    network = _aligning_network(models, quiet, first, aligner.fit)
    states, skipped = _realigned(models, network, quiet, own)
    models = models.estimated(states.values())
    others = part_features(data, "test", is_quiet=True)
    heard = [one for one in others.utterances if one.speaker in (fold.validation, fold.test)]
    known = set(models.lexicon.words)
    unknown = {one.id: "a word that the lexicon lacks" for one in heard if not set(one.words) <= known}
    more, more_skipped = _realigned(models, network, others, [one for one in heard if one.id not in unknown])
    more_skipped |= unknown
    for one, reason in (skipped | more_skipped).items():
        run.log(f"skipped {one}: {reason}")
    write_bytes(run.path / STATES, save({**states, **more}))  # no speaker is in both
    models.save(run.path / MODELS)
    same = sum(int((states[one] == first.states[one]).sum()) for one in states if one in first.states)
    return {
        "metrics": {
            "log_likelihood": first.log_likelihood,
            "same_as_gaussians": same / sum(len(one) for one in states.values()),
            "aligned": len(states) + len(more),
            "skipped": len(skipped) + len(more_skipped),
        }
    }


def _aligning_network(models: HMM, features: Features, first: Alignment, settings: FitSettings) -> nn.Module:
    data = FrameDataset(features, first.states, class_names=models.state_names).of_utterances(list(first.states))
    network = build_network(
        settings.network, input_shape=data.example_shape, num_classes=data.num_classes, seed=ALIGNER_SEED
    )
    options = fit_options(settings) | {"precision": "float32"}
    fit(network, data, seed=ALIGNER_SEED, **options)
    return network


def _realigned(
    models: HMM, network: nn.Module, features: Features, utterances: Sequence[Utterance]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    data = FrameDataset(features, class_names=models.state_names)

    def scores(name: str) -> Tensor:
        return acoustic_scores(predict_logits(network, data.of_utterances([name])), models.log_priors)

    found = align(models, {one.id: one.words for one in utterances}, scores)
    return {name: states.contiguous() for name, states in found.states.items()}, dict(found.skipped)


def network_job(
    root: Path,
    name: str,
    settings: FitSettings,
    data: SpeechDataSettings,
    fold: int,
    *,
    aligner: AlignerSettings,
    alignment: str,
    seed: int,
    learning: LearningSettings | None = None,
    soft: SoftSettings | None = None,
    device: str = "cpu",
) -> Job:
    """A job that fits one network to a fold's frames; `soft` names the jobs of its teachers, or their store."""
    learning = learning or LearningSettings()
    class_names = models_of(data, aligner).state_names
    input_shape = ((LEFT + 1 + RIGHT) * part_features(data, "train").settings.num_mels,)
    network = build_network(settings.network, input_shape=input_shape, num_classes=len(class_names), seed=0)
    precision = decided_precision(root / "jobs" / name, settings.precision, network, device)
    config = {
        **_about(data, fold),
        "network": settings.network,
        "input_shape": list(input_shape),
        "class_names": list(class_names),
        "fit": settings.model_copy(update={"precision": precision}).model_dump(exclude={"network"}),
        "seed": seed,
        "learning": learning.model_dump(),
        "soft": soft.model_dump() if soft else None,
        "alignment": alignment,
    }
    needs = [alignment]
    if soft:
        needs += [soft.store] if soft.store else soft.teachers
    strings = data.train_strings if learning.part == "train" else data.untranscribed_strings
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    cost = settings.epochs * learning.share * strings * num_parameters * len(fold_of(data, fold).train)
    return Job(name, functools.partial(_fit, device=device), config, tuple(needs), cost, gpus=num_gpus(device))


def _fit(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    data, settings = fold_data(config, needs), FitSettings(network=config["network"], **config["fit"])
    train = data.training_part(**config["learning"])
    soft = SoftSettings(**config["soft"]) if config.get("soft") else None
    store = SoftTargetStore.open(needs[soft.store] / STORE) if soft and soft.store else None
    network = build_network(
        settings.network,
        input_shape=config["input_shape"],
        num_classes=len(config["class_names"]),
        seed=config["seed"],
        dropout=settings.dropout,
        input_dropout=settings.input_dropout,
        initialiser=settings.initialiser,
    )
    result = run_fit(
        run,
        network,
        train,
        validation=data.validation.subset(data.validation.ids[::_EVERY]),
        device=device,
        **soft_options(soft, needs, train, device, store),
    )
    return {"metrics": {**result.kept, "num_frames": len(train)}, "rows": result.metrics}


def fold_data(config: Mapping[str, Any], needs: Mapping[str, Path]) -> FoldData:
    """The data in the configuration of a job."""
    return load_fold(SpeechDataSettings(**config["data"]), config["fold"], needs[config["alignment"]])


def store_job(
    name: str, teachers: Sequence[str], data: SpeechDataSettings, fold: int, *, alignment: str, part: str
) -> Job:
    """A job that asks an ensemble once for its logits on a part of a fold's frames."""
    config = {**_about(data, fold), "teachers": list(teachers), "alignment": alignment, "part": part}
    return Job(
        name,
        _write_store,
        config,
        (alignment, *teachers),
        cost=_ASKING_COST * len(teachers) * _num_strings(data, fold),
    )


def _write_store(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    part: Dataset = fold_data(config, needs).training_part(config["part"], 1.0, 0)
    teachers = {name: load_run_network(needs[name]) for name in config["teachers"]}
    SoftTargetStore.write(run.path / STORE, teachers, part)
    return {"metrics": {"num_frames": len(part)}}
