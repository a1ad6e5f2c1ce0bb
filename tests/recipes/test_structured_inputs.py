"""The experiments on examples that are no pictures: mappings of ids and masks, each of its own length."""

import json
from pathlib import Path

import pytest
import torch

import instar
from instar.errors import UsageError
from structured_studies import PAD

DATA, OTHER, NETWORK = (
    f"python:structured_studies:{name}" for name in ("word_data", "other_words", "word_network")
)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    path = tmp_path_factory.mktemp("runs") / "distill"
    result = instar.distill_study(
        data=DATA, teacher=NETWORK, student=NETWORK, teacher_epochs=6, epochs=4, temperature=2, learning_rate=0.3,
        teacher_learning_rate=0.3, seeds=1, run_dir=path, quiet=True,
    )  # fmt: skip
    return path, result


def test_a_study_of_distillation_has_its_costs_and_its_page(distilled: tuple[Path, dict[str, object]]) -> None:
    path, result = distilled
    rows = {row["name"]: row for row in json.loads(json.dumps(result["rows"]))}
    assert set(rows) == {"teacher", "student-alone", "student-distilled"}
    assert rows["teacher"]["multiplications"] == 8 * 8 * 8 + 8 * 3  # at the longest
    page = (path / "report.html").read_text()
    assert "<img" not in page
    again = instar.distill_study(
        data=DATA, teacher=NETWORK, student=NETWORK, teacher_epochs=6, epochs=4, temperature=2, learning_rate=0.3,
        teacher_learning_rate=0.3, seeds=1, run_dir=path, quiet=True,
    )  # fmt: skip
    assert again["rows"] == result["rows"]


def test_its_networks_are_loaded_and_used(distilled: tuple[Path, dict[str, object]]) -> None:
    path, _ = distilled
    model = instar.load(f"{path}:teacher")
    assert model.pad == PAD
    seen: list[torch.Tensor] = []
    model.network.embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    several = {"input_ids": [[5, 3, 9], [8], [4, 4, 1, 2]]}
    probs = model.predict_proba(several)
    assert probs.shape == (3, 3)
    assert seen[0][1].tolist() == [8, 19, 19, 19]
    torch.testing.assert_close(model.predict_proba({"input_ids": [[8]]})[0], probs[1], atol=1e-5, rtol=0)
    assert len(model.predict(several)) == 3
    with pytest.raises(UsageError, match=r"an example is words .*, this network takes input_ids int64 <=8"):
        model.predict_proba({"words": [[8]]})


@pytest.mark.slow
def test_layers_are_transferred(tmp_path: Path) -> None:
    result = instar.transfer_study(
        data=DATA, source=DATA, network=NETWORK, run_dir=tmp_path / "transfer", epochs=1, cuts=[1],
        treatments=["AnB"], splits=1, longer=False, learning_rate=0.3, quiet=True,
    )  # fmt: skip
    assert ("AnB", 1) in [(row["treatment"], row["cut"]) for row in result["rows"]]


@pytest.mark.slow
def test_layers_are_advised(tmp_path: Path) -> None:
    advised = instar.advise(
        network=NETWORK, data=DATA, source=OTHER, run_dir=tmp_path / "advise", base={"epochs": 1}, epochs=2,
        rounds=[0.5], learning_rate=0.3, quiet=True,
    )  # fmt: skip
    assert [row["cut"] for row in advised["details"]["scores"]]


@pytest.mark.slow
def test_specialists_of_words(tmp_path: Path) -> None:
    result = instar.specialists_study(
        data=DATA, network=NETWORK, sets=2, classes_per_set=2, epochs=2, specialist_epochs=1, top_n=1, controls=[],
        seeds=1, learning_rate=0.3, run_dir=tmp_path / "specialists", quiet=True,
    )  # fmt: skip
    assert result["recipe"] == "specialists"
