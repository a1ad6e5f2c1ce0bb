"""Examples/s of gathering uint8 images of MNIST's shape by id, as each kind of view shows them."""

from functools import partial

import torch

from benchmarks.timing import figure, in_turns, ratio, write_result
from instar.data import InMemoryDataset, id_batches, parse_views, shuffled

BATCH_SIZE = 128
NUM_EXAMPLES = 20_000
ROUNDS = 11
VIEWS = ("none", "jitter:2", "crop:2", "flip", "affine:12,0.15,0.15,2", "crop:2+flip")
GOALS = {"jitter:2": ">= 200000"}


def main() -> None:
    """Measure, and write `results/bench-views.json`."""
    images = torch.randint(
        256, (NUM_EXAMPLES, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    plain = InMemoryDataset(images, torch.arange(NUM_EXAMPLES) % 10, class_names=[str(n) for n in range(10)])
    batches = id_batches(shuffled(plain.ids, seed=0, epoch=0), BATCH_SIZE)
    data = {name: plain.with_views(parse_views(name), view_seed=0) for name in VIEWS}

    def gather(name: str) -> None:
        for ids in batches:
            data[name].gather(ids, 1)

    seconds = in_turns({name: partial(gather, name) for name in VIEWS}, rounds=ROUNDS)
    figures = {
        name: figure([NUM_EXAMPLES / value for value in values], unit="examples/s", goal=GOALS.get(name))
        for name, values in seconds.items()
    }
    ratios = {f"{name} over none": ratio(seconds[name], seconds["none"]) for name in VIEWS if name != "none"}
    config = {
        "data": "random, 1x28x28 uint8, in memory",
        "num_examples": NUM_EXAMPLES,
        "batch_size": BATCH_SIZE,
        "ratio": "seconds of gathering with views over seconds without",
    }
    write_result("views", config=config, seconds=seconds, ratios=ratios, figures=figures)


if __name__ == "__main__":
    main()
