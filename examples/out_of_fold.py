"""A random forest teaches a small network: by its answers to its own training examples, or out of fold.

python examples/out_of_fold.py

Five seeds of the student for each kind of targets, from soft targets alone and with labels; validation chooses the
temperature of each; test reports once.
"""

from sklearn.ensemble import RandomForestClassifier
from torch import nn

import instar
from instar.intervals import paired_difference

SEEDS, TUNING_SEEDS, TEMPERATURES = range(5), range(100, 102), (1.0, 2.0, 4.0, 8.0)


def main() -> None:
    """Train the students, and print their test errors."""
    data = instar.load_data("digits")
    train = data.train
    rows, labels = train.gather(train.ids, 0).flatten(1).numpy(), train.labels(train.ids).numpy()
    forest = RandomForestClassifier(200, random_state=0).fit(rows, labels)
    found = instar.out_of_fold_targets(forest, train, folds=5, seed=0, temperature=1.0)(train.ids, 0).probs
    logits = {
        "in-sample": instar.Teacher(forest, train, temperature=float("inf"))(train.ids, 0).logits,
        "out-of-fold": instar.logits_of_probabilities("the forest", found),
    }

    def student(kind: str, temperature: float, hard_weight: float, seed: int) -> nn.Module:
        targets = instar.StoredLogits(train.ids, logits[kind], temperature=temperature)
        network = instar.build_network("mlp:64x1", input_shape=train.example_shape, num_classes=10, seed=seed)
        fit = {"epochs": 25, "batch_size": 64, "learning_rate": 0.1, "seed": seed, "hard_weight": hard_weight}
        return instar.distill(targets, network, train, **fit).network

    for hard_weight in (0.0, 1.0):
        errors = {}
        for kind in logits:
            nll = {
                T: sum(
                    instar.evaluate(student(kind, T, hard_weight, seed), data.validation)["nll"]
                    for seed in TUNING_SEEDS
                )
                for T in TEMPERATURES
            }
            T = min(nll, key=nll.get)
            scores = [instar.evaluate(student(kind, T, hard_weight, seed), data.test) for seed in SEEDS]
            errors[kind] = [score["errors"] for score in scores]
            probs = logits[kind].softmax(-1)
            right = float((probs.argmax(-1) == train.labels(train.ids)).float().mean())
            print(
                f"{kind}, hard weight {hard_weight:g}: right on {100 * right:.1f} % of the training examples, top "
                f"probability {float(probs.max(-1).values.mean()):.2f}; student at temperature {T:g}: "
                f"{sum(errors[kind]) / len(SEEDS):.1f} errors on {len(data.test)} test images"
            )
        change = paired_difference(errors["out-of-fold"], errors["in-sample"])
        print(f"out-of-fold - in-sample: {change.mean:.1f} [{change.low:.1f}, {change.high:.1f}], n = {change.n}")


if __name__ == "__main__":
    main()
