"""The command line: results on stdout, progress and errors on stderr, exit 0 done, 1 failed, 2 wrong use.

Everything heavy is imported inside the commands, so that `instar --help` is fast.
"""

import sys
import warnings
from typing import Any, NoReturn

import typer

from instar.cli import (
    advise,
    data,
    distill,
    export,
    networks,
    predict,
    report,
    reproduce,
    runs,
    serve,
    specialists,
    speech,
    targets,
    transfer,
)
from instar.cli.commands import LazyCommand
from instar.errors import DataWarning, InstarError, LearningWarning

INTERRUPTED = 130
RUN_JOBS = ("distill", "transfer", "advise", "specialists", "reproduce", "speech")
_FORMAT = warnings.formatwarning
RESUMED = (*RUN_JOBS, "targets")
"""Commands that go on from where they were stopped."""

app = typer.Typer(
    name="instar",
    help="Move what one network has learned into another: knowledge distillation and feature transfer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Show the version and stop."),
) -> None:
    """Options of all commands; `main` looks at --debug itself, before anything can fail."""
    if context.invoked_subcommand in RUN_JOBS and "--help" not in sys.argv:
        from instar.processes import start_server

        start_server("instar.recipes.fitting")  # while this process imports torch itself


app.command("distill", cls=LazyCommand)(distill.distill)
app.command("transfer", cls=LazyCommand)(transfer.transfer)
app.command("advise", cls=LazyCommand)(advise.advise)
app.command("specialists", cls=LazyCommand)(specialists.specialists)
app.command("predict")(predict.predict)
app.command("networks")(networks.networks)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("report")(report.report)
app.add_typer(data.app, name="data")
app.add_typer(reproduce.app, name="reproduce")
app.add_typer(speech.app, name="speech")
app.add_typer(runs.app, name="runs")
app.add_typer(targets.app, name="targets")


def main() -> None:
    """Entry point: one clear line for what goes wrong, and the exit status that belongs to it."""
    if "--version" in sys.argv[1:2]:
        from importlib.metadata import version

        sys.stdout.write(f"instar {version('instar')}\n")
        return
    debug = "--debug" in sys.argv
    warnings.formatwarning = _format_warning
    try:
        status = app(standalone_mode=False)
    except InstarError as error:
        if debug:
            raise
        _stop(f"{error}{_see_docs(error)}", error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        _stop(_stopped(), INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if hasattr(error, "exit_code"):  # the command line's own: an unknown option, a missing argument
            message = _one_line(error)
            is_unknown = message.startswith("No such option")
            _stop(_unknown_option(error) if is_unknown else message, int(error.exit_code))
        _stop(f"{type(error).__name__}: {_one_line(error)} (--debug shows where)", 1)
    if status == INTERRUPTED:  # typer has caught Ctrl-C
        _stop(_stopped(), INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _stopped() -> str:
    """What is said after Ctrl-C."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return "stopped; run the same command again to resume" if command in RESUMED else "stopped"


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """One line for our own warnings; the others say where they come from."""
    return (
        f"instar: {message}\n"
        if issubclass(category, (DataWarning, LearningWarning))
        else _FORMAT(message, category, filename, lineno, line)
    )


def _see_docs(error: InstarError) -> str:
    from instar.documentation import address, card_of_error

    card = card_of_error(error)
    return f" (see docs: {address(card)})" if card and str(error) else ""


def _one_line(error: Exception) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(message.split())


def _unknown_option(error: Any) -> str:
    """The message for an unknown option, with the nearest one, or that which other libraries call by its name."""
    from instar.recipes.keys import nearest

    flags = {flag.strip("-").replace("-", "_"): flag for one in error.ctx.command.params for flag in one.opts}
    near = nearest(error.option_name.strip("-").replace("-", "_"), list(flags))
    hint = f". Did you mean {' or '.join(flags[name] for name in near)}?" if near else ""
    return f"No such option: {error.option_name}{hint}"


def _stop(message: str, status: int) -> NoReturn:
    if message:  # none where the help was shown
        sys.stderr.write(f"instar: {message}\n")
    sys.exit(status)
