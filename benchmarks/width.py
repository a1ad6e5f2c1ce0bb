"""The losses over a vocabulary: memory and processor time, beside the eager recipe, an earlier build and peers.

Peak memory is that of a process of its own above its inputs (`VmHWM`, reset before the call); what is held at the
end counts, inputs do not. Time is processor time on one thread, in turns.
"""

import argparse
import ctypes
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions

from benchmarks.timing import Seconds, figure, in_turns, ratio, resident_bytes, write_result
from benchmarks.width_stores import stores
from instar.linear_loss import HeadTargets, linear_distillation_loss
from instar.losses import distillation_loss, soft_targets
from instar.sparse_targets import SparseTargets

ROOT = Path(__file__).parents[1]
EARLIER = "6964119"  # the last commit that computed all of the loss on whole tensors
HARD_WEIGHT = 0.5
GIVEN = {"512 x 65,536": (512, 65_536), "256 x 131,072": (256, 131_072)}
SMALL = (10, 100, 1_000)
HEADS = {256: 1024, 1024: 1024}  # width of the hidden states, and how many of them
CLASSES = 131_072
TEMPERATURES = (1.0, 2.0)
ROUNDS = 5
Step = Callable[[], object]


def main() -> None:
    """Measure, and write `results/bench-width.json`; with `--peak CASE` one peak, printed in bytes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.width", description=__doc__)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--widths", nargs="*", type=int, default=[*HEADS], help="of the hidden states")
    parser.add_argument(
        "--stored", type=Path, help="the record of a store that benchmarks.width_stores --folder wrote"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.peak:
        print(peak_of(asked.peak))
        return
    ratios: dict[str, object] = {}
    figures: dict[str, object] = {}
    seconds: Seconds = {}
    written = functools.partial(stores, asked.stored)
    config = {
        "ratio": "as the line says",
        "earlier": EARLIER,
        "hard_weight": HARD_WEIGHT,
        "widths": asked.widths,
        "precision": "float32",
        "threads": 1,
        "seconds": "of the processor",
    }
    of_heads = (functools.partial(heads, width) for width in asked.widths)
    for measure in (given, small, errors, written, *of_heads):
        measure(ratios, figures, seconds)
        write_result("width", config=config, seconds=seconds, ratios=ratios, figures=figures)


def given(ratios: dict[str, object], figures: dict[str, object], seconds: Seconds) -> None:
    """Logits given."""
    for shape, (rows, classes) in GIVEN.items():
        for T in TEMPERATURES:
            case = f"logits given, {shape}, T = {T:g}"
            peaks = {way: peak(f"given/{shape}/{T:g}/{way}") for way in ("now", "earlier")}
            for way, found in peaks.items():
                goal = "<= 1.15" if way == "now" else None
                ratios[f"{case}: peak over logits, {way}"] = figure(
                    [found / (rows * classes * 4)], unit="ratio", goal=goal
                )
            ways = {way: steps_given(rows, classes, T)[way] for way in ("now", "earlier")}
            times = timed(ways)
            ratios[f"{case}: time over {EARLIER}"] = ratio(times["now"], times["earlier"], goal="<= 0.8")
            seconds |= {f"{case}: {way}": values for way, values in times.items()}


def small(ratios: dict[str, object], figures: dict[str, object], seconds: Seconds) -> None:
    """Few classes: nothing may be lost."""
    for classes in SMALL:
        case, ways = f"logits given, 128 x {classes:,}, T = 2", steps_given(128, classes, 2.0)
        many = {way: repeated(ways[way], 20_000 // classes + 20) for way in ("now", "earlier")}
        times = timed(many, rounds=21)
        ratios[f"{case}: time over {EARLIER}"] = ratio(times["now"], times["earlier"], goal="<= 1.02")
        seconds |= {f"{case}: {way}": values for way, values in times.items()}


def heads(width: int, ratios: dict[str, object], figures: dict[str, object], seconds: Seconds) -> None:
    """The head fused with the loss; all ways share their tensors, which at the larger width are gigabytes."""
    goals = {256: ("<= 0.1", "<= 0.05"), 1024: ("<= 0.2", "<= 0.0667")}
    num = HEADS[width]
    case = f"head fused, {num} x {CLASSES:,}, width {width}"
    names = ["fused", "eager", "earlier", "sparse", "labels, fused", "labels, torch"]
    names += [f"liger, {rows} rows" for rows in (64, 256)] if has_liger() else []
    peaks = {way: peak(f"head/{width}/{way}") for way in names}
    gradients = 4 * (CLASSES * width + CLASSES + num * width)
    whole, less = goals[width]
    ratios[f"{case}: peak over eager"] = figure([peaks["fused"] / peaks["eager"]], unit="ratio", goal=whole)
    ratios[f"{case}: the same less the gradients"] = figure(
        [(peaks["fused"] - gradients) / (peaks["eager"] - gradients)], unit="ratio", goal=less
    )
    steps = steps_head(width, num)
    times = timed({way: steps[way] for way in names}, rounds=3 if width == 256 else 2)
    if width == 256:
        ratios[f"{case}: time over {EARLIER}"] = ratio(times["fused"], times["earlier"], goal="<= 0.75")
    ratios[f"{case}: time over eager"] = ratio(
        times["fused"], times["eager"], goal="<= 0.9" if width == 1024 else None
    )
    ratios[f"{case}: top 64 of the teacher, time over eager"] = ratio(times["sparse"], times["eager"])
    ratios[f"{case}: labels alone, peak over torch's linear_cross_entropy"] = figure(
        [peaks["labels, fused"] / peaks["labels, torch"]], unit="ratio", goal="<= 0.6"
    )
    ratios[f"{case}: labels alone, time over torch's linear_cross_entropy"] = ratio(
        times["labels, fused"], times["labels, torch"], goal="<= 0.7"
    )
    liger = [name for name in names if name.startswith("liger")]
    if liger:
        best = min(liger, key=lambda name: sum(times[name]))
        ratios[f"{case}: peak over {best}"] = figure([peaks["fused"] / peaks[best]], unit="ratio", goal="<= 0.6")
        ratios[f"{case}: time over {best}"] = ratio(times["fused"], times[best], goal="<= 0.7")
    figures |= {f"{case}: peak, {way}": figure([found / 2**30], unit="GiB") for way, found in peaks.items()}
    seconds |= {f"{case}: {way}": values for way, values in times.items()}


def errors(ratios: dict[str, object], figures: dict[str, object], seconds: Seconds) -> None:
    """The gradient's distance from float64, over that of the eager recipe."""
    for T in TEMPERATURES:
        logits, teacher, labels = inputs_given(16, 65_536)
        exact = gradient(eager_given, logits.double(), teacher.double(), labels, T)
        eager, now = (gradient(way, logits, teacher, labels, T) for way in (eager_given, ours_given))
        off = [float((found.double() - exact).norm() / exact.norm()) for found in (now, eager)]
        ratios[f"gradient's error over eager's, 16 x 65,536, T = {T:g}"] = figure(
            [off[0] / off[1]], unit="ratio", goal="<= 2"
        )


def gradient(way: Callable[..., Tensor], logits: Tensor, teacher: Tensor, labels: Tensor, T: float) -> Tensor:
    """Of the student's logits."""
    student = logits.clone().requires_grad_()
    return torch.autograd.grad(way(student, teacher, labels, T), student)[0]


def inputs_given(rows: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Student's and teacher's logits, and labels."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (3 * torch.randn(rows, classes, generator=generator) for _ in range(2))
    return logits, teacher, torch.randint(classes, (rows,), generator=generator)


def eager_given(student: Tensor, teacher: Tensor, labels: Tensor, T: float) -> Tensor:
    """The recipe of tutorials."""
    soft = functional.kl_div(
        torch.log_softmax(student / T, -1), torch.softmax(teacher / T, -1), reduction="batchmean"
    )
    return soft * T**2 + HARD_WEIGHT * functional.cross_entropy(student, labels)


def ours_given(student: Tensor, teacher: Tensor, labels: Tensor, T: float) -> Tensor:
    """Ours."""
    return distillation_loss(student, soft_targets(teacher, T), labels, hard_weight=HARD_WEIGHT).total


@functools.cache
def earlier_losses() -> ModuleType:
    """`instar.losses` of an earlier commit."""
    source = subprocess.run(
        ["git", "-C", str(ROOT), "show", f"{EARLIER}:src/instar/losses.py"], check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "earlier_losses.py"
        file.write_bytes(source)
        spec = importlib.util.spec_from_file_location("earlier_losses", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["earlier_losses"] = module
        spec.loader.exec_module(module)
    return module


def earlier_given(student: Tensor, teacher: Tensor, labels: Tensor, T: float) -> Tensor:
    """That of the earlier commit."""
    earlier = earlier_losses()
    loss = earlier.distillation_loss(student, earlier.soft_targets(teacher, T), labels, hard_weight=HARD_WEIGHT)
    total: Tensor = loss.total
    return total


def steps_given(rows: int, classes: int, T: float) -> dict[str, Step]:
    """Forward and backward with the logits given."""
    logits, teacher, labels = inputs_given(rows, classes)
    logits.requires_grad_()
    ways = {"now": ours_given, "earlier": earlier_given, "eager": eager_given}
    return {name: functools.partial(backward, way, logits, teacher, labels, T) for name, way in ways.items()}


def backward(way: Callable[..., Tensor], *inputs: Tensor | float) -> None:
    """Loss and gradients, which are held to the end."""
    for value in inputs:
        if isinstance(value, Tensor):
            value.grad = None
    way(*inputs).backward()


def steps_head(width: int, num: int) -> dict[str, Step]:
    """Forward and backward from the hidden states."""
    T, generator = 2.0, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    hidden, states = normal(num, width), normal(num, width)
    weight, head = 3 * normal(CLASSES, width) / width**0.5, 3 * normal(CLASSES, width) / width**0.5
    bias, labels = torch.zeros(CLASSES), torch.randint(CLASSES, (num,), generator=generator)
    student = tuple(value.requires_grad_() for value in (hidden, weight, bias))
    top = SparseTargets(
        torch.arange(64).repeat(num, 1), torch.full((num, 64), 0.9 / 64), torch.full((num,), 0.1), T
    )

    def whole(way: Callable[..., Tensor], *student: Tensor) -> Tensor:
        hidden, weight, bias = student
        return way(functional.linear(hidden, weight, bias), functional.linear(states, head), labels, T)

    def fused(targets: HeadTargets | SparseTargets | None, *student: Tensor) -> Tensor:
        hidden, weight, bias = student
        soft_weight, hard_weight = (1.0, HARD_WEIGHT) if targets is not None else (0.0, 1.0)
        return linear_distillation_loss(
            hidden, weight, targets, labels, bias=bias, soft_weight=soft_weight, hard_weight=hard_weight
        ).total

    def torch_labels(*student: Tensor) -> Tensor:
        options = LinearCrossEntropyOptions(batch_chunk_size=64, chunking_method=None)
        hidden, weight, bias = student
        return functional.linear_cross_entropy(hidden, weight, labels, linear_bias=bias, options=options)

    ways: dict[str, Callable[..., Tensor]] = {
        "fused": functools.partial(fused, HeadTargets(states, head, T)),
        "eager": functools.partial(whole, eager_given),
        "earlier": functools.partial(whole, earlier_given),
        "sparse": functools.partial(fused, top),
        "labels, fused": functools.partial(fused, None),
        "labels, torch": torch_labels,
    }
    for rows in (64, 256):
        ways[f"liger, {rows} rows"] = functools.partial(liger, states, head, labels, T, rows)
    return {name: functools.partial(backward, way, *student) for name, way in ways.items()}


def liger(states: Tensor, head: Tensor, labels: Tensor, T: float, rows: int, *student: Tensor) -> Tensor:
    """Liger's chunked loss, at beta = 0 the forward KL."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    hidden, weight, bias = student
    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=HARD_WEIGHT,
        weight_soft_loss=1.0,
        beta=0.0,
        temperature=T,
        compiled=False,
        chunk_size=rows,
    )
    found: Tensor = loss(hidden, weight, states, head, labels, student_bias=bias)
    return found


def has_liger() -> bool:
    """Whether the peer is installed."""
    return importlib.util.find_spec("liger_kernel") is not None


def repeated(step: Step, times: int) -> Step:
    """A step that is done many times."""

    def many() -> None:
        for _ in range(times):
            step()

    return many


def timed(ways: Mapping[str, Step], rounds: int = ROUNDS) -> Seconds:
    """Processor seconds, in turns."""
    return in_turns(ways, rounds=rounds, at_most_seconds=240, clock=time.process_time)


def peak(case: str) -> int:
    """Peak memory of a case in a process of its own, in bytes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.width", "--peak", case]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout))


def peak_of(case: str) -> int:
    """Peak memory of a step above its inputs, in this process."""
    kind, *rest = case.split("/")
    if kind == "given":
        rows, classes = GIVEN[rest[0]]
        warm_up, step = (
            steps_given(16, 65_536, float(rest[1])),
            steps_given(rows, classes, float(rest[1]))[rest[2]],
        )
        warm_up[rest[2]]()
        del warm_up
    else:
        step = steps_head(int(rest[0]), HEADS[int(rest[0])])[rest[1]]
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes()
    step()
    return resident_bytes(most=True) - before


if __name__ == "__main__":
    main()
