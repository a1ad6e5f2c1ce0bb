"""The jobs that train networks on frames, and write the soft targets of an ensemble."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from instar.deploy.code import code_identity
from instar.distillation import SoftTargetStore
from instar.guards import NUM_TRIED, try_fit
from instar.jobs import Job, num_gpus
from instar.recipes.fitting import STORE, decided_precision, fit_content, run_fit, soft_options
from instar.recipes.loading import load_run_network, network_of, new_network, template_network
from instar.recipes.settings import FitSettings, SoftSettings
from instar.recipes.speech.align_jobs import about, source_of
from instar.recipes.speech.data import load_frames, num_frames
from instar.recipes.speech.settings import LearningSettings, Source
from instar.runs import Run
from instar.speech.corpus import chosen_share
from instar.speech.frames import FrameDataset
from instar.speech.hmm import HMM

# Core-seconds for the time left: of training for each frame and weight, of a teacher for each frame.
_FIT_SECONDS, _TEACHING_SECONDS = 7e-11, 9e-6


def network_job(
    root: Path,
    name: str,
    settings: FitSettings,
    source: Source,
    *,
    alignment: str,
    models: HMM,
    seed: int,
    learning: LearningSettings | None = None,
    soft: SoftSettings | None = None,
    device: str = "cpu",
) -> Job:
    """A job that trains a network to predict the states of an alignment.

    Args:
        root: run directory of the study.
        name: of the job.
        settings: of the network and its training.
        source: of the frames.
        alignment: job that aligned them.
        models: their states are the classes.
        seed: of initialisation and order.
        learning: which frames it learns from.
        soft: its soft targets, by the jobs of the teachers or of their store.
        device: where to compute.
    """
    learning = learning or LearningSettings()
    network = template_network(settings, source.features.input_shape, len(models.state_names))
    precision = decided_precision(root / "jobs" / name, settings.precision, network, device)
    config = {
        **about(source),
        **described_network(settings.model_copy(update={"precision": precision}), source, models, seed=seed),
        "learning": learning.model_dump(),
        "soft": soft.model_dump() if soft else None,
        "alignment": alignment,
    }
    needs = [alignment]
    if soft:
        needs += [soft.store] if soft.store else soft.teachers
    weights = sum(parameter.numel() for parameter in network.parameters())
    frames = learning.share * num_frames(source, learning.part)
    cost = _FIT_SECONDS * settings.epochs * frames * weights
    return Job(name, functools.partial(_fit, device=device), config, tuple(needs), cost, gpus=num_gpus(device))


def try_acoustic_network(
    settings: FitSettings, source: Source, models: HMM, *, temperature: float | None = None
) -> None:
    """Try the network of a configuration on frames of noise, before the first alignment.

    Raises:
        UsageError, TrainingError: it cannot learn from such frames; the error says why.
    """
    shape, num_states = source.features.input_shape, len(models.state_names)
    frames = torch.randn(NUM_TRIED, *shape, generator=torch.Generator().manual_seed(0))
    network = new_network(settings, shape, num_states, seed=0)
    try_fit(network, settings.network, frames, num_states, temperature=temperature, data_name="this recogniser")


def described_network(settings: FitSettings, source: Source, models: HMM, *, seed: int = 0) -> dict[str, Any]:
    """The part of a job's configuration that describes its network."""
    described = {
        "network": settings.network,
        "input_shape": list(source.features.input_shape),
        "class_names": list(models.state_names),
        "fit": settings.model_dump(exclude={"network"}),
        "seed": seed,
    }
    return {**described, "network_identity": code_identity(described, "this recogniser")}


def training_frames(source: Source, alignment: Path, learning: LearningSettings) -> FrameDataset:
    """The frames that a network learns from."""
    frames = load_frames(source, learning.part, alignment, quiet=learning.quiet)
    if learning.share == 1:
        return frames
    chosen = chosen_share(frames.utterances, learning.share, seed=learning.seed)
    return frames.of_utterances([utterance.id for utterance in chosen])


def _fit(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    source, learning = source_of(config), LearningSettings(**config["learning"])
    alignment = needs[config["alignment"]]
    train = training_frames(source, alignment, learning)
    validation = load_frames(source, "validation", alignment, quiet=learning.quiet)
    validation = validation.subset(validation.ids[:: learning.validation_every])
    network = network_of(run)
    soft = SoftSettings(**config["soft"]) if config.get("soft") else None
    store = SoftTargetStore.open(needs[soft.store] / STORE) if soft and soft.store else None
    targets = soft_options(soft, needs, train, device, store)
    result = run_fit(run, network, train, validation=validation, device=device, **targets)
    return fit_content(result, num_train=len(train), num_validation=len(validation))


def store_job(name: str, teachers: Sequence[str], source: Source, *, alignment: str, part: str) -> Job:
    """A job that stores the logits of an ensemble for the frames of a part."""
    config = {**about(source), "teachers": list(teachers), "alignment": alignment, "part": part}
    cost = _TEACHING_SECONDS * len(teachers) * num_frames(source, part)
    return Job(name, _write_store, config, (alignment, *teachers), cost=cost)


def _write_store(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    frames = load_frames(source_of(config), config["part"], needs[config["alignment"]])
    teachers = {name: load_run_network(needs[name]) for name in config["teachers"]}
    SoftTargetStore.write(run.path / STORE, teachers, frames)
    return {"metrics": {"num_frames": len(frames)}}
