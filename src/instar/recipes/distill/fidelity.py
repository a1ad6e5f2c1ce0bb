"""How faithful the students are to what taught them, on the examples that they learned from."""

from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.data import Dataset
from instar.distillation import SoftTargetStore
from instar.evaluation import predict_logits
from instar.losses import SoftTargets
from instar.recipes.distill.plan import Plan
from instar.recipes.fitting import load_run_network, load_splits, targets_of, training_data

MOST_EXAMPLES = 10_000  # enough for a percentage to a tenth


def train_fidelity(plan: Plan, kinds: list[str]) -> dict[str, dict[str, float | None]]:
    """Agreement with and KL from the teacher on unchanged examples of the transfer set, mean over seeds.

    A top-k store that was not written for temperature 1 gives no probabilities there: the KL is then None.
    """
    data = training_data(load_splits(plan.config.data), plan.config.transfer)
    data = data.subset(data.ids[:: -(-len(data) // MOST_EXAMPLES)]).to(plan.device)
    temperature = 1.0
    if plan.config.targets is not None:
        store = SoftTargetStore.open(plan.config.targets)
        if store.top_k is not None and 1.0 not in store.temperatures:
            temperature = min(store.temperatures)
    teacher = _teacher_log_probs(plan, data, temperature)
    found = {}
    for kind in kinds:
        students = [
            predict_logits(
                load_run_network(plan.path / "jobs" / f"{kind}/seed-{seed}").to(plan.device),
                data,
                device=plan.device,
            )
            for seed in plan.seeds
        ]
        found[kind] = fidelity(students, teacher, "train_teacher")
        if temperature != 1:
            found[kind]["train_teacher_kl"] = None
    return found


def fidelity(students: list[Tensor], teacher: Tensor, prefix: str) -> dict[str, float | None]:
    """Agreement with and KL from the teacher, mean over students."""
    n = len(students)
    return {
        f"{prefix}_agreement": sum(float(metrics.agreement(one, teacher)) for one in students) / n,
        f"{prefix}_kl": sum(float(metrics.kl_from_teacher(one, teacher)) for one in students) / n,
    }


def log_probs(targets: SoftTargets) -> Tensor:
    """Logits whose softmax the soft targets are; a probability that has vanished stays finite."""
    return targets.probs.clamp(min=torch.finfo(targets.probs.dtype).tiny).log()


def _teacher_log_probs(plan: Plan, data: Dataset, temperature: float) -> Tensor:
    config = plan.config
    ask: Any
    if config.targets is not None:
        store = SoftTargetStore.open(config.targets)

        def ask(ids: Tensor, view: int) -> Any:
            return store.soft_targets(ids.cpu(), view, temperature, mean=config.ensemble_mean)
    else:
        needs = {job.name: plan.path / "jobs" / job.name for job in plan.teacher_jobs}
        ask = targets_of(plan.soft_settings(temperature=temperature), needs, data, plan.device)
    return torch.cat([log_probs(ask(ids, 0)) for ids in torch.split(data.ids, 1000)]).to(plan.device)
