"""The transfer study: what it plans, what it reports, and that its findings follow from its networks."""

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from command_line import Command
from instar.evaluation import predict_logits
from instar.recipes.loading import load_run_network
from instar.recipes.reproductions import repeat_command
from instar.recipes.splits import load_splits
from instar.recipes.transfer import comparison
from instar.recipes.transfer.reproduction import ReproductionPlan, config_for
from instar.recipes.transfer.results import study_of, transitions
from instar.recipes.transfer.settings import CONVNET, DISSIMILAR, RESNET, SIMILAR
from instar.recipes.transfer.tasks import splits_of
from instar.reports.formats import MINUS, MISSING
from instar.runs import Run
from instar.transfer import boost_rows, difference_rows, treatment_rows

ROOT = Path(__file__).parents[2]
TINY = config_for("tiny", "digits")
whole_study = pytest.mark.slow
KINDS = {"base", "base-long", "BnB", "BnB+", "AnB", "AnB+", "RnB"}


@pytest.fixture(scope="module")
def result(finished_study: Path) -> dict[str, Any]:
    return Run.read(finished_study).result()


@whole_study
def test_every_row_says_network_split_treatment_cut_and_how_sure(result: dict[str, Any]) -> None:
    found = {(row["network"], row["halves"]): set() for row in result["rows"]}
    over_base = {(row["part"], row["name"]) for row in result["differences"] if row["minus"] == "base"}
    for row in result["rows"]:
        keys = {
            "name",
            "part",
            "network",
            "halves",
            "treatment",
            "cut",
            "mean",
            "sd",
            "n",
            "low",
            "high",
            "values",
        }
        assert keys == set(row) - {"failed_to_learn"}  # which so small a run may have
        assert row["n"] == len(row["values"]) == 2
        assert ((row["part"], row["name"]) in over_base) == (row["treatment"] != "base")
        found[row["network"], row["halves"]].add(row["treatment"])
    assert found == {
        ("convnet:5x4", "random 5/5"): KINDS,
        ("convnet:5x4", "lists 4/4"): {"base", "AnB"},
        ("convnet:5x4", "random 4/4"): {"base", "AnB"},
        ("resnet:8x4", "random 5/5"): KINDS,
    }


@whole_study
def test_accuracies_are_those_of_the_saved_weights(finished_study: Path, result: dict[str, Any]) -> None:
    for name in (DISSIMILAR, RESNET):
        one = result["details"]["parts"][name]["networks"][-1]
        test = load_splits(splits_of(TINY.parts[name])[one["split"]].tasks[one["target"]]).test
        logits = predict_logits(load_run_network(finished_study / "jobs" / one["job"]), test)
        right = (logits.argmax(-1) == test.labels(test.ids)).double().mean()
        assert one["accuracy"] == pytest.approx(100 * float(right))


def over_base(part: Mapping[str, Any], kind: str, n: int) -> list[float]:
    """By split, mean over the targets: the slow way."""
    accuracy = {(one["split"], one["target"], one["kind"], one["n"]): one["accuracy"] for one in part["networks"]}
    targets = sorted({one["target"] for one in part["networks"]})
    return [
        fmean(accuracy[split, target, kind, n] - accuracy[split, target, "base", 0] for target in targets)
        for split in part["seeds"]
    ]


@whole_study
def test_findings_follow_from_the_networks(result: dict[str, Any]) -> None:
    parts, findings = result["details"]["parts"], result["details"]["findings"]
    convnet, resnet = parts[CONVNET], parts[RESNET]
    assert len(findings) == 6 + 5
    numbers = {(one["finding"], one["network"]): one["number"] for one in findings}
    assert numbers[3, "convnet:5x4"] == pytest.approx(fmean(over_base(convnet, "AnB", 4)))
    assert numbers[1, "resnet:8x4"] == pytest.approx(fmean(over_base(resnet, "BnB", 2)))
    boost = fmean(fmean(over_base(convnet, "AnB+", n)) for n in (1, 4))
    assert numbers[4, "convnet:5x4"] == pytest.approx(boost)
    drops = [fmean(fmean(over_base(parts[name], "AnB", n)) for n in (1, 4)) for name in (DISSIMILAR, SIMILAR)]
    assert numbers[5, "convnet:5x4"] == pytest.approx(drops[0] - drops[1])
    assert (5, "resnet:8x4") not in numbers
    assert all(one["holds"] in (True, False, "undecided") for one in findings)


@whole_study
def test_curve_counts_images_and_reads_its_networks(finished_study: Path, result: dict[str, Any]) -> None:
    few, fewer = result["details"]["curve"]
    assert few["images_per_class"] == pytest.approx(1797 * 0.8 * 0.9 * 0.2 / 10, rel=0.05)
    assert fewer["images_per_class"] < few["images_per_class"] / 3
    test = load_splits(TINY.data).test
    labels = test.labels(test.ids)
    paths = [finished_study / "jobs" / "curve" / "20-percent" / str(seed) for seed in (0, 1)]
    right = [predict_logits(load_run_network(path), test).argmax(-1) == labels for path in paths]
    assert few["mean"] == pytest.approx(100 * float(torch.stack(right).double().mean()))


@whole_study
def test_halves_of_each_part_are_in_the_manifest_and_share_no_class(finished_study: Path) -> None:
    manifest = json.loads((finished_study / "manifest.json").read_text())
    assert list(manifest) == [CONVNET, DISSIMILAR, SIMILAR, RESNET]
    for part in manifest.values():
        assert list(part) == ["split-0", "split-1"]
        for split in part.values():
            assert not set(split["A"]["classes"]) & set(split["B"]["classes"])
    assert manifest[CONVNET] == manifest[RESNET]
    sizes = {len(split[half]["classes"]) for split in manifest[SIMILAR].values() for half in "AB"}
    assert sizes == {len(manifest[DISSIMILAR]["split-0"]["A"]["classes"])}


@whole_study
def test_bases_of_a_split_begin_from_weights_of_their_own(finished_study: Path) -> None:
    jobs = ReproductionPlan(TINY, finished_study).jobs()
    seeds = {job.name: job.config["seed"] for job in jobs if "/base" in job.name}
    assert seeds["convnet/split-0/baseA"] != seeds["convnet/split-0/baseB"]
    assert seeds["convnet/split-0/baseA"] == seeds["convnet/split-0/baseA-long"]
    firsts = [seed for name, seed in seeds.items() if name.startswith("convnet") and not name.endswith("long")]
    assert len(set(firsts)) == len(firsts)


@whole_study
def test_the_same_command_again_reads_what_is_there(
    typed: Command, finished_study: Path, result: dict[str, Any]
) -> None:
    done = typed(
        "reproduce", "transfer", "--scale", "tiny", "--data", "digits", "--run-dir", str(finished_study), "--json"
    )
    assert json.loads(done.stdout) == result


@whole_study
def test_published_file_makes_its_part_of_the_results_page(finished_study: Path, result: dict[str, Any]) -> None:
    published = json.loads((finished_study.parent / "results" / "transfer-digits-tiny.json").read_text())
    assert published["rows"] == result["rows"]
    assert published["details"] == result["details"]
    page = runpy.run_path(str(ROOT / "docs" / "make_results.py"))["study"](published)
    assert "| 5. AnB - base of dissimilar halves, minus that of random halves" in page
    details = result["details"]
    claims = [claim for one in details["findings"] if one["network"] == "resnet:8x4" for claim in one["claims"]]
    assert len([line for line in page.splitlines() if "| resnet:8x4 |" in line]) >= len(claims)
    for row in result["rows"]:
        assert (
            f"| {row['part']} | {row['name']} | {row['network']} | {row['mean']:.2f} ± {row['sd']:.2f} |" in page
        )
    for row in result["differences"]:
        mean = f"{row['mean']:+.2f}".replace("-", MINUS)
        about = f"| {row['part']} | {row['name']} - {row['minus']} | {row.get('effect', MISSING)} | {mean} |"
        assert about in page
    assert "| AnB+ - base | 1-4 |" in page


@pytest.mark.parametrize("scale", ["small", "full"])
def test_published_rows_follow_from_the_published_accuracies(scale: str) -> None:
    published = json.loads((ROOT / "results" / f"transfer-cifar100-{scale}.json").read_text())
    for name, part in published["details"]["parts"].items():
        study = study_of(part["networks"])
        for key, rows in (("rows", treatment_rows(study)), ("differences", difference_rows(study))):
            about = {
                "part": name,
                **({"network": part["network"], "halves": part["halves"]} if key == "rows" else {}),
            }
            assert [row for row in published[key] if row["part"] == name] == [{**about, **row} for row in rows]
        for row, stored in zip(boost_rows(study), part["boosts"], strict=True):
            assert {**row, "pooled": stored["pooled"]} == stored
            assert row["pooled"] == pytest.approx(stored["pooled"], abs=1e-12)
        assert transitions(study) == part["transition"]


def test_full_scale_is_what_the_issue_asks_for() -> None:
    parts = config_for("full").parts
    assert parts[CONVNET].network.network == "convnet:8x16"
    assert parts[CONVNET].cuts is None  # every one
    assert set(parts[CONVNET].treatments) | {"base", "base-long"} == KINDS
    assert parts[CONVNET].longer
    assert len(parts[RESNET].cuts or []) == 3
    for part in parts.values():
        assert part.splits >= 5
    for name in (CONVNET, DISSIMILAR, SIMILAR):
        assert parts[name].targets == ["A", "B"]
    assert parts[DISSIMILAR].halves.how == "semantic"
    assert parts[SIMILAR].halves.classes_per_half == 30


def test_a_page_says_how_to_repeat_a_run_at_its_scale_or_with_its_settings() -> None:
    at_scale = repeat_command("transfer", TINY, Path("runs/mine"))
    assert at_scale == "instar reproduce transfer --scale tiny --data digits --run-dir runs/again"
    changed = TINY.model_copy(update={"splits": 3})
    for config in (changed, changed.model_copy(update={"scale": "custom"})):
        command = repeat_command("transfer", config, Path("runs/mine"))
        assert command == "instar reproduce transfer --config runs/mine/config.toml --run-dir runs/again"
    assert "--data" not in repeat_command("transfer-or-distil", comparison.config_for("full"), Path())


def test_wrong_scale_is_one_line(typed: Command) -> None:
    done = typed("reproduce", "transfer", "--scale", "smal")
    assert done.returncode == 2
    assert "did you mean small?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
