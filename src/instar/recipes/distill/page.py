"""What a person reads after `instar distill`: the answer, its table, its charts, and how to repeat it."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from instar.data import Dataset
from instar.distillation.sensitivity import SETTINGS
from instar.jobs import duration
from instar.recipes.distill.in_use_page import in_use_sections
from instar.recipes.distill.plan import ALONE, CORRECTED, DISTILLED, Plan
from instar.recipes.distill.scoring import MOST_EXAMPLES
from instar.recipes.pictures import example_pictures
from instar.recipes.result_tables import result_tables, rows_table
from instar.recipes.rows import about_likelihood, excludes_zero, interval
from instar.recipes.settings import TransferSettings
from instar.recipes.study import Page, Result
from instar.reports import Bars, Column, Headline, Lines, Section, Share, Table, Text

Row = dict[str, Any]

_MOST_BANDS = 3  # of more curves the bands hide each other


def answer(result: Result) -> Headline:
    """The result in one sentence, with its interval."""
    rows = _by_name(result)
    alone, distilled, difference = rows[ALONE], rows[DISTILLED], result["differences"][0]
    examples = f"{result['num_test']:,} test {result['details']['transfer']['examples_are']}"
    sentence = (
        f"{fewer_errors(difference['mean'])} on {examples}: "
        f"{distilled['network']} makes {distilled['mean']:.1f} errors distilled and {alone['mean']:.1f} alone."
    )
    if difference["low"] is None:
        sure = "One seed: no interval, so this does not show how sure it is; use --seeds 5."
        if result["config"].get("quick"):
            sure = (
                "A quick look, with one seed (no interval) and one round of search: leave --quick out to be sure."
            )
    else:
        verdict = "excludes zero" if excludes_zero(difference) else "includes zero: undecided"
        if difference["low"] == difference["high"] != 0:
            verdict = "has no width, since all differ equally: undecided, use more seeds"
        bounds = interval(difference, sign=True)
        sure = f"95 % interval over {difference['n']} paired seeds: {bounds}, which {verdict}."
        sure += _over_examples(difference)
    likelihood = about_likelihood(
        result["details"].get("likelihood", {}), distilled["test_nll"], alone["test_nll"]
    )
    details = result["details"]
    more = [details[key]["sentence"] for key in ("losses", "same_cost", "in_use") if key in details]
    said = [_about_teacher(rows), *_about_correction(rows), *more]
    return Headline(sentence, " ".join([sure, *([likelihood] if likelihood else []), *said]))


def _over_examples(difference: Row) -> str:
    """What the interval over test examples says, where one of the two excludes zero and the other not."""
    over_examples = {"low": difference.get("low_examples"), "high": difference.get("high_examples")}
    if over_examples["low"] is None or excludes_zero(over_examples) == excludes_zero(difference):
        return ""
    bounds = interval(over_examples, sign=True)
    if excludes_zero(over_examples):
        return f" Over test examples: {bounds}, which excludes zero: other seeds might not show it."
    return f" Over test examples: {bounds}, which includes zero: another test set might not show it."


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
    times = (teacher["parameters"] or 0) / distilled["parameters"]  # of a forest it is not known
    more = f" and has {times:,.0f} times the weights" if times >= 1.5 else ""
    return f"The teacher makes {teacher['mean']:.1f} errors{more}."


def _about_correction(rows: Mapping[str, Row]) -> list[str]:
    if CORRECTED not in rows:
        return []
    mean = rows[CORRECTED]["mean"]
    change = fewer_errors(mean - rows[DISTILLED]["mean"]).lower()
    return [f"With a class bias fitted on validation, the distilled student makes {mean:.1f} errors: {change}."]


def page(plan: Plan, result: Result) -> Page:
    """The page."""
    details, test = result["details"], plan.splits.test
    sections: list[Section] = [
        rows_table(result),
        *([losses(details["losses"])] if "losses" in details else []),
        *([same_cost(details["same_cost"])] if "same_cost" in details else []),
        *(in_use_sections(details["in_use"]) if "in_use" in details else []),
        *_transfer_text(plan, result),
        training_curves(details["training"], plan.config.seeds),
        errors_by_class(details, plan.config.fit_bias is not None),
        calibration(details["calibration"]),
        *sensitivities(details["sensitivity"]),
        _fidelity_table(result),
        *([disagreements(details["disagreements"], test)] if plan.members else []),
        *([dark_knowledge(details["dark_knowledge"], test)] if plan.members else []),
        *_clipped_text(details.get("clipped", [])),
        *result_tables(result)[1:],
    ]
    parts = (("training", plan.splits.train), ("validation", plan.splits.validation), ("test", test))
    counts = ", ".join(f"{len(part):,} {name}" for name, part in parts)
    return Page(
        f"{plan.teacher_name} into {plan.config.student.network}",
        f"Knowledge distillation on {plan.splits.name}: {counts} examples; training took "
        f"{duration(result['fit_seconds'])} of one core",
        sections,
        series=("teacher", ALONE, DISTILLED, *([CORRECTED] if plan.config.fit_bias else [])),
        again=_commands(plan),
    )


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
        missing = about["missing_classes"]
        classes = "the classes" if len(missing) > 1 else "class"
        lacks = f", without {classes} {', '.join(missing)}" if missing else ""
        labelled = "all" if num_labelled == num_examples else f"{num_labelled:,} of them"
        what = f"{num_examples:,} of {len(plan.splits.train):,} training examples{lacks}, {labelled} labelled"
        alone = f"the labels of the same {num_examples:,} examples"
        alone += ", before labels were taken away" if num_labelled < num_examples else ""
    paragraph = f"The distilled student learned from {what}. The student alone learned from {alone}."
    return [Text(paragraph, title="What the students learned from")]


def losses(compared: Row) -> Section:
    """A bar for each loss: the change in test errors against the first, with its interval."""
    first = compared["rows"][0]["minus"]
    title = f"Other losses against {first}"
    bars: Row = {"category": "loss", "value": "mean"}
    if compared["rows"][0]["low"] is not None:
        bars |= {"low": "low", "high": "high"}
    caption = (
        f"Test errors minus those of {first}, paired by seed; the line is the 95 % interval of each. Bars to the "
        f"left are fewer errors. {compared['sentence']}"
    )
    return Bars(
        title, compared["rows"], **bars, value_title=f"test errors minus those of {first}", caption=caption
    )


def same_cost(about: Row) -> Section:
    """What the student alone could have been trained for."""
    times = about["teacher_multiplications"] / about["student_multiplications"]
    cost = (
        f"Training the teacher, and its answers on the transfer set, took {times:,.1f} times the multiplications "
        "of training the distilled student; the search for learning rates, which both had, is left out. A "
        "backward pass counts as two forward passes. Each number of epochs that is tried is four times the last, "
        "until two in a row have no fewer validation errors."
    )
    return Text([about["sentence"], cost], title="Whether to distil at all")


def _clipped_text(clipped: Sequence[Row]) -> list[Section]:
    """The networks that were trained with a bound on the gradient, because they do not normalise."""
    said = []
    for one in clipped:
        rising = f", and its rate rose over {one['warmup_epochs']:g} epochs" if one["warmup_epochs"] else ""
        said.append(f"{one['network']}: its gradients were clipped to norm {one['gradient_clip']:g}{rising}.")
    return [Text(" ".join(said), title="Networks without normalisation layers")] if said else []


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


def training_curves(rows: Sequence[Row], num_seeds: int) -> Section:
    """Validation errors after each epoch."""
    caption = f"Errors on validation after each epoch, mean over {num_seeds} seed{'s' * (num_seeds > 1)}"
    if num_seeds == 1 or len({row["network"] for row in rows}) > _MOST_BANDS:
        return _without_first_epochs("Training", rows, f"{caption}.", series="network")
    caption += "; the band is one sd to each side."
    return _without_first_epochs("Training", rows, caption, series="network", low="low", high="high")


def first_pair_curves(rows: Sequence[Row]) -> Section:
    """The same of one pair on a fraction of the examples: with labels alone the errors rise again."""
    caption = f"The first pair, {rows[0]['percent']} % of the images; hard targets are labels."
    return _without_first_epochs("Peak and fall", rows, caption, series="network")


def _without_first_epochs(title: str, rows: Sequence[Row], caption: str, **fields: Any) -> Section:
    """Validation errors by epoch, without those so high that the rest would be squeezed into a line.

    The last two points of each line are there, however high: of a short fit, or beside a much better network.
    """
    lines: dict[str, list[float]] = {}
    for row in rows:
        lines.setdefault(row["network"], []).append(row["errors"])
    ceiling = max(3 * min(row["errors"] for row in rows), *(max(line[-2:]) for line in lines.values()))
    shown = [row for row in rows if row["errors"] <= ceiling]
    if len(shown) < len(rows):
        caption += f" Epochs with more than {ceiling:.0f} are left out."
    return Lines(title, shown, x="epoch", y="errors", y_title="validation errors", caption=caption, **fields)


def errors_by_class(details: Row, is_corrected: bool) -> Section:
    """Test errors of each class, before and after a correction too."""
    caption = "Test errors by true class, mean over seeds."
    if is_corrected:
        bias = ", ".join(f"{name}: {value:+.2f}" for name, value in details["class_bias"].items())
        caption += (
            f" The transfer set lacks {', '.join(details['transfer']['missing_classes'])}. The correction adds to "
            f"the logits the bias with the fewest validation errors ({bias}). Folded into the last layer, it "
            "costs nothing in use."
        )
    rows = details["errors_by_class"]
    return Bars("Errors by class", rows, category="class", value="errors", series="network", caption=caption)


def calibration(rows: Sequence[Row]) -> Section:
    """Accuracy against confidence."""
    caption = (
        "Equally many test examples in each point, by confidence, and how often the prediction was right. On the "
        "line, they are equal."
    )
    axes: Row = {"x": "confidence", "y": "accuracy", "series": "network", "points": True, "diagonal": True}
    return Lines("Calibration", rows, **axes, caption=caption)


def sensitivities(found: Sequence[Row]) -> list[Section]:
    """A chart for each setting that had several values: validation errors at each, and whether it matters."""
    return [_sensitivity(one) for one in found]


def sensitivity_table(found: Row) -> Table:
    """Validation errors of each student at each value of a setting."""
    levels: dict[Any, Row] = {}
    for level in found["levels"]:
        shown = f"{level['errors']:.1f} {interval(level) if level['low'] < level['high'] else ''}".strip()
        levels.setdefault(level["value"], {"value": level["value"]})[level["network"]] = shown
    name = SETTINGS[found["setting"]]
    kinds = dict.fromkeys(level["network"] for level in found["levels"])
    columns = [Column("value", name, "{:g}"), *(Column(kind, kind) for kind in kinds)]
    caption = f"Validation errors at the best other settings, with 95 % intervals. {found['sentence']}".strip()
    return Table(f"{name.capitalize()}, on validation", list(levels.values()), columns=columns, caption=caption)


def _sensitivity(found: Row) -> Section:
    name = SETTINGS[found["setting"]]
    caption = f"Each {name} at its best other settings; mean and 95 % interval over the tuning seeds."
    if found["setting"] == "learning_rate":
        caption += " The student alone has as many fits to choose from."
    caption = f"{found['sentence']} {caption}".strip()
    levels = [{**level, "value": float(level["value"])} for level in found["levels"]]
    finite = [level for level in levels if math.isfinite(level["value"])]
    if len(finite) < len(levels):  # no place on the axis
        errors = next(level["errors"] for level in levels if level not in finite)
        caption += f" At infinity, which matches logits: {errors:.1f}."
    axes: Row = {"x": "value", "x_title": name, "log_x": min(level["value"] for level in finite) > 0}
    axes |= {"y": "errors", "y_title": "validation errors", "low": "low", "high": "high"}
    return Lines(name.capitalize(), finite, **axes, series="network", points=True, caption=caption)


def disagreements(found: Row, test: Dataset) -> Section:
    """Examples on which the first distilled student and the teacher differ."""
    title = "Where teacher and student disagree"
    if not found["examples"]:
        return Text("Teacher and student agree on every test example.", title=title)
    words = ["{label}: teacher {teacher}, student {student}".format(**example) for example in found["examples"]]
    caption = f"{found['count']} test examples; true class first. The {len(words)} where the student is surest."
    ids = [example["id"] for example in found["examples"]]
    return example_pictures(title, test, ids, words, [()] * len(words), caption)


def dark_knowledge(found: Row, test: Dataset) -> Section:
    """Which wrong classes the teacher finds similar, on examples that it classifies correctly."""
    title = "Dark knowledge"
    if not found["examples"]:
        return Text("The teacher classifies no test example of the first classes correctly.", title=title)
    shares = [
        [Share(name, value, highlight=name == example["label"]) for name, value in example["shares"].items()]
        for example in found["examples"]
    ]
    caption = (
        f"The teacher's soft targets at T = {found['temperature']:g} for test examples that it classifies "
        "correctly. Beside the true class they show which wrong classes are similar; a label does not."
    )
    words = [example["label"] for example in found["examples"]]
    ids = [example["id"] for example in found["examples"]]
    return example_pictures(title, test, ids, words, shares, caption)
