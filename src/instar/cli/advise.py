"""`instar advise`."""

from typing import Any

import typer

from instar.cli.options import (
    ConfigFile,
    Device,
    Engine,
    Json,
    Publish,
    Quiet,
    RunDir,
    carry_out,
    names,
    set_values,
)


def advise(
    network: str = typer.Option(
        None,
        help="Pretrained: RUN:JOB, NAME@WEIGHTS, python:MODULE:FUNCTION; mlp:64x3, convnet:8 and the like are "
        "trained on --source first. Default: mlp:64x3.",
    ),
    source: str = typer.Option(None, help="Data that a network without weights is trained on first."),
    source_classes: str = typer.Option(None, help="Only these classes of the source: 0,1,2."),
    data: str = typer.Option(
        None, help="The target: digits, mnist, cifar100, folder:PATH, python:MODULE:FUNCTION. Default: digits."
    ),
    classes: str = typer.Option(None, help="Only these classes of the target: 5,6,7."),
    examples: int = typer.Option(None, help="A class of the target on average, training and validation together."),
    epochs: int = typer.Option(None, help="Of a fit to the end."),
    learning_rate: float = typer.Option(None, help="Of all fits on the target."),
    views: str = typer.Option(None, help="Augmentation of the target: none, jitter:2, crop:4+flip, affine:..."),
    cuts: int = typer.Option(None, help="How many cuts are tried by short fits. Default: 3."),
    seeds: int = typer.Option(None, help="Fits to the end of each of the last two treatments. Default: 1."),
    controls: bool = typer.Option(
        None, "--controls", help="Fit the usual ways (train the head, fine-tune all, from scratch) to the end too."
    ),
    seed: int = typer.Option(None, help="The first seed."),
    config: ConfigFile = None,
    set_: list[str] = typer.Option([], "--set", help="Any other setting: --set fit.batch_size=32"),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Which layers of a trained network to keep for your data, and whether to freeze them.

    With no option: a network trained on the digits 0-4, and twenty examples each of 5-9.
    """
    from instar.recipes.advise.recipe import STUDY
    from instar.recipes.advise.settings import read_config

    of_source = {"name": source, "classes": names("--source-classes", source_classes)}
    typed: dict[str, Any] = {
        "network": network,
        "source": of_source if source or source_classes else None,
        "data": {"name": data, "classes": names("--classes", classes)},
        "examples_per_class": examples,
        "fit": {"epochs": epochs, "learning_rate": learning_rate, "views": views},
        "num_cuts": cuts,
        "seeds": seeds,
        "controls": controls,
        "seed": seed,
    }
    settings = read_config(set_values(typed, set_), config)
    carry_out(
        STUDY,
        settings,
        STUDY.table,
        STUDY.answer,
        run_dir=run_dir,
        device=device,
        engine=engine,
        as_json=as_json,
        quiet=quiet,
        publish_as=settings.published_as if publish else None,
    )
