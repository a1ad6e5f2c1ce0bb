"""The configuration of a recogniser, and the jobs that it takes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, model_validator

from instar.errors import UsageError
from instar.jobs import Job
from instar.naming import import_extra
from instar.recipes.reading_settings import checked, merge, read_config_file
from instar.recipes.settings import FitSettings, Settings, SoftSettings, Temperature
from instar.recipes.speech.align_jobs import (
    alignment_job,
    flat_alignment_job,
    network_digest,
    new_models,
    recogniser_job,
)
from instar.recipes.speech.data import Recordings, load_recordings, load_statistics
from instar.recipes.speech.fit_jobs import described_network, network_job, try_acoustic_network
from instar.recipes.speech.settings import InputSettings, ModelSettings, RecogniserData, Source
from instar.runs import DONE, Run
from instar.speech.hmm import HMM
from instar.speech.recogniser import Recogniser

FOLDER = "recogniser"
"""The folder of the trained recogniser in its run directory."""
NETWORK_NAME, DISTILLED, ALONE, TEACHER = "network", "distilled", "alone", "teacher"

_Weight = Annotated[float, Field(ge=0)]


def _check_grammar(name: Any) -> Any:
    grammar_order(str(name))
    return name


class RecogniserConfig(Settings):
    """The configuration of `instar speech train`."""

    data: RecogniserData = RecogniserData()
    features: InputSettings = InputSettings()
    models: ModelSettings = ModelSettings()
    network: FitSettings = FitSettings(  # size, dropout and decay: chosen on digits of two speakers never tested
        network="mlp:256x2",
        epochs=6,
        learning_rate=0.05,
        batch_size=256,
        dropout=0.3,
        weight_decay=1e-3,
        warmup_epochs=0.5,  # at T = 2 the gradient of the soft targets is several times that of the labels
        gradient_clip=1.0,
    )
    """the acoustic network"""
    realign: bool = True
    """align again with a first network, and train the final network on that alignment"""
    grammar: Annotated[str, BeforeValidator(_check_grammar)] = "loop"
    """allowed word sequences: loop (any words), one (a single word) or ngram:N from the training transcripts"""
    acoustic_scales: list[Annotated[float, Field(gt=0)]] = [0.1, 0.3]
    """the best on validation is used"""
    word_penalties: list[float] = [0.0, 10.0, 20.0]
    """the best on validation is used"""
    teacher: str | None = None
    """run directory of a recogniser to distil"""
    temperature: Temperature = 2.0
    """temperature of the teacher's soft targets; 2 was the best in the paper"""
    soft_weight: _Weight = 1.0
    """weight of the teacher's soft targets"""
    hard_weight: _Weight = 0.5
    """weight of the labels; the paper's"""
    seed: int = 0
    """seed of initialisation and order"""

    @model_validator(mode="after")
    def _refuse_unused_settings(self) -> Self:
        network = self.network
        for name, value, is_right, expected in (
            ("views", network.views, network.views == "none", "none: the frames of a recogniser have no views"),
            ("input_dropout", network.input_dropout, not network.input_dropout, "0: it is not supported here"),
            ("pretrained", True, not network.pretrained, "false: the network of a recogniser is always trained"),
        ):
            if not is_right:
                raise UsageError(f"network.{name} is {value}, expected {expected}")
        return self


QUICK: dict[str, Any] = {
    "data": {"fraction": 0.4, "strings": 20},
    "network": {"network": "mlp:128x2", "dropout": 0.1},
    "realign": False,
}
"""The settings of `instar speech` without options, which takes about a minute."""


def read_config(typed: Mapping[str, Any], path: Path | None = None) -> RecogniserConfig:
    """The configuration from a file and from typed options, which override the file."""
    return checked(RecogniserConfig, merge(merge(RecogniserConfig().model_dump(), read_config_file(path)), typed))


def grammar_order(name: str) -> int | None:
    """The N of `ngram:N`; None for `loop` and `one`.

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

    @property
    def source(self) -> Source:
        """Where the frames come from."""
        return Source(data=self.config.data, features=self.config.features)

    @cached_property
    def teacher(self) -> Recogniser | None:
        """The recogniser to distil.

        Raises:
            RunError: the run directory holds no recogniser.
            UsageError: it has other features, or was trained on speakers who are held out here.
        """
        if self.config.teacher is None:
            return None
        teacher = Recogniser.load(self.teacher_folder)
        choice, recordings = self.config.features, load_recordings(self.source)
        ours = (choice.features, (choice.left, choice.right), recordings.sample_rate)
        theirs = (teacher.features, (teacher.left, teacher.right), teacher.sample_rate)
        if ours != theirs:
            raise UsageError(
                f"{self.config.teacher} takes {_in_words(*theirs)}, the student would take {_in_words(*ours)}: "
                "a student needs the input of its teacher; set features and data as for the teacher"
            )
        self._check_speakers(recordings)
        means = load_statistics(self.source).mean, teacher.statistics.mean
        if choice.normalisation == "global" and not torch.allclose(*means):
            raise UsageError(
                f"{self.config.teacher} was trained on other recordings and is normalised with their statistics: "
                "train teacher and student with features.normalisation=speaker"
            )
        return teacher

    @property
    def teacher_folder(self) -> Path:
        """The folder of the recogniser to distil."""
        return Path(str(self.config.teacher)) / FOLDER

    def _check_speakers(self, recordings: Recordings) -> None:
        """Check that the teacher was not trained on speakers who are held out here.

        A speaker of our own training recordings may be: then the parts share speakers, not recordings. A
        recogniser's folder alone does not name its speakers; nothing is checked then.
        """
        path = Path(str(self.config.teacher))
        if not (path / DONE).is_file():
            return
        held_out = {*recordings["validation"].speakers, *recordings["test"].speakers}
        result = Run.read(path).result()
        trained = result.get("details", result)["speakers"]["train"]  # schema 1 had no details
        known = sorted((held_out - {*recordings["train"].speakers}) & set(trained))
        if known:
            raise UsageError(
                f"{path} was trained on {', '.join(known[:3])}{', ...' * (len(known) > 3)}, held out here for "
                "validation or test: hold out the same speakers as its training did"
            )

    @cached_property
    def models(self) -> HMM:
        """The models whose states the networks predict: untrained ones, or the teacher's."""
        if self.teacher is None:
            return new_models(self.config.models, self.source)
        for word in load_recordings(self.source).words:
            self.teacher.hmm.lexicon.pronunciations(word)  # raises an error that names the word
        return self.teacher.hmm

    @property
    def kinds(self) -> list[str]:
        """The trained networks that are tested."""
        return [NETWORK_NAME] if self.config.teacher is None else [DISTILLED, ALONE]

    @property
    def alignment(self) -> str:
        """The job whose alignment the tested networks are trained on."""
        return f"alignment/{'teacher' if self.config.teacher else 'network' if self.config.realign else 'flat'}"

    def check(self) -> None:
        """Refuse a plan that cannot be carried out: building its jobs reads all recordings."""
        import_extra("jiwer", "speech")  # counts the errors at the end
        self.jobs()
        temperature = None if self.teacher is None else self.config.temperature
        try_acoustic_network(self.config.network, self.source, self.models, temperature=temperature)

    def jobs(self) -> list[Job]:
        """Everything that is trained."""
        if self.teacher is not None:
            soft = SoftSettings(
                teachers=[TEACHER],
                temperature=self.config.temperature,
                soft_weight=self.config.soft_weight,
                hard_weight=self.config.hard_weight,
            )
            return [
                recogniser_job(TEACHER, self.teacher_folder),
                alignment_job(self.alignment, self.source, network=TEACHER, models=TEACHER, estimate=False),
                self._network(DISTILLED, self.alignment, soft),
                self._network(ALONE, self.alignment),
            ]
        flat, first = "alignment/flat", "first-network"
        jobs = [flat_alignment_job(flat, self.source, self.config.models)]
        if self.config.realign:
            jobs += [
                self._network(first, flat),
                alignment_job(self.alignment, self.source, network=first, models=flat),
            ]
        return [*jobs, self._network(NETWORK_NAME, self.alignment)]

    def _network(self, name: str, alignment: str, soft: SoftSettings | None = None) -> Job:
        return network_job(
            self.path,
            name,
            self.config.network,
            self.source,
            alignment=alignment,
            models=self.models,
            seed=self.config.seed,
            soft=soft,
            device=self.device,
        )

    @property
    def contents(self) -> dict[str, Any]:
        """What recordings, lexicon, network and teacher are known by."""
        lexicon = json.dumps(self.models.lexicon.to_json(), sort_keys=True)
        network = described_network(self.config.network, self.source, self.models)
        return {
            "recordings": load_recordings(self.source).fingerprint,
            "lexicon": hashlib.sha256(lexicon.encode()).hexdigest(),
            "network": network["network_identity"],
            "teacher": None if self.teacher is None else network_digest(self.teacher_folder),
        }


def _in_words(features: Any, context: tuple[int, int], sample_rate: int) -> str:
    window = sum(context) + 1
    return f"{window} frames of {features.num_mels} filters ({features.normalisation}) at {sample_rate} Hz"
