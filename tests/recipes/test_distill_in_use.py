"""`instar distill --int8`: networks as files, and a student that learns in eight bits."""

from pathlib import Path

import pytest

from instar.deploy.exported import INT8
from instar.deploy.loading import load_run_network
from instar.deploy.to_onnx import Session
from instar.evaluation import predict_logits
from instar.recipes.distill.in_use import RECOVERED, _verdict
from instar.recipes.distill.plan import DISTILLED
from instar.recipes.loading import splits_of
from instar.runs import Run
from small_studies import SMALL, distilled


@pytest.mark.slow
def test_the_networks_in_use_are_rows_of_one_table(tmp_path: Path) -> None:
    path = tmp_path / "run"
    result = distilled(
        path, **SMALL | {"seeds": 1}, teacher={"network": "mlp:64x1", "epochs": 8, "learning_rate": 0.1}, int8=True
    )
    about = result["details"]["in_use"]
    rows = {(row["name"], row["form"]): row for row in about["rows"]}
    kinds = ("teacher", "student-alone", DISTILLED)
    assert set(rows) == {(kind, form) for kind in kinds for form in ("float", "int8")} | {(RECOVERED, "int8")}
    own = {row["name"]: row for row in result["rows"]}
    for kind in kinds:
        assert rows[kind, "float"]["values"] == own[kind]["values"]
    assert rows["teacher", "int8"]["bytes"] < 0.7 * rows["teacher", "float"]["bytes"]
    assert rows[RECOVERED, "int8"]["mean"] < 1.2 * own[DISTILLED]["mean"]
    assert about["sentence"] in (path / "report.html").read_text()

    fit = path / "jobs" / RECOVERED / "seed-0"
    before, after = (load_run_network(path / "jobs" / kind / "seed-0") for kind in (DISTILLED, RECOVERED))
    apart = [
        float((one - other).detach().norm())
        for one, other in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert all(0 < one < 3 for one in apart)  # it went on from there
    assert Run.read(fit).config["soft"]["teachers"] == ["teacher"]
    test = splits_of(Run.read(fit).config).test
    file = Session(path / "jobs" / "in-use" / RECOVERED / "seed-0" / INT8)
    wrong = predict_logits(file, test).argmax(-1) != test.labels(test.ids)
    assert int(wrong.sum()) == rows[RECOVERED, "int8"]["values"][0]


def test_the_best_of_those_that_are_as_fast_is_named() -> None:
    def row(name: str, form: str, mean: float, latency_ms: float) -> dict[str, object]:
        return {"name": name, "form": form, "mean": mean, "latency_ms": latency_ms}

    own, slow = row(DISTILLED, "float", 30.0, 1.0), row("teacher", "float", 10.0, 5.0)
    assert _verdict([slow, own, row(DISTILLED, "int8", 31.0, 0.5)]).startswith("In use, no file that is as fast")
    said = _verdict([slow, row("teacher", "int8", 12.0, 1.04), own])
    assert "teacher in int8 makes the fewest errors: 12.0, at 1 ms" in said


def test_it_is_another_run() -> None:
    from instar.recipes.distill.settings import DistillConfig

    assert DistillConfig(int8=False) == DistillConfig()
    with pytest.raises(Exception, match="int8"):
        DistillConfig(int8="yes")
