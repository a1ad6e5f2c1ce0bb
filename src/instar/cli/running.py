"""Running a study from the command line, and showing its result."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from instar.cli.options import RunOptions

Result = Mapping[str, Any]


def _none(result: Result) -> Iterable[Any]:
    return ()


def run_and_show(
    name: str,
    config: Any,
    run: RunOptions,
    *,
    more_tables: Callable[[Result], Iterable[Any]] = _none,
    **execution: Any,
) -> str:
    """Run a study, publish its result where that was asked for, and show it.

    Args:
        name: of the study, `MODULE:STUDY`.
        config: its configuration.
        run: how it is run, and what is shown.
        more_tables: of the result, to be shown after that of the study.
        execution: more of how it is run.

    Returns:
        The run directory.
    """
    from instar.recipes.experiments import run_experiment
    from instar.recipes.publishing import publish
    from instar.recipes.splits import notes_of
    from instar.recipes.study import Execution

    if not (run.quiet or run.as_json):
        sys.stderr.writelines(f"data: {note}\n" for note in notes_of(config))
    how = Execution(device=run.device, engine=run.engine, quiet=run.quiet or run.as_json, **execution)
    study, path, result = run_experiment(name, config, run.run_dir, how)
    if run.publish:
        publish(result, study.published(config))
    if run.as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(study, result, str(path), more_tables(result))
    return str(path)


def _print(study: Any, result: Result, path: str, more_tables: Iterable[Any]) -> None:
    """The tables and the headline of a result, what to look at, and the path of its page."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable
    from rich.text import Text

    from instar.recipes.observations import OBSERVATIONS
    from instar.reports import print_table
    from instar.runs import REPORT

    console = Console(highlight=False, emoji=False)
    for table in (study.table(result), *more_tables):
        print_table(table, console)
    headline = study.headline(result)
    console.print(f"\n[bold]{escape(headline.sentence)}[/bold]\n{escape(headline.detail)}")
    if seen := result["details"].get(OBSERVATIONS):
        console.print("\nWhat to look at:")
        lines = RichTable.grid(padding=(0, 1))
        for line in seen:
            lines.add_row("-", Text(line))
        console.print(lines)
    console.print(f"\nPage: {path}/{REPORT}", soft_wrap=True, markup=False)
    if use := study.use(path, result):
        console.print("Use it:", *(f"  {line}" for line in use), sep="\n", soft_wrap=True, markup=False)
