"""What a person reads after `instar distill`: the answer, its table, its charts, and how to repeat it."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from instar.distillation.sensitivity import SETTINGS
from instar.jobs import duration
from instar.recipes.distill.charts import (
    calibration,
    dark_knowledge,
    disagreements,
    errors_by_class,
    sensitivities,
    training_curves,
)
from instar.recipes.distill.plan import ALONE, CORRECTED, DISTILLED, Plan
from instar.recipes.distill.scoring import MOST_EXAMPLES
from instar.recipes.result_tables import differences_table
from instar.recipes.rows import excludes_zero, interval, mean_sd
from instar.recipes.settings import TransferSettings
from instar.recipes.study import Page, Result
from instar.reports import Column, Headline, Section, Table, Text

Row = Mapping[str, Any]
_LATENCY = Column("latency_ms", "latency", "{:.3f} ms", note="median, batch 1, one CPU thread")


def answer(result: Result) -> Headline:
    """The result in one sentence, with its interval."""
    rows = _by_name(result)
    alone, distilled, difference = rows[ALONE], rows[DISTILLED], result["differences"][0]
    sentence = (
        f"{fewer_errors(difference['mean'])} on {result['num_test']:,} test {result['details']['examples_are']}: "
        f"{distilled['network']} makes {distilled['mean']:.1f} errors distilled and {alone['mean']:.1f} alone."
    )
    if difference["low"] is None:
        sure = "One seed does not show how sure this is; use --seeds 5."
    else:
        verdict = "excludes zero" if excludes_zero(difference) else "includes zero: undecided"
        bounds = interval(difference, sign=True)
        sure = f"95 % interval over {difference['n']} paired seeds: {bounds}, which {verdict}."
    return Headline(sentence, " ".join([sure, _about_teacher(rows), *_about_correction(rows)]))


def fewer_errors(difference: float) -> str:
    """A difference in errors, in words.

    Example:
        >>> fewer_errors(-6.4), fewer_errors(1.0), fewer_errors(0.01)
        ('6.4 fewer errors', '1.0 more errors', 'No difference')
    """
    count = f"{abs(difference):.1f}"
    if count == "0.0":
        return "No difference"
    return f"{count} {'fewer' if difference < 0 else 'more'} errors"


def _by_name(result: Result) -> dict[str, Row]:
    return {row["name"]: row for row in result["rows"]}


def _about_teacher(rows: Mapping[str, Row]) -> str:
    if "teacher" not in rows:
        return "The soft targets were stored; the errors of their teachers on test are unknown."
    teacher, distilled = rows["teacher"], rows[DISTILLED]
    times = teacher["parameters"] / distilled["parameters"]
    more = f" and has {times:.0f} times the weights" if times >= 1.5 else ""
    return f"The teacher makes {teacher['mean']:.1f}{more}."


def _about_correction(rows: Mapping[str, Row]) -> list[str]:
    if CORRECTED not in rows:
        return []
    return [f"With a class bias fitted on validation, the distilled student makes {rows[CORRECTED]['mean']:.1f}."]


def result_table(result: Result) -> Table:
    """The rows, for the page and the terminal."""
    rows = [{**row, "mean_sd": mean_sd(row)} for row in result["rows"]]
    agrees = [Column("teacher_agreement", "agrees", "{:.2%}", note="predicts the same class as the teacher")]
    return Table(
        "Result",
        rows,
        columns=[
            Column("name", "student" if "teacher" not in _by_name(result) else "network"),
            Column("network", "form"),
            Column("mean_sd", "test errors", note=f"of {result['num_test']:,}, mean ± sd over n seeds"),
            Column("n", "n"),
            Column("test_accuracy", "accuracy", "{:.2%}"),
            Column("test_nll", "NLL", "{:.4f}", note="negative log-likelihood, nats"),
            Column("test_calibration_error", "calibration error", "{:.2%}", note="adaptive, 15 bins"),
            *(agrees if "teacher" in _by_name(result) else []),
            Column("parameters", "weights", "{:,}"),
            _LATENCY,
        ],
        highlight=[row["name"] for row in rows].index(DISTILLED),
    )


def page(plan: Plan, result: Result) -> Page:
    """The page."""
    details, test = result["details"], plan.splits.test
    sections: list[Section] = [
        answer(result),
        result_table(result),
        *_members_table(result),
        *_transfer_text(plan, result),
        training_curves(details["training"], plan.config.seeds),
        errors_by_class(details, plan.config.fit_bias is not None),
        calibration(details["calibration"]),
        *sensitivities(details["sensitivity"]),
        *_failed_table(result),
        _fidelity_table(result),
        *(disagreements(details["disagreements"], test) if "disagreements" in details else []),
        *(dark_knowledge(details["dark_knowledge"], test) if "dark_knowledge" in details else []),
        _cost_table(result),
        _differences(result),
    ]
    parts = (("training", plan.splits.train), ("validation", plan.splits.validation), ("test", test))
    counts = ", ".join(f"{len(part):,} {name}" for name, part in parts)
    return Page(
        f"{plan.teacher_name} into {plan.config.student.network}",
        f"Knowledge distillation on {plan.splits.name}: {counts} examples; training took "
        f"{duration(result['fit_seconds'])} of one core",
        sections,
        series=("teacher", ALONE, DISTILLED, CORRECTED),
        again=_commands(plan),
    )


def _members_table(result: Result) -> list[Section]:
    if "members" not in result["details"]:
        return []
    ensemble = _by_name(result)["teacher"]
    columns = [
        Column("name", "teacher"),
        Column("network", "form"),
        Column("test_errors", "test errors", "{:.0f}"),
        Column("test_nll", "NLL", "{:.4f}"),
        Column("test_calibration_error", "calibration error", "{:.2%}"),
    ]
    rows = [*result["details"]["members"], {**ensemble, "name": "ensemble", "test_errors": ensemble["mean"]}]
    return [Table("The ensemble", rows, columns=columns, highlight=len(rows) - 1)]


def _transfer_text(plan: Plan, result: Result) -> list[Section]:
    """What the students learned from, where that is not what the teacher learned from."""
    transfer, about = plan.config.transfer, result["details"]["transfer"]
    if transfer == TransferSettings(num_views=transfer.num_views):
        return []
    num_examples, num_labelled = about["num_examples"], about["num_labelled"]
    if transfer.folder is not None:
        what = f"{num_examples:,} unlabelled pictures below {transfer.folder}"
        alone = f"the labels of all {about['num_control']:,} training examples"
    else:
        missing = ", ".join(about["missing_classes"])
        lacks = f", without the classes {missing}" if missing else ""
        labelled = "all" if num_labelled == num_examples else f"{num_labelled:,} of them"
        what = f"{num_examples:,} of {len(plan.splits.train):,} training examples{lacks}, {labelled} labelled"
        alone = f"the labels of the same {num_examples:,} examples"
        alone += ", before labels were taken away" if num_labelled < num_examples else ""
    paragraph = f"The distilled student learned from {what}. The student alone learned from {alone}."
    return [Text(paragraph, title="What the students learned from")]


def _failed_table(result: Result) -> list[Section]:
    failed = [row for row in result["tuning"] if "failed" in row]
    if not failed:
        return []
    settings = [Column(key, name) for key, name in SETTINGS.items() if any(key in row for row in failed)]
    columns = [Column("name", "student"), *settings, Column("failed", "why")]
    caption = "A fit of each of these candidates failed. They were skipped; the best of the others was used."
    return [Table("Candidates that failed", failed, columns=columns, caption=caption)]


def _fidelity_table(result: Result) -> Section:
    columns = [Column("name", "network")]
    for key, where in (("train_teacher", "transfer set"), ("teacher", "test")):
        if f"{key}_agreement" in _by_name(result)[DISTILLED]:
            columns.append(Column(f"{key}_agreement", f"agrees, {where}", "{:.2%}"))
            columns.append(Column(f"{key}_kl", f"KL, {where}", "{:.4f}"))
    num_examples = result["details"]["transfer"]["num_examples"]
    most = f"at most {MOST_EXAMPLES:,} of " if num_examples > MOST_EXAMPLES else ""
    caption = (
        "How often student and teacher predict the same class, and the KL divergence from the teacher's "
        f"probabilities to the student's (T = 1, nats); on the transfer set over {most}{num_examples:,} unchanged "
        "examples. A better student is not always more faithful: a network can agree less and make fewer errors "
        "(Stanton et al. 2021)."
    )
    rows = [row for row in result["rows"] if row["name"] != "teacher"]
    return Table("Fidelity", rows, columns=columns, caption=caption)


def _cost_table(result: Result) -> Section:
    return Table(
        "Cost in use",
        [row for row in result["rows"] if row["name"] != CORRECTED],
        columns=[
            Column("name", "network"),
            Column("parameters", "weights", "{:,}"),
            Column("bytes", "size", "{:si}B", note="float32"),
            Column("multiplications", "multiplications", "{:si}", note="for one example, where known"),
            _LATENCY,
        ],
    )


def _differences(result: Result) -> Section:
    caption = (
        "95 % intervals. Over seeds (t): how far other initialisations move the difference, with this teacher. "
        f"Over {result['num_test']:,} test examples (bootstrap): how far another test set of this size does."
    )
    return differences_table(result, "Distilled minus alone", caption)


def _commands(plan: Plan) -> str:
    path, config = plan.path, plan.config
    commands = [
        f"instar distill --config {path / 'config.toml'} --run-dir runs/again",
        f"instar runs show {path}",
    ]
    if plan.members:
        data = config.data.model_dump(exclude={"name"}, exclude_defaults=True)
        again = ["--teacher", f"{path}:teacher", "--data", config.data.name, "--student", config.student.network]
        again += [word for key, value in data.items() for word in ("--set", f"data.{key}={json.dumps(value)}")]
        commands.append(f"instar distill {shlex.join(again)}")
    return "\n".join(commands)
