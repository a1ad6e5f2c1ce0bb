"""`instar distill`."""

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
    check_device,
    numbers,
    set_values,
    show,
)


def distill(
    data: str = typer.Option(
        None,
        help="Data set: digits, mnist, fashion-mnist, cifar10, cifar100, folder:PATH, "
        "python:MODULE:FUNCTION.  [default: digits]",
    ),
    teacher: str = typer.Option(
        None,
        help="A network to train (mlp:1200x2, convnet:8, resnet:20, "
        "python:MODULE:FUNCTION), one with weights (NAME@FILE.safetensors), or a run "
        "directory (RUN:teacher).  [default: mlp:1200x2]",
    ),
    student: str = typer.Option(None, help="The small network.  [default: mlp:8x1]"),
    temperature: str = typer.Option(None, help="Of the soft targets; of several (2,4,8) validation chooses."),
    soft_weight: str = typer.Option(None, help="Weight of the soft targets."),
    hard_weight: str = typer.Option(None, help="Weight of the labels."),
    learning_rate: str = typer.Option(None, help="Of both students; of several validation chooses, for each."),
    epochs: int = typer.Option(None, help="Of each student."),
    teacher_epochs: int = typer.Option(None, help="Of the teacher."),
    teacher_pretrained: bool = typer.Option(
        None, "--teacher-pretrained", help="Take the teacher's weights as they come, train nothing."
    ),
    views: str = typer.Option(None, help="Augmentation for the students: none, jitter:2, crop:4+flip, affine:..."),
    teacher_views: str = typer.Option(None, help="Augmentation for the teacher."),
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
    from instar.recipes.distill import main, read_config, run_path
    from instar.recipes.distill_page import answer, result_table
    from instar.recipes.publishing import publish as publish_result

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
        "temperature": numbers("--temperature", temperature),
        "soft_weight": numbers("--soft-weight", soft_weight),
        "hard_weight": numbers("--hard-weight", hard_weight),
        "seeds": seeds,
        "seed": seed,
    }
    settings = read_config(set_values(typed, set_), config)
    device = check_device(device)
    path = run_dir or run_path(settings)
    result = main(
        settings,
        path,
        device=device,
        engine=engine,
        processes=processes,
        tensorboard=tensorboard,
        quiet=quiet or as_json,
    )
    if publish:
        publish_result(result, f"distill-{settings.data.name}")
    show(result, path, as_json, result_table, answer)
