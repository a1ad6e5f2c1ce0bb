"""`instar transfer`."""

from pathlib import Path
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


def transfer(
    data: str = typer.Option(
        None,
        help="Data set, cut into halves A and B: digits, mnist, cifar100, omniglot, folder:PATH, "
        "python:MODULE:FUNCTION. Default: digits.",
    ),
    source: str = typer.Option(None, help="Another data set: all of it is A, and all of --data is B."),
    halves: str = typer.Option(
        None, help="random, semantic (man-made against natural), parents (whole parent classes) or lists."
    ),
    a: str = typer.Option(None, "--a", help="Classes of A: 0,1,2 (or parent classes of A)."),
    b: str = typer.Option(None, "--b", help="Classes of B."),
    parents: Path = typer.Option(None, metavar="FILE", help="A class, a tab and its parent on each line."),
    classes_per_half: int = typer.Option(None, help="Fewer classes in each half than half of all."),
    network: str = typer.Option(
        None, help="mlp:64x3, convnet:8, resnet:20, caffenet, python:MODULE:FUNCTION. Default: mlp:64x3."
    ),
    treatments: str = typer.Option(None, help="Of BnB,BnB+,AnB,AnB+,RnB. Default: all."),
    cuts: str = typer.Option(None, help="How many layers are copied: 1,3,5. Default: wherever weights follow."),
    layers: str = typer.Option(
        None, help="Names of the modules that are the layers: features.0,features.3,head. Default: its stages."
    ),
    targets: str = typer.Option(None, help="A,B for both directions, or one. Default: A,B."),
    splits: int = typer.Option(None, help="How many independent replicates."),
    epochs: int = typer.Option(None, help="Of every network."),
    learning_rate: float = typer.Option(None, help="Of every network."),
    views: str = typer.Option(None, help="Augmentation: none, jitter:2, crop:4+flip, affine:..."),
    frozen_dropout: bool = typer.Option(None, help="Dropout in frozen layers stays on."),
    frozen_norm: str = typer.Option(None, help="Statistics of frozen normalisations: source or target."),
    list_layers: bool = typer.Option(
        False, "--list-layers", help="Print the layers that a cut may follow, and stop."
    ),
    seed: int = typer.Option(None, help="The first replicate."),
    config: ConfigFile = None,
    set_: list[str] = typer.Option([], "--set", help="Any other setting: --set network.dropout=0.3"),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How transferable each layer of a network is: copy, freeze or fine-tune, retrain the rest, compare.

    With no option: the digits 0-4 against 5-9, in under a minute.
    """
    from rich.console import Console

    from instar.recipes.transfer.figures import layer_table
    from instar.recipes.transfer.plan import Plan
    from instar.recipes.transfer.recipe import STUDY
    from instar.recipes.transfer.settings import read_config
    from instar.reports import print_table

    typed: dict[str, Any] = {
        "data": {"name": data},
        "source": {"name": source} if source is not None else None,
        "halves": {
            "how": halves,
            "a": names("--a", a),
            "b": names("--b", b),
            "parents": None if parents is None else str(parents),
            "classes_per_half": classes_per_half,
        },
        "network": {
            "network": network,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "views": views,
        },
        "treatments": names("--treatments", treatments),
        "cuts": names("--cuts", cuts),
        "layers": names("--layers", layers),
        "targets": names("--targets", targets),
        "copied": {"frozen_dropout": frozen_dropout, "frozen_norm": frozen_norm},
        "splits": splits,
        "seed": seed,
    }
    settings = read_config(set_values(typed, set_), config)
    if list_layers:
        print_table(layer_table(Plan(settings, Path()).layers), Console(highlight=False))
        return
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
        publish_as=f"transfer-{settings.data.name}" if publish else None,
    )
