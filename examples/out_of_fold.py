"""A random forest teaches a small network: by its answers to its own training examples, or out of fold.

The forest has seen its training examples and gives their labels nearly all of the probability. Five seeds of the
student for each kind of targets; validation chooses the temperature of each; test reports once.
"""

from sklearn.ensemble import RandomForestClassifier

import instar
from instar.intervals import paired_difference

SEEDS, TUNING_SEEDS, TEMPERATURES = range(5), range(100, 103), (1.0, 2.0, 4.0)

data = instar.load_data("digits")
train = data.train
rows, labels = train.gather(train.ids, 0).flatten(1).numpy(), train.labels(train.ids).numpy()
forest = RandomForestClassifier(200, random_state=0, n_jobs=1).fit(rows, labels)


def targets(kind, temperature):
    """What the students of a kind learn from."""
    if kind == "in-sample":
        return instar.Teacher(forest, train, temperature=temperature)
    return instar.out_of_fold_targets(forest, train, folds=5, seed=0, temperature=temperature)


def student(taught, seed):
    """A student, trained on soft targets alone."""
    network = instar.build_network("mlp:64x1", input_shape=train.example_shape, num_classes=10, seed=seed)
    fit = {"soft_weight": 1.0, "hard_weight": 0.0, "epochs": 40, "learning_rate": 0.1, "batch_size": 64}
    return instar.distill(taught, network, train, seed=seed, **fit).network


errors = {}
for kind in ("in-sample", "out-of-fold"):
    taught = {T: targets(kind, T) for T in TEMPERATURES}
    top = taught[1.0](train.ids, 0).probs.max(-1).values.mean()
    nll = {
        T: sum(instar.evaluate(student(taught[T], seed), data.validation)["nll"] for seed in TUNING_SEEDS)
        for T in TEMPERATURES
    }
    T = min(nll, key=nll.get)
    scores = [instar.evaluate(student(taught[T], seed), data.test) for seed in SEEDS]
    errors[kind] = [score["errors"] for score in scores]
    print(
        f"{kind}: mean top probability {top:.3f}, temperature {T:g}, errors on {len(data.test)} test images "
        f"{sum(errors[kind]) / len(SEEDS):.1f}, nll {sum(score['nll'] for score in scores) / len(SEEDS):.3f}"
    )
found = paired_difference(errors["out-of-fold"], errors["in-sample"])
print(f"out-of-fold - in-sample: {found.mean:.1f} [{found.low:.1f}, {found.high:.1f}] errors, n = {found.n}")
