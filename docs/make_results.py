"""Write docs/results.md from results/*.json: `make results`."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from instar.recipes.result_tables import result_tables
from instar.reports import Table
from instar.reports.formats import heading_of, table_cells

sys.path.insert(0, str(Path(__file__).parent))  # goals
import goals

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
HEAD = """# Results

Every number here comes from a file in [`results/`](../results), which holds the configuration, the seeds, the
spread, the commit and the machine. This page is written by `make results`; a test fails when it is stale.
"""

GOALS_HEAD = """## Goals

Figures of the two papers, and of speed, that we set out to reach. Validation chooses, test is read once. Ideas
that did not pay stand in [what was tried](experiments.md).
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


def page() -> str:
    """The text of the page."""
    results = [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob("*.json"))]
    studies = [study(result) for result in results if "rows" in result]
    speeds = [benchmark(result) for result in results if "ratios" in result]
    counted = [counts(result) for result in results if "counts" in result]
    robustness = ["## Robustness\n", *counted] if counted else []
    exported = [exports(result) for result in results if "exports" in result]
    sections = [HEAD, goals_section(), *studies, "## Speed\n", *speeds, *exported, *robustness]
    return "\n".join(sections).rstrip() + "\n"


def goals_section() -> str:
    """The figures of the two papers that we set out to reach."""
    head = [
        "what",
        "result",
        "goal",
        "reached, mean ± sd [95 % interval]",
        "n",
        "met",
        "what was tried, and what blocks",
    ]
    return "\n".join([GOALS_HEAD, *table(head, goals.lines(ROOT / "results")), ""])


def study(result: dict[str, Any]) -> str:
    """A published study: how it was run, and its tables."""
    about = result["environment"]
    num_test = f" {result['num_test']:,} test examples." if "num_test" in result else ""
    lines = [
        f"## {result['name']}\n",
        f"`{command(about['command'])}`, {cost(result)} on {machine(about)}, "
        f"commit {about.get('commit', 'unknown')}.{num_test}\n",
    ]
    for shown in result_tables(result):
        lines += [f"**{shown.title}**\n", *markdown(shown), "", *([shown.caption, ""] if shown.caption else [])]
    return "\n".join(lines)


def cost(result: dict[str, Any]) -> str:
    """How long a study took: all fits over all restarts where that is known."""
    if "fit_seconds" in result:
        return f"{result['fit_seconds'] / 3600:.1f} core-hours of fits"
    return f"{result['seconds'] / 60:.0f} minutes"


def benchmark(result: dict[str, Any]) -> str:
    """One benchmark: its ratios and figures with quartiles."""
    body = [
        [what, figure(about["median"]), " to ".join(map(figure, about["spread"])), *goal(about)]
        for what, about in [*result["ratios"].items(), *result["figures"].items()]
    ]
    return "\n".join(
        [
            f"### {result['name']}\n",
            f"`{result['command']}`: {result['config']['ratio']}; n = {result['n']} rounds, "
            f"{machine(result['machine'])}.\n",
            *table(["", "median", "quartiles", "goal", "met"], body),
            "",
        ]
    )


def counts(result: dict[str, Any]) -> str:
    """What was counted, by case."""
    rows = [{key: str(value) for key, value in row.items()} for row in result["counts"]]
    about = f"`{result['command']}`, {machine(result['machine'])}, commit {result['commit']}.\n"
    body = table(list(rows[0]), (list(row.values()) for row in rows))
    return "\n".join([f"### {result['name']}\n", about, *body, ""])


def exports(result: dict[str, Any]) -> str:
    """Every kind of network in every format, as a fresh process found the files."""
    head = [
        "network",
        "format",
        "MB",
        "errors",
        "of the run",
        "of",
        "same class",
        "largest difference",
        "ms, 1",
        "ms, 64",
    ]
    body = [
        [row["network"], row["format"], row["refused"], *[""] * (len(head) - 3)]
        if "refused" in row
        else [
            row["network"],
            row["format"],
            figure(row["bytes"] / 1e6),
            *(str(row[key]) for key in ("errors", "run_errors", "num_examples")),
            f"{row['agreement']:.2%}",
            f"{row['largest_difference']:.1e} of {row['largest_logit']:.3g}",
            *(f"{row[key]:.3g}" for key in ("latency_1_ms", "latency_64_ms")),
        ]
        for row in result["exports"]
    ]
    about = (
        f"`{result['command']}`, {machine(result['machine'])}, commit {result['commit']}. Networks were trained "
        "for a few epochs on digits or on questions. Errors and classes on validation, in batches of 64 and one "
        "by one; the difference is that of a logit, beside the largest logit; milliseconds are of the processor, "
        "one thread, for one example and for 64, those of transformers with its image processor.\n"
    )
    return "\n".join(["## Exports\n", about, *table(head, body), ""])


def goal(about: dict[str, Any]) -> list[str]:
    """The goal of a figure, and whether it is met."""
    met = about.get("met")
    return [about.get("goal", ""), "" if met is None else "yes" if met else "**no**"]


def figure(value: float) -> str:
    """A ratio or a rate in four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def command(words: Sequence[str]) -> str:
    """The command as it is typed, without the run directory that was published and where its data were."""
    typed = [re.sub(r"(^|[@:])/\S*?/data/", r"\1$INSTAR_DATA/", word) for word in words[1:]]
    if "--run-dir" in typed:
        place = typed.index("--run-dir")
        del typed[place : place + 2]
    script = (
        [f"python examples/{words[0]}"] if words[0].endswith(".py") and words[0] != "__main__.py" else ["instar"]
    )
    return " ".join([*script, *typed])


def machine(about: dict[str, Any]) -> str:
    """Processor and cores."""
    return f"{about.get('gpu') or about['processor']}, {about['cores']} cores"


def markdown(shown: Table) -> list[str]:
    """Lines of a table of a report, in Markdown."""
    return table([heading_of(column) for column in shown.columns], table_cells(shown))


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body]]


if __name__ == "__main__":
    main()
