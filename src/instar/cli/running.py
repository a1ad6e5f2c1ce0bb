"""Running a study from the command line, and showing its result."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from instar.cli.options import RunOptions


def run_and_show(name: str, config: Any, run: RunOptions, **execution: Any) -> str:
    """Run a study, publish its result where that was asked for, and show it.

    Args:
        name: of the study, `MODULE:STUDY`.
        config: its configuration.
        run: how it is run, and what is shown.
        execution: more of how it is run.

    Returns:
        The run directory.
    """
    from instar.recipes.experiments import run_experiment
    from instar.recipes.publishing import publish
    from instar.recipes.study import Execution

    how = Execution(device=run.device, engine=run.engine, quiet=run.quiet or run.as_json, **execution)
    study, path, result = run_experiment(name, config, run.run_dir, how)
    if run.publish:
        publish(result, study.published(config))
    if run.as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(study, result, str(path))
    return str(path)


def _print(study: Any, result: Mapping[str, Any], path: str) -> None:
    """The table and the headline of a result, and the path of its page."""
    from rich.console import Console

    from instar.reports import print_table
    from instar.runs import REPORT

    console = Console(highlight=False)
    print_table(study.table(result), console)
    headline = study.answer(result)
    console.print(f"\n[bold]{headline.sentence}[/bold]\n{headline.detail}")
    console.print(f"\nPage: {path}/{REPORT}", soft_wrap=True)
