"""The plan of `instar advise`: the target, where the network can be cut, the jobs and their cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from instar.data import Splits
from instar.deploy import multiplications_at
from instar.deploy.code import identity_of
from instar.jobs import Job
from instar.naming import is_of_library
from instar.networks import brings_weights, layers_of, network_fingerprint
from instar.recipes.advise.jobs import config_of_fit, load_pretrained, pretrained_job, scores_job
from instar.recipes.advise.settings import AdviseConfig
from instar.recipes.fitting import fit_job
from instar.recipes.halving import shortened
from instar.recipes.loading import build_for
from instar.recipes.settings import DataSettings, FitSettings, Settings
from instar.recipes.splits import few_examples, load_splits
from instar.recipes.study import DEFAULT, Execution
from instar.recipes.transfer.jobs import treatment_job
from instar.recipes.transfer.plan import TREATMENT_SEED
from instar.runs import is_run, run_hash
from instar.structures import Inputs
from instar.transfer import (
    SCRATCH,
    Treatment,
    candidates,
    copied_weights,
    fit_multiplications,
    possible_cuts,
)


class Layer(NamedTuple):
    """A layer of the network, and what a cut after it copies and computes, from the first layer on."""

    name: str
    copied: int
    """weights"""
    multiplications: int
    """for one example"""


@dataclass(frozen=True)
class Plan:
    """A configuration, its run directory, and how it is run."""

    config: AdviseConfig
    path: Path
    execution: Execution = DEFAULT
    folder: str = ""
    """below `jobs/`, where several plans share a run directory"""

    @cached_property
    def target(self) -> DataSettings:
        """The data of the target, with as few examples as the configuration asks for."""
        return few_examples(self.config.data, self.config.examples_per_class)

    @property
    def splits(self) -> Splits:
        """Training, validation and test data of the target."""
        return load_splits(self.target)

    @cached_property
    def architecture(self) -> str:
        """The name of the network without its weights; that of a library says with them how it sees pictures."""
        name = self.config.network
        while is_run(name):
            name = config_of_fit(name)["network"]
        return name if is_of_library(name) else name.partition("@")[0]

    def settings(self, kind: str = "fit", *, epochs: int | None = None) -> FitSettings:
        """How the base, or a network on the target, is trained; fewer epochs shorten the schedule alike."""
        found: FitSettings = getattr(self.config, kind)
        is_anew = self.config.is_module or brings_weights(self.architecture)
        own = {"network": self.architecture, "new_weights": is_anew or None}
        return (found if epochs is None else shortened(found, epochs)).model_copy(update=own)

    @cached_property
    def network(self) -> nn.Module:
        """A freshly initialised network for the target; not to be trained."""
        return build_for(self.settings(), self.splits, seed=0)

    @cached_property
    def base(self) -> nn.Module:
        """The network whose layers are copied: with its weights, or untrained where a source comes first."""
        if self.config.source is None:
            return load_pretrained(self.config.network, self.settings(), self.splits)
        return build_for(self.settings("base"), load_splits(self.config.source), seed=0)

    @property
    def base_identity(self) -> dict[str, Any] | None:
        """What a network that comes with its weights is known by; None where it is trained on the source."""
        if self.config.source is not None:
            return None
        examples = self.splits.train.examples()
        name = self.splits.name
        about = identity_of(self.base, self.config.network, examples, trained=False, data_name=name)
        return {**about, "state": network_fingerprint(self.base)}

    @property
    def example(self) -> Inputs:
        """Two examples of the target as a batch."""
        return self.splits.train.gather(self.splits.train.ids[:2], 0)

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers of the network, first to last."""
        layers = layers_of(self.network, self.example)
        costs = multiplications_at(
            self.network, [layer.module for layer in layers], self.splits.train.example_shape
        )
        copied = copied_weights(self.network, self.example)
        return [Layer(layer.name, *numbers) for layer, *numbers in zip(layers, copied, costs, strict=True)]

    @cached_property
    def cuts(self) -> list[int]:
        """Every number of layers that can be copied."""
        return possible_cuts([layer.copied for layer in self.layers])

    @cached_property
    def treatments(self) -> dict[str, Treatment | None]:
        """Every treatment of the full study, by name."""
        return treatments_at(self.cuts)

    @property
    def usual(self) -> dict[str, str]:
        """The treatments that people use without advice, by name: how they are called."""
        deepest = max(self.cuts)
        return {
            Treatment("A", "B", deepest).name: "freeze all, train the head",
            Treatment("A", "B", deepest, fine_tune=True).name: "fine-tune all",
            SCRATCH: "from scratch",
        }

    @property
    def seeds(self) -> range:
        """The seeds of the full fits."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def round_epochs(self) -> list[int]:
        """Epochs of the short fits of each round."""
        return [max(1, round(share * self.config.fit.epochs)) for share in self.config.rounds]

    @cached_property
    def base_name(self) -> str:
        """The job of the base; plans that share a run directory share equal bases."""
        config = self.config
        if not self.folder:
            return "base"
        about = [config.network, config.source, config.base, config.seed, None if config.source else self.target]
        described = {"base": [value.model_dump() if isinstance(value, Settings) else value for value in about]}
        return f"bases/{run_hash('base', described)}"

    @cached_property
    def base_job(self) -> Job:
        """The network whose layers are copied: with the weights it has, or trained on the source."""
        config, settings = self.config, self.settings("base")
        if config.source is None:
            return pretrained_job(self.base_name, config.network, self.settings(), self.target)
        device = self.execution.device
        return fit_job(self.path, self.base_name, settings, config.source, seed=config.seed, device=device)

    @property
    def scores_job(self) -> Job:
        """Computes the features at every cut once, and scores them."""
        return scores_job(f"{self.folder}scores", self.base_name, self.cuts, self.target)

    def full_name(self, name: str, seed: int) -> str:
        """The job of a full fit of a treatment."""
        return f"{self.folder}final/{name}/seed-{seed}"

    def fit(self, job: str, name: str, epochs: int, seed: int) -> Job:
        """A job that fits a treatment on the target; `seed` counts from 0."""
        settings, seed, device = self.settings(epochs=epochs), TREATMENT_SEED + seed, self.execution.device
        treatment, base, copied = self.treatments[name], self.base_name, self.config.copied
        if treatment is None:
            return fit_job(self.path, job, settings, self.target, seed=seed, device=device)
        return treatment_job(
            self.path, job, treatment, settings, self.target, base=base, seed=seed, copied=copied, device=device
        )

    def fit_cost(self, name: str, epochs: int, *, cached: bool) -> int:
        """Multiplications of a fit of a treatment."""
        treatment = self.treatments[name]
        return fit_multiplications(
            self.layers[-1].multiplications,
            self.layers[treatment.n - 1].multiplications if treatment else 0,
            num_train=len(self.splits.train),
            num_validation=len(self.splits.validation),
            epochs=epochs,
            frozen=self.is_frozen(name),
            cached=cached,
        )

    def is_frozen(self, name: str) -> bool:
        """Whether a treatment keeps its copied layers frozen."""
        treatment = self.treatments[name]
        return treatment is not None and not treatment.fine_tune


def treatments_at(cuts: Sequence[int]) -> dict[str, Treatment | None]:
    """By name, the treatments at some cuts, frozen and fine-tuned, and None for training from scratch."""
    return {treatment.name if treatment else SCRATCH: treatment for treatment in candidates(cuts)}
