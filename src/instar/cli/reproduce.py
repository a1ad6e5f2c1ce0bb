"""`instar reproduce`."""

import typer

from instar.cli.options import Device, Engine, Json, Publish, Quiet, RunDir, check_device, show

app = typer.Typer(help="Repeat a study of the papers, and set our figures beside theirs.", no_args_is_help=True)


@app.callback()
def studies() -> None:
    """Repeat a study of the papers, and set our figures beside theirs."""


@app.command()
def mnist(
    scale: str = typer.Option("small", help="tiny (for tests), small (minutes) or full (hours)."),
    data: str = typer.Option("mnist", help="mnist, or another data set with the classes 3, 7 and 8: digits."),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Section 3 of the paper: teacher, students, transfer sets, temperatures, fractions of the data."""
    from instar.recipes.mnist_page import answer, result_table
    from instar.recipes.mnist_scales import config_for
    from instar.recipes.mnist_table import main, run_path
    from instar.recipes.publishing import publish as publish_result

    config = config_for(scale, data)
    path = run_dir or run_path(config)
    result = main(config, path, device=check_device(device), engine=engine, quiet=quiet or as_json)
    if publish:
        publish_result(result, f"{data}-{scale}")
    show(result, path, as_json, result_table, answer)


@app.command()
def transfer(
    scale: str = typer.Option("small", help="tiny (for tests), small (minutes) or full (hours)."),
    data: str = typer.Option("cifar100", help="cifar100, or digits for a try at the scale tiny."),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How transferable features are: a convnet and a residual net at every cut, unlike halves, few images."""
    from instar.recipes.publishing import publish as publish_result
    from instar.recipes.transfer_scales import config_for
    from instar.recipes.transfer_study import main, run_path
    from instar.recipes.transfer_study_page import answer, findings_table

    config = config_for(scale, data)
    path = run_dir or run_path(config)
    result = main(config, path, device=check_device(device), engine=engine, quiet=quiet or as_json)
    if publish:
        publish_result(result, f"transfer-{data}-{scale}")
    show(result, path, as_json, findings_table, answer)


@app.command()
def advise(
    scale: str = typer.Option("small", help="tiny (for tests), small (half an hour) or full (hours)."),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The advisor judged: its advice against every treatment fitted to the end, on pairs of tasks."""
    from instar.recipes.advise_pairs import config_for
    from instar.recipes.advise_study import main, run_path
    from instar.recipes.advise_study_page import answer, result_table
    from instar.recipes.publishing import publish as publish_result

    config = config_for(scale)
    path = run_dir or run_path(config)
    result = main(config, path, device=check_device(device), engine=engine, quiet=quiet or as_json)
    if publish:
        publish_result(result, f"advise-{scale}")
    show(result, path, as_json, result_table, answer)


@app.command()
def specialists(
    scale: str = typer.Option("small", help="tiny (for tests), small (minutes) or full (hours)."),
    data: str = typer.Option("cifar100", help="cifar100 (100 classes), omniglot (1,623) or digits."),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Section 5 of the paper: specialists for what a generalist confuses, every control, and back into one net."""
    from instar.recipes.publishing import publish as publish_result
    from instar.recipes.specialists import main, run_path
    from instar.recipes.specialists_page import answer, result_table
    from instar.recipes.specialists_scales import config_for

    config = config_for(scale, data)
    path = run_dir or run_path(config)
    result = main(config, path, device=check_device(device), engine=engine, quiet=quiet or as_json)
    if publish:
        publish_result(result, f"specialists-{data}-{scale}")
    show(result, path, as_json, result_table, answer)


@app.command("transfer-or-distil")
def transfer_or_distil(
    scale: str = typer.Option("small", help="tiny (for tests), small (minutes) or full (hours)."),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    publish: Publish = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One student on few examples: from scratch, transferred, distilled, both."""
    from instar.recipes.compare import config_for, main, run_path
    from instar.recipes.compare_page import answer, result_table
    from instar.recipes.publishing import publish as publish_result

    config = config_for(scale)
    path = run_dir or run_path(config)
    result = main(config, path, device=check_device(device), engine=engine, quiet=quiet or as_json)
    if publish:
        publish_result(result, f"transfer-or-distil-{scale}")
    show(result, path, as_json, result_table, answer)
