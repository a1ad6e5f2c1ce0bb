"""`instar advise`: on the digits, on networks with weights of their own, and what it refuses."""

import json
import os
import runpy
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from command_line import Command
from instar.data import Splits
from instar.errors import InstarError, UsageError
from instar.evaluation import predict_logits
from instar.jobs import JobReport
from instar.jobs.execution import execute
from instar.networks import build_network, cut
from instar.recipes.advise import recipe
from instar.recipes.advise.checks import check
from instar.recipes.advise.costs import cost_of_advice
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.recipe import STUDY, measure
from instar.recipes.advise.search import Fitted, Search, read_fit, successive_halving
from instar.recipes.advise.settings import AdviseConfig, read_config
from instar.recipes.contents import contents_of
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import merge
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution, Result, run_path, run_study
from instar.runs import Run, find_run
from instar.transfer import features_at, pooled
from transfer_networks import normalised

TINY = {"fit": {"epochs": 10}, "base": {"epochs": 3}, "network": "mlp:16x2", "seeds": 2, "controls": True}
ROOT = Path(__file__).parents[2]
QUIET = Execution(quiet=True)
FAST = ("--epochs", "3", "--set", "base.epochs=1")


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("advise") / "run"
    run_study(STUDY, read_config(TINY), path, QUIET)
    return path


def plan_of(path: Path) -> Plan:
    return Plan(AdviseConfig(**Run.read(path).config), path)


def advice_of(result: Result) -> Result:
    return next(row for row in result["rows"] if row["chosen"])


def test_a_row_for_each_treatment_tried_and_the_usual_ones_among_them(advised: Path) -> None:
    result = Run.read(advised).result()
    tried = {row["name"]: row for row in result["tuning"]}
    assert set(tried) == {"A1B", "A1B+", "A2B", "A2B+", "baseB"}
    usual = {row["usual"]: name for name, row in tried.items() if "usual" in row}
    assert usual == {"freeze all, train the head": "A2B", "fine-tune all": "A2B+", "from scratch": "baseB"}
    assert sum(row["chosen"] for row in result["rows"]) == 1
    assert all(len(row["validation_by_round"]) >= 1 and row["multiplications"] > 0 for row in tried.values())
    assert {row["name"] for row in result["rows"]} >= set(usual.values())


def test_rounds_thin_out_by_validation_and_the_last_decides(advised: Path) -> None:
    jobs = advised / "jobs"
    rounds = [sorted(path.name for path in (jobs / f"round-{number}").iterdir()) for number in (1, 2)]
    assert len(rounds[0]) == 5
    found = {name: Run.read(jobs / "round-1" / name).result()["metrics"] for name in rounds[0]}
    order = sorted(found, key=lambda name: (found[name]["validation_errors"], found[name]["validation_nll"]))
    assert rounds[1] == sorted(order[:2])
    assert Run.read(jobs / "round-2" / rounds[1][0]).config["fit"]["epochs"] == 3
    result = Run.read(advised).result()
    best = max(row["validation_accuracy"] for row in result["rows"])
    assert advice_of(result)["validation_accuracy"] == best == result["metrics"]["validation_accuracy"]


def test_the_expected_accuracy_is_that_of_the_fits_to_the_end(advised: Path) -> None:
    result, plan = Run.read(advised).result(), plan_of(advised)
    test = plan.splits.test
    shares = []
    for seed in (0, 1):
        network = load_run_network(advised / "jobs" / plan.full_name(advice_of(result)["name"], seed))
        right = predict_logits(network, test).argmax(1) == test.labels(test.ids)
        shares.append(100 * float(right.double().mean()))
    advice = advice_of(result)
    assert result["metrics"]["accuracy"] == advice["mean"] == pytest.approx(sum(shares) / 2)
    assert advice["values"] == pytest.approx(shares)
    assert advice["n"] == 2
    assert advice["interval"] == "95 % t interval over 2 seeds"
    means = {row["name"]: row["mean"] for row in result["rows"]}
    assert {row["minus"] for row in result["differences"]} == set(means) - {advice["name"]}
    for row in result["differences"]:
        assert row["mean"] == pytest.approx(advice["mean"] - means[row["minus"]])


def test_the_cost_counts_every_fit_of_the_advice(advised: Path) -> None:
    result = Run.read(advised).result()
    details = result["details"]
    cost = details["cost"]
    assert cost["study"]["fits"] == 5
    assert cost["advice"]["fits"] == 5 + 2 + 2 * 2  # two finalists, two seeds
    per_example = 64 * 16 + 16 * 16 + 16 * 5
    num_train, num_validation = details["num_train"], details["num_validation"]
    learns = 10 * (3 * num_train + num_validation)
    frozen = learns * (2 * per_example - 64 * 16 - (64 * 16 + 16 * 16))
    once = (64 * 16 + 64 * 16 + 16 * 16) * (num_train + num_validation)
    assert cost["study"]["multiplications"] == 3 * learns * per_example + frozen + once


def test_the_target_has_as_many_examples_as_were_asked_for(advised: Path) -> None:
    splits = plan_of(advised).splits
    assert len(splits.class_names) == 5
    assert len(splits.train) + len(splits.validation) == pytest.approx(100, abs=5)
    assert len(splits.test) == 179


def test_fits_to_the_target_begin_alike_and_elsewhere_than_the_base(advised: Path) -> None:
    jobs = advised / "jobs"
    rounds, finals = (
        {(path.name, Run.read(path).config["seed"]) for path in jobs.glob(pattern)}
        for pattern in ("round-*/*", "final/*/*")
    )
    assert {seed for _, seed in rounds} == {1000}
    assert finals == {("seed-0", 1000), ("seed-1", 1001)}
    assert Run.read(jobs / "base").config["seed"] == 0
    again = {"network": f"{advised}:final/baseB/seed-1", "data": {"name": "digits", "classes": list("01234")}}
    with pytest.raises(UsageError, match="was initialised with seed 1001, as a fit on the target would be"):
        check(Plan(read_config({**again, "seeds": 2}), advised))
    check(Plan(read_config(again), advised))


def made_up(rounds: list[dict[str, Fitted]], finalists: list[str], full: dict[str, list[Fitted]]) -> Search:
    """A search whose fits are made up."""
    scores = [{"cut": n, "probe_accuracy": 60.0, "h_score": 1.0, "logme": 0.1} for n in (1, 2)]
    scored = {"metrics": {"num_examples": 10, "seconds": 1.0}, "rows": scores}
    return Search(scored, ["A1B", "A1B+", "A2B", "A2B+", "baseB"], rounds, {"A1B+": "made up"}, finalists, full)


def test_the_cost_counts_the_usual_ways_where_the_advice_is_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, names = Plan(read_config(TINY), tmp_path), ["A1B", "A2B", "A2B+", "baseB"]
    monkeypatch.setattr(recipe, "right_on_test", lambda *_: torch.tensor([True, False]))
    full = {name: [Fitted(3 - (name == "A2B"), 0.5, 10, 1.0, True)] * 2 for name in names}
    for finalist, expected in (("A2B", 1), ("A1B", len(names))):
        found = measure(plan, made_up([{name: full[name][0] for name in names}], [finalist], full))
        assert advice_of(found)["name"] == "A2B"
        assert found["details"]["cost"]["advice"]["fits"] == 4 + 2 * expected
        failed = {row["name"]: row["failed"] for row in found["tuning"] if "failed" in row}
        assert failed == {"A1B+": "made up"}


def finish(plan: Plan, job: str, content: Result) -> None:
    """A made-up result of a job."""
    with Run(plan.path / "jobs" / job, recipe="job", config={}) as run:
        run.log_metrics({"epoch": 1, "seconds": 0.1})
        run.finish(content)


def end_fits(plan: Plan, jobs: Iterable[str], errors: Mapping[str, int]) -> None:
    for job in jobs:
        if (name := Path(job).name) in errors:
            metrics = {"validation_errors": errors[name], "validation_nll": 0.5}
            finish(plan, job, {"metrics": metrics, "rows": [{"epoch": 1}]})


def test_halving_keeps_the_best_third_and_reports_a_treatment_that_fails(tmp_path: Path) -> None:
    plan = Plan(read_config({**TINY, "finalists": 1}), tmp_path)
    rounds = successive_halving(plan)
    base, scores = (job.name for job in next(rounds).jobs)
    scored = [{"cut": 1, "probe_accuracy": 70.0}, {"cut": 2, "probe_accuracy": 60.0}]
    finish(plan, scores, {"metrics": {"num_examples": 10, "seconds": 0.1}, "rows": scored})
    first = rounds.send(JobReport())
    names = [job.name for job in first.jobs]
    assert first.may_fail
    assert names == [base, *(f"round-1/{name}" for name in ("A1B", "A1B+", "A2B", "A2B+", "baseB"))]
    end_fits(plan, names, {"A1B+": 1, "A2B": 2, "A2B+": 3, "baseB": 4})
    second = rounds.send(JobReport(failed={"round-1/A1B": "the loss is not finite"}))
    names = [job.name for job in second.jobs]
    assert names == [base, "round-2/A1B+", "round-2/A2B"]
    end_fits(plan, names, {"A1B+": 2, "A2B": 1})
    with pytest.raises(StopIteration) as ended:
        rounds.send(JobReport())
    search = ended.value.value
    assert search.finalists == ["A2B"]
    assert search.failed == {"A1B": "the loss is not finite"}
    assert [list(fits) for fits in search.rounds] == [["A1B+", "A2B", "A2B+", "baseB"], ["A2B", "A1B+"]]


def test_halving_ends_where_all_short_fits_fail(tmp_path: Path) -> None:
    plan = Plan(read_config(TINY), tmp_path)
    rounds = successive_halving(plan)
    next(rounds)
    finish(plan, "scores", {"metrics": {}, "rows": [{"cut": 2, "probe_accuracy": 60.0}]})
    failed = {job.name: "the loss is not finite" for job in rounds.send(JobReport()).jobs}
    with pytest.raises(InstarError, match="the loss is not finite"):
        rounds.send(JobReport(failed=failed))


def test_a_base_that_learned_what_is_validation_here_is_refused(advised: Path) -> None:
    """It was given a tenth of the digits for validation; the advisor takes three."""
    data = {"name": "digits", "classes": list("01234")}
    config = {"network": f"{advised}:base", "data": data}
    with pytest.raises(UsageError, match=r"was trained on \d+ of the \d+ validation examples of digits"):
        check(Plan(read_config(config), advised))
    check(Plan(read_config({**config, "data": {**data, "validation_fraction": 0.1}}), advised))


def test_page_and_again(advised: Path) -> None:
    page = (advised / "report.html").read_text()
    for words in ("freeze all, train the head", "LogME", "H-score", "Cost"):
        assert words in page
    before = Run.read(advised).result()
    assert run_study(STUDY, read_config(TINY), advised, QUIET) == before


def test_one_seed_has_the_interval_of_its_test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(read_config({**TINY, "seeds": 1}), tmp_path)
    share = {"A1B": 0.9, "A2B": 0.6}
    monkeypatch.setattr(
        recipe, "right_on_test", lambda _, job: torch.arange(179) < 179 * share[Path(job).parent.name]
    )
    full = {name: [Fitted(errors, 0.5, 10, 1.0, True)] for name, errors in {"A1B": 2, "A2B": 3}.items()}
    short = dict.fromkeys(("A1B", "A2B", "A2B+", "baseB"), Fitted(5, 0.5, 1, 1.0, True))
    result = measure(plan, made_up([short], list(full), full))
    advice = advice_of(result)
    assert advice["interval"] == "95 % Wilson interval over 179 test examples"
    assert advice["low"] < advice["mean"] < advice["high"]
    assert (advice["n"], advice["sd"]) == (1, None)
    (difference,) = result["differences"]
    assert difference["interval"] == "95 % bootstrap interval over 179 test examples"
    assert 0 < difference["low"] < difference["mean"] < difference["high"]


def test_a_runs_network_is_taken_as_it_is(advised: Path, tmp_path: Path) -> None:
    plan = Plan(read_config(merge(TINY, {"network": f"{advised}:base"})), tmp_path / "run")
    check(plan)
    execute(plan.base_job, plan.path, threads=1)
    own, theirs = (load_run_network(find_run(f"{run}:base")) for run in (tmp_path / "run", advised))
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), theirs.parameters(), strict=True))


def test_one_cut_is_the_deepest(tmp_path: Path) -> None:
    plan = Plan(read_config({**TINY, "num_cuts": 1}), tmp_path)
    rounds = successive_halving(plan)
    next(rounds)
    scored = [{"cut": 1, "probe_accuracy": 70.0}, {"cut": 2, "probe_accuracy": 60.0}]
    finish(plan, "scores", {"metrics": {}, "rows": scored})
    assert [Path(job.name).name for job in rounds.send(JobReport()).jobs[1:]] == ["A2B", "A2B+", "baseB"]


def test_a_weights_file_gives_all_but_the_last_layer(tmp_path: Path) -> None:
    network = build_network("mlp:16x2", input_shape=(1, 8, 8), num_classes=7, seed=3)  # for other classes
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    plan = Plan(read_config({"network": f"mlp:16x2@{tmp_path / 'weights.safetensors'}"}), tmp_path / "run")
    check(plan)
    execute(plan.base_job, plan.path, threads=1)
    taken = load_run_network(plan.path / "jobs" / "base")
    assert torch.equal(taken[1][0].weight, network[1][0].weight)
    assert taken[2][0].out_features == 5


def test_weights_of_a_users_network_may_be_for_other_classes(tmp_path: Path) -> None:
    save_file(normalised(7).state_dict(), tmp_path / "weights.safetensors")
    spec = f"python:transfer_networks:normalised@{tmp_path / 'weights.safetensors'}"
    config = read_config({"network": spec})
    assert spec in contents_of(config)["network"]
    check(Plan(config, tmp_path / "run"))


def test_a_users_network_keeps_its_weights_below_the_cut_and_is_drawn_anew_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "advised_module.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def trained(num_classes):\n"
        "    torch.manual_seed(11)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    config = read_config({"network": "python:advised_module:trained", "fit": {"learning_rate": 1e-5}})
    plan = Plan(config, tmp_path / "run")
    check(plan)
    assert plan.cuts == [3]
    fits = [plan.fit(name, name, epochs=1, seed=0) for name in plan.treatments]
    for job in (plan.base_job, *fits):
        execute(job, plan.path, threads=1)
    frozen, tuned, scratch = (load_run_network(plan.path / "jobs" / job.name) for job in fits)
    base = load_run_network(plan.path / "jobs" / "base")
    assert torch.equal(frozen[1].weight, base[1].weight)
    assert torch.allclose(tuned[1].weight, base[1].weight, atol=1e-3)
    assert not torch.allclose(scratch[1].weight, base[1].weight, atol=0.05)
    assert not torch.allclose(frozen[3].weight, base[3].weight, atol=0.05)
    assert torch.allclose(frozen[3].weight, scratch[3].weight, atol=1e-3)  # paired seeds


def test_a_users_network_is_drawn_anew_for_a_source(tmp_path: Path) -> None:
    source, target = ({"name": "digits", "classes": list(classes)} for classes in ("01", "23"))
    config = {"network": "python:transfer_networks:normalised", "source": source, "data": target}
    plan = Plan(read_config(config), tmp_path)
    check(plan)
    assert plan.base_job.config["seed"] == 0
    assert plan.base_job.config["fit"]["new_weights"] is True
    assert plan.base_job.config["class_names"] == ["0", "1"]


def test_a_source_is_not_given_to_a_network_with_weights() -> None:
    for network in ("mlp:16x2@weights.pth", "python:some_module:network@weights.pth"):
        with pytest.raises(UsageError, match="comes with weights, so it cannot be trained on source digits first"):
            read_config({"network": network, "source": {"name": "digits"}})


def swapped() -> Splits:
    splits = load_splits(DataSettings())
    return Splits(splits.test, splits.validation, splits.train)


def test_a_base_that_learns_test_examples_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    config = {"network": "mlp:16x2", "source": {"name": "python:test_advise:swapped"}, "data": {"name": "digits"}}
    with pytest.raises(UsageError, match="mlp:16x2 was trained on 359 of the 359 test examples of digits"):
        check(Plan(read_config(config), tmp_path))


def test_a_base_of_other_layers_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    config = read_config({"network": "mlp:16x2", "fit": {"input_dropout": 0.2}})
    with pytest.raises(UsageError, match=r"A1B\+: the base has another architecture: fc1"):
        check(Plan(config, tmp_path))


def test_short_fits_have_a_schedule_as_much_shorter(tmp_path: Path) -> None:
    fit = {"epochs": 60, "schedule": "step:30,45", "warmup_epochs": 10}
    plan = Plan(read_config({"network": "mlp:16x2", "fit": fit}), tmp_path)
    short, whole = (plan.fit("fit", "baseB", epochs=epochs, seed=0).config["fit"] for epochs in (6, 60))
    assert (short["epochs"], short["schedule"], short["warmup_epochs"]) == (6, "step:3,4.5", 1)
    assert (whole["epochs"], whole["schedule"], whole["warmup_epochs"]) == (60, "step:30,45", 10)


def noise() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    inputs = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(int(os.environ["NOISE_SEED"])))
    return (inputs[:30], torch.arange(30) % 2), (inputs[30:], torch.arange(10) % 2)


def test_other_weights_and_another_source_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for seed in (3, 4):
        network = build_network("mlp:16x2", input_shape=(1, 8, 8), num_classes=7, seed=seed)
        save_file(network.state_dict(), tmp_path / "weights.safetensors")
        paths += [run_path(STUDY, read_config({"network": f"mlp:16x2@{tmp_path / 'weights.safetensors'}"}))] * 2
    assert paths[0] == paths[1] != paths[2]
    monkeypatch.syspath_prepend(Path(__file__).parent)
    for seed in (3, 4):
        monkeypatch.setenv("NOISE_SEED", str(seed))
        load_splits.cache_clear()
        source = {"name": "python:test_advise:noise"}
        paths.append(run_path(STUDY, read_config({"network": "mlp:16x2", "source": source})))
    assert paths[-2] != paths[-1]


def test_what_a_fit_took_are_the_epochs_that_were_run_and_their_seconds(tmp_path: Path) -> None:
    plan = Plan(read_config({"fit": {"epochs": 60, "patience": 1}}), tmp_path)
    with Run(tmp_path / "jobs" / "fit", recipe="job", config={}) as run:
        for epoch in (1, 2):
            run.log_metrics({"epoch": epoch, "seconds": 0.25 * epoch})
        os.utime(run.path / "config.toml", (0, 0))  # begun long ago, cut off before its first checkpoint
        kept = {"validation_errors": 3, "validation_nll": 0.5}
        run.finish({"metrics": kept, "rows": [{"epoch": 1}, {"epoch": 2}]})
    fitted = read_fit(plan, "fit")
    assert (fitted.epochs, fitted.seconds) == (2, 0.5)


def test_the_cost_of_the_study_is_known_where_every_frozen_treatment_failed(tmp_path: Path) -> None:
    plan = Plan(read_config(TINY), tmp_path)
    fits = {name: Fitted(3, 0.5, 10, 2.0, False) for name in ("A2B+", "baseB")}
    cost = cost_of_advice(plan, made_up([fits], [*fits, "A2B"], {}), {})
    assert cost["advice"] == {"fits": 2, "multiplications": cost["advice"]["multiplications"], "seconds": 5.0}
    assert cost["study"]["seconds"] > 0


@pytest.mark.slow
def test_advice_is_given_where_every_frozen_treatment_failed(tmp_path: Path) -> None:
    """Its statistics move however it is frozen."""
    fit = {"epochs": 2, "learning_rate": 0.01}
    config = {"network": "python:transfer_networks:unfreezing", "fit": fit, "rounds": [0.5], "num_cuts": 1}
    result = run_study(STUDY, read_config(config), tmp_path / "run", QUIET)
    failed = {row["name"]: row["failed"] for row in result["tuning"] if "failed" in row}
    assert set(failed) == {"A3B"}
    assert "frozen layers changed in training: one.1.norm.running_mean" in failed["A3B"]
    assert result["details"]["cost"]["study"]["seconds"] > 0


def test_features_at_every_cut_are_those_of_its_prefix() -> None:
    data = load_splits(DataSettings()).validation
    network = build_network("convnet:5", input_shape=(1, 8, 8), num_classes=10, seed=0)
    found = features_at(network, [1, 2, 4], data)
    for n in (1, 2, 4):
        inputs = data.gather(data.ids, 0)
        expected = pooled(cut(network, n).prefix.eval()(inputs))
        torch.testing.assert_close(found[n], expected.detach())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--classes", "7"), "found ['7']"),
        (("--examples", "2000"), "examples_per_class is 2000: digits has only 143 per class"),
        (("--data", "mnist"), "network mlp:64x3 has no weights"),
        (("--source-fraction", "0.5"), "source.fraction is given but no source: name its data with --source"),
        (("--source", "digits", "--network", "mlp:16y"), "should be mlp:UNITSxLAYERS"),
        (("--network", "mlp:64x3@nowhere.safetensors"), "no weights file at nowhere.safetensors"),
        (("--network", "python:odd_module:other_size"), "cannot take the examples of digits, (1, 8, 8)"),
        (("--network", "python:odd_module:no_layers"), "has no stages"),
        (("--network", "python:transfer_networks:branching"), "path through Branching depends on the data"),
        (("--network", "python:odd_module:one_layer"), "cannot be cut: it needs two layers with weights"),
        (("--network", "python:odd_module:own_weights"), "0.own cannot be re-initialised"),
        (
            ("--data", "python:odd_module:one_class", "--network", "python:odd_module:good"),
            "have the class 'a'; two classes are needed",
        ),
        (("--data", "python:odd_module:few", "--network", "python:odd_module:good"), "2 training examples for 3"),
        (("--set", "rounds=[0.5, 0.1]"), "rounds must increase from one to the next"),
        (("--set", "rounds=[]"), "rounds List should have at least 1 item"),
        (("--set", "fit.pretrained=true"), "fit.pretrained is for teachers"),
        (
            ("--data", "python:odd_module:flat", "--network", "python:odd_module:good", "--views", "jitter:1"),
            "views 'jitter:1' need images (channels, height, width)",
        ),
        (("--set", "fit.learning_rate=[0.1, 0.2]"), "fit.learning_rate should be a valid number"),
        (("--set", "colour=red"), "unknown setting 'colour'"),
    ],
)
def test_bad_input_is_one_line(typed: Command, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "odd_module.py").write_text(
        "import torch\nfrom torch import nn\nfrom instar import InMemoryDataset, Splits\n"
        "def good(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, num_classes))\n"
        "def other_size(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(100, 9), nn.Linear(9, num_classes))\n"
        "class Bare(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = nn.Parameter(torch.zeros(64, 5))\n"
        "    def forward(self, x): return x.flatten(1) @ self.weight\n"
        "def no_layers(): return Bare()\n"
        "def one_layer(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
        "class Own(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.own = nn.Parameter(torch.zeros(64))\n"
        "    def forward(self, x): return x.flatten(1) + self.own\n"
        "def own_weights(num_classes): return nn.Sequential(Own(), nn.Linear(64, 8), nn.Linear(8, num_classes))\n"
        "def _data(labels, names):\n"
        "    generator = torch.Generator().manual_seed(len(names) + len(labels))\n"
        "    return InMemoryDataset(torch.rand(len(labels), 1, 2, 2, generator=generator), torch.tensor(labels),"
        " class_names=names)\n"
        "def _splits(train, names):\n"
        "    return Splits(_data(train, names), _data([0, 1] * 2, names), _data([0, 1] * 3, names))\n"
        "def one_class(): return _splits([0] * 8, ['a', 'b'])\n"
        "def flat():\n"
        "    inputs = torch.rand(80, 4, generator=torch.Generator().manual_seed(0))\n"
        "    return (inputs[:40], torch.arange(40) % 2), (inputs[40:], torch.arange(40) % 2)\n"
        "def few(): return _splits([0, 1], ['a', 'b', 'c'])\n"
    )
    done = typed("advise", *arguments, *FAST, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_of_a_run_with_many_networks_one_that_is_there_is_named(tmp_path: Path, advised: Path) -> None:
    config = {**TINY, "network": str(advised)}
    with pytest.raises(UsageError, match="holds several networks; name one of its fits, for instance ") as error:
        check(Plan(read_config(config), tmp_path / "run"))
    named = str(error.value).rpartition(" ")[2]
    assert named == f"{advised}:base"
    check(Plan(read_config({**config, "network": named}), tmp_path / "run"))


def test_other_channels_are_refused(typed: Command, tmp_path: Path, advised: Path) -> None:
    (tmp_path / "coloured.py").write_text(
        "import torch\n"
        "def data():\n"
        "    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))\n"
        "    return (x[:30], torch.arange(30) % 2), (x[30:], torch.arange(10) % 2)\n"
    )
    done = typed("advise", "--network", f"{advised}:base", "--data", "python:coloured:data", cwd=tmp_path)
    assert done.returncode == 2
    assert "was trained on examples of shape (1, 8, 8), those of python:coloured:data are (3, 8, 8)" in done.stderr
    done = typed(
        "advise", "--network", "mlp:8x2", "--source", "digits", "--data", "python:coloured:data", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "layers transfer only between examples of the same shape" in done.stderr


def test_command_line_answers_in_one_sentence(typed: Command, advised: Path) -> None:
    config = ("--config", advised / "config.toml", "--run-dir", advised)
    done = typed("advise", *config)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "Treatments tried" in said
    assert "full fits of all 5 treatments" in said
    assert "Against" in said
    assert json.loads(typed("advise", *config, "--json").stdout) == Run.read(advised).result()


def test_it_is_published_by_its_short_name(typed: Command, advised: Path, tmp_path: Path) -> None:
    config = read_config({"network": "python:my.nets:lite@a/b.pth", "data": {"name": "folder:my/photos"}})
    assert config.published_as == "advise-lite-folder:my/photos-all"
    typed("advise", "--config", advised / "config.toml", "--run-dir", advised, "--publish", cwd=tmp_path)
    published = json.loads((tmp_path / "results" / "advise-mlp-16x2-digits-20.json").read_text())
    assert published["schema"] == 2
    assert published["rows"] == Run.read(advised).result()["rows"]
    page = runpy.run_path(str(ROOT / "docs" / "make_results.py"))["study"](published)
    rows = page.partition("**Differences**")[0]
    assert rows.count(" ± ") == len(published["rows"]) + 1  # the head has one too
    assert rows.count("| yes |") == 1  # the advice
