"""`instar distill` on transfer sets: without classes, with few labels, from a folder; and its sweeps."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from command_line import Command
from instar import intervals, metrics
from instar.distillation import fit_class_bias
from instar.distillation.sensitivity import levels_of, sensitivity
from instar.evaluation import predict_logits
from instar.recipes.distill import page as charts
from instar.recipes.distill.scoring import sensitivities
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import merge
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.runs import Run
from small_studies import distilled

SMALL = {
    "teacher": {"network": "mlp:32x1", "epochs": 8},
    "student": {"network": "mlp:8x1", "epochs": 8, "learning_rate": 0.1},
}


@pytest.fixture(scope="module")
def corrected_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without two classes, with candidates of temperature and weight, corrected."""
    path = tmp_path_factory.mktemp("transfer") / "run"
    candidates = {"temperature": [1.0, 4.0, math.inf], "hard_weight": [0.0, 0.5]}
    lacking = {"transfer": {"drop_classes": ["3", "5"], "labelled": 0.5}, "fit_bias": "missing", "seeds": 2}
    distilled(path, **SMALL, **candidates, **lacking)
    return path


def test_students_learn_on_the_transfer_set_and_the_teacher_on_all(corrected_run: Path) -> None:
    jobs = corrected_run / "jobs"
    assert "transfer" not in Run.read(jobs / "teacher").config
    alone = Run.read(jobs / "student-alone" / "seed-0").config["transfer"]
    distilled = Run.read(jobs / "student-distilled" / "seed-0").config["transfer"]
    assert alone == {"drop_classes": ["3", "5"]}
    assert distilled == {"drop_classes": ["3", "5"], "labelled": 0.5}
    test = load_splits(DataSettings()).test
    wrong = metrics.errors_by_class(
        predict_logits(load_run_network(jobs / "student-alone" / "seed-0"), test), test.labels(test.ids), 10
    )
    for number in (3, 5):  # never seen, never said
        assert wrong[number] == (test.labels(test.ids) == number).sum()


def test_the_correction_is_the_best_shift_on_validation(corrected_run: Path) -> None:
    splits = load_splits(DataSettings())
    validation, test = splits.validation, splits.test
    for seed in range(2):
        before, after = (
            load_run_network(corrected_run / "jobs" / kind / f"seed-{seed}")
            for kind in ("student-distilled", "student-distilled-corrected")
        )
        labels = validation.labels(validation.ids)
        bias = fit_class_bias(predict_logits(before, validation), labels, classes=[3, 5])
        assert torch.allclose(predict_logits(after, test), predict_logits(before, test) + bias, atol=1e-4)
        said = Run.read(corrected_run / "jobs" / "student-distilled-corrected" / f"seed-{seed}").result()[
            "metrics"
        ]
        assert said["validation_errors"] == int(metrics.errors(predict_logits(after, validation), labels))
        assert said["validation_errors"] <= said["validation_errors_before"]
    result = Run.read(corrected_run).result()
    assert [row["name"] for row in result["rows"]][2:] == ["student-distilled", "student-distilled-corrected"]
    assert result["details"]["transfer"]["missing_classes"] == ["3", "5"]
    bias = result["details"]["class_bias"]
    assert bias["3"] == bias["5"] != 0
    assert [one["name"] for one in result["differences"]] == ["student-distilled", "student-distilled-corrected"]
    assert result["rows"][3]["mean"] != result["rows"][2]["mean"]


def test_the_corrected_student_is_a_network_that_can_be_named(corrected_run: Path, tmp_path: Path) -> None:
    result = distilled(
        tmp_path / "run",
        teacher={"network": f"{corrected_run}:student-distilled-corrected/seed-1"},
        student={"network": "mlp:4x1", "epochs": 1, "learning_rate": 0.1},
        temperature=4.0,
        seeds=1,
    )
    test = load_splits(DataSettings()).test
    network = load_run_network(corrected_run / "jobs" / "student-distilled-corrected" / "seed-1")
    errors = int(metrics.errors(predict_logits(network, test), test.labels(test.ids)))
    assert result["rows"][0]["mean"] == errors


def test_fidelity_is_measured_on_the_transfer_set_and_on_test(corrected_run: Path) -> None:
    train = load_splits(DataSettings()).train
    labels = train.labels(train.ids)
    rows = ~torch.isin(labels, torch.tensor([3, 5]))
    teacher = predict_logits(load_run_network(corrected_run / "jobs" / "teacher"), train)[rows]
    for row in Run.read(corrected_run).result()["rows"][1:]:
        jobs = [corrected_run / "jobs" / row["name"] / f"seed-{seed}" for seed in range(2)]
        students = [predict_logits(load_run_network(job), train)[rows] for job in jobs]
        agreement = sum(metrics.agreement(one, teacher) for one in students) / 2
        kl = sum(metrics.kl_from_teacher(one, teacher) for one in students) / 2
        assert row["train_teacher_agreement"] == pytest.approx(agreement)
        assert row["train_teacher_kl"] == pytest.approx(kl, rel=1e-3)
        assert row["teacher_kl"] > 0


def test_page_says_what_was_learned_from_and_how_settings_matter(corrected_run: Path) -> None:
    page = (corrected_run / "report.html").read_text()
    result = Run.read(corrected_run).result()
    sentences = [one["sentence"] for one in result["details"]["sensitivity"]]
    assert [re.sub(r"^(Whether t|T)he | matters.*| does.*", "", one) for one in sentences] == [
        "temperature",
        "weight of the labels",
    ]
    for words in (*sentences, "without the classes 3, 5", "before labels were taken away", "At infinity"):
        assert words.replace("'", "&#x27;") in page
    tried = [row for row in result["tuning"] if row["name"] == "student-distilled"]
    assert len(tried) == 3 * 2
    assert all(row["n"] == 2 and row["sd"] is not None for row in tried)


def _tuned(errors: dict[float | str, tuple[float, ...]]) -> list[dict]:
    """Rows of `tuning` of a sweep of the temperature."""
    rows = []
    for temperature, values in errors.items():
        over = intervals.over_seeds(values)
        about = {"name": "student-distilled", "learning_rate": 0.1, "temperature": temperature}
        rows.append({**about, "validation_errors": over.mean, "sd": over.sd, "n": over.n})
    return rows


def test_the_interval_of_a_sweep_pools_what_seeds_vary() -> None:
    rows = _tuned({1.0: (10, 12, 14), 4.0: (20, 26, 32)})
    expected = stats.t.ppf(0.975, 2 * 2) * math.sqrt((2**2 + 6**2) / 2 / 3)
    assert levels_of(rows, "temperature").half_width == pytest.approx(expected)
    assert levels_of([], "temperature").half_width is None


def test_a_candidate_that_collapsed_hides_no_difference_of_others() -> None:
    rows = _tuned({1.0: (10, 11, 12), 4.0: (20, 21, 22)})
    collapsed = [row | {"learning_rate": 3.0, "validation_errors": 90.0, "sd": 60.0} for row in rows]
    failed = [{"name": "student-distilled", "temperature": 8.0, "failed": "it diverged"}]
    sentence = sensitivity([*rows, *collapsed, *failed], "temperature")
    assert sentence == sensitivity(rows, "temperature")
    assert sentence.startswith("The temperature matters")


def test_a_candidate_that_failed_to_learn_hides_no_difference_of_others() -> None:
    rows = _tuned({1.0: (10, 11, 12), 4.0: (20, 21, 22)})
    failed = [{**rows[0], "learning_rate": 3.0, "validation_errors": 5.0, "sd": 60.0, "failed_to_learn": 1}]
    assert sensitivity([*rows, *failed], "temperature") == sensitivity(rows, "temperature")


def test_the_curve_of_a_setting_says_of_itself_alone_whether_it_matters() -> None:
    alike = {"name": "student-distilled", "validation_errors": 1.5, "sd": 0.1, "n": 2}
    tuning = [{**alike, "hard_weight": hard, "label_weight": label} for hard in (0.0, 0.5) for label in (0.1, 0.2)]
    sections = charts.sensitivities(sensitivities(tuning, ["student-alone", "student-distilled"]))
    assert [section.caption.count("does not matter") for section in sections] == [1, 1]


def test_what_matters_and_what_is_noise_is_said() -> None:
    errors = {1.0: (30, 31, 32), 2.0: (11, 12, 13), 4.0: (10, 11, 12), "inf": (40, 41, 42)}
    assert sensitivity(_tuned(errors), "temperature") == (
        "The temperature matters: best at 4 (11.0 validation errors ± 1.3); "
        "2 is as good within noise, 1 and inf are worse."
    )
    noise = sensitivity(_tuned({1.0: (17, 20, 23), 8.0: (18, 20, 25)}), "temperature")
    assert noise.startswith("The temperature does not matter here within noise: 20.0 to 21.0 validation errors")
    wide = sensitivity(_tuned({1.0: (10, 20, 30), 8.0: (12, 20, 31)}), "temperature")
    assert wide == (
        "Whether the temperature matters cannot be told: 20.0 to 21.0 validation errors from 1 to 8, each ± 15.7 "
        "with 3 tuning seeds. Use more tuning seeds, or more validation examples."
    )
    one_seed = sensitivity(_tuned({1.0: (10,), 2.0: (12,)}), "temperature")
    assert "best at 1" in one_seed
    assert "--tuning-seeds" in one_seed
    assert sensitivity(_tuned({1.0: (10, 12)}), "temperature") == ""


def test_the_terminal_shows_what_a_sweep_found(typed: Command, corrected_run: Path) -> None:
    command = ["distill", "--config", corrected_run / "config.toml", "--run-dir", corrected_run]
    plain = typed(*command, COLUMNS="80")
    assert ", on validation" not in plain.stdout
    swept = typed(*command, "--sweep", "temperature=1,4,inf", "--sweep", "hard_weight=0,0.5", COLUMNS="80")
    assert swept.returncode == 0, swept.stderr
    assert "Temperature, on validation" in swept.stdout
    assert "Weight of the labels, on validation" in swept.stdout
    for level in Run.read(corrected_run).result()["details"]["sensitivity"][0]["levels"]:
        errors = f"{level['errors']:.1f} [{level['low']:.1f}, {level['high']:.1f}]"
        assert re.search(rf" {float(level['value']):g} +{re.escape(errors)}", swept.stdout)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' training pictures as files in colour, of another size, at any depth."""
    folder = tmp_path_factory.mktemp("pictures")
    train = load_splits(DataSettings()).train
    for number, values in enumerate(train.gather(train.ids[:400], 0)):
        place = folder / f"{number % 3}" / "deep" if number % 2 else folder
        place.mkdir(parents=True, exist_ok=True)
        grey = (values[0].numpy() * 255).round().astype(np.uint8)
        Image.fromarray(grey).resize((24, 24), Image.Resampling.NEAREST).convert("RGB").save(
            place / f"{number}.png"
        )
    return folder


@pytest.mark.slow
def test_unlabelled_pictures_of_a_folder_teach(pictures: Path, tmp_path: Path) -> None:
    student = {"network": "mlp:32x1", "epochs": 15}
    settings = merge(SMALL, {"student": student, "transfer": {"folder": str(pictures)}})
    result = distilled(tmp_path / "run", **settings, temperature=4.0, seeds=1)
    assert result["details"]["transfer"]["num_examples"] == 400
    assert result["details"]["transfer"]["num_labelled"] == 0
    assert result["rows"][2]["test_accuracy"] > 0.7
    alone, taught = (
        Run.read(tmp_path / "run" / "jobs" / kind / "seed-0") for kind in ("student-alone", "student-distilled")
    )
    assert "transfer" not in alone.config
    assert taught.config["transfer"] == {"folder": str(pictures)}
    assert len(taught.config["transfer_identity"]["fingerprint"]) == 64
    assert "unlabelled pictures" in (tmp_path / "run" / "report.html").read_text()


WRONG_TRANSFER = {
    "--drop-classes 3,threee": "unknown class 'threee'",
    "--drop-classes 0,1,2,3,4,5,6,7,8": "the single class '9' is left",
    "--keep-classes 7": "the single class '7' is left",
    "--drop-classes 0,1,2,3,4,5,6,7,8,9": "no example is left",
    "--drop-classes 3,": "should be a name",
    "--fraction 0": "transfer.fraction should be greater than 0",
    "--labelled 1.5": "transfer.labelled should be less than or equal to 1",
    "--labelled 0 --soft-weight 0": "no labels: nothing to learn from",
    "--labelled 0 --hard-weight 0,0.1": "hard_weight has several values, but the transfer set has no labels",
    "--unlabelled . --sweep label_weight=0,0.1": "label_weight has several values",
    "--fit-bias missing": "lacks no class",
    "--fit-bias some --drop-classes 3": "fit_bias should be 'missing' or 'present'",
    "--bias-per-class --drop-classes 3": "needs fit_bias",
    "--unlabelled nowhere": "no such folder of unlabelled images",
    "--unlabelled .": "no images below it",
    "--unlabelled . --drop-classes 3": "pictures have no labels",
    "--unlabelled . --fit-bias missing": "cannot be known without labels",
    "--set transfer.validation_too=true": "nothing learns from it",
    "--targets nowhere": "nowhere",
    "--teachers 0": "teachers should be greater than or equal to 1",
    "--teacher mlp:8x1,": "unknown network ''",
    "--ensemble-mean harmonic": "ensemble_mean should be 'arithmetic' or 'geometric'",
    "--temperature 2,2": "names a value twice",
    "--temperature inf --label-weight 0.1": "label_weight cannot go into logits",
    "--label-weight 2": "from 0 to 1",
    "--sweep temprature=1,2": "did you mean temperature",
    "--sweep temperature": "should be KEY=VALUE",
    "--sweep temperature=": "should be KEY=VALUE",
    "--sweep temperature=4": "should be KEY=VALUE",
    "--sweep temperature=1,hot": "should be a number",
    "--sweep temperature=1,2 --temperature 4": "temperature is given twice, by --sweep temperature=1,2 and by "
    "--temperature, --set temperature or another --sweep: leave one of them out",
    "--sweep learning_rate=1,2 --set student.learning_rate=4": "by --learning-rate, --set student.learning_rate",
    "--sweep learning_rate=1,2 --set student=mlp:8x1": "is a part of student, which is set to 'mlp:8x1'",
    "--sweep learning_rate=0,0.1": "student.learning_rate should be greater than 0, found 0.0",
    "--tuning-seeds 0": "tuning_seeds",
}


@pytest.mark.parametrize("arguments", WRONG_TRANSFER)
def test_wrong_use_is_one_line_and_leaves_nothing(typed: Command, arguments: str, tmp_path: Path) -> None:
    done = typed("distill", *arguments.split(" "), "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert WRONG_TRANSFER[arguments] in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def _refusal(typed: Command, folder: Path, network: str, *arguments: str) -> str:
    """What a command says that cannot come to its end on a user's own points of three classes."""
    (folder / "mine.py").write_text(
        "import torch\n"
        "from instar import InMemoryDataset\n"
        "def data():\n"
        "    inputs, labels = torch.arange(240.0).reshape(60, 4), torch.arange(60) % 3\n"
        "    def part(values):\n"
        "        return InMemoryDataset(values, labels, class_names=['a', 'b', 'c'])\n"
        "    return part(inputs), part(-1 - inputs)\n"
        f"def network(input_shape, num_classes):\n    return {network}\n"
    )
    mine = ("--data", "python:mine:data", "--student", "python:mine:network")
    done = typed("distill", *mine, *arguments, "--run-dir", folder / "run", cwd=folder)
    assert done.returncode == 2
    assert not (folder / "run").exists()
    return done.stderr


@pytest.mark.parametrize("option", ["--views", "--teacher-views"])
def test_views_that_the_data_cannot_have_are_refused_at_once(typed: Command, tmp_path: Path, option: str) -> None:
    said = _refusal(typed, tmp_path, "torch.nn.Linear(4, 3)", option, "jitter:1")
    assert "jitter" in said


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("torch.nn.Linear(4, 3, bias=False)", "has no bias"),
        (
            "torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())",
            "do not come straight from the last linear layer",
        ),
    ],
)
def test_a_student_that_no_bias_can_correct_is_refused_at_once(
    typed: Command, tmp_path: Path, network: str, words: str
) -> None:
    assert words in _refusal(typed, tmp_path, network, "--drop-classes", "c", "--fit-bias", "missing")


def test_validation_without_the_missing_class_is_refused(typed: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from instar import InMemoryDataset, Splits\n"
        "def data():\n"
        "    def part(num_classes):\n"
        "        labels = torch.arange(60) % num_classes\n"
        "        return InMemoryDataset(torch.rand(60, 4), labels, class_names=['a', 'b', 'c'])\n"
        "    return Splits(part(3), part(2), part(3))\n"
    )
    lacking = ("--data", "python:mine:data", "--drop-classes", "c", "--fit-bias", "missing")
    done = typed("distill", *lacking, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "validation data has no example of class 'c'" in done.stderr
    assert not (tmp_path / "run").exists()
