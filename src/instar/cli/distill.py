"""`instar distill`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from instar.cli.commands import with_options
from instar.cli.options import Processes, RunOptions, TensorBoard, numbers
from instar.cli.running import run_and_show
from instar.errors import UsageError
from instar.naming import unknown_name

SWEPT = {
    "temperature": "temperature",
    "soft_weight": "soft_weight",
    "hard_weight": "hard_weight",
    "label_weight": "label_weight",
    "learning_rate": "student.learning_rate",
}
"""What `--sweep` can compare, and the key of its setting."""

Sweep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUES",
        help=f"Values to compare: temperature=1,2,4,8,20. For {', '.join(SWEPT)}.",
        rich_help_panel="Soft targets",
    ),
]


Task = Annotated[
    str | None,
    typer.Option(help="causal-lm: language models, of text:FILES; token-classification: a class of each word."),
]


@with_options("DISTILL")
def distill(
    typed: dict[str, Any],
    run: RunOptions,
    task: Task = None,
    sweep: Sweep = None,
    processes: Processes = 1,
    tensorboard: TensorBoard = False,
) -> None:
    """Train a large network, distil it into a small one, and compare that with the small one trained alone.

    With no option: the digits that come with scikit-learn, in under a minute.
    """
    from instar.recipes.commands import DISTILL, command_of_task

    if task is not None:
        if sweep or processes > 1:
            raise UsageError(
                f"--task {task} has one candidate and one process for each fit: leave out --sweep, --processes"
            )
        command = command_of_task(task)
        run_and_show(
            command.study, command.read_config(one_value(typed), run.config), run, tensorboard=tensorboard
        )
        return
    config = DISTILL.read_config(_with_sweeps(typed, sweep or ()), run.config)
    tables = partial(_sweep_tables, sweeps=sweep or ())
    run_and_show(DISTILL.study, config, run, processes=processes, tensorboard=tensorboard, more_tables=tables)


def _sweep_tables(result: Mapping[str, Any], sweeps: Sequence[str]) -> list[Any]:
    """What `--sweep` found: a table for each swept setting, in the order they were typed."""
    from instar.recipes.distill.page import sensitivity_table

    found = {one["setting"]: one for one in result["details"]["sensitivity"]}
    keys = [sweep.partition("=")[0] for sweep in sweeps]
    return [sensitivity_table(found[key]) for key in keys if key in found]


def one_value(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose lists of one number, as the options of classifiers give them, are that number."""
    found: dict[str, Any] = {}
    for key, value in typed.items():
        if isinstance(value, Mapping):
            value = one_value(value)
        found[key] = value[0] if isinstance(value, list) and len(value) == 1 and _is_number(value[0]) else value
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _with_sweeps(typed: dict[str, Any], sweeps: Sequence[str]) -> dict[str, Any]:
    """Settings with the candidates of `--sweep KEY=VALUES`."""
    from instar.recipes.options import has, put

    for sweep in sweeps:
        key, separator, text = sweep.partition("=")
        if not separator or "," not in text:
            raise UsageError(f"--sweep {sweep!r} should be KEY=VALUE,VALUE,..., for instance temperature=1,2,4,8")
        if key not in SWEPT:
            raise unknown_name("sweep", key, SWEPT)
        if has(typed, SWEPT[key]):
            flag = f"--{key.replace('_', '-')}"
            raise UsageError(
                f"{key} is given twice, by --sweep {sweep} and by {flag}, --set {SWEPT[key]} or another --sweep: "
                "leave one of them out"
            )
        put(typed, SWEPT[key], numbers("--sweep", text))
    return typed
