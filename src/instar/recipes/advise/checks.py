"""What `instar advise` refuses before it trains anything."""

import torch
from torch import nn

from instar.data import Dataset, Splits, parse_views
from instar.errors import UsageError
from instar.naming import is_of_library
from instar.recipes.advise.jobs import config_of_fit
from instar.recipes.advise.plan import Plan
from instar.recipes.loading import build_for, try_network, warn_of_other_normalisation
from instar.recipes.settings import DataSettings, TransferSettings
from instar.recipes.splits import load_splits, training_data
from instar.recipes.transfer.plan import TREATMENT_SEED
from instar.runs import is_run
from instar.structures import without_lengths
from instar.transfer import Treatment, apply_treatment_, check_forward

_INITIALISED = (
    *(nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag),
    *(nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm),
)
"""The modules whose weights `initialise_` draws."""


def check(plan: Plan) -> None:
    """Refuse a plan that would fail on the way, or whose base was trained on data that it is judged by.

    Raises:
        UsageError: too few examples or layers, examples that do not fit the network, weights that cannot be
            re-initialised, a base of another architecture, or one that was trained on validation or test examples.
        DataError: the weights are of another architecture.
    """
    config, splits = plan.config, plan.splits
    _check_examples(splits)
    splits.train.with_views(parse_views(config.fit.views), view_seed=config.data.view_seed)
    _check_source(plan)
    if config.source is not None:
        try_network(plan.settings("base"), load_splits(config.source))
    check_forward(plan.base, config.network, splits)
    try_network(plan.settings(), splits)
    _check_seeds(plan)
    if plan.settings().new_weights and not is_of_library(plan.config.network):  # that builds it untrained
        _check_initialised(plan)
    if not plan.cuts:
        names = ", ".join(layer.name for layer in plan.layers)
        raise UsageError(
            f"{config.network} cannot be cut: it needs two layers with weights, and its layers are {names}"
        )
    network = build_for(plan.settings(), splits, seed=0)
    for n in plan.cuts:
        apply_treatment_(network, Treatment("A", "B", n, fine_tune=True), plan.base, example_input=plan.example)
    _check_unseen(plan)


def _check_examples(splits: Splits) -> None:
    counts = torch.bincount(splits.train.labels(splits.train.ids).clamp(min=0), minlength=len(splits.class_names))
    if len(splits.train) < len(splits.class_names):
        raise UsageError(
            f"{splits.name} has {len(splits.train)} training examples for {len(splits.class_names)} classes: "
            "at least one per class is needed"
        )
    if int((counts > 0).sum()) < 2:
        only = splits.class_names[int(counts.argmax())]
        raise UsageError(f"all training examples of {splits.name} have the class {only!r}; two classes are needed")


def _check_source(plan: Plan) -> None:
    if plan.config.source is None:
        return
    source, splits = load_splits(plan.config.source), plan.splits
    if without_lengths(source.train.example_shape) != without_lengths(splits.train.example_shape):
        raise UsageError(
            f"{source.name} has examples of shape {source.train.example_shape}, {splits.name} of shape "
            f"{splits.train.example_shape}: layers transfer only between examples of the same shape"
        )
    warn_of_other_normalisation(source, splits)
    source.train.with_views(parse_views(plan.config.base.views), view_seed=plan.config.source.view_seed)


def _check_seeds(plan: Plan) -> None:
    """Layers after a cut must not start from the weights from which the base was trained."""
    network = plan.config.network
    seed = config_of_fit(network).get("seed") if is_run(network) else None
    if seed in [TREATMENT_SEED + number for number in plan.seeds]:
        raise UsageError(
            f"{network} was initialised with seed {seed}, as a fit on the target would be: its new layers would "
            "start from the same weights as the base; choose another --seed"
        )


def _check_initialised(plan: Plan) -> None:
    modules = [module for module in plan.network.modules() if isinstance(module, _INITIALISED)]
    drawn = {id(weights) for module in modules for weights in module.parameters()}
    for name, weights in plan.network.named_parameters():
        if id(weights) not in drawn:
            raise UsageError(
                f"{plan.config.network}: {name} cannot be re-initialised, as layers after a cut must be; give a "
                "function that returns the network untrained, and its weights: python:MODULE:FUNCTION@WEIGHTS"
            )


def _check_unseen(plan: Plan) -> None:
    config, splits, seen = plan.config, plan.splits, _seen(plan)
    if seen is None:
        return
    whole = load_splits(config.data.model_copy(update={"classes": None, "fraction": 1.0}))
    own = torch.cat((whole.train.ids, whole.validation.ids))  # CIFAR-100 has test pictures there too
    in_test = torch.isin(splits.test.ids, seen.ids) & ~torch.isin(splits.test.ids, own)
    in_validation = torch.isin(splits.validation.ids, seen.ids)
    for part, found in (("test", in_test), ("validation", in_validation)):
        if bool(found.any()):
            raise UsageError(
                f"{config.network} was trained on {int(found.sum())} of the {len(found)} {part} examples of "
                f"{splits.name}: use the same split for both (validation_fraction "
                f"{config.data.validation_fraction}, split_seed {config.data.split_seed}), or a network that was "
                "not trained on them"
            )


def _seen(plan: Plan) -> Dataset | None:
    """What the base is trained on, where it is known; a run's data only if they have the target's name."""
    config = plan.config
    if config.source is not None:
        return load_splits(config.source).train
    theirs = config_of_fit(config.network) if is_run(config.network) else {}
    if theirs.get("data", {}).get("name") != config.data.name:  # other data may not be available here
        return None
    transfer = TransferSettings(**theirs.get("transfer", {}))
    return training_data(load_splits(DataSettings(**theirs["data"])), transfer)
