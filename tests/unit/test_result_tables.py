"""The tables of any result of schema 2."""

from typing import Any

from instar.recipes.result_tables import result_tables
from instar.reports.formats import MINUS, MISSING, heading_of, table_cells

ROW = {"name": "student", "mean": 72.25, "sd": 2.5, "n": 2, "low": 49.8, "high": 94.7}
ONE_SEED = {"name": "teacher", "mean": 81.0, "sd": None, "n": 1, "low": None, "high": None}
ERRORS = {"title": "test errors", "unit": "errors"}
ACCURACY = {"title": "test accuracy", "unit": "%"}


def result(**content: Any) -> dict[str, Any]:
    return {"measure": ERRORS, "rows": [ROW], **content}


def cells(content: dict[str, Any], title: str) -> list[dict[str, str]]:
    """The cells of one table by heading."""
    table = next(table for table in result_tables(content) if table.title == title)
    return [dict(zip(map(heading_of, table.columns), row, strict=True)) for row in table_cells(table)]


def test_a_row_has_mean_spread_interval_and_n() -> None:
    (student,) = cells(result(), "Test errors")
    assert student == {"name": "student", "mean ± sd": "72.2 ± 2.5", "95 % interval": "[49.8, 94.7]", "n": "2"}
    (student,) = cells(result(measure=ACCURACY), "Test accuracy, %")
    assert student["mean ± sd"] == "72.25 ± 2.50"


def test_one_replicate_has_no_interval() -> None:
    student, teacher = cells(result(rows=[ROW, ONE_SEED]), "Test errors")
    assert (teacher["mean ± sd"], teacher["95 % interval"]) == ("81.0", MISSING)
    assert student["n"] == "2"


def test_the_same_number_twice_has_no_interval() -> None:
    """It is chance, and no certainty: [1.0, 1.0]."""
    same = {**ROW, "mean": 1.0, "sd": 0.0, "low": 1.0, "high": 1.0}
    _, row = cells(result(rows=[ROW, same]), "Test errors")
    assert (row["mean ± sd"], row["95 % interval"]) == ("1.0 ± 0.0", MISSING)
    drops = [{**one, "minus": "alone", "mean": -0.04} for one in (ROW, same)]
    _, row = cells(result(differences=drops), "Differences")
    assert (row["errors"], row["95 % interval"]) == ("+0.0", MISSING)


def test_a_row_of_another_unit_says_so() -> None:
    *_, other = cells(result(rows=[ROW, {**ROW, "unit": "%"}]), "Test errors")
    assert other["mean ± sd"] == "72.2 ± 2.5 %"


def test_columns_are_those_that_some_row_has() -> None:
    rows = [{**ROW, "paper": 74.0, "network": "a"}, {**ROW, "paper": None, "network": "b"}]
    found = cells(result(rows=rows), "Test errors")
    assert [row["paper"] for row in found] == ["74", MISSING]
    assert [row["network"] for row in found] == ["a", "b"]
    alike = cells(result(rows=[{**ROW, "network": "a"}] * 2), "Test errors")
    assert "network" not in alike[0]


def test_costs_are_relative_to_the_first_row() -> None:
    rows = [{**ROW, "inference_cost": cost, "training_cost": 2 * cost} for cost in (100, 250)]
    assert [row["cost in use"] for row in cells(result(rows=rows), "Test errors")] == ["1.00x", "2.50x"]


def test_differences_have_signs() -> None:
    drop = {"name": "distilled", "minus": "alone", "mean": -11.0, "sd": 1.0, "n": 2, "low": -20.0, "high": -2.0}
    (row,) = cells(result(differences=[drop]), "Differences")
    assert row["difference"] == "distilled - alone"
    assert row["errors"] == f"{MINUS}11.0"
    assert row["95 % interval"] == f"[{MINUS}20.0, {MINUS}2.0]"
    assert [table.title for table in result_tables(result())] == ["Test errors"]


def test_what_validation_compared_and_what_failed() -> None:
    tuning = [
        {"name": "student", "learning_rate": 0.1, "validation_errors": 12.0, "n": 2},
        {"name": "student", "learning_rate": 9.0, "failed": "the loss is not finite"},
    ]
    good, bad = cells(result(tuning=tuning), "Chosen on validation")
    assert (good["learning rate"], good["errors"]) == ("0.1", "12")
    assert bad["failed"] == "the loss is not finite"


def test_findings_come_first_one_row_for_each_claim() -> None:
    claim = {"claim": "AnB falls", "paper": -8.3, "number": -5.0, "low": -6.0, "high": -4.0, "n": 5, "holds": True}
    finding = {"finding": 3, "network": "convnet", "claims": [claim, {**claim, "holds": "undecided"}]}
    content = result(details={"findings": [finding]})
    assert result_tables(content)[0].title == "The paper's findings"
    first, second = cells(content, "The paper's findings")
    assert (first["claim"], first["holds"], second["holds"]) == ("3. AnB falls", "yes", "undecided")


def test_single_numbers_of_the_details_are_shown_and_lists_without_a_table_are_not() -> None:
    details = {"num_train": 90, "smallest_fraction": None, "networks": [{"accuracy": 1.0}]}
    found = cells(result(details=details), "Details")
    assert [(row["what"], row["value"]) for row in found] == [
        ("training examples", "90"),
        ("smallest fraction", "none"),
    ]


def test_a_result_without_rows_has_no_table_of_them() -> None:
    assert result_tables(result(rows=[])) == []
