"""Do embeddings of categories pay, beside columns of 0 and 1? On the flights of `examples/tables_of_wheels.py`.

    python examples/embeddings_of_categories.py build/tables/flights.csv

Month, day, hour and minute count as categories too. Each category becomes a vector of at most 8 numbers before the
perceptron, or enters it as it is. Labels alone; validation chooses the learning rate of each; five seeds; test
reports once.
"""

import sys

import torch
from torch import Tensor, nn

import instar
from instar.evaluation import evaluate
from instar.intervals import over_seeds, paired_difference

SEEDS, TUNING_SEED, RATES, EPOCHS, MOST = range(5), 100, (0.03, 0.1, 0.3), 40, 8


class Embedded(nn.Module):
    """Each category as a vector that is learned; numbers as they are."""

    def __init__(self, places: list[slice], network: nn.Module) -> None:
        super().__init__()
        self.places, self.network = places, network
        widths = [place.stop - place.start for place in places]
        self.vectors = nn.ModuleList(
            nn.Linear(width, min(MOST, -(-width // 2)), bias=False) if width > 2 else nn.Identity()
            for width in widths
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        parts = [vector(inputs[:, place]) for vector, place in zip(self.vectors, self.places, strict=True)]
        return self.network(torch.cat(parts, 1))


def main(file: str) -> None:
    """Train both, and print their test errors."""
    data = instar.load_data(f"csv:{file}", label="class", categories=["month", "day", "hour", "minute"])
    places, classes = data.preparation.places, len(data.class_names)

    def build(way: str, seed: int) -> nn.Module:
        if way == "columns":
            return instar.build_network(
                "mlp:64x2", input_shape=data.train.example_shape, num_classes=classes, seed=seed
            )
        torch.manual_seed(seed)
        embedded = Embedded(places, nn.Identity())
        width = embedded(torch.zeros(1, *data.train.example_shape)).shape[1]
        embedded.network = instar.build_network("mlp:64x2", input_shape=(width,), num_classes=classes, seed=seed)
        return embedded

    def errors(way: str, rate: float, seed: int, part: instar.data.Dataset) -> float:
        network = build(way, seed)
        about = {"epochs": EPOCHS, "learning_rate": rate, "gradient_clip": 1.0, "seed": seed}
        instar.train(network, data.train, validation=None, **about)
        return float(evaluate(network, part)["errors"])

    found = {}
    for way in ("columns", "embeddings"):
        tried = {rate: errors(way, rate, TUNING_SEED, data.validation) for rate in RATES}
        rate = min(tried, key=tried.get)
        found[way] = [errors(way, rate, seed, data.test) for seed in SEEDS]
        print(f"{way}: rate {rate:g} of {tried}, {over_seeds(found[way])}", flush=True)
    print(f"embeddings minus columns: {paired_difference(found['embeddings'], found['columns'])}")


if __name__ == "__main__":
    main(sys.argv[1])
