"""Teachers in files: ONNX, skops, XGBoost, LightGBM, against their own libraries; and files that are wrong."""

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import Tensor, nn

import instar
from instar.data import as_dataset, load_data
from instar.errors import DataError, DataWarning, InstarError, RunError, UsageError
from instar.evaluation import batch_size_of, predict_logits
from instar.export_record import write_about
from instar.networks import build_network, forward_logits, network_fingerprint, read_teacher

DIGITS = load_data("digits")
TRAIN, TEST = DIGITS.train, DIGITS.test
NAMES, SHAPE = tuple(TRAIN.class_names), tuple(TRAIN.example_shape)
INPUTS = TEST.gather(TEST.ids, 0)
ROWS = INPUTS.flatten(1).numpy()


def fitting_data(num_classes: int = 10) -> tuple[NDArray[Any], NDArray[Any]]:
    data = TRAIN if num_classes == 10 else TRAIN.of_classes(range(num_classes))
    return data.gather(data.ids, 0).flatten(1).numpy(), data.labels(data.ids).numpy()


def read(spec: str, **options: Any) -> nn.Module:
    return read_teacher(spec, **{"class_names": NAMES, "example_shape": SHAPE, **options})


def probs_of(network: nn.Module, inputs: Tensor = INPUTS) -> NDArray[Any]:
    with torch.no_grad():
        found: NDArray[Any] = network(inputs).softmax(-1).numpy()
    return found


def network() -> nn.Module:
    return build_network("mlp:16x1", input_shape=SHAPE, num_classes=10, seed=0).eval()


class WithFeatures(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), nn.Linear(5, 10)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(inputs)
        return features, self.head(features)


def export(module: nn.Module, path: Path, *, batch: int | None = None, **options: Any) -> Path:
    """A file of torch's exporter; `batch` fixes the size of a batch."""
    pytest.importorskip("onnxscript")
    dynamic = {} if batch else {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    example = torch.rand(batch or 2, *SHAPE)
    about: dict[str, Any] = {
        "input_names": ["pixels"],
        "external_data": False,
        "verbose": False,
        **dynamic,
        **options,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter uses what torch itself has deprecated
        torch.onnx.export(module.eval(), (example,), path, dynamo=True, **about)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind."""
    pytest.importorskip("onnxruntime")
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def onnx_file(folder: Path) -> Path:
    return export(network(), folder / "net.onnx", output_names=["logits"])


def test_onnx_answers_as_the_network_that_was_exported(onnx_file: Path) -> None:
    with torch.no_grad():
        torch.testing.assert_close(read(f"onnx:{onnx_file}")(INPUTS), network()(INPUTS), rtol=1e-5, atol=1e-5)


def test_many_examples_are_asked_about_together_in_runs_of_128(onnx_file: Path) -> None:
    import onnxruntime

    asked = read(f"onnx:{onnx_file}")
    rows = torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(0))
    data = as_dataset((rows, torch.arange(300) % 10), class_names=NAMES)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"pixels": part.numpy()})[0] for part in torch.split(rows, 128)]
    # The last bits depend on the batch, so a store of 128 at once and one of 300 have to agree in them.
    assert torch.equal(predict_logits(asked, data), torch.from_numpy(np.concatenate(expected)))
    assert batch_size_of(asked, "cpu") == 2**22 // (4 * 64)


def test_a_fixed_batch_is_filled_up(folder: Path) -> None:
    for batch in (1, 7):
        file = export(network(), folder / f"batch-{batch}.onnx", batch=batch)
        with torch.no_grad():
            found = read(f"onnx:{file}")(INPUTS[:10])
            torch.testing.assert_close(found, network()(INPUTS[:10]), rtol=1e-5, atol=1e-5)


def test_of_two_outputs_one_is_named(folder: Path) -> None:
    module = WithFeatures().eval()
    file = export(module, folder / "two.onnx", output_names=["features", "logits"])
    with pytest.raises(UsageError, match=r"has 2 outputs: features .*, logits .*; say which, onnx:FILE#logits"):
        read(f"onnx:{file}")
    with torch.no_grad():
        torch.testing.assert_close(read(f"onnx:{file}#logits")(INPUTS), module(INPUTS)[1], rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="has no output 'logit'; it has features, logits"):
        read(f"onnx:{file}#logit")
    assert network_fingerprint(read(f"onnx:{file}#logits")) == network_fingerprint(read(f"onnx:{file}#logits"))


def test_external_data_counts_and_is_missed(folder: Path) -> None:
    place = folder / "external"
    place.mkdir()
    import onnx

    model = onnx.load(export(network(), place / "whole.onnx"))
    file = place / "net.onnx"
    about: dict[str, Any] = {"save_as_external_data": True, "location": "net.weights", "size_threshold": 100}
    onnx.save(model, file, **about)
    before = network_fingerprint(read(f"onnx:{file}"))
    weights = bytearray((place / "net.weights").read_bytes())
    weights[3] ^= 1
    (place / "net.weights").write_bytes(bytes(weights))
    assert network_fingerprint(read(f"onnx:{file}")) != before
    (place / "net.weights").unlink()
    with pytest.raises(
        DataError, match=r"its weights are in a file of their own, .*net\.weights, which is not there"
    ):
        read(f"onnx:{file}")


def test_a_converted_forest_answers_as_the_forest(folder: Path) -> None:
    to_onnx = pytest.importorskip("skl2onnx").to_onnx
    rows, labels = fitting_data()
    forest = RandomForestClassifier(20, random_state=0).fit(rows, labels)
    (folder / "forest.onnx").write_bytes(
        to_onnx(forest, rows[:1], options={"zipmap": False}, target_opset=18).SerializeToString()
    )
    found = probs_of(read(f"onnx:{folder / 'forest.onnx'}#probabilities"))
    np.testing.assert_allclose(found, forest.predict_proba(ROWS), atol=2e-5)
    (folder / "zipped.onnx").write_bytes(to_onnx(forest, rows[:1], target_opset=18).SerializeToString())
    with pytest.raises(UsageError, match=r"expected a tensor of numbers; .*\"zipmap\": False"):
        read(f"onnx:{folder / 'zipped.onnx'}#output_probability")


def test_names_beside_an_onnx_file_choose_its_classes(onnx_file: Path, folder: Path) -> None:
    file = Path(shutil.copy(onnx_file, folder / "named.onnx"))
    (folder / "named.classes.txt").write_text("\n".join(["9", *NAMES[:9]]))
    with torch.no_grad():
        found, expected = read(f"onnx:{file}")(INPUTS), network()(INPUTS)
    torch.testing.assert_close(found, expected[:, [*range(1, 10), 0]], rtol=1e-5, atol=1e-5)
    with pytest.warns(DataWarning, match="has 10 classes, of which the data has 3: renormalised"):
        few = read(f"onnx:{file}", class_names=("2", "0", "1"))
    torch.testing.assert_close(few(INPUTS), expected[:, [3, 1, 2]], rtol=1e-5, atol=1e-5)


TABLE = np.arange(30, dtype=np.float32).reshape(10, 3) % 7


def bag_file(path: Path, *, names: tuple[str, str] = ("ids", "mask"), batch: int | None = None) -> Path:
    """Sums of the rows of a table that are named by ids and not masked, written without torch."""
    from onnx import TensorProto, helper, numpy_helper, save

    ids, mask = (helper.make_tensor_value_info(name, TensorProto.INT64, [batch, None]) for name in names)
    nodes = [
        helper.make_node("Gather", ["table", names[0]], ["rows"]),
        helper.make_node("Cast", [names[1]], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "last"], ["factors"]),
        helper.make_node("Mul", ["rows", "factors"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "first"], ["logits"], keepdims=0),
    ]
    values = {"table": TABLE, "last": np.array([2]), "first": np.array([1])}
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(nodes, "bag", [ids, mask], [logits], initializer=tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("batch", [None, 4])
def test_an_onnx_file_gets_several_tensors_by_name(folder: Path, batch: int | None) -> None:
    file = bag_file(folder / f"bag-{batch}.onnx", batch=batch)
    words = [[1, 2, 3], [4], [5, 6], [9, 9, 9, 9, 9], [7]]
    expected = torch.tensor(np.stack([TABLE[row].sum(0) for row in words]))
    data = as_dataset(({"mask": [[1] * len(row) for row in words], "ids": words}, [0, 1, 2, 0, 1]), mask=None)
    pairs = as_dataset((words, [0, 1, 2, 0, 1]))  # a list that varies comes with its mask, as a tuple
    for some in (data, pairs):
        teacher = read(f"onnx:{file}", class_names=some.class_names, example_shape=some.example_shape)
        torch.testing.assert_close(forward_logits(teacher, some.gather(some.ids, 0)), expected)
    soft = instar.Teacher(f"onnx:{file}", data, temperature=1.0)(data.ids, 0)
    torch.testing.assert_close(soft.probs, expected.softmax(-1))


def test_other_names_than_the_file_takes_are_refused(folder: Path) -> None:
    file = bag_file(folder / "named.bag.onnx", names=("input_ids", "attention_mask"))
    for form in ({"input_ids": ("int64", "<=5")}, {"ids": ("int64", 5), "attention_mask": ("int64", 5)}, (3, 5)):
        with pytest.raises(
            UsageError, match=r"takes 2 inputs \(input_ids, attention_mask\), an example of the data"
        ):
            read(f"onnx:{file}", class_names=("a", "b", "c"), example_shape=form)


def test_a_file_of_instar_export_sees_pixels(onnx_file: Path, folder: Path) -> None:
    place = folder / "exported"
    place.mkdir()
    file = Path(shutil.copy(onnx_file, place / "model.onnx"))
    write_about(place, {"class_names": list(NAMES)})
    given = {"mean": [0.3], "std": [0.4]}
    with torch.no_grad():
        found = read(f"onnx:{file}", normalisation=given)((INPUTS - 0.3) / 0.4)
        torch.testing.assert_close(found, network()(INPUTS), rtol=1e-4, atol=1e-4)
        shutil.copy(onnx_file, place / "other.onnx")  # none of the export's files: it sees what the data give
        found = read(f"onnx:{place / 'other.onnx'}", normalisation=given)(INPUTS)
        torch.testing.assert_close(found, network()(INPUTS), rtol=1e-4, atol=1e-4)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RunError, match=r"model\.onnx is not the file that was exported"):
        read(f"onnx:{file}")


WRONG_ONNX: dict[str, Callable[[Path], str]] = {
    "takes examples of shape (1, 8, 8), those of the data are (3, 8, 8)": lambda file: f"onnx:{file}",
    "nowhere.onnx cannot be read: No such file": lambda file: "onnx:nowhere.onnx",
    "is no ONNX file": lambda file: f"onnx:{_damaged(file)}",
    "teacher 'onnx:' should be onnx:FILE": lambda file: "onnx:",
}


def _damaged(file: Path) -> Path:
    damaged = file.with_name("damaged.onnx")
    damaged.write_bytes(b"no model at all" * 40)
    return damaged


@pytest.mark.parametrize("words", WRONG_ONNX)
def test_wrong_onnx_files_are_refused(words: str, onnx_file: Path) -> None:
    shape = (3, 8, 8) if "(3, 8, 8)" in words else SHAPE
    with pytest.raises(InstarError) as refused:
        read(WRONG_ONNX[words](onnx_file), example_shape=shape)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_number_of_classes_is_refused(onnx_file: Path) -> None:
    teacher = read(f"onnx:{onnx_file}", class_names=("one", "two"))
    with pytest.raises(UsageError, match=r"gives \(4, 10\) for 4 examples, expected \(4, 2\)"):
        teacher(INPUTS[:4])


def test_a_pipeline_in_a_skops_file(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    rows, labels = fitting_data()
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(rows, labels)
    skops.dump(pipeline, tmp_path / "forest.skops")
    found = read(f"sklearn:{tmp_path / 'forest.skops'}")
    np.testing.assert_allclose(probs_of(found), pipeline.predict_proba(ROWS), atol=2e-5)
    normalised = read(f"sklearn:{tmp_path / 'forest.skops'}", normalisation={"mean": [0.5], "std": [0.25]})
    np.testing.assert_allclose(
        probs_of(normalised, (INPUTS - 0.5) / 0.25), pipeline.predict_proba(ROWS), atol=2e-5
    )


def test_files_of_scikit_learn_that_are_refused(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    rows, labels = fitting_data()
    odd = make_pipeline(FunctionTransformer(fitting_data), RandomForestClassifier(2)).set_params()
    odd.steps[-1] = ("forest", RandomForestClassifier(2).fit(rows, labels))
    skops.dump(odd, tmp_path / "odd.skops")
    skops.dump(odd.set_params(functiontransformer__func=np.load), tmp_path / "function.skops")
    skops.dump(RandomForestClassifier(2).fit(rows[:, :7], labels), tmp_path / "few.skops")
    (tmp_path / "forest.pkl").write_bytes(pickle.dumps(RandomForestClassifier(2)))
    (tmp_path / "damaged.skops").write_bytes(b"no zip")
    for name, words in (
        (
            "odd.skops",
            "neither scikit-learn's nor numpy's, and are not made from a file: test_teacher_files.fitting",
        ),
        ("function.skops", "and are not made from a file: numpy.load; load it in Python"),
        ("few.skops", "was fitted on 7 columns, an example of the data has 64 numbers"),
        ("forest.pkl", "a pickle runs code when it is read, so none is; save it with skops.io.dump"),
        ("damaged.skops", "cannot be read as skops"),
        ("nowhere.skops", "No such file"),
    ):
        with pytest.raises(InstarError) as refused:
            read(f"sklearn:{tmp_path / name}")
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("num_classes", [10, 2])
def test_boosters_in_files_answer_as_their_classifiers(num_classes: int, tmp_path: Path) -> None:
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    rows, labels = fitting_data(num_classes)
    held = rows[::5], labels[::5]
    early = xgboost.XGBClassifier(
        n_estimators=40, max_depth=2, early_stopping_rounds=2, learning_rate=1.0, n_jobs=1
    )
    early.fit(rows, labels, eval_set=[held], verbose=False)
    light = lightgbm.LGBMClassifier(n_estimators=5, num_leaves=7, verbose=-1, n_jobs=1).fit(rows, labels)
    early.save_model(tmp_path / "x.json")
    early.save_model(tmp_path / "x.ubj")
    light.booster_.save_model(tmp_path / "l.txt")
    about = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "verbose": -1, "n_jobs": 1}
    forest = lightgbm.LGBMClassifier(n_estimators=7, **about).fit(rows, labels)
    forest.booster_.save_model(tmp_path / "rf.txt")
    names = NAMES[:num_classes]
    for spec, expected in (
        (f"xgboost:{tmp_path / 'x.json'}", early.predict_proba(ROWS)),
        (f"xgboost:{tmp_path / 'x.ubj'}", early.predict_proba(ROWS)),
        (f"lightgbm:{tmp_path / 'l.txt'}", light.booster_.predict(ROWS)),
        (f"lightgbm:{tmp_path / 'rf.txt'}", forest.booster_.predict(ROWS)),  # the mean of its trees, not their sum
    ):
        expected = np.stack([1 - expected, expected], 1) if expected.ndim == 1 else expected
        np.testing.assert_allclose(probs_of(read(spec, class_names=names)), expected, atol=1e-5)
    for model in (early, light):  # the objects
        teacher = instar.Teacher(model, TEST.of_classes(range(num_classes)), temperature=1.0)
        part = TEST.of_classes(range(num_classes))
        found = teacher(part.ids, 0).probs.numpy()  # type: ignore[union-attr]
        inputs = part.gather(part.ids, 0).flatten(1).numpy()
        probs = model.predict_proba(inputs) if model is early else light.booster_.predict(inputs)
        probs = np.stack([1 - probs, probs], 1) if probs.ndim == 1 else probs
        np.testing.assert_allclose(found, probs, atol=2e-5)


def test_boosters_that_are_refused(tmp_path: Path) -> None:
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    rows, labels = fitting_data()
    xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(rows, labels).save_model(tmp_path / "r.json")
    xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(rows[:, :9], labels).save_model(tmp_path / "few.json")
    about: dict[str, Any] = {"n_estimators": 2, "verbose": -1, "n_jobs": 1}
    lightgbm.LGBMRegressor(**about).fit(rows, labels).booster_.save_model(tmp_path / "r.txt")
    lightgbm.LGBMClassifier(**about).fit(rows[:, :9], labels).booster_.save_model(tmp_path / "few.txt")
    for name in ("damaged.json", "damaged.txt"):
        (tmp_path / name).write_text("{nothing")
    for spec, words in (
        ("xgboost:r.json", "was trained for 'reg:squarederror', which gives no probabilities of classes"),
        ("xgboost:few.json", "was fitted on 9 columns, an example of the data has 64 numbers"),
        ("xgboost:damaged.json", "cannot be read by XGBoost"),
        ("xgboost:x.model", "expected FILE.json or FILE.ubj"),
        ("lightgbm:r.txt", "was trained for 'regression', which gives no probabilities of classes"),
        ("lightgbm:few.txt", "was fitted on 9 columns, an example of the data has 64 numbers"),
        ("lightgbm:damaged.txt", "cannot be read by LightGBM"),
        ("lightgbm:l.pkl", "expected FILE.txt"),
    ):
        kind, _, name = spec.partition(":")
        with pytest.raises(InstarError) as refused:
            read(f"{kind}:{tmp_path / name}")
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)


def test_distill_and_a_store_take_the_name_of_a_file(onnx_file: Path, tmp_path: Path) -> None:
    student = build_network("mlp:4x1", input_shape=SHAPE, num_classes=10, seed=1)
    with pytest.warns(DataWarning, match="is it trained"):
        instar.distill(f"onnx:{onnx_file}", student, TRAIN, epochs=1)
    with pytest.warns(DataWarning, match="is it trained"):
        store = instar.SoftTargetStore.write(
            tmp_path / "store", {"net": f"onnx:{onnx_file}"}, TEST, dtype="float32"
        )
    with torch.no_grad():
        torch.testing.assert_close(store.logits(TEST.ids, 0)[0], network()(INPUTS), rtol=1e-5, atol=1e-5)
