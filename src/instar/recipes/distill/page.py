"""What a person reads after `instar distill`: the answer, its table, its charts, and how to get it again."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import tomli_w

from instar.data import Splits
from instar.jobs import duration
from instar.recipes.distill.charts import calibration, errors_by_class, training_curves, tuning_curves
from instar.recipes.distill.fidelity import MOST_EXAMPLES
from instar.recipes.distill.pictures import dark_knowledge, disagreements
from instar.recipes.distill.plan import ALONE, CORRECTED, DISTILLED, Plan
from instar.recipes.distill.recipe import Trial
from instar.recipes.distill.tuning import TUNED
from instar.recipes.fitting import load_splits, training_data
from instar.recipes.settings import TransferSettings
from instar.reports import Code, Column, Details, Headline, Section, Table, Text, write_page
from instar.runs import REPORT, Run, without_none


def answer(result: Mapping[str, Any]) -> Headline:
    """The result in one sentence, with its interval."""
    rows = _by_name(result)
    alone, distilled = rows[ALONE], rows[DISTILLED]
    difference, n = distilled["difference"], distilled["n"]
    low, high = distilled["difference_low"], distilled["difference_high"]
    change = f"{abs(difference):.1f} {'fewer' if difference < 0 else 'more'} of {result['num_test']:,} test errors"
    sentence = (
        f"Distilled, {distilled['network']} makes {distilled['mean']:.1f} test errors; alone it makes "
        f"{alone['mean']:.1f}: {change}."
    )
    if low is None:
        sure = "One seed says nothing of how sure that is; take --seeds 5."
    else:
        verdict = "excludes zero" if low > 0 or high < 0 else "includes zero: undecided"
        sure = (
            f"95 % interval of the difference over {n} paired seeds: [{low:+.1f}, {high:+.1f}], which {verdict}."
        )
    return Headline(sentence, " ".join([sure, _about_teacher(rows), *_about_correction(rows)]))


def _by_name(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def _about_teacher(rows: Mapping[str, Mapping[str, Any]]) -> str:
    if "teacher" not in rows:
        return "Its soft targets were stored; what their teachers do on test, the store does not say."
    teacher, distilled = rows["teacher"], rows[DISTILLED]
    times = teacher["parameters"] / distilled["parameters"]
    more = f" and has {times:.0f} times the weights" if times >= 1.5 else ""
    return f"The teacher makes {teacher['mean']:.1f}{more}."


def _about_correction(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if CORRECTED not in rows:
        return []
    return [f"With the class bias that validation found, the distilled one makes {rows[CORRECTED]['mean']:.1f}."]


def result_table(result: Mapping[str, Any]) -> Table:
    """The table of `result.json`, for the page and the terminal."""
    rows = [dict(row) for row in result["rows"]]
    for row in rows:
        row["shown_errors"] = f"{row['mean']:.1f}" if row["sd"] is None else "{mean:.1f} ± {sd:.1f}".format(**row)
    agrees = [Column("teacher_agreement", "agrees", "{:.2%}", note="says the same class as the teacher")]
    return Table(
        "Result",
        rows,
        columns=[
            Column("name", "network"),
            Column("network", "form"),
            Column("shown_errors", "test errors", note=f"of {result['num_test']:,}, mean ± sd over n seeds"),
            Column("n", "n"),
            Column("test_accuracy", "accuracy", "{:.2%}"),
            Column("test_nll", "NLL", "{:.4f}", note="negative log-likelihood, nats"),
            Column("test_calibration_error", "calibration error", "{:.2%}", note="adaptive, 15 bins"),
            *(agrees if "teacher" in _by_name(result) else []),
            Column("parameters", "weights", "{:,}"),
            Column("latency_ms", "latency", "{:.3f} ms", note="median, batch 1, one CPU thread"),
        ],
        highlight=[row["name"] for row in rows].index(DISTILLED),
    )


def write_distill_page(run: Run, plan: Plan, trial: Trial, result: dict[str, Any]) -> None:
    """Write `report.html` into a run directory."""
    config = plan.config
    pictures: list[Section] = []
    knowledge: list[Section] = []
    if trial.teacher_logits is not None and trial.member_logits is not None:
        pictures = disagreements(config, trial, trial.teacher_logits)
        knowledge = dark_knowledge(config, trial, trial.member_logits)
    splits = load_splits(config.data)
    sections: list[Section] = [
        answer(result),
        result_table(result),
        *_members_table(result),
        *_transfer_text(plan, splits),
        training_curves(plan),
        errors_by_class(plan, trial, result),
        calibration(trial),
        *tuning_curves(result),
        *_failed_table(result),
        *_fidelity_table(result),
        *pictures,
        *knowledge,
        _cost_table(result),
        _differences(result),
        Code("Get it again", _commands(plan)),
        Details(
            "Configuration and machine",
            [
                Code("config.toml", tomli_w.dumps(without_none(config.model_dump()))),
                Table("Machine", [_machine(run)]),
            ],
        ),
    ]
    counts = f"{len(splits.train):,} training, {len(splits.validation):,} validation, {len(splits.test):,} test"
    write_page(
        run.path / REPORT,
        f"{plan.teacher_name} into {config.student.network}",
        sections,
        subtitle=f"Knowledge distillation on {splits.name}: {counts} examples; all its fits took "
        f"{duration(result['fit_seconds'])} of one core",
        footer=f"instar {_machine(run)['instar']}",
        series=("teacher", ALONE, DISTILLED, CORRECTED),
    )


def _members_table(result: Mapping[str, Any]) -> list[Section]:
    if "members" not in result:
        return []
    ensemble = {**_by_name(result)["teacher"], "name": "together"}
    columns = [
        Column("name", "teacher"),
        Column("network", "form"),
        Column("test_errors", "test errors", "{:.0f}"),
        Column("test_nll", "NLL", "{:.4f}"),
        Column("test_calibration_error", "calibration error", "{:.2%}"),
    ]
    rows = [*result["members"], ensemble]
    return [Table("The ensemble that teaches", rows, columns=columns, highlight=len(rows) - 1)]


def _transfer_text(plan: Plan, splits: Splits) -> list[Section]:
    """What the students learned from, where that is not all that the teacher learned from."""
    transfer, control = plan.config.transfer, plan.config.control
    if transfer == TransferSettings(num_views=transfer.num_views):
        return []
    data = training_data(splits, transfer)
    num_labelled = int((data.labels(data.ids) >= 0).sum())
    if transfer.folder is not None:
        what = f"{len(data):,} unlabelled pictures below {transfer.folder}"
        alone = f"the labels of all {len(training_data(splits, control)):,} training examples"
    else:
        lacks = f", without the classes {', '.join(plan.missing)}" if plan.missing else ""
        labelled = "all" if num_labelled == len(data) else f"{num_labelled:,} of them"
        what = f"{len(data):,} of {len(splits.train):,} training examples{lacks}, {labelled} labelled"
        alone = f"the labels of the same {len(data):,} examples"
        alone += ", before labels were taken away" if num_labelled < len(data) else ""
    paragraph = f"The distilled student learned on {what}. The student alone learned from {alone}."
    return [Text(paragraph, title="What the students learned from")]


def _failed_table(result: Mapping[str, Any]) -> list[Section]:
    failed = [row for row in result["tuning"] if "failed" in row]
    if not failed:
        return []
    settings = [Column(key, name) for key, name in TUNED.items() if any(key in row for row in failed)]
    columns = [Column("name", "student"), *settings, Column("failed", "why")]
    caption = "A fit of each of these failed: validation chose among the others."
    return [Table("Candidates that failed", failed, columns=columns, caption=caption)]


def _fidelity_table(result: Mapping[str, Any]) -> list[Section]:
    columns = [Column("name", "network")]
    for place, where in (("train_teacher", "transfer set"), ("teacher", "test")):
        if f"{place}_agreement" in _by_name(result)[DISTILLED]:
            columns.append(Column(f"{place}_agreement", f"agrees, {where}", "{:.2%}"))
            columns.append(Column(f"{place}_kl", f"KL, {where}", "{:.4f}"))
    rows = [row for row in result["rows"] if row["name"] != "teacher"]
    of = f"{result['num_transfer']:,} examples"
    if result["num_transfer"] > MOST_EXAMPLES:
        of = f"at most {MOST_EXAMPLES:,} of {of}"
    caption = (
        "How often student and teacher say the same class, and the KL from the teacher's probabilities to the "
        f"student's (T = 1, nats); on the transfer set over {of}, each as it is. A better student is not always a "
        "more faithful one: a network can agree less and err less (Stanton et al. 2021)."
    )
    return [Table("Fidelity", rows, columns=columns, caption=caption)]


def _cost_table(result: Mapping[str, Any]) -> Section:
    return Table(
        "Cost in use",
        [row for row in result["rows"] if row["name"] != CORRECTED],
        columns=[
            Column("name", "network"),
            Column("parameters", "weights", "{:,}"),
            Column("bytes", "size", "{:si}B", note="float32"),
            Column("multiplications", "multiplications", "{:si}", note="for one example, where known"),
            Column("latency_ms", "latency", "{:.3f} ms", note="median, batch 1, one CPU thread"),
        ],
    )


def _differences(result: Mapping[str, Any]) -> Section:
    rows = []
    for row in result["rows"]:
        if "difference" in row:
            over_seeds = {"over": f"{row['n']} paired seeds (t)"}
            over_examples = {"over": f"{result['num_test']:,} test examples (bootstrap)"}
            for over, ending in ((over_seeds, ""), (over_examples, "_examples")):
                low, high = row[f"difference_low{ending}"], row[f"difference_high{ending}"]
                rows.append(
                    {"name": row["name"], "difference": row["difference"], **over, "low": low, "high": high}
                )
    several = [Column("name", "student")] if len(rows) > 2 else []
    return Table(
        "Distilled minus alone, in test errors",
        [row for row in rows if row["low"] is not None],
        columns=[
            *several,
            Column("over", "95 % interval over"),
            Column("difference", "difference", "{:+.1f}"),
            Column("low", "from", "{:+.1f}"),
            Column("high", "to", "{:+.1f}"),
        ],
        caption="Over seeds: would other initialisations say the same, with this teacher? "
        "Over test examples: would another test set of this size?",
    )


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


def _machine(run: Run) -> dict[str, Any]:
    about = run.read_json("environment.json")
    return {key: about[key] for key in ("instar", "torch", "python", "processor", "cores") if key in about}
