"""Specialists: the combination against the paper's descent on each image, routing, clustering of many classes.

Routing is measured on CIFAR-100 with the networks of a study that was run:
`INSTAR_ENSEMBLE=RUN/jobs/ensemble/seed-0 python -m benchmarks specialists`; without it with untrained ones.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.timing import Seconds, figure, in_turns, ratio, resident_bytes, write_result
from instar.data import load_data
from instar.networks import build_network
from instar.recipes.specialists.settings import config_for
from instar.specialists import (
    ClassSet,
    SpecialistEnsemble,
    active_specialists,
    combination_objective,
    combine_on_demand,
    confusable_class_sets,
    membership,
)

EXAMPLES, CLASSES, SPECIALISTS, SET_SIZE = 10_000, 1_000, 60, 300
SAMPLE = 6  # images that the paper's way is timed on
TOLERANCE, MOST_STEPS = 1e-6, 5_000
MANY_CLASSES, MANY_EXAMPLES, MANY_SETS, MANY_SET_SIZE = 15_000, 100_000, 61, 300
ROUNDS = 3


def main() -> None:
    """Measure, and write `results/bench-specialists.json`."""
    routing, used, about = _routing()  # first: it needs data that may not be there
    ours = [_in_a_process("combination") for _ in range(ROUNDS)]
    theirs = [_in_a_process("descent") for _ in range(ROUNDS)]
    clustering = [_in_a_process("clustering") for _ in range(2)]
    seconds: Seconds = {
        "combination: ours, all images": [one["seconds"] for one in ours],
        "combination: gradient descent, an image": [one["seconds"] for one in theirs],
        "combination: Adam, an image": [one["adam_seconds"] for one in theirs],
        "clustering": [one["seconds"] for one in clustering],
        **{f"inference: {way}": values for way, values in routing.items()},
    }
    together = seconds["combination: ours, all images"]
    whole = {
        way: [EXAMPLES * value for value in seconds[f"combination: {way}, an image"]]
        for way in ("gradient descent", "Adam")
    }
    ratios = {
        "combination: the paper's gradient descent / ours": ratio(
            whole["gradient descent"], together, goal=">= 100"
        ),
        "combination: Adam with a gradient by hand / ours": ratio(whole["Adam"], together),
        "inference: all specialists / the active ones": ratio(routing["all"], routing["routed"]),
    }
    figures = {
        "combination, time": figure(together, unit="seconds"),
        "combination, memory beyond what it is given": figure([one["gib"] for one in ours], unit="GiB"),
        "clustering, time": figure(seconds["clustering"], unit="seconds"),
        "clustering, peak memory of the process": figure(
            [one["peak_gib"] for one in clustering], unit="GiB", goal="<= 4"
        ),
    }
    config = {
        "combination": f"{EXAMPLES:,} examples x {CLASSES:,} classes x {SPECIALISTS} specialists of {SET_SIZE}, "
        f"top-1, {ours[0]['active']:.1f} active for an example; float64",
        "the paper's way": "gradient descent on the logits of one image until its objective is within "
        f"{TOLERANCE:g} of ours (which is at 1e-14), on {SAMPLE} images of the {EXAMPLES:,} in each round, "
        f"times {EXAMPLES:,}; at most {MOST_STEPS:,} steps; "
        f"{sum(one['unfinished'] for one in theirs)} of {SAMPLE * ROUNDS} were not there by then",
        "inference": f"1,000 test images of CIFAR-100; {about}; {used:.2f} specialists active for an example",
        "clustering": f"{MANY_CLASSES:,} classes, {MANY_EXAMPLES:,} predictions in batches of 1,000, {MANY_SETS} "
        f"sets of {MANY_SET_SIZE}; the covariance alone would be 1.7 GiB in float64, all predictions 5.6 GiB in "
        "float32",
        "seconds": "of processor time, one thread; those of inference by the clock",
        "ratio": "seconds of the first over seconds of the second",
    }
    write_result("specialists", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _in_a_process(part: str) -> dict[str, float]:
    """Measured alone, for the memory's sake."""
    command = [sys.executable, "-m", "benchmarks.specialists", part]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _peak_gib() -> float:
    return resident_bytes(most=True) / 2**30


class Problem:
    """A generalist and specialists that see the same logits, each with noise of its own."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        chosen = [torch.randperm(CLASSES, generator=generator)[:SET_SIZE].tolist() for _ in range(SPECIALISTS)]
        self.sets = [ClassSet(numbers, CLASSES) for numbers in chosen]
        self.logits = 2.5 * torch.randn(EXAMPLES, CLASSES, generator=generator, dtype=torch.float64)
        self.probs = torch.softmax(self.logits, 1)

    def ask(self, number: int, rows: Tensor) -> Tensor:
        """What a specialist says of some examples."""
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(256, CLASSES, generator=generator, dtype=torch.float64)
        whole = torch.softmax(self.logits[rows] + noise[rows % 256], 1)
        own = whole[:, list(self.sets[number].classes)]
        return torch.cat((own, 1 - own.sum(1, keepdim=True)), 1)


def _combination() -> dict[str, float]:
    problem = Problem()
    rows_of = active_specialists(problem.probs, problem.sets)
    given = {m: problem.ask(m, rows_of[:, m].nonzero().flatten()) for m in range(SPECIALISTS)}
    place = (rows_of.long().cumsum(0) - 1).T.contiguous()
    before = _peak_gib()
    started = time.process_time()
    found = combine_on_demand(problem.probs, lambda m, rows: given[m][place[m][rows]], problem.sets)
    seconds = time.process_time() - started
    active = float(found.num_specialists.double().mean())
    return {"seconds": seconds, "gib": _peak_gib() - before, "active": active}


def _descent() -> dict[str, float]:
    problem = Problem()
    rows = torch.randperm(EXAMPLES)[:SAMPLE]  # others in each round
    best = combine_on_demand(problem.probs[rows], lambda m, own: problem.ask(m, rows[own]), problem.sets).probs
    found = {"seconds": 0.0, "unfinished": 0, "adam_seconds": 0.0}
    for row, goal in zip(rows.tolist(), best, strict=True):
        image = Image(problem, row, goal)
        seconds, is_there = image.descend(_gradient_descent)
        found["seconds"] += seconds / SAMPLE
        found["unfinished"] += not is_there
        found["adam_seconds"] += image.descend(_adam)[0] / SAMPLE
    return found


class Image:
    """One image's objective, as it is written for one image."""

    def __init__(self, problem: Problem, row: int, best: Tensor) -> None:
        self.generalist = problem.probs[row]
        active = active_specialists(self.generalist[None], problem.sets)[0].nonzero().flatten()
        self.sets = [problem.sets[m] for m in active.tolist()]
        self.theirs = [problem.ask(int(m), torch.tensor([row]))[0] for m in active]
        self.outside = (~membership(self.sets)).double()
        self.weight = 1.0 + len(self.sets)
        self.known = self.generalist.clone()
        for one, own in zip(self.theirs, self.sets, strict=True):
            self.known[list(own.classes)] += one[:-1]
        self.dustbins = torch.stack([one[-1] for one in self.theirs])
        self.goal = self.objective(best) + TOLERANCE

    def cross_entropy(self, q: Tensor) -> Tensor:
        """The objective but for a constant: all models' log-probabilities, grouped by their dustbins."""
        return -(self.known @ q.log()) - self.dustbins @ (self.outside @ q).log()

    def objective(self, q: Tensor) -> float:
        """In nats, from the library."""
        given = [one[None] for one in self.theirs]
        active = torch.ones(1, len(self.sets), dtype=torch.bool)
        return float(combination_objective(q[None], self.generalist[None], given, self.sets, active))

    def descend(self, way: "Way") -> tuple[float, bool]:
        """Seconds until the objective is within the tolerance of the best, and whether it got there."""
        z, spent = self.generalist.log(), 0.0
        steps = way(self, z)
        for number in range(1, MOST_STEPS + 1):
            started = time.process_time()
            z = next(steps)
            spent += time.process_time() - started
            if number % 20 == 0 and self.objective(torch.softmax(z, 0)) <= self.goal:  # looking is not timed
                return spent, True
        return spent, False


Way = Callable[[Image, Tensor], Iterator[Tensor]]


def _gradient_descent(image: Image, z: Tensor) -> Iterator[Tensor]:
    """The paper's: q = softmax(z), the gradient from autograd, half of the largest safe step."""
    z = z.clone().requires_grad_()
    while True:
        (gradient,) = torch.autograd.grad(image.cross_entropy(torch.softmax(z, 0)), z)
        with torch.no_grad():
            z -= 2 / image.weight * gradient
        yield z.detach()


def _adam(image: Image, z: Tensor) -> Iterator[Tensor]:
    """A stronger one: the gradient by hand, and Adam with a falling rate."""
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    number = 0
    while True:
        number += 1
        q = torch.softmax(z, 0)
        gradient = image.weight * q - image.known - q * ((image.dustbins / (image.outside @ q)) @ image.outside)
        first = first.lerp(gradient, 0.1)
        second = second.lerp(gradient**2, 0.001)
        unbiased = (second / (1 - 0.999**number)).sqrt() + 1e-12
        z = z - 0.1 * 0.999**number * first / (1 - 0.9**number) / unbiased
        yield z


def _clustering() -> dict[str, float]:
    started = time.process_time()
    sets = confusable_class_sets(_predictions(), num_sets=MANY_SETS, classes_per_set=MANY_SET_SIZE, seed=0)
    seconds = time.process_time() - started
    return {"seconds": seconds, "peak_gib": _peak_gib(), "sets": len(sets)}


def _predictions() -> Iterator[Tensor]:
    """Each prediction is over some of 300 neighbouring classes; one batch, its classes rotated."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1000, MANY_CLASSES, generator=generator)
    logits[:, :300] += 8
    probs = torch.softmax(logits, 1)
    for number in range(MANY_EXAMPLES // 1000):
        yield probs.roll(int(300 * (number % 50)), 1)


def _routing() -> tuple[Seconds, float, str]:
    """Seconds each way, how many specialists an image asks, and what was measured."""
    path = os.environ.get("INSTAR_ENSEMBLE")
    test = load_data("cifar100", progress=False).test
    inputs = test.gather(test.ids[:1000], 0)
    ensemble = SpecialistEnsemble.load(path) if path else _untrained(inputs)
    about = "those of the run that INSTAR_ENSEMBLE names" if path else "untrained, with sets at random"
    class_sets = ensemble.class_sets
    used = float(ensemble.predict_probs(inputs).num_specialists.double().mean())

    def run_all() -> None:
        with torch.no_grad():
            generalist, *specialists = (torch.softmax(one(inputs), 1) for one in ensemble.networks)
        combine_on_demand(generalist, lambda m, rows: specialists[m][rows], class_sets, top_n=ensemble.top_n)

    ways = {"all": run_all, "routed": lambda: ensemble.predict_probs(inputs)}
    return in_turns(ways, rounds=7), used, f"{len(class_sets)} specialists, top-{ensemble.top_n}, {about}"


def _untrained(inputs: Tensor) -> SpecialistEnsemble:
    """Of the full study's size, where there is no run of it."""
    config = config_for("full", "cifar100")
    shape, num_classes = tuple(inputs.shape[1:]), 100
    sets, name = config.sets[0], config.generalist.network
    generator = torch.Generator().manual_seed(0)
    class_sets = [
        ClassSet(torch.randperm(num_classes, generator=generator)[: sets.classes_per_set].tolist(), num_classes)
        for _ in range(sets.num_sets)
    ]

    def network(width: int, seed: int) -> nn.Module:
        return build_network(name, input_shape=shape, num_classes=width, seed=seed)

    return SpecialistEnsemble(
        network(num_classes, 0),
        [network(len(one) + 1, number + 1) for number, one in enumerate(class_sets)],
        class_sets,
        class_names=[str(number) for number in range(num_classes)],
        example_inputs=inputs[:2],
        top_n=config.top_n[0],
    )


PARTS = {"combination": _combination, "descent": _descent, "clustering": _clustering}

if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(PARTS[sys.argv[1]]()))
    else:
        main()
