"""What is refused before the first job of `instar distill` starts, and what is warned of."""

from functools import partial
from typing import Any

import torch
from torch import nn

from instar.data import Dataset, parse_views, seen_by
from instar.distillation import SoftTargetStore, Teacher, fit_class_bias
from instar.errors import UsageError
from instar.recipes.distill.correction import correct_
from instar.recipes.distill.plan import Plan
from instar.recipes.hinting import KINDS, listening
from instar.recipes.loading import build_for, load_network, try_network, try_trained, warn_of_head
from instar.recipes.settings import LOSSES
from instar.recipes.splits import training_data
from instar.recipes.targets import check_store_of
from instar.soft_losses import SOFT_LOSSES
from instar.teacher_checks import check_soft_targets, judged_ids


def check(plan: Plan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: names what is wrong.
    """
    config, splits = plan.config, plan.splits
    if config.folds is not None and not any(member.is_estimator for member in plan.members):
        raise UsageError("folds: no teacher is fitted by its library: --teacher forest, lightgbm, xgboost, ...")
    for member in {member.settings: member for member in plan.members}.values():
        if member.is_estimator:
            build_for(member.settings, splits, seed=0)  # raises now where its library is not installed
            continue
        if not member.comes_with_weights:
            try_network(member.settings, splits)
            splits.train.with_views(parse_views(member.settings.views), view_seed=config.data.view_seed)
            continue
        if config.teachers > 1:
            raise UsageError(
                f"teachers is {config.teachers}, but {member.settings.network} comes with its weights: "
                "for an ensemble name several, with commas between them"
            )
        network = load_network(member.settings, splits)
        warn_of_head(network)
        try_trained(network, member.settings.network, splits)
        _check_teacher(plan, network)
        seen_by(
            network, splits.train.with_views(parse_views(config.student.views), view_seed=config.data.view_seed)
        )
    views, num_views = parse_views(config.student.views), config.transfer.num_views
    transfer = training_data(splits, config.transfer)
    transfer = transfer.with_views(views, view_seed=config.data.view_seed, num_views=num_views)
    if config.targets is not None:
        _check_store(plan, SoftTargetStore.open(config.targets), transfer)
    student = try_network(config.student.at(), splits, temperature=config.temperature[0])
    for settings in plan.narrower.values():
        try_network(settings.at(), splits, temperature=config.temperature[0])
    if config.same_cost:
        _ = plan.allowance  # raises now where the multiplications of a network are not known
    for loss in config.loss_names:
        _check_loss(plan, loss, student, transfer)
    if config.fit_bias:
        if not plan.missing:
            raise UsageError("fit_bias: the transfer set lacks no class, so there is nothing to correct")
        labels = splits.validation.labels(splits.validation.ids)
        logits = torch.zeros(len(labels), len(splits.class_names))
        # Both raise now and not after the students are trained.
        fit_class_bias(logits, labels, classes=plan.moved, class_names=splits.class_names)
        correct_(student, torch.ones(len(splits.class_names)), splits.validation, config.student.network)


def _check_loss(plan: Plan, loss: str, student: nn.Module, transfer: Dataset) -> None:
    """Refuse a loss that these data, networks or processes do not allow."""
    config, num_unlabelled = plan.config, int((transfer.labels(transfer.ids) < 0).sum())
    if loss == "dkd" and num_unlabelled:
        raise UsageError(
            f"loss dkd is about the true class, and {num_unlabelled:,} of {len(transfer):,} examples of the "
            "transfer set have no label; leave it out"
        )
    if loss == "standardised" and len(plan.splits.class_names) < 3:
        raise UsageError("loss standardised needs three classes or more, and these data have two; leave it out")
    if loss != LOSSES[0] and plan.execution.processes > 1:
        raise UsageError(f"loss {loss} is that of a whole batch: one process for each fit, or --loss kd")
    if loss not in KINDS:
        return
    soft = plan.teaching_with(loss).soft_settings(config.middle_loss)
    cure = "; leave it out, or name layers with --hint-layers" if config.hint_layers is None else ""
    for member in {member.settings.network: member for member in plan.members}.values():
        load = load_network if member.comes_with_weights else partial(build_for, seed=0)
        teacher, networks = load(member.settings, plan.splits), (member.settings.network, config.student.network)
        try:
            with listening(soft, [teacher], student, transfer, seed=0, device="cpu"):
                pass
        except UsageError as error:
            raise UsageError(f"loss {loss}, {' into '.join(networks)}: {error}{cure}") from None


def _check_teacher(plan: Plan, network: nn.Module) -> None:
    """Refuse a teacher that comes with weights, or warn of it, before anything is trained."""
    train, device = plan.splits.train, plan.execution.device
    judged = train.subset(judged_ids(train)).to(device)
    temperature = max(plan.config.temperature)
    teacher = Teacher(network, judged, temperature=temperature, device=device)
    check_soft_targets(teacher, judged, batch_size=plan.student_settings.at().batch_size)


def _check_store(plan: Plan, store: SoftTargetStore, transfer: Dataset) -> None:
    check_store_of(store, plan.splits, transfer)
    if store.settings.is_sparse or store.settings.hidden_width or plan.config.reading:
        others = [loss for loss in plan.config.loss_names if loss in SOFT_LOSSES[1:]]
        if others or any(plan.config.label_weight):
            what = f"loss {others[0]}" if others else "label_weight above 0"
            raise UsageError(
                f"{what} needs the probabilities of all classes, which {plan.config.targets} does not keep"
            )
    about: dict[str, Any] = {"mean": plan.config.ensemble_mean, "reading": plan.config.reading}
    for temperature in plan.config.temperature:
        store.soft_targets(transfer.ids[:1], 0, temperature, **about)
    labelled = transfer if plan.config.transfer.folder else plan.control_data
    ask = partial(store.soft_targets, temperature=plan.config.temperature[0], **about)
    check_soft_targets(ask, labelled, batch_size=plan.student_settings.at().batch_size)
