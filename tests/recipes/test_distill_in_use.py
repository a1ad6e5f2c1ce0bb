"""`instar distill --int8`: networks as files, and a student that learns in eight bits."""

from pathlib import Path
from typing import Any

import pytest

from instar.deploy.exported import INT8
from instar.deploy.loading import load_run_network
from instar.deploy.to_onnx import Session
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.recipes.distill.in_use import RECOVERED, _at_one, _verdict
from instar.recipes.distill.plan import DISTILLED
from instar.recipes.distill.settings import DistillConfig, read_config
from instar.recipes.rows import row
from instar.recipes.splits import splits_of
from instar.runs import Run
from small_studies import SMALL, distilled


@pytest.mark.slow
def test_the_networks_in_use_are_rows_of_one_table(tmp_path: Path) -> None:
    path = tmp_path / "run"
    teacher = {"network": "mlp:64x1", "epochs": 8, "learning_rate": 0.1}
    result = distilled(path, **SMALL | {"seeds": 1}, teacher=teacher, int8=True, narrower="mlp:4x1")
    about = result["details"]["in_use"]
    rows = {(row["name"], row["form"]): row for row in about["rows"]}
    small = f"{DISTILLED}-mlp-4x1"
    kinds = ("teacher", "student-alone", DISTILLED)
    forms = {(kind, form) for kind in (*kinds, small) for form in ("float", "int8")}
    assert set(rows) == forms | {(RECOVERED, "int8")}
    own = {row["name"]: row for row in result["rows"]}
    assert rows[small, "float"]["bytes"] < rows[DISTILLED, "float"]["bytes"]
    assert about["at_one"]["bytes"]["sentence"].startswith("At one size: ")
    for kind in kinds:
        assert rows[kind, "float"]["values"] == own[kind]["values"]
    assert rows["teacher", "int8"]["bytes"] < 0.7 * rows["teacher", "float"]["bytes"]
    assert rows[RECOVERED, "int8"]["mean"] < 1.2 * own[DISTILLED]["mean"]
    page = (path / "report.html").read_text()
    assert about["sentence"] in page
    assert about["at_one"]["latency_ms"]["sentence"] in page

    fit = path / "jobs" / RECOVERED / "seed-0"
    before, after = (load_run_network(path / "jobs" / kind / "seed-0") for kind in (DISTILLED, RECOVERED))
    apart = [
        float((one - other).detach().norm())
        for one, other in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert all(0 < one < 3 for one in apart)  # it went on from there
    assert Run.read(fit).config["soft"]["teachers"] == ["teacher"]
    smaller = Run.read(path / "jobs" / small / "seed-0").config
    assert (smaller["network"], smaller["soft"]) == ("mlp:4x1", Run.read(fit).config["soft"])
    test = splits_of(Run.read(fit).config).test
    file = Session(path / "jobs" / "in-use" / RECOVERED / "seed-0" / INT8)
    wrong = predict_logits(file, test).argmax(-1) != test.labels(test.ids)
    assert int(wrong.sum()) == rows[RECOVERED, "int8"]["values"][0]


def _row(
    name: str, form: str, errors: list[float], latency_ms: float, num_bytes: int, on_validation: float
) -> Any:
    return row(name, errors, form=form, latency_ms=latency_ms, bytes=num_bytes, validation_errors=on_validation)


def test_the_best_on_validation_of_those_that_are_as_fast_is_named() -> None:
    own, slow = (
        _row(DISTILLED, "float", [30.0], 1.0, 900, 14.0),
        _row("teacher", "float", [10.0], 5.0, 5000, 4.0),
    )
    worse = _row(DISTILLED, "int8", [29.0], 0.5, 300, 15.0)  # which only test would choose
    assert "prefers no file that is as fast" in _verdict([slow, own, worse])
    said = _verdict([slow, _row("teacher", "int8", [12.0], 1.04, 1500, 5.0), own])
    assert "validation chooses teacher in int8: 12.0 errors, at 1 ms" in said


def test_a_smaller_one_in_floating_point_stands_beside_a_larger_one_in_eight_bits() -> None:
    large = _row(DISTILLED, "int8", [20.0, 22.0, 21.0], 0.5, 300, 10.0)
    taught = _row(RECOVERED, "int8", [20.0, 21.0, 21.0], 0.5, 300, 9.0)
    small = _row("small", "float", [30.0, 31.0, 32.0], 0.54, 900, 15.0)
    smallest = _row("smallest", "float", [40.0, 41.0, 42.0], 0.2, 310, 25.0)
    rows = [large, taught, small, smallest]
    at_latency, at_size = (_at_one(rows, ["small", "smallest"], key) for key in ("latency_ms", "bytes"))
    assert at_latency["difference"]["mean"] == pytest.approx(31 - 62 / 3)
    assert at_latency["sentence"].startswith("At one latency: small in floating point (0.54 ms, 31.0 errors)")
    assert "the larger one in eight bits is better (+10.3 [" in at_latency["sentence"]
    assert "smallest in floating point (310 bytes, 41.0 errors)" in at_size["sentence"]
    better = _row("small", "float", [10.0, 12.0, 10.0], 0.5, 900, 5.0)
    assert (
        "the smaller one in floating point is better"
        in _at_one([large, better], ["small"], "latency_ms")["sentence"]
    )
    assert "no narrower student" in _at_one([large, better], ["small"], "bytes")["sentence"]
    one_seed = [_row(name, form, [5.0], 0.5, 300, 5.0) for name, form in ((DISTILLED, "int8"), ("small", "float"))]
    assert "undecided (one seed, no interval)" in _at_one(one_seed, ["small"], "bytes")["sentence"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"narrower": "mlp:4x1"}, "add --int8"),
        ({"narrower": "mlp:4x1,mlp:4x1", "int8": True}, "mlp:4x1 is named twice"),
        ({"narrower": "mlp:8x1", "int8": True}, "mlp:8x1 is named twice, or is the student itself"),
    ],
)
def test_narrower_students_that_make_no_sense_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        read_config(settings)


def test_it_is_another_run() -> None:
    assert DistillConfig(int8=False) == DistillConfig()
    with pytest.raises(Exception, match="int8"):
        DistillConfig(int8="yes")
