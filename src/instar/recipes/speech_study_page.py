"""The page of the speech study."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from instar.reports import Headline, Table, write_page
from instar.runs import REPORT, Run

if TYPE_CHECKING:
    from instar.recipes.speech_study import Study


def answer(result: Mapping[str, Any]) -> Headline:
    return Headline("x")


def result_table(result: Mapping[str, Any]) -> Table:
    return Table("t", result["rows"])


def write_speech_page(run: Run, study: "Study", result: dict[str, Any]) -> None:
    write_page(run.path / REPORT, "x", [result_table(result)])
