"""The configuration of a recogniser, and the jobs that it takes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, model_validator

from instar.errors import UsageError
from instar.jobs import Job
from instar.recipes.settings import (
    FitSettings,
    Settings,
    SoftSettings,
    Temperature,
    checked,
    merge,
    read_config_file,
)
from instar.recipes.speech.data import (
    FeatureChoice,
    RecogniserData,
    Recordings,
    load_recordings,
    load_statistics,
)
from instar.recipes.speech.jobs import (
    ModelSettings,
    alignment_job,
    flat_alignment_job,
    network_job,
    new_models,
)
from instar.runs import DONE, Run
from instar.speech.hmm import HMM
from instar.speech.recogniser import NETWORK, Recogniser

RECIPE, FOLDER = "speech", "recogniser"
NETWORK_NAME, DISTILLED, ALONE, TEACHER = "network", "distilled", "alone", "teacher"

_NotNegative = Annotated[float, Field(ge=0)]


def _check_grammar(name: Any) -> Any:
    grammar_order(str(name))
    return name


class RecogniserConfig(Settings):
    """The configuration of `instar speech train`."""

    data: RecogniserData = RecogniserData()
    features: FeatureChoice = FeatureChoice()
    models: ModelSettings = ModelSettings()
    network: FitSettings = FitSettings(
        network="mlp:256x2",
        epochs=6,
        learning_rate=0.05,
        batch_size=256,
        dropout=0.3,
        weight_decay=1e-3,
        warmup_epochs=0.5,  # the gradient of soft targets at T = 2 is some times that of labels
        gradient_clip=1.0,
    )
    """of the acoustic network; size, dropout and decay were chosen on digits of two speakers who are not tested"""
    realign: bool = True
    """align anew with a first network, and train the one that is kept on that"""
    grammar: Annotated[str, BeforeValidator(_check_grammar)] = "loop"
    """loop (any words), one (exactly one word) or ngram:N from the training transcripts"""
    acoustic_scales: list[Annotated[float, Field(gt=0)]] = [0.1, 0.3]
    """of several, validation chooses"""
    word_penalties: list[float] = [0.0, 10.0, 20.0]
    teacher: str | None = None
    """run directory of a recogniser that teaches this one"""
    temperature: Temperature = 2.0
    """of its soft targets; the paper's best"""
    soft_weight: _NotNegative = 1.0
    hard_weight: _NotNegative = 0.5
    """of the labels; the paper's"""
    seed: int = 0

    @model_validator(mode="after")
    def _all_settings_mean_something(self) -> Self:
        """Those of a fit that nothing here would follow are refused."""
        network = self.network
        for name, value, is_right, expected in (
            ("views", network.views, network.views == "none", "none: a recogniser's frames have no views"),
            ("input_dropout", network.input_dropout, not network.input_dropout, "0: what is kept has none"),
            ("pretrained", True, not network.pretrained, "false: a recogniser's network is always trained"),
        ):
            if not is_right:
                raise UsageError(f"network.{name} is {value}, expected {expected}")
        return self


QUICK: dict[str, Any] = {
    "data": {"fraction": 0.4, "strings": 20},
    "network": {"network": "mlp:128x2", "dropout": 0.1},
    "realign": False,
}
"""What `instar speech` does without options, in about a minute."""


def read_config(typed: Mapping[str, Any], path: Path | None = None) -> RecogniserConfig:
    """The configuration from a file and from what was typed, which wins."""
    return checked(RecogniserConfig, merge(merge(RecogniserConfig().model_dump(), read_config_file(path)), typed))


def grammar_order(name: str) -> int | None:
    """The N of `ngram:N`; None for the others.

    Raises:
        UsageError: another name.
    """
    kind, _, order = name.partition(":")
    if kind == "ngram" and order.isdecimal() and int(order) >= 1:
        return int(order)
    if name not in ("loop", "one"):
        raise UsageError(f"grammar {name!r} should be loop, one or ngram:N, for instance ngram:2")
    return None


@dataclass(frozen=True)
class Plan:
    """The jobs of a configuration."""

    config: RecogniserConfig
    path: Path
    device: str = "cpu"

    @cached_property
    def teacher(self) -> Recogniser | None:
        """Who teaches.

        Raises:
            RunError: the run directory holds no recogniser.
            UsageError: it hears other features, or its training heard speakers who are held out here.
        """
        if self.config.teacher is None:
            return None
        teacher = Recogniser.load(Path(self.config.teacher) / FOLDER)
        choice, recordings = self.config.features, load_recordings(self.config.data)
        ours = (choice.settings, (choice.left, choice.right), recordings.train.sample_rate)
        theirs = (teacher.features, (teacher.left, teacher.right), teacher.sample_rate)
        if ours != theirs:
            raise UsageError(
                f"{self.config.teacher} hears {_in_words(*theirs)}, this would hear {_in_words(*ours)}: a student "
                "hears what its teacher does; set features and data like the teacher's"
            )
        self._check_speakers(recordings)
        statistics = load_statistics(self.config.data.model_dump_json(), choice.settings)
        if choice.normalisation == "global" and not torch.allclose(statistics.mean, teacher.statistics.mean):
            raise UsageError(
                f"{self.config.teacher} was trained on other recordings and normalises by them: train "
                "teacher and student with features.normalisation=speaker"
            )
        return teacher

    def _check_speakers(self, recordings: Recordings) -> None:
        """Whether those who are held out here were held out from the teacher; a recogniser alone does not know.

        Who is in this training too may be: then the parts share speakers, and only recordings are held out.
        """
        path = Path(str(self.config.teacher))
        if not (path / DONE).is_file():
            return
        held_out = {*recordings.validation.speakers, *recordings.test.speakers} - {*recordings.train.speakers}
        known = sorted(held_out & set(Run.read(path).result()["speakers"]["train"]))
        if known:
            raise UsageError(
                f"{path} learned from {', '.join(known[:3])}{', ...' * (len(known) > 3)}, held out here for "
                "validation or test: hold out the speakers that its training did"
            )

    @cached_property
    def models(self) -> HMM:
        """Models whose states the networks tell: new ones, or the teacher's."""
        if self.teacher is not None:
            unknown = set(load_recordings(self.config.data).words) - set(self.teacher.hmm.lexicon.words)
            if unknown:
                self.teacher.hmm.lexicon.pronunciations(sorted(unknown)[0])  # says what is wrong
            return self.teacher.hmm
        return new_models(self.config.models, self.config.data)

    @property
    def kinds(self) -> list[str]:
        """The networks that are tested."""
        return [NETWORK_NAME] if self.config.teacher is None else [DISTILLED, ALONE]

    @property
    def alignment(self) -> str:
        """The job whose states the tested networks learn."""
        return f"alignment/{'teacher' if self.config.teacher else 'network' if self.config.realign else 'flat'}"

    def jobs(self) -> list[Job]:
        """Everything that is trained."""
        config = self.config
        about = (config.data, config.features)
        if self.teacher is not None:
            return [
                alignment_job(self.alignment, *about, teacher=self.about_teacher),
                self._network(DISTILLED, self.alignment, is_taught=True),
                self._network(ALONE, self.alignment),
            ]
        jobs = [flat_alignment_job("alignment/flat", config.models, *about)]
        if config.realign:
            jobs.append(self._network("first-network", "alignment/flat"))
            jobs.append(alignment_job(self.alignment, *about, needs=("first-network", "alignment/flat")))
        return [*jobs, self._network(NETWORK_NAME, self.alignment)]

    def _network(self, name: str, alignment: str, *, is_taught: bool = False) -> Job:
        config = self.config
        soft = SoftSettings(
            temperature=config.temperature, soft_weight=config.soft_weight, hard_weight=config.hard_weight
        )
        return network_job(
            self.path,
            name,
            alignment,
            config.network,
            self.models,
            config.data,
            config.features,
            seed=config.seed,
            teacher=self.about_teacher if is_taught else None,
            soft=soft if is_taught else None,
            device=self.device,
        )

    @cached_property
    def about_teacher(self) -> dict[str, str]:
        """Where the teacher is, and which one it is."""
        folder = (Path(str(self.config.teacher)) / FOLDER).absolute()
        digest = hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()
        return {"path": str(folder), "network_digest": digest}


def _in_words(features: Any, context: tuple[int, int], sample_rate: int) -> str:
    window = sum(context) + 1
    return f"{window} frames of {features.num_mels} filters ({features.normalisation}) at {sample_rate} Hz"
