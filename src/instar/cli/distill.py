"""`instar distill`."""

from collections.abc import Sequence
from typing import Any

import typer

from instar.cli.options import (
    ConfigFile,
    Device,
    Engine,
    Json,
    Processes,
    Publish,
    Quiet,
    RunDir,
    TensorBoard,
    carry_out,
    names,
    numbers,
    set_values,
)
from instar.errors import UsageError
from instar.naming import unknown_name

SWEPT = ("temperature", "soft_weight", "hard_weight", "label_weight", "learning_rate")


def distill(
    data: str = typer.Option(
        None,
        help="Data set: digits, mnist, fashion-mnist, cifar10, cifar100, folder:PATH, "
        "python:MODULE:FUNCTION. Default: digits.",
    ),
    teacher: str = typer.Option(
        None,
        help="A network to train (mlp:1200x2, convnet:8, resnet:20, "
        "python:MODULE:FUNCTION), one with weights (NAME@FILE.safetensors), or a run "
        "directory (RUN:teacher); several with commas are an ensemble. Default: mlp:1200x2.",
    ),
    teachers: int = typer.Option(None, help="How many of it, with seeds of their own: an ensemble. Default: 1."),
    ensemble_mean: str = typer.Option(None, help="Of the members' probabilities: arithmetic or geometric."),
    targets: str = typer.Option(
        None, metavar="DIR", help="Stored soft targets in place of a teacher; see instar targets write."
    ),
    student: str = typer.Option(None, help="The small network. Default: mlp:8x1."),
    temperature: str = typer.Option(
        None, help="Of the soft targets; of several (2,4,8) validation chooses; inf matches logits."
    ),
    soft_weight: str = typer.Option(None, help="Weight of the soft targets."),
    hard_weight: str = typer.Option(None, help="Weight of the labels, beside the soft targets."),
    label_weight: str = typer.Option(None, help="Weight of the labels in the soft targets that they modify."),
    sweep: list[str] = typer.Option(
        [],
        help="Values to compare: temperature=1,2,4,8,20; soft_weight, hard_weight, label_weight, learning_rate.",
    ),
    tuning_seeds: int = typer.Option(None, help="How many seeds of their own validation compares with."),
    learning_rate: str = typer.Option(None, help="Of both students; of several validation chooses, for each."),
    epochs: int = typer.Option(None, help="Of each student."),
    teacher_epochs: int = typer.Option(None, help="Of the teacher."),
    teacher_pretrained: bool = typer.Option(
        None, "--teacher-pretrained", help="Take the teacher's weights as they come, train nothing."
    ),
    views: str = typer.Option(None, help="Augmentation for the students: none, jitter:2, crop:4+flip, affine:..."),
    teacher_views: str = typer.Option(None, help="Augmentation for the teacher."),
    drop_classes: str = typer.Option(None, help="Leave these classes out of the transfer set: 3,5."),
    keep_classes: str = typer.Option(None, help="Keep only these classes in the transfer set."),
    fraction: float = typer.Option(None, help="Of the training examples of each class in the transfer set."),
    labelled: float = typer.Option(None, help="Share of the transfer set that keeps its labels."),
    unlabelled: str = typer.Option(
        None, metavar="FOLDER", help="A transfer set of pictures without labels: all below this folder."
    ),
    fit_bias: str = typer.Option(
        None, help="Correct by validation the bias of the classes that are missing or present in the transfer set."
    ),
    bias_per_class: bool = typer.Option(None, "--bias-per-class", help="One bias for each of these classes."),
    seeds: int = typer.Option(None, help="How many students of each kind are reported."),
    seed: int = typer.Option(None, help="The first seed."),
    split_seed: int = typer.Option(None, help="Decides which examples are validation."),
    image_size: int = typer.Option(None, help="Resize a folder's pictures to this many pixels."),
    precision: str = typer.Option(None, help="auto, float32 or bfloat16."),
    config: ConfigFile = None,
    set_: list[str] = typer.Option([], "--set", help="Any other setting: --set teacher.dropout=0.3"),
    device: Device = "cpu",
    engine: Engine = "local",
    processes: Processes = 1,
    tensorboard: TensorBoard = False,
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Teach a big network, distil it into a small one, compare with the small one taught alone.

    With no option: the digits that come with scikit-learn, in under a minute.
    """
    from instar.recipes.distill import recipe
    from instar.recipes.distill.page import answer, result_table
    from instar.recipes.distill.settings import read_config

    typed: dict[str, Any] = {
        "data": {"name": data, "split_seed": split_seed, "image_size": image_size},
        "teacher": {
            "network": teacher,
            "epochs": teacher_epochs,
            "pretrained": teacher_pretrained,
            "views": teacher_views,
            "precision": precision,
        },
        "student": {
            "network": student,
            "epochs": epochs,
            "learning_rate": numbers("--learning-rate", learning_rate),
            "views": views,
            "precision": precision,
        },
        "teachers": teachers,
        "ensemble_mean": ensemble_mean,
        "targets": targets,
        "transfer": {
            "drop_classes": names("--drop-classes", drop_classes),
            "keep_classes": names("--keep-classes", keep_classes),
            "fraction": fraction,
            "labelled": labelled,
            "folder": unlabelled,
        },
        "temperature": numbers("--temperature", temperature),
        "soft_weight": numbers("--soft-weight", soft_weight),
        "hard_weight": numbers("--hard-weight", hard_weight),
        "label_weight": numbers("--label-weight", label_weight),
        "tuning_seeds": tuning_seeds,
        "fit_bias": fit_bias,
        "bias_per_class": bias_per_class,
        "seeds": seeds,
        "seed": seed,
    }
    settings = read_config(set_values(_with_sweeps(typed, sweep), set_), config)
    carry_out(
        recipe,
        settings,
        result_table,
        answer,
        run_dir=run_dir,
        device=device,
        engine=engine,
        as_json=as_json,
        quiet=quiet,
        publish_as=f"distill-{settings.data.name}" if publish else None,
        processes=processes,
        tensorboard=tensorboard,
    )


def _with_sweeps(typed: dict[str, Any], sweeps: Sequence[str]) -> dict[str, Any]:
    """Candidates that `--sweep KEY=VALUES` names, in their places."""
    for sweep in sweeps:
        key, separator, text = sweep.partition("=")
        if not separator or "," not in text:
            raise UsageError(f"--sweep {sweep!r} should be KEY=VALUE,VALUE,..., for instance temperature=1,2,4,8")
        if key not in SWEPT:
            raise unknown_name("sweep", key, SWEPT)
        place = typed["student"] if key == "learning_rate" else typed
        if place[key] is not None:
            raise UsageError(f"--sweep {sweep!r}: {key} is given twice")
        place[key] = numbers("--sweep", text)
    return typed
