"""`instar distill` with several losses beside each other, and beside labels alone at the cost of all."""

from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from command_line import Command
from instar.errors import UsageError
from instar.recipes.distill.checks import check
from instar.recipes.distill.comparison import compared_losses
from instar.recipes.distill.plan import ALONE, DISTILLED, SAME_COST, Plan
from instar.recipes.distill.recipe import place
from instar.recipes.distill.same_cost import lengths
from instar.recipes.distill.settings import OWN_WEIGHTS, DistillConfig, read_config
from instar.recipes.reading_settings import checked
from instar.recipes.settings import LOSSES
from instar.recipes.study import Execution
from instar.runs import FINAL, Run
from small_studies import distilled

NETWORKS = {
    "teacher": {"network": "convnet:5x8", "epochs": 2, "learning_rate": 0.05},
    "student": {"network": "convnet:4x4", "epochs": 2, "learning_rate": 0.1},
}
SMALL = {**NETWORKS, "temperature": 4.0, "seeds": 2, "data": {"fraction": 0.3}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("losses") / "run"
    distilled(path, **SMALL, loss=["dkd", "kd", "dist", "standardised", "hints", "attention"])
    return path


def test_each_loss_has_a_row_and_is_compared_with_the_paper_s(run: Path) -> None:
    result = Run.read(run).result()
    others = ["student-dkd", "student-dist", "student-standardised", "student-hints", "student-attention"]
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["teacher", ALONE, DISTILLED, *others]
    assert [row.get("loss") for row in rows.values()] == [None, None, "kd", "dkd", *LOSSES[2:]]
    pairs = [(row["name"], row["minus"]) for row in result["differences"]]
    assert pairs == [(DISTILLED, ALONE), *((name, DISTILLED) for name in others)]
    assert len({row["test_nll"] for row in result["rows"]}) == len(rows), "two losses gave the same student"
    compared = {row["loss"]: row for row in result["details"]["losses"]["rows"]}
    for row in result["differences"][1:]:
        values = [a - b for a, b in zip(rows[row["name"]]["values"], rows[DISTILLED]["values"], strict=True)]
        assert row["mean"] == compared[rows[row["name"]]["loss"]]["mean"] == mean(values)
    page = (run / "report.html").read_text()
    for words in ("Other losses against kd", result["details"]["losses"]["sentence"][:40], "student-attention"):
        assert words in page


def test_the_paper_s_loss_among_others_is_what_it_is_alone(run: Path, tmp_path: Path) -> None:
    alone = distilled(tmp_path / "run", **SMALL)
    among = Run.read(run).result()
    for row, same in zip(alone["rows"], among["rows"], strict=False):
        timed = {"latency_ms", "loss"}
        assert {key: row[key] for key in row if key not in timed} == {
            key: same[key] for key in same if key not in timed
        }
    assert alone["differences"] == among["differences"][:1]
    assert "losses" not in alone["details"]


def test_a_student_of_hints_is_saved_without_its_projector(run: Path) -> None:
    result = Run.read(run).result()
    assert result["details"]["hint_layers"] == [
        {"loss": "hints", "teacher": "convnet:5x8", "teacher_layer": "fc4", "student_layer": "fc3"},
        {"loss": "attention", "teacher": "convnet:5x8", "teacher_layer": "conv1", "student_layer": "conv1"},
    ]
    plain = load_file(run / "jobs" / DISTILLED / "seed-0" / FINAL)
    for loss, weight in (("hints", 1.0), ("attention", 10.0)):
        fit = Run.read(run / "jobs" / f"student-{loss}" / "seed-0")
        assert {key: fit.config["soft"].get(key) for key in ("loss", "own_weight")} == {
            "loss": loss,
            "own_weight": weight,
        }
        saved = load_file(fit.path / FINAL)
        assert saved.keys() == plain.keys()
        assert not torch.equal(saved["conv1.0.weight"], plain["conv1.0.weight"])


def test_every_student_has_as_many_fits_to_choose_from() -> None:
    config = read_config({"loss": list(LOSSES), "temperature": [2, 4, 8]})
    variants = {name: config.variants(name) for name in LOSSES}
    assert [len(several) for several in variants.values()] == [3, 5, 3, 3, 5, 5]
    assert {one.own_weight for one in variants["hints"]} == set(OWN_WEIGHTS["hints"])
    for several in variants.values():
        assert several[0].loss == config.middle_loss
        assert len(set(several)) == len(several)


@pytest.mark.slow
def test_a_search_gives_each_loss_the_same_number_of_epochs(tmp_path: Path) -> None:
    path = tmp_path / "run"
    student = {"network": "mlp:8x1", "epochs": 12}
    settings = {"teacher": {"network": "mlp:16x1", "epochs": 2, "learning_rate": 0.05}, "student": student}
    settings |= {"temperature": [2.0, 4.0], "seeds": 1, "tuning_seeds": 1, "data": {"fraction": 0.3}}
    result = distilled(path, **settings, loss=["kd", "dkd", "hints"])
    spent = {}
    for name in (ALONE, DISTILLED, "student-dkd", "student-hints"):
        fits = [Run.read(fit.parent).result() for fit in (path / "jobs/tuning" / name).rglob("result.json")]
        spent[name] = (len(fits), sum(len(fit["rows"]) for fit in fits))
    assert spent[DISTILLED] == spent["student-dkd"] == spent["student-hints"]
    assert spent[ALONE] >= spent[DISTILLED], "its tuning seeds are rounded up"
    dkd = [row for row in result["tuning"] if row["name"] == "student-dkd" and row["round"] == 3]
    assert {row["own_weight"] for row in dkd} == {0.5, 2.0, 8.0}
    assert {row["temperature"] for row in dkd} == {2.0, 4.0}
    assert sum(row.get("chosen", False) for row in dkd) == 1


def test_the_sentence_takes_all_comparisons_together() -> None:
    values = {"kd": [40.0, 44, 42, 41, 43], "dkd": [30.0, 34, 33, 31, 33], "dist": [41.0, 43, 43, 40, 43]}
    found = compared_losses({**values, "hints": [41.0, 47, 43, 44, 44]})
    differences = [41.0 - 40, 47 - 44, 43 - 42, 44 - 41, 44 - 43]
    for level, keys in ((0.95, ("low", "high")), (1 - 0.05 / 3, ("low_of_all", "high_of_all"))):
        half = stats.t.ppf((1 + level) / 2, 4) * stdev(differences) / 5**0.5
        row = found["rows"][2]
        assert [row[key] for key in keys] == pytest.approx([1.8 - half, 1.8 + half])
    assert found["sentence"].startswith("dkd makes 9.8 fewer errors than kd (95 % interval for all 3 comparisons")
    assert found["sentence"].endswith("dist and hints do not differ within noise.")
    assert found["rows"][2]["low"] > 0, "alone its interval excludes zero"
    assert compared_losses({"kd": [3.0, 4], "dist": [4.0, 3]})["sentence"] == (
        "dist does not differ from kd within noise (95 % intervals)."
    )
    assert "One seed does not show" in compared_losses({"kd": [3.0], "dist": [4.0]})["sentence"]


@pytest.fixture(scope="module")
def same_cost_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("same-cost") / "run"
    networks = {
        "teacher": {"network": "mlp:16x1", "epochs": 4, "learning_rate": 0.05},
        "student": {"network": "mlp:8x1", "epochs": 3, "learning_rate": 0.1, "schedule": "step:2"},
    }
    distilled(path, **networks, temperature=4.0, seeds=2, tuning_seeds=1, same_cost=True)
    return path


def test_a_student_alone_may_train_for_what_the_teacher_cost_too(same_cost_run: Path) -> None:
    result = Run.read(same_cost_run).result()
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["teacher", ALONE, SAME_COST, DISTILLED]
    num_train, (theirs, ours) = result["details"]["transfer"]["num_examples"], (64 * 16 + 160, 64 * 8 + 80)
    cost = theirs * num_train * (3 * 4 + 1) + 3 * ours * num_train * 3
    about = result["details"]["same_cost"]
    assert about["teacher_multiplications"] + about["student_multiplications"] == cost
    assert about["allowed_epochs"] == cost // (3 * ours * num_train) == 11
    assert about["tried_epochs"] == [3, 11]
    tried = {row["epochs"]: row for row in result["tuning"] if row["name"] == SAME_COST}
    best = min(tried, key=lambda epochs: (tried[epochs]["validation_errors"], tried[epochs]["validation_nll"]))
    assert about["epochs"] == rows[SAME_COST]["epochs"] == best
    fit = Run.read(same_cost_run / "jobs" / SAME_COST / "seed-1").config
    assert fit["soft"] is None if "soft" in fit else True
    assert fit["fit"]["epochs"] == best
    assert fit["fit"]["schedule"] == f"step:{2 * best / 3:g}"
    (difference,) = [row for row in result["differences"] if row["minus"] == SAME_COST]
    values = [a - b for a, b in zip(rows[DISTILLED]["values"], rows[SAME_COST]["values"], strict=True)]
    assert (difference["name"], difference["mean"]) == (DISTILLED, mean(values))
    page = (same_cost_run / "report.html").read_text()
    assert "Whether to distil at all" in page
    assert f"(up to 11 epochs; of 3 and 11 validation chose {best})" in page


def test_longer_lengths_end_at_the_allowance() -> None:
    assert lengths(10, 2000) == [10, 40, 160, 640, 2000]
    plan = Plan(DistillConfig(same_cost=True), Path("nowhere"))
    assert plan.allowance.epochs > 1000 * plan.config.student.epochs


def test_the_paper_s_loss_alone_is_the_run_that_it_was() -> None:
    assert place_of() == place_of(loss="kd") == place_of(loss=["kd"]) == place_of(same_cost=False)
    assert read_config({"loss": "kd"}) == read_config({})


def place_of(**settings: object) -> object:
    from instar.recipes.distill.recipe import STUDY
    from instar.recipes.study import run_path

    return run_path(STUDY, read_config(settings))


WRONG = [
    (("--loss", "kd,dkdd"), "unknown loss 'dkdd'; did you mean dkd or kd?"),
    (("--loss", "kd,dist,dist"), "loss names dist twice"),
    (("--loss", "kd,attention"), "loss attention, mlp:1200x2 into mlp:8x1: expected layers"),
    (("--loss", "hints", "--teacher", "mlp:8x1,mlp:4x1,resnet:8"), "loss hints, resnet:8 into mlp:8x1"),
    (("--loss", "kd,hints", "--hint-layers", "fc3"), "should be TEACHER_LAYER:STUDENT_LAYER"),
    (("--loss", "kd,hints", "--hint-layers", "fc9:fc1"), "unknown layer of the teacher 'fc9'"),
    (("--loss", "kd,dkd", "--hint-layers", "fc1:fc1"), "no loss that compares layers"),
    (("--loss", "kd,dkd", "--set", "own_weights.hints=1"), "own_weights.hints is given, but loss is kd,dkd"),
    (("--loss", "kd,dkd", "--set", "own_weights.dkd=-1"), "own_weights.dkd should be greater than 0"),
    (("--loss", "kd,dkd", "--labelled", "0.5"), "of the transfer set have no label"),
    (("--loss", "kd,dist", "--temperature", "4,inf"), "a limit that loss dist does not have"),
    (("--loss", "kd,dist", "--processes", "2"), "one process for each fit"),
    (("--loss", "kd,standardised", "--classes", "3,5"), "needs three classes or more"),
    (("--same-cost", "--teacher", "python:mine:network", "--teacher-pretrained"), "what it cost is not known"),
    (("--loss", "hints", "--teacher", "python:mine:network", "--teacher-pretrained"), "loss hints, python:mine"),
]


@pytest.mark.filterwarnings("ignore:.*is it trained:instar.errors.DataWarning")
@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(one[0]) for one in WRONG])
def test_what_cannot_be_compared_is_one_line(
    typed: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Flat(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last = torch.nn.Linear(64, 10)\n"
        "    def forward(self, inputs):\n"
        "        return self.last(inputs.flatten(1))\n"
        "def network():\n"
        "    torch.manual_seed(0)\n"
        "    return Flat()\n"
    )
    done = typed("distill", *arguments, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    lines = [line for line in done.stderr.splitlines() if "warning" not in line.lower()]
    assert len(lines) == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_stored_targets_have_no_layers_and_no_cost() -> None:
    for settings, words in (({"loss": ["hints"]}, "stored answers alone"), ({"same_cost": True}, "not known")):
        with pytest.raises(UsageError, match=words):
            checked(DistillConfig, {"targets": "store", **settings})


def test_hints_of_an_ensemble_come_from_the_layers_of_each_member(tmp_path: Path) -> None:
    teacher = {"network": "mlp:16x1,mlp:12x2", "epochs": 1, "learning_rate": 0.05}
    student = {"network": "mlp:8x1", "epochs": 1, "learning_rate": 0.1}
    result = distilled(
        tmp_path / "run", teacher=teacher, student=student, temperature=4.0, seeds=1, loss=["hints"]
    )
    assert [row["name"] for row in result["rows"]] == ["teacher", ALONE, DISTILLED]
    assert [row["teacher_layer"] for row in result["details"]["hint_layers"]] == ["fc1", "fc2"]
    assert result["rows"][2]["loss"] == "hints"


def test_layers_may_be_named(tmp_path: Path) -> None:
    config = read_config({**SMALL, "loss": ["kd", "hints"], "hint_layers": "conv1:conv1,fc3:fc2"})
    plan = Plan(config, tmp_path, Execution(quiet=True))
    check(plan)
    assert plan.teaching_with("hints").hint_layers == ["conv1:conv1", "fc3:fc2"]
    assert place(config).name == "digits-convnet-5x8-convnet-4x4"
