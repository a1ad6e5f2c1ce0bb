"""`instar reproduce`."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from instar.cli.options import Device, Engine, Json, Publish, Quiet, RunDir, carry_out

app = typer.Typer(help="Repeat a study of the papers, and set our figures beside theirs.", no_args_is_help=True)


class Study(NamedTuple):
    """Where a study is, and what is said of it."""

    what: str
    folder: str
    """of `instar.recipes`: its `scales` have `config_for(scale)` or `config_for(scale, data)`"""
    published: str
    """the name of its file in `results/`"""
    data: tuple[str, str] | None = None
    """by default, and which others there are; None where the study says what it is run on"""


STUDIES = {
    "mnist": Study(
        "Section 3 of the paper: teacher, students, transfer sets, temperatures, fractions of the data.",
        "mnist",
        "{data}-{scale}",
        ("mnist", "mnist, or another data set with the classes 3, 7 and 8: digits."),
    ),
    "transfer": Study(
        "How transferable features are: a convnet and a residual net at every cut, unlike halves, few images.",
        "transfer.reproduction",
        "transfer-{data}-{scale}",
        ("cifar100", "cifar100, or digits for a try at the scale tiny."),
    ),
    "advise": Study(
        "The advisor judged: its advice against every treatment fitted to the end, on pairs of tasks.",
        "advise.reproduction",
        "advise-{scale}",
    ),
    "transfer-or-distil": Study(
        "One student on few examples: from scratch, transferred, distilled, both.",
        "transfer.comparison",
        "transfer-or-distil-{scale}",
    ),
    "specialists": Study(
        "Section 5 of the paper: specialists for what a generalist confuses, all controls, and back into one net.",
        "specialists.study",
        "specialists-{data}-{scale}",
        ("cifar100", "cifar100 (100 classes), omniglot (1,623) or digits."),
    ),
    "speech": Study(
        "Sections 4 and 6 of the paper on speech: an ensemble distilled, and 3 % of the data.",
        "speech.reproduction",
        "speech-{data}-{scale}",
        ("fsdd", "fsdd, or kaldi:FOLDER, a data directory of at least three speakers."),
    ),
}


@app.callback()
def studies() -> None:
    """Repeat a study of the papers, and set our figures beside theirs."""


def _command(study: Study) -> Callable[..., None]:
    Scale = Annotated[str, typer.Option(help="tiny (for tests), small (minutes) or full (hours).")]
    default, others = study.data or ("", "")

    def run(
        scale: Scale = "small",
        data: Annotated[str, typer.Option(help=others)] = default,
        device: Device = "cpu",
        engine: Engine = "local",
        run_dir: RunDir = None,
        publish: Publish = False,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        _reproduce(study, scale, data, device, engine, run_dir, publish, as_json, quiet)

    def run_as_it_is(
        scale: Scale = "small",
        device: Device = "cpu",
        engine: Engine = "local",
        run_dir: RunDir = None,
        publish: Publish = False,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        _reproduce(study, scale, None, device, engine, run_dir, publish, as_json, quiet)

    return run if study.data else run_as_it_is


def _reproduce(
    study: Study,
    scale: str,
    data: str | None,
    device: str,
    engine: str,
    run_dir: Path | None,
    publish: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    if "." in study.folder:
        scales = import_module(f"instar.recipes.{study.folder}")
        recipe = page = scales.STUDY
        table = recipe.table
    else:
        scales, recipe, page = (
            import_module(f"instar.recipes.{study.folder}.{part}") for part in ("scales", "recipe", "page")
        )
        table = page.result_table
    config = scales.config_for(scale) if data is None else scales.config_for(scale, data)
    name = Path((data or "").replace(":", "-")).name
    carry_out(
        recipe,
        config,
        table,
        page.answer,
        run_dir=run_dir,
        device=device,
        engine=engine,
        as_json=as_json,
        quiet=quiet,
        publish_as=study.published.format(data=name, scale=scale) if publish else None,
    )


for name, study in STUDIES.items():
    app.command(name, help=study.what)(_command(study))
