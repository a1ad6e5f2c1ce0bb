"""A step of `fit` on padded texts over a bare loop that pads each batch itself."""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from benchmarks.timing import Seconds, Way, in_turns, one_epoch, ratio, write_result
from instar.data import as_dataset, numbered
from instar.networks import build_network

BATCH_SIZE, CLASSES, NUM_IDS = 64, 150, 4000
SHORTEST, LONGEST = 4, 35  # those of CLINC150
LEARNING_RATE = 0.01
GOAL = "<= 1.05"
STEPS = {"bag:64": 120, "textconv:64-64": 48, "transformer:2x64": 16}  # under a second each
ROUNDS = 15


def main() -> None:
    """Measure, and write `results/bench-text-step.json`."""
    seconds: Seconds = {}
    ratios = {}
    for name in STEPS:
        ours, bare = _ways(name)
        measured = in_turns({"fit": ours, "bare": bare}, rounds=ROUNDS)
        ratios[name] = ratio(measured["fit"], measured["bare"], goal=GOAL)
        seconds |= {f"{name}: {way}": values for way, values in measured.items()}
    config = {
        "data": f"ids of {NUM_IDS:,}, {SHORTEST} to {LONGEST} a text, one of which tells the class, in memory",
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "optimiser": "SGD, momentum 0.9, fused",
        "precision": "float32",
        "ratio": "seconds of fit over seconds of the bare loop; both pad each batch to its longest text",
    }
    write_result("text-step", config=config, seconds=seconds, ratios=ratios)


def _ways(name: str) -> tuple[Way, Way]:
    number = STEPS[name] * BATCH_SIZE
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (number,), generator=generator).tolist()
    labels = torch.arange(number) % CLASSES
    # The first id shows the class: a fit that learns nothing is looked at once more, which is no part of a step.
    texts = [torch.randint(CLASSES, NUM_IDS, (length,), generator=generator) for length in lengths]
    for text, label in zip(texts, labels, strict=True):
        text[0] = label
    data = as_dataset(({"input_ids": numbered([text.tolist() for text in texts], NUM_IDS)}, labels))
    network, bare = (
        build_network(name, input_shape=data.example_shape, num_classes=CLASSES, seed=0) for _ in range(2)
    )

    def loop() -> None:
        optimiser = torch.optim.SGD(bare.parameters(), lr=LEARNING_RATE, momentum=0.9, fused=True)
        bare.train()
        for rows in torch.split(torch.randperm(number), BATCH_SIZE):
            some = [texts[row] for row in rows.tolist()]
            ids = pad_sequence(some, batch_first=True)
            sizes = torch.tensor([len(text) for text in some])
            mask = (torch.arange(ids.shape[1]) < sizes[:, None]).long()
            loss = F.cross_entropy(bare(input_ids=ids, attention_mask=mask), labels[rows])
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return one_epoch(network, data, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE), loop


if __name__ == "__main__":
    main()
