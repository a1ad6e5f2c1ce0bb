"""Estimators that were fitted on the columns of a table teach students that see the prepared rows."""

import numpy as np
import pandas as pd
import pytest

from instar import load_data
from instar.distillation.teachers import as_networks
from instar.errors import DataError, UsageError
from instar.networks import build_network, read_teacher

FEATURES = ["age", "port", "fare"]


def passengers(number=400):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.integers(1, 80, number), "port": random.choice(["C", "Q", "S"], number)})
    frame["fare"] = random.gamma(2, 20, number)
    frame.loc[random.random(number) < 0.1, "fare"] = np.nan
    luck = random.normal(0, 10, number)
    frame["class"] = np.where(frame["age"] + 20 * (frame["port"] == "C") + luck > 50, "lost", "saved")
    return frame


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("tables") / "passengers.csv"
    passengers().to_csv(file, index=False)
    return load_data(f"csv:{file}").train


def own_rows(data):
    """The rows of the frame that are the training rows, in their order."""
    rows = data.table.rows(data.gather(data.ids, 0))
    frame = pd.DataFrame({name: rows[name] for name in FEATURES})
    return frame, np.array(data.class_names)[data.labels(data.ids).numpy()]


def test_rows_come_back_as_they_were(data):
    frame, labels = own_rows(data)
    there = passengers()
    known = {(a, p, None if np.isnan(f) else round(f, 3), c) for a, p, f, c in there.itertuples(index=False)}
    both = zip(frame["age"], frame["port"], frame["fare"], labels, strict=True)
    assert {(int(a), p, None if np.isnan(f) else round(f, 3), c) for a, p, f, c in both} <= known


def test_a_pipeline_gets_its_columns_by_name(data):
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame, labels = own_rows(data)
    encode = make_column_transformer((OneHotEncoder(), ["port"]), remainder="passthrough", sparse_threshold=0)
    boosting = HistGradientBoostingClassifier(max_iter=5)
    pipeline = make_pipeline(encode, boosting).fit(frame[["port", "fare", "age"]], labels)
    network = as_networks(pipeline, data)
    found = network(data.gather(data.ids, 0)).softmax(-1)
    assert np.allclose(found.numpy(), pipeline.predict_proba(frame), atol=1e-6)
    other = make_pipeline(encode, boosting).fit(frame.assign(sex=1), labels)
    with pytest.raises(UsageError, match="fitted on the columns 'sex' too, which are no features of the data"):
        as_networks(other, data)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "catboost"])
def test_a_booster_gets_its_columns_by_name(data, library, tmp_path):
    module = pytest.importorskip(library)
    frame, labels = own_rows(data)
    frame = frame[["port", "age", "fare"]]
    numbers = np.searchsorted(data.class_names, labels)
    if library == "lightgbm":
        frame["port"] = frame["port"].astype("category")
        model = module.LGBMClassifier(n_estimators=5, verbose=-1).fit(frame, numbers)
        file = tmp_path / "model.txt"
        model.booster_.save_model(file)
    elif library == "xgboost":
        frame["port"] = frame["port"].astype("category")
        model = module.XGBClassifier(n_estimators=5, enable_categorical=True).fit(frame, numbers)
        file = tmp_path / "model.json"
        model.save_model(file)
    else:
        about = {"cat_features": ["port"], "verbose": False, "allow_writing_files": False}
        model = module.CatBoostClassifier(iterations=5, loss_function="MultiClass", **about).fit(frame, labels)
        file = tmp_path / "model.cbm"
        model.save_model(str(file))
    about = {"class_names": data.class_names, "example_shape": data.example_shape}
    teacher = read_teacher(f"{library}:{file}", table=data.table, **about)
    found = teacher(data.gather(data.ids, 0)).softmax(-1)
    assert np.allclose(found.numpy(), model.predict_proba(frame), atol=1e-5)
    # Without the table the columns are too few.
    with pytest.raises(UsageError, match=r"was fitted on 3 columns, an example of the data has 6 numbers"):
        build_network(f"{library}:{file}", input_shape=data.example_shape, num_classes=2, seed=0)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    pytest.importorskip("catboost")
    file = tmp_path / "model.cbm"
    file.write_bytes(b"CBM1" + bytes(20))
    with pytest.raises(DataError, match="cannot be read by CatBoost") as caught:
        read_teacher(f"catboost:{file}", class_names=["a", "b"], example_shape=(3,))
    assert "\n" not in str(caught.value)
