"""Results of schema 1 become results of schema 2, with the same numbers."""

import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.errors import UsageError
from instar.recipes.result_tables import result_tables

ROOT = Path(__file__).parents[2]
OLD = json.loads((Path(__file__).parent / "schema-1.json").read_text())
"""A tiny result of each study, as it was written in schema 1, without times."""

NOT_KEPT = {"sensitivity"}
"""What is said in other words now, not in other numbers."""


@pytest.fixture(scope="module")
def upgrade() -> Callable[[dict[str, Any]], dict[str, Any]]:
    found: Callable[[dict[str, Any]], dict[str, Any]] = runpy.run_path(str(ROOT / "docs" / "upgrade_results.py"))[
        "upgrade"
    ]
    return found


def numbers(content: Any) -> Iterator[float]:
    if isinstance(content, dict):
        content = [value for key, value in content.items() if key not in NOT_KEPT]
    if isinstance(content, list):
        for value in content:
            yield from numbers(value)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield content


@pytest.mark.parametrize("recipe", OLD)
def test_every_number_stands_in_the_new_result(
    recipe: str, upgrade: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    new = json.loads(json.dumps(upgrade(OLD[recipe])))
    assert set(numbers(OLD[recipe])) <= set(numbers(new))
    assert (new["schema"], new["recipe"]) == (2, recipe)
    assert {"measure", "metrics", "rows", "details", "config"} <= set(new)
    assert all({"name", "mean", "sd", "n", "low", "high"} <= set(row) for row in new["rows"])
    assert all({"name", "minus", "mean", "n", "low", "high"} <= set(row) for row in new.get("differences", []))
    assert all("validation_errors" in row or "failed" in row for row in new.get("tuning", []))
    assert result_tables(new)


@pytest.mark.parametrize("recipe", OLD)
def test_a_row_keeps_its_mean(recipe: str, upgrade: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    def means(rows: list[dict[str, Any]]) -> set[float]:
        return {row.get("mean", row.get("frame_accuracy")) for row in rows} - {None}

    assert means(upgrade(OLD[recipe])["rows"]) == means(OLD[recipe]["rows"])


def test_a_result_without_a_rule_is_refused(upgrade: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="no rule upgrades a result of speech; run it again"):
        upgrade({"name": "mine", "recipe": "speech", "rows": []})


def test_published_results_are_of_schema_2() -> None:
    for path in (ROOT / "results").glob("*.json"):
        result = json.loads(path.read_text())
        assert "rows" not in result or result["schema"] == 2, path.name
