"""Teachers that are no network: the protocol, classes by name, probabilities, and where they are taken."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import instar
from instar.data import InMemoryDataset, load_data
from instar.errors import DataWarning, RunError, TrainingError, UsageError
from instar.networks import AskedNetwork, asked_network, is_asked, network_fingerprint
from small_fits import perceptron

NAMES = ("ant", "bee", "cat")
DIGITS = load_data("digits")


def three_classes(num_examples: int = 60) -> InMemoryDataset:
    """Pictures of 1x8x8 pixels: three patterns, each with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_examples) % 3
    inputs = torch.rand(3, 1, 8, 8, generator=generator)[labels]
    inputs = inputs + 0.5 * torch.randn(num_examples, 1, 8, 8, generator=generator)
    return InMemoryDataset(inputs, labels, class_names=NAMES)


DATA = three_classes()


class Table:
    """Answers that are looked up: row i of `rows` for the i-th example of a batch."""

    def __init__(
        self, rows: Any, class_names: tuple[str, ...] | None = NAMES, fingerprint: str = "a table"
    ) -> None:
        self.rows, self.class_names, self.fingerprint, self.num_asked = rows, class_names, fingerprint, 0

    def __call__(self, examples: Tensor) -> Any:
        self.num_asked += 1
        return self.rows[torch.arange(len(examples)) % len(self.rows)]


class Blots:
    """The mean pixel decides: a rule that someone wrote without torch."""

    class_names, fingerprint = NAMES, "mean of the pixels"

    def __call__(self, examples: Tensor) -> NDArray[Any]:
        values = examples.flatten(1).mean(1).numpy()
        scores = -np.abs(values[:, None] - np.linspace(0, 1, len(NAMES)))
        return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def rows_and_labels(data: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    return data.gather(data.ids, 0).flatten(1).numpy(), data.labels(data.ids).numpy()


def test_probabilities_become_their_logarithm_and_logits_stay() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.0, 1.0, 1e-9]], dtype=torch.float64)
    found = AskedNetwork(Table(probs), NAMES)(torch.zeros(3, 4))
    assert found.dtype == torch.float32
    expected = torch.tensor([[0.7, 0.2, 0.1], [1e-6, 1.0, 1e-6], [1e-9, 1.0, 1e-9]], dtype=torch.float64).log()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    logits = torch.tensor([[7.0, -2.0, 1.0], [0.0, 1.0, 3.0]])
    assert torch.equal(AskedNetwork(Table(logits), NAMES)(torch.zeros(2, 4)), logits)
    stated = Table(torch.tensor([[0.5, 0.2, 0.1]]))
    stated.gives = "logits"  # type: ignore[attr-defined]
    assert torch.equal(AskedNetwork(stated, NAMES)(torch.zeros(1, 4)), stated.rows)


def test_rows_of_zeros_are_said_counted_and_taken_as_equally_likely() -> None:
    network = AskedNetwork(Table(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])), NAMES, name="it")
    with pytest.warns(DataWarning, match="it: nothing but zeros in 2 of 4 rows of a batch"):
        found = network(torch.zeros(4, 2))
    assert torch.equal(found[1].softmax(-1), torch.full((3,), 1 / 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(torch.zeros(4, 2))  # once is enough


WRONG_ANSWERS = {
    "(2, 2) for 2 examples, expected (2, 3): a number for each class": torch.ones(2, 2),
    "add up to 1.5 in a row: neither probabilities of one class nor logits": torch.full((2, 3), 0.5),
    "gives list of str": ["a", "b"],
}


@pytest.mark.parametrize("words", WRONG_ANSWERS)
def test_wrong_answers_are_refused(words: str) -> None:
    teacher = Table(WRONG_ANSWERS[words])
    if isinstance(teacher.rows, list):
        teacher.rows, words = np.array([["a", "b", "c"]] * 2), "expected a tensor or an array of numbers"
    with pytest.raises(UsageError) as refused:
        AskedNetwork(teacher, NAMES)(torch.zeros(2, 4))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_later_batch_that_holds_no_probabilities_is_refused() -> None:
    teacher = Table(torch.tensor([[0.5, 0.5, 0.0]]))
    network = AskedNetwork(teacher, NAMES)
    network(torch.zeros(2, 4))
    for wrong, words in ((0.9, "no probabilities in 2 of 2 rows"), (float("nan"), "NaN in 2 of 2 rows")):
        teacher.rows = torch.tensor([[0.5, wrong, 0.0]])
        with pytest.raises(TrainingError, match=words):
            network(torch.zeros(2, 4))


def test_classes_are_matched_by_name() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    turned = Table(probs[:, [2, 0, 1]], (NAMES[2], NAMES[0], NAMES[1]))
    torch.testing.assert_close(AskedNetwork(turned, NAMES)(torch.zeros(2, 4)).softmax(-1), probs)
    more = Table(torch.cat([0.5 * probs, torch.full((2, 1), 0.5)], 1), (*NAMES, "none of these"))
    with pytest.warns(DataWarning, match="4 classes, of which the data has 3: renormalised over these"):
        network = AskedNetwork(more, NAMES)
    torch.testing.assert_close(network(torch.zeros(2, 4)).softmax(-1), probs)
    fewer = Table(probs[:, :2] / probs[:, :2].sum(1, keepdim=True), NAMES[:2])
    with pytest.warns(DataWarning, match=f"lacks {NAMES[2]!r}: a probability of 1e-06"):
        network = AskedNetwork(fewer, NAMES)
    found = network(torch.zeros(2, 4)).softmax(-1)
    torch.testing.assert_close(found[:, :2], fewer.rows, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[:, 2], torch.full((2,), 1e-6), rtol=1e-3, atol=0)


def test_other_classes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"has other classes: 'zebra' is not in the data, whose .* it lacks"):
        AskedNetwork(Table(torch.ones(1, 3), (*NAMES[:2], "zebra")), NAMES)
    with pytest.raises(UsageError, match="two classes called"):
        AskedNetwork(Table(torch.ones(1, 3), (NAMES[0], NAMES[1], NAMES[0])), NAMES)


def test_what_counts_as_such_a_teacher() -> None:
    assert is_asked(Blots())
    assert not is_asked(nn.Linear(2, 2))
    assert not is_asked(lambda ids, views: None)
    stored = instar.StoredLogits(DATA.ids, torch.randn(len(DATA), 3), temperature=2.0, class_names=NAMES)
    assert not is_asked(stored)
    assert not is_asked(Blots)


def test_distill_asks_it_once_where_there_are_no_views() -> None:
    teacher = Table(torch.randn(7, 3))
    teacher.rows = torch.randn(60, 3)
    by_example = {int(example): row for example, row in zip(DATA.ids, teacher.rows, strict=True)}
    found = instar.Teacher(teacher, DATA, temperature=2.0)
    asked = teacher.num_asked
    targets = found(DATA.ids[:5], 0)
    expected = torch.stack([by_example[int(example)] for example in DATA.ids[:5]])
    torch.testing.assert_close(targets.probs, torch.softmax(expected / 2, -1))  # type: ignore[union-attr]
    instar.distill(teacher, perceptron(0, classes=3), DATA, epochs=3, temperature=2.0)
    assert teacher.num_asked <= 2 * asked + 1


def test_a_run_directory_knows_it(tmp_path: Path) -> None:
    about: dict[str, Any] = {"epochs": 1, "temperature": 2.0, "run_dir": tmp_path / "run"}
    instar.distill(Blots(), perceptron(0, classes=3), DATA, **about)
    instar.distill(Blots(), perceptron(0, classes=3), DATA, **about)
    other = Blots()
    other.fingerprint = "another rule"
    with pytest.raises(RunError, match=r"another configuration: config\.teacher"):
        instar.distill(other, perceptron(0, classes=3), DATA, **about)


def test_a_store_knows_it(tmp_path: Path) -> None:
    store = instar.SoftTargetStore.write(tmp_path / "store", {"rule": Blots()}, DATA, dtype="float32")
    expected = AskedNetwork(Blots(), NAMES)(DATA.gather(DATA.ids, 0))
    torch.testing.assert_close(store.logits(DATA.ids, 0)[0], expected)
    store.check_teachers({"rule": Blots()}, DATA)
    other = Blots()
    other.fingerprint = "another rule"
    with pytest.raises(UsageError, match="other weights"):
        store.check_teachers({"rule": other}, DATA)
    with pytest.raises(UsageError, match="other settings"):
        instar.SoftTargetStore.write(tmp_path / "store", {"rule": other}, DATA, dtype="float32")


def test_it_sees_what_it_states(tmp_path: Path) -> None:
    shifted = DATA.with_normalisation([0.25], [0.5])
    seen: list[Tensor] = []

    class Plain(Blots):
        input_normalisation = 0.0, 1.0

        def __call__(self, examples: Tensor) -> NDArray[Any]:
            seen.append(examples)
            return super().__call__(examples)

    instar.Teacher(Plain(), shifted, temperature=1.0)
    torch.testing.assert_close(seen[0], DATA.gather(DATA.ids[: len(seen[0])], 0))
    instar.Teacher(Blots(), shifted, temperature=1.0)


def test_teachers_of_several_kinds_are_one_ensemble() -> None:
    rows, labels = rows_and_labels(DATA)
    forest = RandomForestClassifier(20, random_state=0).fit(rows, np.array(NAMES)[labels])
    network = perceptron(1, classes=3)
    found = instar.Teacher([Blots(), forest, network], DATA, temperature=1.0, weights=[1, 2, 1])
    parts = [instar.Teacher(one, DATA, temperature=1.0)(DATA.ids, 0).probs for one in (Blots(), forest, network)]  # type: ignore[union-attr]
    expected = (parts[0] + 2 * parts[1] + parts[2]) / 4
    torch.testing.assert_close(found(DATA.ids, 0).probs, expected)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="expected 3 numbers that are not negative"):
        instar.Teacher([Blots(), forest, network], DATA, temperature=1.0, weights=[1, 2])


def test_validation_chooses_the_weights_of_an_ensemble() -> None:
    """Against a search on a grid."""
    train, validation = DIGITS.train, DIGITS.validation
    rows, labels = rows_and_labels(train)
    teachers = [
        RandomForestClassifier(10, random_state=0).fit(rows, labels),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(rows, labels),
    ]
    found = instar.choose_ensemble_weights(teachers, validation)
    probs = [instar.Teacher(one, validation, temperature=1.0)(validation.ids, 0).probs for one in teachers]  # type: ignore[union-attr]
    right = [one[torch.arange(len(validation)), validation.labels(validation.ids)].double() for one in probs]
    grid = torch.linspace(0, 1, 1001)
    likelihood = torch.stack([(w * right[0] + (1 - w) * right[1]).log().sum() for w in grid])
    assert abs(found[0] - float(grid[likelihood.argmax()])) < 2e-3
    assert sum(found) == pytest.approx(1)
    instar.distill(teachers, build(), train, epochs=1, ensemble_weights=found)
    with pytest.raises(UsageError, match="expected two or more"):
        instar.choose_ensemble_weights(teachers[:1], validation)


def build() -> nn.Module:
    return instar.build_network("mlp:16x1", input_shape=(1, 8, 8), num_classes=10, seed=0)


def test_estimators_answer_for_classes_by_name() -> None:
    rows, labels = rows_and_labels(DATA)
    for wanted in (np.array(NAMES)[labels], labels):  # names, or the numbers of labels
        estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, wanted)
        found = asked_network(estimator, class_names=NAMES, example_shape=DATA.example_shape)
        probs = found(DATA.gather(DATA.ids, 0)).softmax(-1)
        order = [list(estimator.classes_).index(one) for one in (NAMES if wanted is not labels else range(3))]
        torch.testing.assert_close(probs.numpy(), estimator.predict_proba(rows)[:, order], check_dtype=False)


def test_an_estimator_that_never_saw_a_class_is_said() -> None:
    rows, labels = rows_and_labels(DATA)
    fewer = LogisticRegression().fit(rows[labels < 2], np.array(NAMES)[labels[labels < 2]])
    with pytest.warns(DataWarning, match=f"lacks {NAMES[2]!r}"):
        teacher = instar.Teacher(fewer, DATA, temperature=1.0)
    assert float(teacher(DATA.ids, 0).probs[:, 2].max()) < 2e-6  # type: ignore[union-attr]


def test_a_pipeline_that_chooses_columns_by_name_gets_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer

    rows, labels = rows_and_labels(DATA)
    table = pandas.DataFrame(rows, columns=[f"pixel {number}" for number in range(rows.shape[1])])
    chosen = make_column_transformer((StandardScaler(), ["pixel 1", "pixel 3"]))
    estimator = make_pipeline(chosen, LogisticRegression()).fit(table, labels)
    probs = instar.Teacher(estimator, DATA, temperature=1.0)(DATA.ids, 0).probs  # type: ignore[union-attr]
    torch.testing.assert_close(probs.numpy(), estimator.predict_proba(table), check_dtype=False)


def test_estimators_that_do_not_fit_are_refused() -> None:
    rows, labels = rows_and_labels(DATA)
    for estimator, words in (
        (RandomForestClassifier(), "RandomForestClassifier is not fitted: call its fit first"),
        (RidgeClassifier().fit(rows, labels), "RidgeClassifier has no predict_proba"),
        (LogisticRegression().fit(rows[:, :5], labels), "was fitted on 5 columns, an example of the data has"),
        (LogisticRegression().fit(rows, labels + 7), "has other classes: '7', '8', '9' are not in the data"),
        (RandomForestClassifier(5).fit(rows, np.stack([labels, labels], 1)), "answers 2 questions"),
    ):
        with pytest.raises(UsageError) as refused:
            instar.Teacher(estimator, DATA, temperature=1.0)
        assert words in str(refused.value)
    with pytest.raises(UsageError, match="some are names of classes and some can only be numbers"):
        asked_network(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), class_names=("1", "2"), example_shape=(1,))


def test_fitted_anew_it_is_another_teacher() -> None:
    rows, labels = rows_and_labels(DATA)
    one, same, other = (RandomForestClassifier(5, random_state=seed).fit(rows, labels) for seed in (0, 0, 1))
    prints = [
        network_fingerprint(asked_network(it, class_names=NAMES, example_shape=DATA.example_shape))
        for it in (one, same, other)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_copy_of_its_module_is_the_same_teacher() -> None:
    network = AskedNetwork(Blots(), NAMES)
    inputs = DATA.gather(DATA.ids[:4], 0)
    assert torch.equal(copy.deepcopy(network)(inputs), network(inputs))


def test_out_of_fold_targets_are_those_of_cross_validation() -> None:
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows, labels = rows_and_labels(DATA)
    forest = RandomForestClassifier(10, random_state=0)
    targets = instar.out_of_fold_targets(forest, DATA, folds=3, seed=4, temperature=1.0)
    folds = StratifiedKFold(3, shuffle=True, random_state=4)
    expected = cross_val_predict(forest, rows, labels, cv=folds, method="predict_proba")
    torch.testing.assert_close(
        targets(DATA.ids, 0).probs.numpy(),
        expected,
        check_dtype=False,
        rtol=1e-4,
        atol=1e-5,  # type: ignore[union-attr]
    )
    instar.distill(targets, perceptron(0, classes=3), DATA, epochs=1)


def test_out_of_fold_targets_of_examples_without_a_label_and_refusals() -> None:
    rows, labels = rows_and_labels(DATA)
    part = DATA.without_labels(DATA.ids[:20])
    targets = instar.out_of_fold_targets(LogisticRegression(), part, temperature=1.0)
    model = LogisticRegression().fit(rows[20:], labels[20:])
    torch.testing.assert_close(
        targets(DATA.ids[:20], 0).probs.numpy(),
        model.predict_proba(rows[:20]),
        check_dtype=False,
        rtol=1e-4,
        atol=1e-5,  # type: ignore[union-attr]
    )
    for estimator, data, options, words in (
        (RidgeClassifier(), DATA, {}, "RidgeClassifier has no predict_proba"),
        (LogisticRegression(), DATA, {"folds": 1}, "folds is 1, expected at least 2"),
        (LogisticRegression(), DATA, {"folds": 50}, "fewer than 50 folds"),
        (LogisticRegression(), DATA.without_labels(DATA.ids), {}, "no example has a label"),
    ):
        with pytest.raises(UsageError, match=words):
            instar.out_of_fold_targets(estimator, data, **options)  # type: ignore[arg-type]


def test_class_names_of_the_data_in_another_order_than_their_numbers() -> None:
    """Labels 0, 1 are called "1", "0": integers that are all names are names, and folds are fitted on numbers."""
    inputs, labels = torch.randn(80, 2), torch.arange(80) % 2
    inputs[:, 0] += 4 * labels
    data = InMemoryDataset(inputs, labels, class_names=["1", "0"])
    targets = instar.out_of_fold_targets(LogisticRegression(), data, temperature=1.0)
    right = targets(data.ids, 0).probs.argmax(-1) == labels  # type: ignore[union-attr]
    assert float(right.float().mean()) > 0.9
