"""`instar transfer`, end to end on the digits, and what it refuses before it begins."""

import importlib
import itertools
import json
from pathlib import Path
from statistics import mean

import pytest
import torch

from command_line import Command
from instar.data import InMemoryDataset, Splits
from instar.evaluation import predict_logits
from instar.files import load_tensors
from instar.jobs.execution import execute
from instar.recipes import from_python
from instar.recipes.loading import load_run_network
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution, run_path, run_study
from instar.recipes.transfer.figures import treatment_table
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.recipe import STUDY, answer
from instar.recipes.transfer.results import Part, part_of, study_of
from instar.recipes.transfer.settings import TransferConfig, read_config
from instar.runs import FINAL, Run
from instar.transfer import Halves, difference_rows, treatment_rows

TINY = ["--network", "mlp:12x2", "--epochs", "3", "--splits", "2", "--set", "network.learning_rate=0.1"]
CUTS, KINDS, SPLITS = (1, 2), ("BnB", "BnB+", "AnB", "AnB+", "RnB"), (0, 1)
QUIET = Execution(quiet=True)
HALVES = {"A": tuple("01234"), "B": tuple("56789")}


@pytest.fixture(scope="module")
def finished(finished_transfer: Path) -> Path:
    return finished_transfer


@pytest.fixture(scope="module")
def result(finished: Path) -> dict:
    return Run.read(finished).result()


def job_of(kind: str, n: int, target: str) -> str:
    other = {"A": "B", "B": "A"}[target]
    if kind.startswith("base"):
        return kind.replace("base", f"base{target}")
    source = {"B": target, "A": other, "R": "R"}[kind[0]]
    return f"{source}{n}{target}{'+' * kind.endswith('+')}"


def accuracy_of(finished: Path, kind: str, n: int, split: int, target: str) -> float:
    test = load_splits(DataSettings(name="digits", classes=HALVES[target])).test
    network = load_run_network(finished / "jobs" / f"split-{split}" / job_of(kind, n, target))
    return 100 * float((predict_logits(network, test).argmax(-1) == test.labels(test.ids)).double().mean())


def test_every_treatment_is_there_at_every_cut(result: dict) -> None:
    found = [(row["treatment"], row["cut"]) for row in result["rows"]]
    assert sorted(found) == sorted([("base", 0), ("base-long", 0), *itertools.product(KINDS, CUTS)])
    assert {row["n"] for row in result["rows"]} == {2}
    assert [layer["name"] for layer in result["details"]["layers"]] == ["fc1", "fc2", "fc3"]
    assert len(result["details"]["networks"]) == 2 * 2 * (2 + len(KINDS) * len(CUTS))


def test_accuracies_are_those_of_the_saved_weights_and_differences_are_paired(
    finished: Path, result: dict
) -> None:
    over_base = {row["name"]: row["mean"] for row in result["differences"] if row["minus"] == "base"}
    for row in result["rows"]:
        kind, n = row["treatment"], row["cut"]
        accuracies, differences = [], []
        for split in SPLITS:
            of_targets = [accuracy_of(finished, kind, n, split, target) for target in "AB"]
            bases = [accuracy_of(finished, "base", 0, split, target) for target in "AB"]
            accuracies.append(mean(of_targets))
            differences.append(mean(of_targets) - mean(bases))
        assert row["values"] == pytest.approx(accuracies)
        assert row["mean"] == pytest.approx(mean(accuracies))
        if kind != "base":
            assert over_base[row["name"]] == pytest.approx(mean(differences))


def few_networks(path: Path, **fit: object) -> Part:
    """A base and a treatment of two classes, fitted in this process."""
    study = {"halves": {"a": ["0", "1"], "b": ["2", "3"]}, "targets": ["B"], "treatments": ["RnB"], "cuts": [1]}
    config = read_config({**study, "network": {"network": "mlp:4x1", **fit}, "splits": 1, "longer": False})
    plan = Plan(config, path, QUIET)
    for job in plan.jobs():
        execute(job, path, threads=1)
    return part_of(plan)


@pytest.mark.slow
def test_the_learning_rate_of_another_network_is_found_on_validation(tmp_path: Path) -> None:
    assert read_config({}).network.learning_rate == 0.1
    assert read_config({"network": {"epochs": 3}}).network.learning_rate == 0.1
    few = {"treatments": ["AnB"], "targets": ["B"], "cuts": [1], "splits": 1, "longer": False}
    config = read_config({**few, "network": {"network": "mlp:6x3", "epochs": 20}})
    assert config.network.learning_rate is None
    result = run_study(STUDY, config, tmp_path / "run", QUIET)
    (chosen,) = (row for row in result["tuning"] if row.get("chosen"))
    assert {row["round"] for row in result["tuning"]} == {1, 2}
    assert {1e-4, 1e-3, 1e-2, 1e-1, 1.0} <= {row["learning_rate"] for row in result["tuning"]}
    seeds = {Run.read(path.parent).config["seed"] for path in (tmp_path / "run/jobs/tuning").rglob("config.toml")}
    assert min(seeds) >= 10_000
    for job in ("baseA", "baseB", "A1B"):
        fit = Run.read(tmp_path / "run/jobs/split-0" / job).config["fit"]
        assert (fit["learning_rate"], fit["gradient_clip"]) == (chosen["learning_rate"], 1.0)
    assert "Chosen on validation" in (tmp_path / "run/report.html").read_text()
    assert "failed_to_learn" not in result["details"]


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [99, 100])
def test_the_papers_ten_best_are_a_small_share_of_the_epochs_or_left_out(epochs: int, tmp_path: Path) -> None:
    part = few_networks(tmp_path, epochs=epochs)
    headings = [column.heading for column in treatment_table(part._asdict()).columns]
    assert ("ten best" in headings) is (epochs == 100)
    for row, job in zip(part.rows, ("baseB", "R1B"), strict=True):
        fit = Run.read(tmp_path / "jobs/split-0" / job).result()["rows"]
        errors = sorted(one["validation_errors"] for one in fit)
        num_validation = len(load_splits(DataSettings(name="digits", classes=("2", "3"))).validation)
        expected = pytest.approx(100 * (1 - mean(errors[:10]) / num_validation)) if epochs == 100 else None
        assert row.get("ten_best_validation") == expected


def test_the_ten_best_of_networks_that_stopped_early_are_left_out(tmp_path: Path) -> None:
    part = few_networks(tmp_path, epochs=100, patience=3, learning_rate=0.3)
    epochs = [len(Run.read(tmp_path / "jobs/split-0" / job).result()["rows"]) for job in ("baseB", "R1B")]
    assert min(epochs) < 100
    assert not any("ten_best_validation" in row for row in part.rows + part.details["networks"])


def test_frozen_layers_hold_the_bases_bits_and_fine_tuned_ones_have_moved(finished: Path) -> None:
    def weights(job: str) -> dict[str, torch.Tensor]:
        return Run.read(finished / "jobs" / "split-1" / job).load_weights()[0]

    for n, (source, target) in itertools.product(CUTS, ("AB", "BB", "BA")):
        base, frozen, tuned = (
            weights(job) for job in (f"base{source}", *(f"{source}{n}{target}{s}" for s in ("", "+")))
        )
        for key, value in base.items():
            if int(key[2]) <= n:
                assert torch.equal(frozen[key], value)
            if key.endswith("weight"):
                assert not torch.equal(tuned[key], value)
                assert torch.equal(frozen[key], value) is (int(key[2]) <= n)


def test_treatments_of_a_split_begin_with_the_same_upper_layers_and_see_the_same_order(finished: Path) -> None:
    jobs = (finished / "jobs" / "split-1").glob("[ABR]*/config.toml")
    seeds = {path.parent.name: Run.read(path.parent).config["seed"] for path in jobs}
    assert len(seeds) == 20
    assert set(seeds.values()) == {1001}
    bases = [Run.read(finished / "jobs" / f"split-{s}" / f"base{t}").config["seed"] for s in SPLITS for t in "AB"]
    assert bases == [0, 1, 2, 3]


def test_a_base_trained_as_long_has_the_epochs_of_both(finished: Path) -> None:
    epochs = [len(Run.read(finished / "jobs/split-0" / job).metrics()) for job in ("baseA", "baseA-long", "B1A+")]
    assert epochs == [3, 6, 3]


def test_the_manifest_is_in_the_run_and_with_the_weights_of_every_network(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    halves = Halves(HALVES["A"], HALVES["B"], how="lists")
    assert list(manifest) == ["split-0", "split-1"]
    for split in SPLITS:
        assert manifest[f"split-{split}"] == halves.manifest([str(n) for n in range(10)])
        for path in (finished / "jobs" / f"split-{split}").rglob(FINAL):
            about = load_tensors(path)[1]["manifest"]
            assert about == {"half": about["half"], **manifest[f"split-{split}"]}
            assert about["half"] == path.parts[-3].rstrip("+").removesuffix("-long")[-1]
            assert Run.read(path.parents[1]).config["class_names"] == list(HALVES[about["half"]])


def test_it_leaves_these_files_and_no_fit_reads_test(finished: Path) -> None:
    own = {"config.toml", "environment.json", "result.json", "report.html", "log.txt", "DONE", "manifest.json"}
    assert {path.name for path in finished.iterdir() if path.is_file()} == own
    assert len(list(finished.rglob("DONE"))) == 1 + 2 * (4 + 20)
    assert not list(finished.rglob("last.safetensors"))
    for path in (finished / "jobs").rglob("result.json"):
        fit = json.loads(path.read_text())
        assert not [key for row in (fit["metrics"], *fit["rows"]) for key in row if key.startswith("test")]


def test_the_same_command_again_reads_what_is_there(typed: Command, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    again = typed("transfer", *TINY, "--run-dir", finished, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads((finished / "result.json").read_text())
    shown = typed("transfer", *TINY, "--run-dir", finished)
    assert "B1B+" in shown.stdout
    assert "Page: " in shown.stdout
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


# The advice


@pytest.mark.parametrize(
    ("gain", "longer", "words"),
    [
        (-2.0, None, "Do not copy layers here"),
        (0.0, None, "Copying layers of the other task brings no gain that can be shown: the best, A1B+, is"),
        (7.5, None, "Copy the first layer (fc1) and fine-tune it: A1B+ is 7.5 points above a base"),
        (7.5, 4.0, "fine-tune it: A1B+ is 7.5 points above a base of 60.0 %, and 3.5 points above a base trained"),
        (7.5, 7.5, "fine-tune it or train longer (these splits show no difference)"),
        (
            7.5,
            11.4,
            "Train longer, do not copy: the best treatment that copies, A1B+, is 7.5 points above a base of 60.0",
        ),
    ],
)
def test_copying_is_advised_where_it_beats_a_base_trained_as_long_too(
    gain: float, longer: float | None, words: str
) -> None:
    networks = []
    for split, noise in enumerate((-0.1, 0.0, 0.1)):
        about = {"split": split, "target": "B"}
        networks.append({**about, "kind": "base", "n": 0, "accuracy": 60.0})
        networks.append({**about, "kind": "AnB+", "n": 1, "accuracy": 60 + gain + noise})
        if longer is not None:
            networks.append({**about, "kind": "base-long", "n": 0, "accuracy": 60 + longer})
    study = study_of(networks)
    rows, differences = treatment_rows(study), difference_rows(study)
    result = {"rows": rows, "differences": differences, "details": {"layers": [{"name": "fc1"}]}}
    assert words in answer(result).sentence


# Layers


def test_the_layers_are_listed_with_shapes_and_weights_and_nothing_is_left(typed: Command, tmp_path: Path) -> None:
    listed = typed("transfer", "--list-layers", "--network", "convnet:5", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:2] for row in rows] == [["1", "conv1"], ["2", "conv2"], ["3", "fc3"], ["4", "fc4"], ["5", "fc5"]]
    assert rows[0][2:] == ["32", "x", "4", "x", "4", "320"]
    by_name = ("--network", "python:transfer_networks:wrapped", "--layers", "model.1,model.4,model.6")
    listed = typed("transfer", "--list-layers", *by_name, cwd=tmp_path)
    assert [line.split()[1] for line in listed.stdout.splitlines() if "model." in line] == [
        "model.1",
        "model.4",
        "model.6",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", ["mlp:12x2", "convnet:5x4", "resnet:8", "mixture:2/mlp:8x1/mlp:8x1"])
def test_networks_of_ours_are_cut_after_every_layer_but_the_last(network: str, tmp_path: Path) -> None:
    plan = Plan(read_config({"network": {"network": network}}), tmp_path)
    assert plan.cuts == list(range(1, len(plan.layers)))


def test_stages_without_weights_are_no_layers_to_copy_or_to_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    network = {"network": "python:test_transfer:two_weighted", "epochs": 1}
    plan = Plan(read_config({"network": network}), tmp_path)
    plan.check()
    assert plan.cuts == [3]


# Bad input


def splits_of(
    shape: tuple[int, ...], *, classes: int = 4, examples: int = 40, trained: int | None = None
) -> Splits:
    """Noise; `trained` classes have training examples."""
    generator = torch.Generator().manual_seed(0)
    labels, names = torch.arange(examples) % classes, [str(number) for number in range(classes)]
    train, validation, test = (
        InMemoryDataset(torch.rand(examples, *shape, generator=generator), labels, class_names=names)
        for _ in range(3)
    )
    return Splits(train.subset(train.ids[labels < (trained or classes)]), validation, test)


def colour_pictures() -> Splits:
    return splits_of((3, 8, 8))


def large_pictures() -> Splits:
    return splits_of((1, 16, 16))


def one_class() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    part = (torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    return part, part


def few_examples() -> Splits:
    return splits_of((1, 8, 8), classes=8, examples=16, trained=2)


def two_weighted(num_classes: int) -> torch.nn.Module:
    layers = torch.nn.Linear(64, 9), torch.nn.ReLU(), torch.nn.Linear(9, num_classes), torch.nn.LogSoftmax(1)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)


def one_weighted(num_classes: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


def of_a_hundred(num_classes: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(100, 9), torch.nn.Linear(9, num_classes))


WRONG_USE = {
    "--cuts 4": "cuts: n is 4, expected 1 to 3: the last of the 4 layers (fc1, fc2, fc3, fc4) is always trained",
    "--cuts 0": "cuts: n is 0, expected 1 to 3: the last of the 4 layers (fc1, fc2, fc3, fc4)",
    "--network python:test_transfer:two_weighted --cuts 1": "n is 1, with no weights to copy before it",
    "--network python:test_transfer:two_weighted --cuts 2,4": "n is 4, with no weights to train after it",
    "--network python:test_transfer:one_weighted": "cannot be cut: of its layers 0, 1 two need to have",
    "--cuts 1,two": "--cuts '1,two' should be a number, or several with commas",
    "--cuts 1,1.5": "cuts should be a valid integer",
    "--source-fraction 0.5": "source.fraction is given but no source: name its data with --source",
    "--source-classes 0,1": "source.classes is given but no source: name its data with --source",
    "--cuts 1,1": "cuts should be one or more values, none of them twice",
    "--a 0,1,2 --b 2,3": "class '2' is in both halves",
    "--a 0,1,1 --b 2,3": "class '1' is in one half twice",
    "--a 0,one --b 2,3": "unknown class 'one'",
    "--a 0,1 --b 2": "half B has 1 classes; a task needs at least two",
    "--halves lists": "halves.a and halves.b",
    "--halves semantic": "semantic halves are known for CIFAR-100 and ImageNet's 1000 classes, not for these 10",
    "--halves parents": "name a file with the parent of each class (--parents FILE)",
    "--halves parents --parents nowhere.tsv": "the parents of the classes cannot be read from nowhere.tsv",
    "--parents nowhere.tsv": "the parents of the classes cannot be read from nowhere.tsv",
    "--halves lists --a 0,1 --b 2,3 --parents x.tsv": "halves.parents is for halves by parents, not for lists",
    "--set network.pretrained=true": "network.pretrained is for teachers",
    "--halves random --classes-per-half 6": "6 classes in each half: there are 10 classes in all",
    "--halves randm": "halves.how should be 'random'",
    "--halves random --a 0,1": "halves.a and halves.b are not for random halves",
    "--source digits --halves random --classes-per-half 2": "source and halves: give one of them",
    "--treatments AnC": "unknown treatment 'AnC'",
    "--targets C": "targets should be 'A' or 'B', found 'C'",
    "--splits 0": "splits should be greater than or equal to 1",
    "--seed -1": "seed should be greater than or equal to 0",
    "--seed 998": "split 999: its treatments would start from the same weights as a base that they copy",
    "--learning-rate 0": "network.learning_rate should be greater than 0",
    "--frozen-norm both": "copied.frozen_norm should be 'source' or 'target'",
    "--set copied.learning_rate_factor=0": "copied.learning_rate_factor should be greater than 0",
    "--set copied.learning_rate_factor=inf": "copied.learning_rate_factor should be a finite number",
    "--set network.bias_rate_factor=-1": "network.bias_rate_factor should be greater than 0",
    "--set network.learning_rate=[0.1,0.2]": "network.learning_rate should be a valid number",
    "--layers fc1,fc9": "unknown layer of Sequential 'fc9'",
    "--layers fc1,fc1.1": "'fc1.1' is inside 'fc1'",
    "--network python:transfer_networks:wrapped": "one stage, model: name layers inside it with --layers",
    "--network python:transfer_networks:functional": "its forward pass calls none of its 1 modules",
    "--network python:transfer_networks:branching": "path through Branching depends on the data",
    "--network python:test_transfer:of_a_hundred": "cannot take the examples of digits, (1, 8, 8): mat1 and",
    "--source python:test_transfer:colour_pictures": "are (3, 8, 8), of digits (1, 8, 8)",
    "--source python:test_transfer:large_pictures": "are (1, 16, 16), of digits (1, 8, 8)",
    "--data python:test_transfer:one_class": "the largest label is 0, which does not tell the classes",
    "--data python:test_transfer:few_examples --a 0,2 --b 1,3": "no training example of class '2', and of 1 of",
    "--data python:test_transfer:few_examples --a 0,1 --b 2,3": "there is no example of 2, 3",
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use_is_one_line_and_leaves_nothing(
    typed: Command, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    done = typed("transfer", *arguments.split(" "), "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert WRONG_USE[arguments] in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_another_network_in_the_same_directory_is_refused(typed: Command, finished: Path) -> None:
    """So no base of another architecture, or of other halves, is ever copied from."""
    for options in (["--network", "mlp:11x2"], ["--a", "0,1,2", "--b", "3,4,5"]):
        other = typed("transfer", *TINY, *options, "--run-dir", finished)
        assert other.returncode == 1
        assert "belongs to another configuration" in other.stderr


@pytest.mark.slow  # tests/unit/test_transfer_jobs.py has the job alone
def test_a_network_that_unfreezes_its_normalisation_ends_the_study(typed: Command, tmp_path: Path) -> None:
    options = ["--network", "python:transfer_networks:unfreezing", "--views", "jitter:1", "--epochs", "1"]
    options += ["--splits", "1", "--targets", "B", "--treatments", "AnB", "--cuts", "1", "--set", "longer=false"]
    done = typed("transfer", *options, "--run-dir", tmp_path / "run", "--quiet")
    assert done.returncode == 1
    assert "A1B failed: frozen layers changed in training: one.1.norm.running_mean" in done.stderr


def test_a_file_of_parents_that_changes_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "parents.tsv"
    config = read_config({"halves": {"how": "parents", "parents": str(file), "a": ["odd"], "b": ["even"]}})
    paths = []
    for odd in ("13579", "1357"):
        file.write_text("".join(f"{digit}\t{'odd' if digit in odd else 'even'}\n" for digit in "0123456789"))
        paths += [run_path(STUDY, config), run_path(STUDY, config)]
    assert paths[0] == paths[1] != paths[2] == paths[3]


def test_a_call_from_python_reads_the_data_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = "(torch.rand(n, 3), torch.arange(n) % 2)"
    (tmp_path / "data_that_change.py").write_text(f"import torch\ndef data(): return {part}, {part}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []

    def run(_: object, config: TransferConfig, *__: object) -> tuple[None, None, dict]:
        found.append(len(load_splits(config.data).test))
        return None, None, {}

    monkeypatch.setattr(from_python, "run_experiment", run)
    for number in (20, 40):
        importlib.import_module("data_that_change").n = number  # type: ignore[attr-defined]
        from_python.transfer_study(data="python:data_that_change:data")
    assert found == [20, 40]
