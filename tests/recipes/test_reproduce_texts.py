"""`instar reproduce texts`: unlike teachers of texts into one small network, with all labels and with few."""

import os
from pathlib import Path

import pytest
import torch

from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.files import load_tensors
from instar.recipes.fitting import LOGITS
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import checked
from instar.recipes.settings import TransferSettings
from instar.recipes.splits import load_splits, training_data
from instar.recipes.study import Execution, run_study
from instar.recipes.texts.plan import ALONE, ENSEMBLE, FEW, TFIDF, TextsConfig, TextsPlan, check, config_for
from instar.recipes.texts.recipe import STUDY, answer
from instar.recipes.texts.tfidf import load_tfidf
from instar.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*texts are longer than 32 ids")]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (Path(os.environ.get("INSTAR_DATA", "")) / "sst2").is_dir():
        pytest.skip("needs sst2 in INSTAR_DATA")
    pytest.importorskip("skops")
    found = tmp_path_factory.mktemp("texts") / "run"
    run_study(STUDY, config_for("tiny", "sst2"), found, Execution(quiet=True))
    return found


def test_the_ensemble_is_the_mean_of_networks_and_linear_model(path: Path) -> None:
    result = Run.read(path).result()
    rows = {row["name"]: row for row in result["rows"]}
    plan = TextsPlan(config_for("tiny", "sst2"), path)
    test = plan.splits.test
    labels = test.labels(test.ids)
    for few in ("", FEW):
        for seed in range(2):
            *networks, model = (path / "jobs" / name for name in plan.members(few, seed))
            members = [predict_logits(load_run_network(one), test) for one in networks]
            members.append(predict_logits(load_tfidf(model, test), test))
            mean = torch.stack([torch.softmax(one, -1) for one in members]).mean(0)
            right = 100 * float((mean.argmax(-1) == labels).double().mean())
            assert rows[few + ENSEMBLE]["values"][seed] == pytest.approx(
                right, abs=0.06
            )  # a tie may fall either way
    weights = sum(rows[name]["parameters"] for name in (*plan.teachers, TFIDF))
    assert rows[ENSEMBLE]["parameters"] == weights
    assert result["details"]["weights_of_ensemble"] == weights / rows[ALONE]["parameters"]
    assert rows[TFIDF]["n"] == 1
    assert rows[FEW + TFIDF]["n"] == 2
    assert "of the ensemble's weights reaches" in answer(result).sentence


def test_few_labels_are_the_same_for_teachers_and_students(path: Path) -> None:
    plan = TextsPlan(config_for("tiny", "sst2"), path)
    jobs, splits = path / "jobs", load_splits(plan.config.data)
    for seed in range(2):
        taught = training_data(splits, plan.transfer(FEW, seed))
        some = training_data(splits, TransferSettings(labelled=0.1, seed=seed))
        assert set(taught.ids.tolist()) == set(some.ids[some.labels(some.ids) >= 0].tolist())
        distilled = Run.read(jobs / f"few-labels/student-distilled/seed-{seed}").config
        assert distilled["transfer"] == {"labelled": 0.1, **({"seed": seed} if seed else {})}
        assert distilled["soft"]["teachers"] == plan.members(FEW, seed)
        alone = Run.read(jobs / f"few-labels/student-alone/seed-{seed}").config
        assert alone["transfer"]["fraction"] == 0.1
        assert alone["fit"]["epochs"] == 2 * distilled["fit"]["epochs"]


def test_the_linear_model_taught_what_it_answers(path: Path) -> None:
    splits = load_splits(config_for("tiny", "sst2").data)
    stored, _ = load_tensors(path / "jobs" / "tf-idf-logits" / LOGITS)
    found = predict_logits(load_tfidf(path / "jobs" / "tf-idf", splits.train), splits.train)
    torch.testing.assert_close(stored["logits"][: len(splits.train)], found)
    assert stored["ids"][: len(splits.train)].equal(splits.train.ids)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    content = config_for("tiny", "sst2").model_dump() | {"data": {"name": "digits"}}
    with pytest.raises(UsageError, match="digits holds no texts"):
        check(TextsPlan(checked(TextsConfig, content), tmp_path))
