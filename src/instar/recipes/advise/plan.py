"""From the configuration of `instar advise` come its target, its cuts, its jobs and what these cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset, Splits, parse_views
from instar.deploy import multiplications_at
from instar.errors import UsageError
from instar.jobs import Job
from instar.networks import layers_of, network_fingerprint
from instar.optimisation import stretched_schedule
from instar.recipes.advise.jobs import config_of_fit, load_pretrained, pretrained_job, scores_job
from instar.recipes.advise.settings import AdviseConfig
from instar.recipes.fitting import build_for, fit_job, is_run, load_splits, training_data
from instar.recipes.settings import DataSettings, FitSettings, Settings, TransferSettings
from instar.recipes.transfer.jobs import treatment_job
from instar.recipes.transfer.plan import TREATMENT_SEED
from instar.runs import run_hash
from instar.transfer import (
    SCRATCH,
    Treatment,
    apply_treatment_,
    candidates,
    check_forward,
    copied_weights,
    fit_multiplications,
    possible_cuts,
)

BASE, SCORES = "base", "scores"
_DRAWN = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Plan:
    """A configuration and where it is run."""

    config: AdviseConfig
    path: Path
    device: str = "cpu"
    folder: str = ""
    """below `jobs/`, of a plan that shares its run directory with others"""

    @cached_property
    def target(self) -> DataSettings:
        """The data of the target: as few as the configuration says."""
        return few_examples(self.config.data, self.config.examples_per_class)

    @property
    def splits(self) -> Splits:
        """Training, validation and test data of the target."""
        return load_splits(self.target)

    @cached_property
    def architecture(self) -> str:
        """What the network is called without its weights."""
        name = self.config.network
        while is_run(name):
            name = config_of_fit(name)["network"]
        return name.partition("@")[0]

    def settings(self, kind: str = "fit", *, epochs: int | None = None) -> FitSettings:
        """How the base, or a network on the target, is fitted; in fewer epochs on a schedule as much shorter."""
        found: FitSettings = getattr(self.config, kind)
        as_it_comes = self.config.network.startswith("python:") and "@" not in self.config.network
        changed: dict[str, Any] = {"network": self.architecture, "new_weights": as_it_comes or None}
        if epochs is not None:
            share = epochs / found.epochs
            changed |= {"epochs": epochs, "schedule": stretched_schedule(found.schedule, share)}
            changed["warmup_epochs"] = share * found.warmup_epochs
        return found.model_copy(update=changed)

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """Of the network, first to last: `name`, and what a cut after it copies and costs, in all."""
        network, example = self._network, self._example
        layers = layers_of(network, example)
        costs = multiplications_at(network, [layer.module for layer in layers], example.shape[1:])
        copied = copied_weights(network, example)
        return [
            {"name": layer.name, "copied": number, "multiplications": cost}
            for layer, number, cost in zip(layers, copied, costs, strict=True)
        ]

    @property
    def multiplications(self) -> int:
        """Of one example through the whole network."""
        return int(self.layers[-1]["multiplications"])

    @cached_property
    def cuts(self) -> list[int]:
        """Every number of layers that may be copied: where the next layer has weights to learn."""
        return possible_cuts([layer["copied"] for layer in self.layers])

    @cached_property
    def base_name(self) -> str:
        """The job whose layers are copied; where plans share a run directory, they share equal bases too."""
        config = self.config
        about = [config.network, config.source, config.base, config.seed, None if config.source else self.target]
        described = {"base": [one.model_dump() if isinstance(one, Settings) else one for one in about]}
        return f"bases/{run_hash('base', described)}" if self.folder else BASE

    @property
    def usual(self) -> dict[str, str]:
        """What people do without advice, by the name of the treatment."""
        deepest = max(self.cuts)
        return {
            Treatment("A", "B", deepest).name: "freeze all, train the head",
            Treatment("A", "B", deepest, fine_tune=True).name: "fine-tune all",
            SCRATCH: "from scratch",
        }

    @cached_property
    def _network(self) -> nn.Module:
        return build_for(self.settings(), self.splits, seed=0)

    @property
    def _example(self) -> Tensor:
        return self.splits.train.gather(self.splits.train.ids[:2], 0)

    @cached_property
    def base_fingerprint(self) -> str:
        """Of the weights that the network comes with, or of the data that it is trained on first."""
        source = self.config.source
        return network_fingerprint(self._base) if source is None else load_splits(source).fingerprint

    @cached_property
    def _base(self) -> nn.Module:
        """With its weights, or as it will be trained."""
        if self.config.source is None:
            return load_pretrained(self.config.network, self.settings(), self.splits)
        return build_for(self.settings("base"), load_splits(self.config.source), seed=0)

    def check(self) -> None:
        """Refuse what could not be run to its end, or would be judged by what the base has learned.

        Raises:
            UsageError: too few examples or layers, examples that do not fit the network, weights that cannot be
                drawn anew, a base of another architecture, or one that has learned validation or test examples.
            DataError: the weights are of another architecture.
        """
        config, splits = self.config, self.splits
        _check_examples(splits)
        splits.train.with_views(parse_views(config.fit.views), view_seed=config.data.view_seed)
        if config.source is not None:
            source = load_splits(config.source)
            if source.train.example_shape != splits.train.example_shape:
                raise UsageError(
                    f"examples of {source.name} are {source.train.example_shape}, of {splits.name} "
                    f"{splits.train.example_shape}: layers can move between tasks of the same form alone"
                )
            source.train.with_views(parse_views(config.base.views), view_seed=config.source.view_seed)
        check_forward(self._base, config.network, splits)
        self._check_seeds()
        if self.settings().new_weights:
            self._check_drawn()
        if not self.cuts:
            names = ", ".join(layer["name"] for layer in self.layers)
            raise UsageError(
                f"{self.config.network} has nowhere to be cut: its layers are {names}; it needs two with weights"
            )
        network = build_for(self.settings(), splits, seed=0)
        for n in self.cuts:
            treatment = Treatment("A", "B", n, fine_tune=True)
            apply_treatment_(network, treatment, self._base, example_input=self._example)
        self._check_unseen()

    def _check_seeds(self) -> None:
        config = self.config
        seed = config_of_fit(config.network).get("seed") if is_run(config.network) else None
        if seed in range(TREATMENT_SEED + config.seed, TREATMENT_SEED + config.seed + config.seeds):
            raise UsageError(
                f"{config.network} began from seed {seed}, as a fit to the target would: its new layers would be "
                "those that were trained; choose another --seed"
            )

    def _check_unseen(self) -> None:
        """Refuse a base that learned what judges here; of a run only where its data bear the same name."""
        config, splits, learned = self.config, self.splits, self._learned()
        if learned is None:
            return
        whole = load_splits(config.data.model_copy(update={"classes": None, "fraction": 1.0}))
        own = torch.cat((whole.train.ids, whole.validation.ids))  # CIFAR-100 has test pictures there too
        in_test = torch.isin(splits.test.ids, learned.ids) & ~torch.isin(splits.test.ids, own)
        in_validation = torch.isin(splits.validation.ids, learned.ids)
        for part, found in (("test", in_test), ("validation", in_validation)):
            if bool(found.any()):
                raise UsageError(
                    f"{config.network} learned {int(found.sum())} of the {len(found)} {part} examples of "
                    f"{splits.name}: give both one split (validation_fraction {config.data.validation_fraction}, "
                    f"split_seed {config.data.split_seed}), or name a network that did not see them"
                )

    def _learned(self) -> Dataset | None:
        """What the base is trained on, where it is known."""
        config = self.config
        if config.source is not None:
            return load_splits(config.source).train
        theirs = config_of_fit(config.network) if is_run(config.network) else {}
        if theirs.get("data", {}).get("name") != config.data.name:  # others may not be here
            return None
        transfer = TransferSettings(**theirs.get("transfer", {}))
        return training_data(load_splits(DataSettings(**theirs["data"])), transfer)

    def _check_drawn(self) -> None:
        drawn = {id(one) for m in self._network.modules() if isinstance(m, _DRAWN) for one in m.parameters()}
        for name, one in self._network.named_parameters():
            if id(one) not in drawn:
                raise UsageError(
                    f"{self.config.network}: {name} cannot be drawn anew, as the layers after a cut are; name a "
                    "function that returns it untrained, and its weights: python:MODULE:FUNCTION@WEIGHTS"
                )

    @cached_property
    def base_job(self) -> Job:
        """The network that layers are copied from: with its weights, or trained on the source."""
        config = self.config
        if config.source is None:
            return pretrained_job(self.base_name, config.network, self.settings(), self.target)
        settings = self.settings("base")
        return fit_job(self.path, self.base_name, settings, config.source, seed=config.seed, device=self.device)

    def scores_job(self) -> Job:
        """Features at every cut, computed once, and their scores."""
        return scores_job(self.folder + SCORES, self.base_name, self.cuts, self.target)

    def candidates(self, cuts: Sequence[int]) -> dict[str, Treatment | None]:
        """Treatments by name, frozen and tuned at some cuts, and from scratch."""
        return {SCRATCH if one is None else one.name: one for one in candidates(cuts)}

    def fit(self, place: str, treatment: Treatment | None, *, epochs: int, seed: int) -> Job:
        """A job that fits a treatment, or a network from scratch, on the target; `seed` counts from 0."""
        settings, seed = self.settings(epochs=epochs), TREATMENT_SEED + seed
        if treatment is None:
            return fit_job(self.path, place, settings, self.target, seed=seed, device=self.device)
        return treatment_job(
            self.path,
            place,
            treatment,
            settings,
            self.target,
            base=self.base_name,
            seed=seed,
            copied=self.config.copied,
            device=self.device,
        )

    def place(self, name: str, seed: int) -> str:
        """The job of a fit to the end."""
        return f"{self.folder}final/{name}/seed-{seed}"

    def final_jobs(self, names: Mapping[str, Treatment | None], seeds: Sequence[int]) -> list[Job]:
        """Fits to the end, after the base: treatments by name, each with several seeds."""
        epochs = self.config.fit.epochs
        return [
            self.base_job,
            *(
                self.fit(self.place(name, seed), one, epochs=epochs, seed=seed)
                for name, one in names.items()
                for seed in seeds
            ),
        ]

    def round_epochs(self) -> list[int]:
        """Epochs of the short fits of each round."""
        return [max(1, round(share * self.config.fit.epochs)) for share in self.config.rounds]

    def part(self, number: int) -> str:
        """What progress is of: the scores are 0, then a round of short fits each, and the fits to the end -1."""
        parts = len(self.config.rounds) + 2
        return self.folder.replace("/", ", ") + f"part {number % parts + 1} of {parts}"

    def fit_cost(self, treatment: Treatment | None, epochs: int, *, cached: bool = True) -> int:
        """Multiplications of a fit."""
        n = treatment.n if treatment else 0
        return fit_multiplications(
            self.multiplications,
            self.layers[n - 1]["multiplications"] if n else 0,
            num_train=len(self.splits.train),
            num_validation=len(self.splits.validation),
            epochs=epochs,
            frozen=treatment is not None and not treatment.fine_tune,
            cached=cached,
        )


def few_examples(data: DataSettings, wanted: int | None) -> DataSettings:
    """Data with so many training and validation examples a class, on average: the same share of each is taken.

    Raises:
        UsageError: there are not so many.
    """
    if wanted is None:
        return data
    whole = load_splits(data)
    there = (len(whole.train) + len(whole.validation)) / len(whole.class_names)
    if wanted > there:
        raise UsageError(f"examples_per_class is {wanted}: {whole.name} has {there:.0f} a class")
    return data.model_copy(update={"fraction": wanted / there})


def _check_examples(splits: Splits) -> None:
    counts = torch.bincount(splits.train.labels(splits.train.ids).clamp(min=0), minlength=len(splits.class_names))
    if len(splits.train) < len(splits.class_names):
        raise UsageError(
            f"{splits.name} has {len(splits.train)} training examples for {len(splits.class_names)} classes: "
            "one each is needed"
        )
    if int((counts > 0).sum()) < 2:
        only = splits.class_names[int(counts.argmax())]
        raise UsageError(f"{splits.name} has the single class {only!r} in its training examples; two are needed")
