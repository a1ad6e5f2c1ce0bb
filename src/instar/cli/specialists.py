"""`instar specialists`."""

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
    numbers,
    set_values,
)


def specialists(
    data: str = typer.Option(
        None,
        help="digits, mnist, cifar100, omniglot, folder:PATH, python:MODULE:FUNCTION. Default: digits.",
    ),
    network: str = typer.Option(
        None, help="Of the generalist: mlp:12x1, convnet:8x16, resnet:8. Default: mlp:12x1."
    ),
    epochs: int = typer.Option(None, help="Of the generalist."),
    learning_rate: float = typer.Option(None, help="Of the generalist."),
    views: str = typer.Option(None, help="Augmentation: none, jitter:2, crop:4+flip, affine:..."),
    sets: int = typer.Option(None, help="How many class sets, each with a specialist. Default: 3."),
    classes_per_set: int = typer.Option(None, help="Classes that a specialist tells apart. Default: 4."),
    method: str = typer.Option(None, help="overlapping (nearest classes), balanced (no class twice) or kmeans."),
    top_n: str = typer.Option(
        None, help="How many of the generalist's classes choose the specialists; of 1,2,3 validation chooses."
    ),
    specialist_epochs: int = typer.Option(None, help="Of a specialist, over the examples of its set."),
    trainable_layers: int = typer.Option(None, help="How many last layers a specialist trains. Default: all."),
    distill: bool = typer.Option(
        False, "--distill", help="Teach one network with what generalist and specialists say together."
    ),
    temperature: str = typer.Option(None, help="Of these soft targets; of 1,2,4 validation chooses."),
    controls: str = typer.Option(None, help="Of longer,random,ensemble,mixture,full-softmax. Default: all."),
    mixture: str = typer.Option(
        None,
        help="The mixture of experts: mixture:EXPERTS/EXPERT/GATE. With --network: of three like it.",
    ),
    seeds: int = typer.Option(None, help="How many generalists. Default: 4."),
    seed: int = typer.Option(None, help="The first of them."),
    config: ConfigFile = None,
    set_: list[str] = typer.Option([], "--set", help="Any other setting: --set specialist.learning_rate=0.01"),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A generalist, specialists for the classes that it confuses, and what they say together.

    With no option: the digits, in under a minute.
    """
    from instar.recipes.specialists.settings import read_config
    from instar.recipes.specialists.study import STUDY

    one_set = {"method": method, "num_sets": sets, "classes_per_set": classes_per_set}
    chosen = numbers("--top-n", top_n)
    typed: dict[str, Any] = {
        "data": {"name": data},
        "generalist": {
            "network": network,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "views": views,
        },
        "specialist": {"epochs": specialist_epochs, "trainable_layers": trainable_layers},
        "sets": one_set,
        "top_n": chosen,
        "distill": {"temperature": numbers("--temperature", temperature)},
        "controls": names("--controls", controls),
        "mixture": mixture,
        "seeds": seeds,
        "seed": seed,
    }
    settings = read_config(set_values(typed, set_), config, distill=distill or temperature is not None)
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
        publish_as=STUDY.published(settings) if publish else None,
    )
