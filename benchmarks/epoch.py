"""An epoch of MNIST, 2x1200 units into 2x800: `fit` beside torchdistill's box, in one process."""

import os
import statistics
import time

import torch
from torch import Tensor, nn

from benchmarks.timing import Seconds, Way, figure, has_bfloat16, in_turns, ratio, write_result
from benchmarks.torchdistill_box import Examples, Pictures, StoredTeacher, TorchdistillTraining
from instar.data import Dataset, InMemoryDataset, known_data, load_data
from instar.distillation import Teacher
from instar.evaluation import predict_logits
from instar.losses import SoftTargets, Targets, soft_targets
from instar.networks import build_network
from instar.training import fit

TEACHER, STUDENT = "mlp:1200x2", "mlp:800x2"
BATCH_SIZE = 128
STEPS = 96  # of an epoch's 422
TEMPERATURE = 4.0
HARD_WEIGHT = 0.1
LEARNING_RATE = 0.01
ROUNDS = 9
GOAL = ">= 3"
# Ways to run torchdistill. Its sample configurations feed it with pictures; in memory it is faster, so that is its
# best. Its scripts have no other precision. The last three need code of one's own: whole batches from its loader,
# its forward pass in autocast, and both with stored logits in the teacher's place.
PEER = "torchdistill"
PICTURES = "torchdistill, pictures"
WHOLE = "torchdistill, whole batches"
AUTOCAST = "torchdistill, autocast"
REBUILT = "torchdistill, rebuilt"


def main() -> None:
    """Measure, and write `results/bench-epoch.json`."""
    data, source = examples()
    teacher = build_network(TEACHER, input_shape=(1, 28, 28), num_classes=10, seed=0).eval()
    best = "bfloat16" if has_bfloat16() else "float32"
    peer = Peer(data, teacher)
    workers, pictures_workers = peer.best_num_workers(), peer.best_num_workers(as_pictures=True)
    ways: dict[str, Way] = {
        PEER: peer.training(num_workers=workers),
        PICTURES: peer.training(num_workers=pictures_workers, as_pictures=True),
        WHOLE: peer.training(num_workers=None),
        AUTOCAST: peer.training(num_workers=workers, precision=best),
        REBUILT: peer.training(num_workers=None, precision=best, stored=True),
    }
    for precision in dict.fromkeys(("float32", best)):
        ways[f"instar online, {precision}"] = our_epoch(data, _online(teacher, data, precision), precision)
        stored = Teacher(teacher, data, temperature=TEMPERATURE)
        ways[f"instar stored, {precision}"] = our_epoch(data, stored, precision)
    seconds = in_turns(ways, rounds=ROUNDS, at_most_seconds=150)
    config = {
        "teacher": TEACHER,
        "student": STUDENT,
        "data": source,
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "temperature": TEMPERATURE,
        "optimiser": "SGD, momentum 0.9, fused",
        "best_precision": best,
        "torchdistill": "1.1.5: DistillationBox, KDLoss",
        "num_workers": {PEER: workers, PICTURES: pictures_workers},
        "seconds_by_num_workers": peer.seconds_by_num_workers,
        "seconds_to_store_once": _seconds_to_store(teacher, data),
        "ratio": "how many times as fast instar is; the four parts of the gain multiply to its best",
    }
    figures = {way: figure([len(data) / s for s in values], unit="examples/s") for way, values in seconds.items()}
    write_result("epoch", config=config, seconds=seconds, ratios=_ratios(seconds, best), figures=figures)


def _ratios(seconds: Seconds, best: str) -> dict[str, object]:
    """Ours beside torchdistill, and the gain over it as a product of four parts."""
    online, stored = seconds["instar online, float32"], seconds["instar stored, float32"]
    ours = seconds[f"instar stored, {best}"]
    return {
        "each at its best": ratio(seconds[PEER], ours, goal=GOAL),
        "each at its best, online teacher": ratio(seconds[PEER], seconds[f"instar online, {best}"]),
        "both float32": ratio(seconds[PEER], stored),
        "both float32, online teacher": ratio(seconds[PEER], online),
        "gain, part 1: loader": ratio(seconds[PEER], seconds[WHOLE]),
        "gain, part 2: loop": ratio(seconds[WHOLE], online),
        "gain, part 3: stored teacher": ratio(online, stored),
        f"gain, part 4: {best}": ratio(stored, ours),
        f"against {PICTURES}": ratio(seconds[PICTURES], ours),
        f"against {AUTOCAST}": ratio(seconds[AUTOCAST], ours),
        f"against {REBUILT}": ratio(seconds[REBUILT], ours),
    }


def examples() -> tuple[Dataset, str]:
    """So many training examples as the steps need: MNIST where it is on this machine, else random ones."""
    num_examples = STEPS * BATCH_SIZE
    if next(data.where for data in known_data() if data.name == "mnist") is not None:
        train = load_data("mnist").train
        return train.subset(train.ids[:num_examples]), "MNIST"
    images = torch.randint(256, (num_examples, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(num_examples) % 10
    names = [str(digit) for digit in range(10)]
    return InMemoryDataset(images, labels, class_names=names), "random, of MNIST's shape: MNIST is not here"


def _student() -> nn.Module:
    return build_network(STUDENT, input_shape=(1, 28, 28), num_classes=10, seed=1)


def our_epoch(data: Dataset, targets: Targets, precision: str) -> Way:
    """An epoch of `fit`."""
    student = _student()
    return lambda: fit(
        student,
        data,
        epochs=1,
        targets=targets,
        hard_weight=HARD_WEIGHT,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        precision=precision,
    )


def _online(teacher: nn.Module, data: Dataset, precision: str) -> Targets:
    """The teacher at each step, which `Teacher` does only where examples have views."""

    def targets(ids: Tensor, views: Tensor | int) -> SoftTargets:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return soft_targets(teacher(data.gather(ids, views)).float(), TEMPERATURE)

    return targets


def _seconds_to_store(teacher: nn.Module, data: Dataset) -> float:
    """What asking the teacher once for all of these examples costs, before the first epoch."""
    started = time.perf_counter()
    predict_logits(teacher, data)
    return round(time.perf_counter() - started, 4)


class Peer:
    """torchdistill on the same examples, prepared once; the teacher may be a box of several."""

    def __init__(self, data: Dataset, teacher: nn.Module) -> None:
        self._teacher = teacher
        self._images, self._labels = data.raw(data.rows(data.ids)), data.labels(data.ids)
        self._inputs = data.gather(data.ids, 0)
        self._logits = predict_logits(teacher, data)
        self.seconds_by_num_workers: dict[str, dict[int, float]] = {}

    def training(
        self,
        *,
        num_workers: int | None,
        precision: str = "float32",
        stored: bool = False,
        as_pictures: bool = False,
    ) -> TorchdistillTraining:
        """Its way to train the student: each call is an epoch."""
        data: Examples | Pictures = Examples(self._inputs, self._labels, self._logits if stored else None)
        if as_pictures:
            data = Pictures(self._images, self._labels)
        return TorchdistillTraining(
            StoredTeacher() if stored else self._teacher,
            _student(),
            data,
            batch_size=BATCH_SIZE,
            num_workers=num_workers,
            bfloat16=precision == "bfloat16",
            learning_rate=LEARNING_RATE,
            temperature=TEMPERATURE,
            hard_weight=HARD_WEIGHT,
        )

    def best_num_workers(self, *, as_pictures: bool = False) -> int:
        """What feeds it fastest on this machine."""
        counts = sorted({0, 1, 2, os.cpu_count() or 1})
        ways = {str(n): self.training(num_workers=n, as_pictures=as_pictures) for n in counts}
        seconds = in_turns(ways, rounds=3, at_most_seconds=20)
        medians = {int(way): statistics.median(values) for way, values in seconds.items()}
        self.seconds_by_num_workers[PICTURES if as_pictures else PEER] = medians
        return min(medians, key=medians.__getitem__)


if __name__ == "__main__":
    main()
