"""A study of transfer through the graph of jobs, over the same networks trained one by one."""

import copy
import itertools
import tempfile
from pathlib import Path

import torch
from torch import nn

from benchmarks.step import bare_epoch
from benchmarks.timing import Way, has_bfloat16, in_turns, ratio, write_result
from instar.data import known_data
from instar.recipes.loading import build_for
from instar.recipes.settings import DataSettings, TeacherSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution, run_study
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.recipe import STUDY
from instar.recipes.transfer.settings import TransferConfig
from instar.transfer import apply_treatment_

EPOCHS, CUTS = 4, [1, 3, 5, 7]
ROUNDS = 3


def main() -> None:
    """Measure, and write `results/bench-study.json`."""
    best = "bfloat16" if has_bfloat16() else "float32"
    config = _study()
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Way] = {"instar": _ours(config, Path(folder))}
        for precision, again in (("float32", True), (best, False)):  # as it is mostly done, and at its best
            plan = Plan(config, Path(folder))
            ways[_naive_name(precision, again)] = _naive(plan, precision, again)
        seconds = in_turns(ways, rounds=ROUNDS, at_most_seconds=0)
    about = {
        "data": config.data.name,
        "network": config.network.network,
        "networks": len(Plan(config, Path()).networks()),
        "epochs": EPOCHS,
        "cuts": CUTS,
        "naive": "one after another in one process with all cores, in memory; frozen layers run at every step",
        "instar": "the whole command: processes, checkpoints, validation at each epoch, test, page",
        "ratio": "seconds of the networks one by one over seconds of the study",
    }
    ratios = {
        f"over {name}": ratio(values, seconds["instar"]) for name, values in seconds.items() if name != "instar"
    }
    write_result("study", config=about, seconds=seconds, ratios=ratios)


def _study() -> TransferConfig:
    has_pictures = any(one.name == "cifar100" and one.where for one in known_data())
    data = DataSettings(name="cifar100", fraction=0.15) if has_pictures else DataSettings(name="digits")
    network = TeacherSettings(network="convnet:8x16", epochs=EPOCHS, learning_rate=0.05)
    return TransferConfig(data=data, network=network, cuts=CUTS, splits=1, longer=False)


def _ours(config: TransferConfig, folder: Path) -> Way:
    calls = itertools.count()
    return lambda: run_study(STUDY, config, folder / str(next(calls)), Execution(quiet=True))


def _naive_name(precision: str, again: bool) -> str:
    return f"one by one, {precision}" + (", the base anew for each" if again else "")


def _naive(plan: Plan, precision: str, again: bool) -> Way:
    """Somebody's loop over treatments; `again` as a script for one treatment does it, with its own base."""
    split = plan.splits[0]

    def train(network: nn.Module, letter: str) -> nn.Module:
        data = load_splits(split.tasks[letter]).train
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs, labels = data.gather(data.ids, 0), data.labels(data.ids)
        for _ in range(EPOCHS):
            bare_epoch(network, inputs, labels, None, bfloat16=precision == "bfloat16")
        return network

    def build(letter: str, seed: int) -> nn.Module:
        return build_for(plan.config.network, load_splits(split.tasks[letter]), seed=seed)

    def run() -> None:
        bases = {letter: train(build(letter, 0), letter) for letter in "AB"}
        for one in plan.treatments:
            base = None
            if one.source is not None:
                base = train(build(one.source, 0), one.source) if again else bases[one.source]
            network = build(one.target, 1)
            splits = load_splits(split.tasks[one.target])
            example = splits.train.gather(splits.train.ids[:2], 0)
            apply_treatment_(network, one, copy.deepcopy(base), example_input=example)
            train(network, one.target)

    return run


if __name__ == "__main__":
    main()
