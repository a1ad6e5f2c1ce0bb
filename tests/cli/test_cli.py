"""The command line: help, exit statuses, one clear line for what goes wrong, and nothing half-written."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from command_line import TINY, Command
from instar.cli.app import app
from instar.cli.commands import complete
from instar.cli.runs import list_table
from instar.recipes.rows import ACCURACY, ERRORS, difference, row
from instar.recipes.run_tables import bars
from instar.runs import Run


def commands() -> dict[str, Any]:
    """Every command with all its options, by what is typed."""
    return dict(_below("", typer.main.get_command(app)))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, complete(command)
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}".strip(), inner)


COMMANDS = commands()


@pytest.mark.parametrize("arguments", [[], ["distill"], ["transfer"], ["advise"], ["specialists"]], ids=" ".join)
def test_help_does_not_import_torch(arguments: list[str]) -> None:
    """Importing torch takes a second; help must answer at once."""
    code = (
        "import sys\n"
        "from instar.cli.app import main\n"
        f"sys.argv = ['instar', *{arguments}, '--help']\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_help_describes_every_option_and_its_default(typed: Command) -> None:
    """Square brackets in a help text are markup unless they are escaped, and would not be shown."""
    assert len(COMMANDS) > 20
    for path, command in COMMANDS.items():
        shown = " ".join(re.sub("[│╭╮╰╯─]", " ", typed(*path.split(), "--help").stdout).split())
        for option in command.params:
            text = re.sub(r"(?<!\\)\[/?dim\]", "", option.help or "").replace("\\[", "[")
            assert " ".join(text.split()) in shown, f"{path}: {option.name}"
            assert "(not described)" not in text, f"{path}: {option.name}"
    distill = {option.name: option.help for option in COMMANDS["distill"].params}
    for name, default in (("epochs", "60"), ("seeds", "5"), ("temperature", "2,4,8; 1,2,4 for mnist")):
        assert f"[default: {default}]" in distill[name]
    for command, name, default in (
        ("advise", "examples", "20 without --data"),
        ("specialists", "temperature", "2 with --distill"),
    ):
        (option,) = [option for option in COMMANDS[command].params if option.name == name]
        assert f"[default: {default}]" in option.help


def test_version(instar: Command) -> None:
    assert instar("--version").stdout.startswith("instar 0.")


WRONG_USE = {
    "--data mnits": "did you mean mnist",
    "--teacher mpl:12": "unknown network 'mpl:12'",
    "--student convnet:8x": "convnet:DEPTH",
    "--student convnet:3": "at least 4 layers",
    "--student mlp:0x2": "mlp:UNITSxLAYERS",
    "--student resnet:9": "6k + 2",
    "--student python:nowhere:network": "cannot import module 'nowhere'",
    "--student python:json:nothing": "has no function 'nothing'",
    "--teacher mlp:8x1@nowhere.safetensors": "no weights file at nowhere.safetensors",
    "--temperature 0": "temperature should be greater than 0, found 0.0",
    "--temperature -1": "temperature should be greater than 0",
    "--temperature nan": "temperature",
    "--temperature hot": "'hot' should be a number",
    "--soft-weight -1": "soft_weight should be greater than or equal to 0",
    "--hard-weight -1": "hard_weight should be greater than or equal to 0",
    "--soft-weight 0 --hard-weight 0": "weight",
    "--epochs 0": "student.epochs should be greater than or equal to 1",
    "--epochs many": "--epochs",
    "--teacher-epochs 0": "teacher.epochs",
    "--seeds 0": "seeds should be",
    "--learning-rate 0": "student.learning_rate",
    "--views jtter:2": "did you mean jitter",
    "--views jitter:x": "jitter:PIXELS",
    "--precision float16": "precision",
    "--device cuda:99": "device 'cuda:99' is not available",
    "--engine slurm": "unknown engine 'slurm'; there is local, ray and ray:ADDRESS",
    "--engine ray:": "unknown engine 'ray:'",
    "--engine ray:nowhere": "engine 'ray:nowhere' should be ray:HOST:PORT",
    "--engine ray:127.0.0.1:1": "nothing listens at 127.0.0.1:1 (",
    "--config nowhere.toml": "nowhere.toml",
    "--set student.dropuot=0.5": "unknown setting 'student.dropuot'",
    "--set nonsense": "should be KEY=VALUE",
    "--set seeds.x=1": "seeds should be a valid integer, found {'x': 1}",
    "--set teacher.network.x=1": "teacher.network should be a valid string",
    "--set teacher.learning_rate=[0.1,0.2]": "teacher.learning_rate should be a valid number, found [0.1, 0.2]",
    "--set student.schedule=linear": "cosine, constant or step",
    "--set student.initialiser=ones": "unknown initialiser 'ones'",
    "--set data.validation_fraction=2": "data.validation_fraction",
    "--no-such-option": "No such option",
    "--lr 0.1": "No such option: --lr. Did you mean --learning-rate?",
    "--num-epochs 3": "Did you mean --epochs?",
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use_is_one_line_and_leaves_nothing(typed: Command, arguments: str, tmp_path: Path) -> None:
    done = typed("distill", *arguments.split(" "), "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert WRONG_USE[arguments] in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_wrong_type_in_the_config_names_the_key(typed: Command, tmp_path: Path) -> None:
    for text, words in (
        ("seeds = 'three'", "seeds should be a valid integer"),
        ("[student]\nepochs = [1]", "student.epochs"),
        ("student = 3", "student should be"),
        ("colour = 'red'", "unknown setting 'colour'"),
        ("[1]\nseed = 7", "unknown setting '1'"),
        ("seeds = = 3", "cannot be read as TOML"),
    ):
        (tmp_path / "config.toml").write_text(text)
        done = typed("distill", "--config", tmp_path / "config.toml", "--run-dir", tmp_path / "run")
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert not (tmp_path / "run").exists()


def test_damaged_weights_and_those_of_another_architecture(
    typed: Command, finished_run: Path, tmp_path: Path
) -> None:
    whole = (finished_run / "jobs/teacher/checkpoints/final.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.safetensors").write_bytes(whole)
    (tmp_path / "words.pth").write_text("these are no weights")
    for teacher, words in (
        ("mlp:64x1@cut.safetensors", "cut.safetensors cannot be read"),
        ("mlp:64x2@whole.safetensors", "of another architecture than mlp:64x2"),
        ("mlp:63x1@whole.safetensors", "expected (63, 64)"),
        ("mlp:64x1@words.pth", "words.pth"),
    ):
        done = typed("distill", "--teacher", teacher, "--run-dir", tmp_path / "run", cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_bad_folders_of_pictures(typed: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "cats").mkdir(parents=True)
    for folder in ("empty", "one", "nowhere"):
        done = typed("distill", "--data", f"folder:{folder}", "--run-dir", tmp_path / "run", cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert folder in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_a_run_directory_that_cannot_be_written(typed: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = typed("distill", "--run-dir", tmp_path / "file" / "run")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


def test_error_in_a_users_module_is_one_line_and_a_traceback_on_demand(instar: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def network():\n    raise RuntimeError('no network today')\n")
    arguments = ("distill", "--student", "python:mine:network", "--run-dir", tmp_path / "run")
    done = instar(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "no network today" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in instar("--debug", *arguments, cwd=tmp_path).stderr


def test_runs_show_compare_report_and_remove(typed: Command, finished_run: Path, tmp_path: Path) -> None:
    shown = typed("runs", "show", finished_run)
    assert shown.returncode == 0, shown.stderr
    assert "student-distilled" in shown.stdout
    fit = typed("runs", "show", f"{finished_run}:teacher", "--json")
    assert json.loads(fit.stdout)["rows"][-1]["epoch"] == 8
    compared = typed("runs", "compare", finished_run, finished_run)
    assert "the same" in compared.stdout
    page = typed("report", finished_run, finished_run, "--out", tmp_path / "both.html")
    assert page.returncode == 0, page.stderr
    assert "2 runs" in (tmp_path / "both.html").read_text()
    copied = typed("report", finished_run, "--out", tmp_path / "one.html")
    assert copied.returncode == 0
    assert (tmp_path / "one.html").read_bytes() == (finished_run / "report.html").read_bytes()
    assert typed("runs", "show", tmp_path / "nowhere").returncode == 2
    assert typed("runs", "remove", tmp_path, "--yes").returncode == 2
    assert tmp_path.exists()


def test_runs_list_and_remove(typed: Command, finished_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "runs" / "distill" / "copy"
    shutil.copytree(finished_run, copy)
    listed = typed("runs", "list", cwd=tmp_path)
    assert "runs/distill/copy" in listed.stdout
    assert "done" in listed.stdout
    removed = typed("runs", "remove", "runs/distill/copy", "--yes", cwd=tmp_path)
    assert removed.returncode == 0
    assert not copy.exists()
    assert "No runs" in typed("runs", "list", cwd=tmp_path).stdout


def write_run(path: Path, recipe: str, **result: Any) -> None:
    """The run directory of a study with this result; unfinished without one."""
    with Run(path, recipe=recipe, config={"seed": 1}) as run:
        if result:
            run.finish(result)


STUDY = {
    "schema": 2,
    "measure": ACCURACY._asdict(),
    "rows": [row("alone", [60.0, 62.0]), row("distilled", [63.0, 66.0])],
    "differences": [difference("distilled", "alone", [63.0, 66.0], [60.0, 62.0])],
    "seconds": 75.0,
}
BEFORE = {  # a result of schema 1
    "rows": [{"name": "student-alone", "mean": 313.8, "sd": 13.2, "n": 5}],
    "metrics": {"difference": -92.0, "difference_low": -115.4, "difference_high": -68.6},
}


def test_runs_list_folds_names_and_never_numbers(typed: Command, tmp_path: Path) -> None:
    name = "runs/reproduce/a-name-that-is-longer-than-its-column-may-be"
    write_run(tmp_path / name, "reproduce-mnist", **STUDY)
    write_run(tmp_path / "runs/mine", "distill", **BEFORE)
    write_run(tmp_path / "runs/specialists/begun", "specialists")
    done = typed("runs", "list", "--json", cwd=tmp_path)
    records = {record["run"]: record for record in json.loads(done.stdout)}
    assert list(records) == [name, "runs/mine", "runs/specialists/begun"]
    assert records[name]["difference"]["unit"] == "points"
    assert (records["runs/mine"]["recipe"], records["runs/mine"]["difference"]["unit"]) == ("distill", "errors")
    assert records["runs/specialists/begun"]["done"] is False
    console = Console(file=io.StringIO(), width=80)
    console.print(list_table(list(records.values()), console.width))
    cells = set(re.split("  +|\n *", console.file.getvalue()))
    for words in (
        "+3.5 [-2.9, +9.9]",
        "-92.0 [-115.4, -68.6]",
        "distilled - alone, points",
        "done",
        "not finished",
    ):
        assert words in cells
    assert {"reproduce-mnist", "runs/mine", "1 min 15 s", "0 fits"} <= cells
    assert {"runs/reproduce/a-name-that-is-", "longer-than-its-column-may-be"} <= cells


def test_runs_list_breaks_no_name_in_a_pipe(typed: Command, tmp_path: Path) -> None:
    name = "runs/reproduce/a-name-that-is-longer-than-its-column-may-be-in-a-terminal-of-eighty-columns"
    write_run(tmp_path / name, "reproduce-mnist", **STUDY)
    assert name in typed("runs", "list", cwd=tmp_path, COLUMNS="").stdout


def test_a_name_without_parts_is_broken_where_it_must_be() -> None:
    console = Console(file=io.StringIO(), width=40)
    record = {"run": f"runs/{'x' * 50}", "recipe": "fit", "done": False, "fits": 0}
    console.print(list_table([record], console.width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(lines).count("x") == 50


def test_a_result_of_the_schema_before_is_shown(typed: Command, tmp_path: Path) -> None:
    write_run(tmp_path / "runs/mine", "distill", **BEFORE)
    write_run(tmp_path / "runs/other", "distill", **STUDY)
    shown = typed("runs", "show", tmp_path / "runs/mine")
    assert shown.returncode == 0, shown.stderr
    assert "student-alone" in shown.stdout
    assert "313.8" in shown.stdout
    compared = typed("runs", "compare", tmp_path / "runs/mine", tmp_path / "runs/other")
    assert compared.returncode == 0, compared.stderr
    assert "distilled - alone" in compared.stdout


def test_treatments_of_the_schema_before_are_compared_by_name(typed: Command, tmp_path: Path) -> None:
    rows = [{"treatment": "base", "cut": 0, "mean": 67.7}, {"treatment": "AnB+", "cut": 2, "mean": 70.1}]
    for name in ("one", "other"):
        write_run(tmp_path / name, "transfer", rows=rows, metrics={})
    compared = typed("runs", "compare", tmp_path / "one", tmp_path / "other")
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("A2B+") == 2
    assert "epoch" not in compared.stdout


def test_the_bars_of_differences_reach_below_zero(tmp_path: Path) -> None:
    measure = {"key": "difference", "title": "advice minus the best", "unit": "points", "better": "higher"}
    for name, unit in (("differences", "points"), ("accuracies", "%")):
        rows = [{"name": "one", "mean": 0.5, "sd": 1.0}]
        write_run(tmp_path / name, "reproduce-advise", schema=2, measure={**measure, "unit": unit}, rows=rows)
    lows = [bars([tmp_path / name])[0].rows[0]["low"] for name in ("differences", "accuracies")]
    assert lows == [-0.5, 0]


def test_a_job_that_measured_nothing_shows_its_settings(typed: Command, tmp_path: Path) -> None:
    with Run(tmp_path / "store", recipe="job", config={"num_views": 8}) as run:
        run.finish({})
    shown = typed("runs", "show", tmp_path / "store")
    assert shown.returncode == 0, shown.stderr
    assert "num_views" in shown.stdout


def test_a_report_says_what_its_bars_are_of(typed: Command, tmp_path: Path) -> None:
    for measure in (ACCURACY, ERRORS):
        with Run(tmp_path / measure.key, recipe="made-up", config={"seed": 1}) as run:
            row = {"name": "one", "mean": 80.0, "sd": 1.0, "n": 2}
            run.finish({"schema": 2, "measure": measure._asdict(), "rows": [row]})
    both = tmp_path / "both.html"
    assert typed("report", tmp_path / "accuracy", "--out", both).returncode == 0
    assert "Test accuracy, %" in both.read_text()
    assert "Test errors" not in both.read_text()
    assert typed("report", tmp_path / "accuracy", tmp_path / "errors", "--out", both).returncode == 0
    assert "Test accuracy, %" in both.read_text()
    assert "Test errors" in both.read_text()


def test_a_question_without_an_answer_removes_nothing(
    typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run(tmp_path / "run", recipe="job", config={}) as run:
        run.finish({})
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    done = typed("runs", "remove", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "instar: nothing is deleted: the question got no answer; --yes deletes without asking"
    )
    assert (tmp_path / "run").exists()


def test_data_lists_and_describes(typed: Command, tmp_path: Path) -> None:
    listed = typed("data")
    assert all(name in listed.stdout for name in ("digits", "mnist", "cifar100"))
    shown = typed("data", "digits")
    assert shown.returncode == 0, shown.stderr
    assert "1x8x8" in shown.stdout


def test_progress_is_plain_lines_in_a_log_and_silence_when_quiet(instar: Command, tmp_path: Path) -> None:
    fast = ["--teacher", "mlp:8x1", "--student", "mlp:4x1", "--teacher-epochs", "1", "--epochs", "1"]
    fast += ["--seeds", "1", "--temperature", "2", "--learning-rate", "0.1"]
    told = instar("distill", *fast, "--run-dir", tmp_path / "told", "--tensorboard")
    assert "teacher: done" in told.stderr
    assert "\x1b" not in told.stderr
    assert "student-distilled" in told.stdout
    assert f"Page: {tmp_path / 'told' / 'report.html'}" in told.stdout
    assert list((tmp_path / "told/jobs/teacher/tensorboard").glob("events.out.tfevents.*"))
    quiet = instar("distill", *fast, "--run-dir", tmp_path / "quiet", "--quiet")
    assert quiet.returncode == 0
    assert quiet.stderr == ""


def test_publish_writes_a_result_that_can_be_had_again(typed: Command, finished_run: Path, tmp_path: Path) -> None:
    done = typed("distill", *TINY, "--run-dir", finished_run, "--publish", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    published = json.loads((tmp_path / "results" / "distill-digits.json").read_text())
    own = json.loads((finished_run / "result.json").read_text())
    assert {key: published[key] for key in own} == own
    assert set(published) - set(own) == {"name"}
    assert published["seeds"] == [0, 1, 2]
    assert {"torch", "processor", "command"} <= set(published["environment"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("distill", "--data"), "instar: stopped; run the same command again to resume\n"),
        (("data", "show"), "instar: stopped\n"),
    ],
    ids=["distill", "data"],
)
def test_ctrl_c_speaks_of_resuming_where_a_command_resumes(
    typed: Command, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "stopping.py").write_text("def data():\n    raise KeyboardInterrupt\n")
    done = typed(*words, "python:stopping:data", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 130
    assert done.stderr.endswith(said)
