"""`instar specialists`: every number comes from the saved weights, every control costs the same."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from command_line import Command
from instar import SpecialistEnsemble
from instar.data import InMemoryDataset, Splits
from instar.distillation import SoftTargetStore
from instar.errors import InstarError, RunError, UsageError
from instar.evaluation import predict_logits
from instar.jobs import JobReport
from instar.metrics import errors
from instar.recipes.loading import load_run_network
from instar.recipes.specialists.costs import Costs
from instar.recipes.specialists.jobs import assemble
from instar.recipes.specialists.page import answer
from instar.recipes.specialists.plan import FULL_LABELS, FULL_SOFT, ROWS, WITH, Replicate, make_plan
from instar.recipes.specialists.recipe import STUDY, rounds
from instar.recipes.specialists.scoring import kept
from instar.recipes.specialists.settings import SpecialistsConfig, config_for, read_config
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution, run_study
from instar.runs import Run
from instar.specialists import ClassSet, specialist_labels

CONFIG = config_for("tiny", "digits")
QUIET = Execution(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("specialists") / "run"
    run_study(STUDY, CONFIG, path, QUIET)
    return path


@pytest.fixture(scope="module")
def result(finished: Path) -> dict:
    return Run.read(finished).result()


def row_of(result: dict, name: str) -> dict:
    return next(row for row in result["rows"] if row["name"] == name)


def gain_of(result: dict, name: str) -> dict:
    return next(one for one in result["differences"] if (one["name"], one["minus"]) == (name, "generalist"))


def replicate(path: Path, config: SpecialistsConfig = CONFIG, seed: int = 0) -> Replicate:
    """What is planned for a generalist whose class sets were found."""
    return make_plan(config, path, QUIET).replicate(seed, config.sets[0])


def accuracy(probs: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((probs.argmax(1) == labels).double().mean())


def test_every_row_is_there_with_its_costs(result: dict) -> None:
    assert [row["name"] for row in result["rows"]] == list(ROWS)
    for row in result["rows"]:
        assert row["n"] == 2
        for key in ("mean", "conditional_accuracy", "test_nll", "sd", "inference_cost", "training_cost"):
            assert row[key] is not None
    base = row_of(result, "generalist")
    assert row_of(result, "distilled-back")["inference_cost"] == base["inference_cost"]
    used = row_of(result, "with-specialists")
    share = 1 + used["specialists_used"]
    assert used["inference_cost"] == pytest.approx(share * base["inference_cost"], rel=1e-3)


def test_controls_cost_what_the_specialists_cost(result: dict) -> None:
    """To within half an epoch of the generalist, which is what an epoch's rounding can miss."""
    whole = row_of(result, "with-specialists")["training_cost"]
    epoch = row_of(result, "generalist")["training_cost"] / CONFIG.generalist.epochs
    for name in ("generalist-longer", "ensemble-same-cost", "full-softmax-hard", "mixture-of-experts"):
        members = 2 if name == "ensemble-same-cost" else 3 if name == "mixture-of-experts" else 1
        assert abs(row_of(result, name)["training_cost"] - whole) <= 0.7 * members * epoch, name


@pytest.mark.parametrize("views", ["none", "jitter:1"])
def test_full_softmax_specialists_cost_the_generalists_predictions(finished: Path, views: str) -> None:
    """One per example without views, else one per example shown: a fourth pass in each step."""
    generalist = {"generalist": CONFIG.generalist.model_copy(update={"views": views})}
    own = replicate(finished, CONFIG.model_copy(update=generalist))
    soft, hard = own.specialist_costs(FULL_SOFT), own.specialist_costs(FULL_LABELS)
    once = own.plan.costs.network * len(own.plan.splits.train)
    assert soft == [cost + once if views == "none" else cost * 4 // 3 for cost in hard]


@pytest.mark.parametrize(("dropout", "is_cached"), [(0.0, True), (0.2, False)])
def test_frozen_layers_are_counted_once_only_where_their_features_are_cached(
    finished: Path, dropout: float, is_cached: bool
) -> None:
    content = {"specialist": {"trainable_layers": 1}, "generalist": {"input_dropout": dropout}}
    own = replicate(finished, read_config(content))
    costs: Costs = own.plan.costs
    shown = 2 * costs.num_special(own.class_sets[0]) * own.plan.config.specialist.epochs
    below, whole = costs.per_layer
    first = below * (len(own.plan.splits.train) if is_cached else shown)
    assert own.specialist_costs(WITH)[0] == 3 * (whole - below) * shown + first


def test_a_share_of_the_gain_is_told_only_where_the_gain_is_no_chance() -> None:
    rows = {"generalist": [50.0, 50.0], "distilled-back": [51.0, 51.0]}
    assert kept({**rows, "with-specialists": [52.0, 52.1]})["percent"] == pytest.approx(100 / 2.05)
    assert kept({**rows, "with-specialists": [50.1, 54.0]})["percent"] is None
    assert kept({**rows, "with-specialists": [52.0, 52.0]})["percent"] is None
    assert kept({"generalist": [50.0], "with-specialists": [52.0], "distilled-back": [51.0]})["percent"] is None


def test_the_same_gain_of_two_generalists_is_no_proof(result: dict) -> None:
    gain = gain_of(result, WITH)
    rest = [one for one in result["differences"] if one is not gain]
    same = {**result, "differences": [{**gain, "mean": 0.5, "sd": 0.0, "low": 0.5, "high": 0.5}, *rest]}
    headline = answer(same)
    assert "2 generalists with the same gain, so the spread is not known" in headline.sentence
    assert "95 %" not in headline.detail


def test_accuracies_are_those_of_the_saved_networks(finished: Path, result: dict) -> None:
    test = load_splits(CONFIG.data).test
    labels = test.labels(test.ids)
    alone, combined, distilled = [], [], []
    for seed in (0, 1):
        ensemble = SpecialistEnsemble.load(finished / f"jobs/ensemble/seed-{seed}")
        combined.append(accuracy(ensemble.predict(test).probs, labels))
        for values, name in ((alone, "generalist"), (distilled, "distilled-back")):
            network = load_run_network(finished / "jobs" / f"{name}/seed-{seed}")
            values.append(accuracy(predict_logits(network, test), labels))
    assert row_of(result, "generalist")["mean"] == pytest.approx(sum(alone) / 2)
    assert row_of(result, "with-specialists")["mean"] == pytest.approx(sum(combined) / 2)
    assert row_of(result, "distilled-back")["mean"] == pytest.approx(sum(distilled) / 2)
    assert gain_of(result, WITH)["mean"] == pytest.approx(sum(combined) / 2 - sum(alone) / 2)
    relative = [100 * (one / other - 1) for one, other in zip(combined, alone, strict=True)]
    assert result["details"]["relative_gain"]["mean"] == pytest.approx(sum(relative) / 2)


def test_the_papers_table_4_counts_every_example_once_and_adds_up_to_the_gain(result: dict) -> None:
    rows = result["details"]["by_coverage"]
    assert sum(row["examples"] for row in rows) == result["num_test"]
    change = sum(row["change"] for row in rows)
    gain = row_of(result, "with-specialists")["mean"] - row_of(result, "generalist")["mean"]
    assert 100 * change / result["num_test"] == pytest.approx(gain)
    for row in rows:
        assert row["relative_change"] == pytest.approx(100 * row["change"] / row["right_before"])


def test_a_specialist_has_learned_half_of_its_set_with_the_dustbin_last_and_corrected(finished: Path) -> None:
    run = Run.read(finished / "jobs/specialists/seed-0/0")
    numbers = run.config["specialist"]["classes"]
    data = load_splits(CONFIG.data).train
    labels = specialist_labels(data.labels(data.ids), ClassSet(numbers, 10))
    num_special = int((labels < len(numbers)).sum())
    steps = -(-2 * num_special // CONFIG.generalist.batch_size)
    assert run.metrics()[-1]["step"] == steps * CONFIG.specialist.epochs
    expected = float(torch.log(torch.tensor((len(data) - num_special) / num_special)))
    assert run.result()["metrics"]["correction"] == pytest.approx(expected, abs=1e-5)
    assert run.config["class_names"][-1] == "everything else"
    assert run.config["class_names"][:-1] == [str(number) for number in numbers]
    assert load_run_network(run.path)[-1][0].out_features == len(numbers) + 1


def test_random_sets_have_the_sizes_of_the_confusable_ones(finished: Path) -> None:
    own = replicate(finished)
    found, other = own.class_sets, own.random_sets
    assert [len(one) for one in found] == [len(one) for one in other]
    assert found != other


def test_full_softmax_specialists_learn_the_rest_from_the_generalist(finished: Path) -> None:
    soft, hard = (Run.read(finished / "jobs" / name / "seed-0/0") for name in (FULL_SOFT, FULL_LABELS))
    assert "train_soft_loss" in soft.metrics()[0]
    assert "train_soft_loss" not in hard.metrics()[0]
    assert soft.config["class_names"] == [str(number) for number in range(10)]
    assert hard.config["fit"]["patience"] == CONFIG.specialist.epochs
    validation = load_splits(CONFIG.data).validation
    for run in (soft, hard):  # its best epoch is that of the network which is used
        found = errors(predict_logits(load_run_network(run.path), validation), validation.labels(validation.ids))
        assert found.sum() == run.result()["metrics"]["validation_errors"]
    forgetting = Run.read(finished).result()["details"]["forgetting"]
    assert [row["n"] for row in forgetting] == [2, 2, 2]
    assert all(0 <= row["rest"] <= 100 and 0 <= row["special"] <= 100 for row in forgetting)


def test_the_student_learns_from_the_combined_soft_targets(finished: Path) -> None:
    train = load_splits(CONFIG.data).train
    store = SoftTargetStore.open(finished / "jobs/ensemble/seed-1/targets")
    expected = SpecialistEnsemble.load(finished / "jobs/ensemble/seed-1").predict(train).probs
    torch.testing.assert_close(store.soft_targets(train.ids, 0, 1.0).probs, expected, atol=2e-3, rtol=0)
    assert Run.read(finished / "jobs/distilled-back/seed-1").config["soft"]["store"] == "ensemble/seed-1"


def test_nothing_is_chosen_by_test_and_the_tuning_generalist_is_not_reported(finished: Path, result: dict) -> None:
    tried = result["tuning"]
    assert [row["name"] for row in tried] == ["generalist", *2 * [WITH], *2 * ["distilled-back"]]
    assert all(row["sets"] == CONFIG.sets[0].slug for row in tried[1:])
    best, student = (
        min(rows, key=lambda row: (row["validation_errors"], row["validation_nll"]))
        for rows in (tried[1:3], tried[3:])
    )
    assert [row["temperature"] for row in tried[3:]] == [1.0, 2.0]
    details = result["details"]
    assert details["student"] == {"temperature": student["temperature"], "hard_weight": 0.1}
    for name, expected in (("tuning/distilled-back/temperature-1-hard-0.1", 1.0), ("distilled-back/seed-0", None)):
        soft = Run.read(finished / "jobs" / name).config["soft"]
        assert soft["temperature"] == (expected or student["temperature"])
        assert soft["store"] == ("tuning/ensemble" if expected else "ensemble/seed-0")
    assert details["top_n"] == best["top_n"]
    tuning = replicate(finished, seed=10_000)
    validation = tuning.plan.splits.validation
    probs = tuning.assemble(WITH, top_n=details["top_n"]).predict(validation).probs
    errors = probs.argmax(1) != validation.labels(validation.ids)
    assert int(errors.sum()) == best["validation_errors"]
    members = replicate(finished).controls()["ensemble-same-cost"]
    assert [fit.name for fit in members] == [f"ensemble-same-cost/seed-0/member-{number}" for number in (0, 1)]


def test_a_candidate_that_diverges_is_skipped_and_reported(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "jobs", tmp_path / "jobs")
    other = CONFIG.sets[0].model_copy(update={"num_sets": 2})
    folder = tmp_path / "jobs/tuning/class-sets"
    shutil.copytree(folder / CONFIG.sets[0].slug, folder / other.slug)
    plan = make_plan(CONFIG.model_copy(update={"sets": [other, CONFIG.sets[0]]}), tmp_path, QUIET)
    steps = rounds(plan)
    next(steps)
    assert steps.send(JobReport()).may_fail  # specialists of both candidates
    diverged = {f"tuning/specialists/{other.slug}/1": "the loss is not finite"}
    students = steps.send(JobReport(failed=diverged))
    assert students.may_fail
    assert not any(other.slug in job.name for job in students.jobs if "specialists" in job.name)
    steps.send(JobReport(failed={"tuning/distilled-back/temperature-1-hard-0.1": "the loss is not finite"}))
    assert not steps.send(JobReport()).may_fail  # everything that is reported
    with pytest.raises(StopIteration) as ended:
        steps.send(JobReport())
    found = ended.value.value
    assert found.choice.sets == CONFIG.sets[0]
    assert found.choice.student.temperature == 2
    failed = [(row.get("sets"), row.get("temperature")) for row in found.tuning if "failed" in row]
    assert failed == [(other.slug, None), (other.slug, None), (CONFIG.sets[0].slug, 1.0)]


def test_the_command_ends_where_all_candidates_diverge(finished: Path) -> None:
    steps = rounds(make_plan(CONFIG, finished, QUIET))
    next(steps)
    steps.send(JobReport())
    with pytest.raises(InstarError, match="specialists/overlapping-3x4/0 failed: the loss is not finite"):
        steps.send(JobReport(failed={"tuning/specialists/overlapping-3x4/0": "the loss is not finite"}))


def test_page_and_table_and_the_command_again(typed: Command, finished: Path, result: dict) -> None:
    page = (finished / "report.html").read_text()
    for title in (
        "Class sets",
        "Which class is predicted as which",
        "Gain by how many specialists",
        "Full softmax: accuracy on the special classes",
        "Chosen on validation",
    ):
        assert title in page
    arguments = ("reproduce", "specialists", "--data", "digits", "--scale", "tiny", "--run-dir", finished)
    assert json.loads(typed(*arguments, "--json").stdout) == result
    shown = " ".join(typed(*arguments).stdout.split())
    assert "n = 2 generalists, paired" in shown
    assert "with-random-specialists" in shown


def test_an_interrupted_specialist_among_finished_ones_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "jobs/specialists/seed-0", tmp_path / "specialist")
    (tmp_path / "specialist/1/checkpoints/final.safetensors").unlink()
    paths = [tmp_path / "specialist" / number for number in ("0", "1")]
    with pytest.raises(
        RunError, match=r"specialist/1 has no .* its fit is not finished; run the same command again"
    ):
        assemble(finished / "jobs/generalist/seed-0", paths)


def test_a_specialist_that_was_stopped_before_its_correction_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "jobs/specialists/seed-0/0", tmp_path / "stopped")
    (tmp_path / "stopped/DONE").unlink()
    with pytest.raises(RunError, match=r"stopped is not finished: run the same command again to resume it"):
        assemble(finished / "jobs/generalist/seed-0", [tmp_path / "stopped"])


def test_a_specialist_of_other_data_or_of_another_kind_is_refused(finished: Path, tmp_path: Path) -> None:
    jobs = finished / "jobs"
    with pytest.raises(UsageError, match="is no specialist: it has no class set"):
        assemble(jobs / "generalist/seed-0", [jobs / "generalist/seed-1"])
    with pytest.raises(UsageError, match="combine those of one kind"):
        assemble(
            jobs / "generalist/seed-0", [jobs / "specialists/seed-0/0", jobs / "full-softmax-specialists/seed-0/1"]
        )
    shutil.copytree(jobs / "specialists/seed-0/0", tmp_path / "other")
    text = (tmp_path / "other/config.toml").read_text().replace('name = "digits"', 'name = "mnist"')
    (tmp_path / "other/config.toml").write_text(text)
    with pytest.raises(
        UsageError, match=r"a specialist of mlp:12x1 on mnist; the generalist .* is mlp:12x1 on digits"
    ):
        assemble(jobs / "generalist/seed-0", [tmp_path / "other"])


def flat_numbers() -> Splits:
    """Examples that are no pictures, of 6 classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) // 40
    inputs = torch.randn(240, 5, generator=generator) + labels[:, None] // 2
    whole = InMemoryDataset(inputs, labels, class_names=list("abcdef"))
    parts = [whole.subset(whole.ids[start::3]) for start in range(3)]
    return Splits(*parts, name="flat")


def without_a_class(part: str) -> Splits:
    """The same where a part lacks two of the classes, of which a class set may be."""
    splits = flat_numbers()
    data = getattr(splits, part)
    return dataclasses.replace(splits, **{part: data.subset(data.ids[data.labels(data.ids) < 4])})


def no_training_example() -> Splits:
    return without_a_class("train")


def no_test_example() -> Splits:
    return without_a_class("test")


def test_a_class_without_examples(typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    few = ["--epochs", "2", "--specialist-epochs", "1", "--sets", "3", "--classes-per-set", "2", "--seeds", "1"]
    few += ["--method", "balanced", "--controls", "full-softmax", "--top-n", "1", "--network", "mlp:6x1"]
    done = typed("specialists", "--data", "python:test_specialists:no_training_example", *few, cwd=tmp_path)
    assert done.returncode == 2
    assert "2 of 6 classes have no training example, the first 'e'" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = typed(
        "specialists", "--data", "python:test_specialists:no_test_example", *few, "--json", "--quiet", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert all(math.isfinite(row["special"]) for row in json.loads(done.stdout)["details"]["forgetting"])


@pytest.fixture(scope="module")
def flat_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One generalist on data that are no pictures; its specialists train the last layer alone."""
    content = {
        "data": {"name": "python:test_specialists:flat_numbers"},
        "generalist": {"network": "mlp:6x1", "epochs": 2},
        "specialist": {"epochs": 3, "trainable_layers": 1},
        "sets": [{"num_sets": 2, "classes_per_set": 2}],
        "top_n": [1],
        "controls": ["longer"],
        "seeds": 1,
    }
    path = tmp_path_factory.mktemp("flat") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        run_study(STUDY, read_config(content), path, QUIET)
    return path


def test_data_that_are_no_pictures_have_a_page_too(flat_run: Path) -> None:
    page = (flat_run / "report.html").read_text()
    assert "Class sets" in page
    assert "one generalist, so the spread is not known" in page


def test_lower_layers_stay_the_generalists_where_they_are_frozen(flat_run: Path) -> None:
    ensemble = SpecialistEnsemble.load(flat_run / "jobs/ensemble/seed-0")
    assert ensemble.num_shared == 1
    for specialist in ensemble.networks[1:]:
        torch.testing.assert_close(
            specialist[0].state_dict(), ensemble.networks[0][0].state_dict(), atol=0, rtol=0
        )
    result = Run.read(flat_run).result()
    base, used = (row_of(result, name) for name in ("generalist", WITH))
    first, last = 5 * 6, 6 * 6
    assert base["inference_cost"] == first + last
    assert used["inference_cost"] == round(first + last + used["specialists_used"] * last)
    assert used["sd"] is None


WRONG_USE = {
    "--sets 11": "num_sets is 11, expected 1 to 10, the number of classes",
    "--classes-per-set 10": "classes_per_set is 10, expected 2 to 9",
    "--classes-per-set 1": "classes_per_set should be greater than or equal to 2",
    "--method balanced": "balanced sets share no class: 3 sets of 4 need 12 classes, there are 10",
    "--method k-means": "sets.0.method should be",
    "--top-n 0": "top_n is 0, expected 1 to 10",
    "--top-n a": "--top-n 'a' should be a number",
    "--top-n 1.5": "top_n should be a valid integer",
    "--top-n 11": "top_n is 11, expected 1 to 10",
    "--top-n 1,1": "top_n names a candidate twice: 1, 1",
    "--controls longer,shorter": "controls should be",
    "--mixture mixture:2/mlp:8x1": "should be mixture:EXPERTS/EXPERT/GATE",
    "--mixture mlp:8x1": "mixture is 'mlp:8x1', expected mixture:EXPERTS/EXPERT/GATE",
    "--mixture mixture:2/python:own:net/mlp:8x1": "expected mixture:EXPERTS/EXPERT/GATE of built-in networks",
    "--temperature 1,1": "distill.temperature names a candidate twice: 1.0, 1.0",
    "--seed 9998": "seeds 9998 to 10001 include 10000, the seed of the tuning generalist",
    "--trainable-layers 3": "specialist.trainable_layers is 3; the network has 2 layers",
    "--seeds 0": "seeds should be greater than or equal to 1",
    "--set generalist.learning_rate=[0.1,0.2]": "generalist.learning_rate should be a valid number",
    "--set generalist.pretrained=true": "weights of its own cannot be given",
    "--set generalist.patience=3": "an early stop (patience) and a step schedule do not carry over",
    "--set generalist.schedule=step:20": "an early stop (patience) and a step schedule do not carry over",
    "--distill --set distill.num_views=4": "distill.num_views is 4, but there are no views",
    "--set specialist.learning_rate=0": "specialist.learning_rate should be greater than 0",
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use_is_one_line_and_leaves_nothing(typed: Command, arguments: str, tmp_path: Path) -> None:
    done = typed("specialists", *arguments.split(" "), "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert WRONG_USE[arguments] in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_mixture_is_of_the_generalists_network() -> None:
    assert read_config({}).mixture == "mixture:3/mlp:12x1/mlp:6x1"
    large = {"generalist": {"network": "mlp:64x2"}}
    assert read_config(large).mixture == "mixture:2/mlp:64x2/mlp:64x2"
    assert read_config({**large, "mixture": "mixture:2/mlp:8x1/mlp:4x1"}).mixture == "mixture:2/mlp:8x1/mlp:4x1"
    assert "mixture" not in read_config({"generalist": {"network": "python:mine:network"}}).controls


def test_another_network_than_the_files_has_a_mixture_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('mixture = "mixture:3/mlp:12x1/mlp:6x1"\ngeneralist.network = "mlp:12x1"\n')
    assert read_config({}, file).mixture == "mixture:3/mlp:12x1/mlp:6x1"
    other = {"generalist": {"network": "mlp:64x2"}}
    assert read_config(other, file).mixture == "mixture:2/mlp:64x2/mlp:64x2"
    assert (
        read_config({**other, "mixture": "mixture:2/mlp:8x1/mlp:4x1"}, file).mixture == "mixture:2/mlp:8x1/mlp:4x1"
    )


@pytest.mark.parametrize(("views", "expected"), [("none", 1), ("jitter:1", 8)])
def test_a_student_sees_several_views_where_there_are_views(views: str, expected: int) -> None:
    assert read_config({"generalist": {"views": views}, "distill": {}}).num_views == expected


@pytest.mark.parametrize(
    ("update", "command"),
    [
        ({}, "instar reproduce specialists --scale tiny --data digits"),
        ({"seeds": 1}, "instar reproduce specialists --config RUN/config.toml"),
        ({"scale": "custom"}, "instar reproduce specialists --config RUN/config.toml"),
        ({"scale": None}, "instar specialists --config RUN/config.toml"),
    ],
)
def test_the_page_names_the_scale_only_where_nothing_differs(
    finished: Path, result: dict, update: dict, command: str
) -> None:
    plan = make_plan(CONFIG.model_copy(update=update), finished, QUIET)
    assert STUDY.page(plan, result).again == f"{command.replace('RUN', str(finished))} --run-dir runs/again"


def test_unknown_scale_and_data() -> None:
    with pytest.raises(UsageError, match="unknown scale 'huge'"):
        config_for("huge")
    with pytest.raises(UsageError, match="unknown data set 'cifar'; did you mean cifar100"):
        config_for("tiny", "cifar")


def test_labels_are_a_control_of_the_distilled_network_alone(tmp_path: Path) -> None:
    assert "labels" not in read_config({}).controls
    assert "labels" in read_config({"distill": {}}).controls
    (tmp_path / "mine.toml").write_text('controls = ["longer", "labels"]\n')
    for given, file in (({"controls": ["labels"]}, None), ({}, tmp_path / "mine.toml")):
        with pytest.raises(UsageError, match="labels is what the network distilled back is compared with"):
            read_config(given, file)


def test_epochs_and_rates_that_are_not_given_follow_the_generalists(tmp_path: Path) -> None:
    """A student took SGD's rate of 0.1 where AdamW had trained its generalist at 0.01."""
    own: dict[str, object] = {"generalist": {"learning_rate": 0.01, "epochs": 12}, "distill": {}}
    config = read_config(own)
    assert (config.specialist.epochs, config.specialist.learning_rate) == (6, 0.003)
    assert config.distill is not None
    assert (config.distill.epochs, config.distill.learning_rate) == (24, 0.01)
    given = read_config(
        {**own, "specialist": {"epochs": 4, "learning_rate": None}, "distill": {"learning_rate": 1}}
    )
    assert (given.specialist.epochs, given.specialist.learning_rate) == (4, 0.003)
    assert given.distill is not None
    assert (given.distill.epochs, given.distill.learning_rate) == (24, 1)
    (tmp_path / "mine.toml").write_text("[specialist]\nepochs = 7\n[distill]\nepochs = 9\n")
    from_file = read_config(own, tmp_path / "mine.toml")
    assert from_file.distill is not None
    assert (from_file.specialist.epochs, from_file.distill.epochs) == (7, 9)
    defaults = config_for("small", "digits")
    plain = read_config({"distill": {}})
    assert (plain.specialist, plain.distill) == (defaults.specialist, defaults.distill)


@pytest.mark.parametrize("scale", ["tiny", "small", "full"])
@pytest.mark.parametrize("data", ["cifar100", "omniglot", "digits"])
def test_every_scale_is_a_configuration(scale: str, data: str) -> None:
    config = config_for(scale, data)
    assert config.data.name == data
    assert config.distill is not None
    assert set(config.controls) == {"longer", "random", "ensemble", "mixture", "full-softmax", "labels"}
    assert config.seeds >= 2
