"""Commands whose options are those of settings: type, help and default come from the field that an option sets.

`instar --help` imports no settings: a command gets its options when it is called, or when its own help is shown.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from instar.cli.options import RunOptions, names, numbers, set_values

if TYPE_CHECKING:
    from instar.recipes.options import Command, Option

Function = Callable[..., None]


def _type_shown(option: TyperOption, ctx: Any) -> str | None:
    return None if option.is_flag else _TYPE_SHOWN(option, ctx=ctx)


# Typer has no setting for it: behind a flag, which takes no value, it shows <bool>.
_TYPE_SHOWN = TyperOption.display_type_rich
TyperOption.display_type_rich = _type_shown  # type: ignore[method-assign, assignment]


class LazyCommand(TyperCommand):
    """A command that gets its options when it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command with all its options."""
        return complete(self).make_context(info_name, args, parent, **extra)


def complete(command: Any) -> Any:
    """A command with all its options."""
    options_of = getattr(command.callback, "complete", None)
    return command if options_of is None else options_of(command.name)


def with_options(table: str) -> Callable[[Function], Function]:
    """Give a function the options of a table, in place of its parameter `typed`.

    Args:
        table: the name of a `Command` in `instar.recipes.commands`. The function gets the settings that were
            typed, nested (`typed`), the `RunOptions` if it has a parameter `run`, and its own options.
    """

    def decorate(function: Function) -> Function:
        def stub() -> None: ...

        stub.__name__, stub.__doc__ = function.__name__, function.__doc__
        stub.complete = lambda name: _complete(function, table, name)  # type: ignore[attr-defined]
        return stub

    return decorate


def with_run_options(function: Function) -> Function:
    """Give a function the options of `RunOptions`, in place of its parameter `run`."""
    shared = _parameters_of(RunOptions)

    def call(**values: Any) -> None:
        run = RunOptions(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        function(run=run, **values)

    own = [parameter for parameter in _parameters_of(function) if parameter.name != "run"]
    return _signed(call, [*own, *shared], function.__doc__)


def _complete(function: Function, table: str, name: str) -> Any:
    """The command of a function, with the options of a table."""
    from instar.recipes import commands
    from instar.recipes.options import nested

    command: Command = getattr(commands, table)
    takes_run = any(parameter.name == "run" for parameter in _parameters_of(function))
    inner = with_run_options(function) if takes_run else function
    own = [parameter for parameter in _parameters_of(inner) if parameter.name != "typed"]

    def call(**values: Any) -> None:
        others = {parameter.name: values.pop(parameter.name) for parameter in own}
        settings = {name: _parse(command.options[name], value) for name, value in values.items()}
        inner(typed=set_values(nested(command.options, settings), others.get("set_") or ()), **others)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    taken = {parameter.name for parameter in own}  # of `targets import`, --key is a column of the answers' file
    shared = [parameter for parameter in _option_parameters(command) if parameter.name not in taken]
    app.command(name)(_signed(call, [*shared, *own], function.__doc__))
    return typer.main.get_command(app)


def _parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]


def _signed(function: Function, parameters: Sequence[inspect.Parameter], description: str | None) -> Function:
    """The function as typer sees it."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {}
    function.__doc__ = description
    return function


def _parse(option: "Option", value: Any) -> Any:
    if option.kind.is_list:
        return names(option.flag, value) if option.kind.type is str else numbers(option.flag, value)
    return value


def _option_parameters(command: "Command") -> Iterator[inspect.Parameter]:
    defaults = command.defaults()
    for name, option in command.options.items():
        kind = bool if option.kind.type is dict else option.kind.type
        is_on = kind is bool and option.field.default is True
        typed = str if option.kind.is_list else kind
        about = typer.Option(
            f"{option.flag}/--no-{option.flag.removeprefix('--')}" if is_on else option.flag,
            help=_help(option, defaults.get(name, "")),
            rich_help_panel=option.panel,
            metavar=f"<{kind.__name__},...>" if option.kind.is_list else None,
        )
        annotation = Annotated[typed | None, about]  # type: ignore[valid-type]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(option: "Option", default: str) -> str:
    """The description of a setting, its choices and its default."""
    text = option.description
    if not all(choice in text for choice in option.kind.choices):
        text = f"{text}: {', '.join(option.kind.choices)}"
    text = text or "(not described)"
    text = f"{text[0].upper()}{text[1:].rstrip('.')}.".replace("[", r"\[")
    return rf"{text} [dim]\[default: {default}][/dim]" if default else text
