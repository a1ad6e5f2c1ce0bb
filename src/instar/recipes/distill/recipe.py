"""`instar distill`: train a large network, distil it into a small one, compare that with the small one alone.

The control has the same budget and seeds, and as many fits to choose from. Of several candidates the
best on validation is used, with seeds that are not in the result. Test is read once, at the end.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.data import Splits
from instar.deploy import find_fit
from instar.deploy.loading import why_taken
from instar.deploy.to_onnx import check_packages
from instar.distillation import SoftTargetStore
from instar.evaluation import commonest, score
from instar.recipes.choosing import last_round
from instar.recipes.distill import scoring
from instar.recipes.distill.checks import check
from instar.recipes.distill.comparison import compared_losses
from instar.recipes.distill.in_use import in_use, in_use_jobs
from instar.recipes.distill.observations import failures, observations
from instar.recipes.distill.page import answer, page
from instar.recipes.distill.plan import ALONE, CORRECTED, DISTILLED, SAME_COST, Plan
from instar.recipes.distill.same_cost import verdict
from instar.recipes.distill.search import search
from instar.recipes.distill.settings import DistillConfig
from instar.recipes.distill.students import Chosen
from instar.recipes.hinting import KINDS, hints_between
from instar.recipes.learning import FAILED, about_failures
from instar.recipes.loading import load_run_network
from instar.recipes.result_tables import rows_table
from instar.recipes.rows import ERRORS
from instar.recipes.settings import NetworkSettings, as_text
from instar.recipes.shipping.use_it import use_lines
from instar.recipes.splits import load_splits, training_data
from instar.recipes.study import Place, Result, Round, Rounds, Study
from instar.runs import Run
from instar.structures import is_plain
from instar.teacher_checks import about_order

Row = dict[str, Any]


def place(config: DistillConfig) -> Place:
    """`runs/distill/DATA-TEACHER-STUDENT-HASH`; a store of soft targets counts by its content."""
    splits = load_splits(config.data)
    many = f"{config.teachers}x" if config.teachers > 1 else ""
    names = [splits.name, config.targets or many + config.teacher.network, config.student.network]
    slug = "-".join(Path(name.replace(":", "-").replace(",", "+")).name for name in names)
    store = None if config.targets is None else SoftTargetStore.open(config.targets).identity
    return Place("distill", slug, {"targets": store})


def check_plan(plan: Plan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: names what is wrong.
    """
    check(plan)
    if plan.config.int8:
        check_packages()


def rounds(plan: Plan) -> Rounds[Chosen]:
    """Teachers, candidates and the student alone, each as soon as it can be; then the distilled students."""
    chosen, teachers = yield from search(plan)
    in_use = in_use_jobs(plan, chosen.candidates[DISTILLED]) if plan.config.int8 else []
    yield Round([*teachers, *plan.student_jobs(chosen.candidates, chosen.longer_epochs), *in_use])
    return chosen


def measure(plan: Plan, chosen: Chosen) -> dict[str, Any]:
    """The result.

    A row also has the other scores on test, the costs, the candidate, and the fidelity to the teacher: on test
    (`teacher_agreement`, `teacher_kl`) and on the transfer set (`train_teacher_...`). A difference has a second
    interval, over test examples. `details` has `transfer`, what the students learn from; the number of validation
    examples; `commonest_class_errors`, those on test of always answering the commonest class; `likelihood`, the
    first difference in negative log-likelihood, over seeds; the `members` of an ensemble; the `class_bias` of a
    correction, mean over seeds; `losses` where several were compared, `hint_layers` where layers were, `same_cost`
    and `in_use` where they were asked for; and the lists of `instar.recipes.distill.scoring`.
    """
    config, test = plan.config, plan.splits.test
    labels, logits_of = test.labels(test.ids), scoring.on_test(plan.path, test)
    kinds, losses = plan.kinds, list(plan.rows_of_losses.values())
    logits = {kind: [logits_of(f"{kind}/seed-{seed}") for seed in plan.seeds] for kind in kinds}
    members = torch.stack([logits_of(member.job) for member in plan.members]) if plan.members else None
    if members is not None:
        logits = {"teacher": [scoring.ensemble_logits(members, config.ensemble_mean)], **logits}
    differences = [scoring.error_difference(*pair, logits, labels) for pair in plan.differences]
    first, rows = differences[0], _rows(plan, chosen, kinds, logits, labels)
    main = {name: logits[name] for name in ("teacher", ALONE, DISTILLED, CORRECTED) if name in logits}
    return {
        "measure": ERRORS._asdict(),
        "metrics": {f"difference{end}": first[end.strip("_") or "mean"] for end in ("", "_low", "_high")},
        "rows": rows,
        "differences": differences,
        "tuning": chosen.tuning,
        "num_test": len(labels),
        "seeds": list(plan.seeds),
        "details": {
            "transfer": _transfer(plan),
            "num_validation": len(plan.splits.validation),
            "commonest_class_errors": len(labels) - commonest(labels),
            "training": [
                line for kind in (ALONE, *losses) for line in scoring.training_curve(kind, plan.fits(kind))
            ],
            "errors_by_class": scoring.errors_by_class(main, labels, test.class_names),
            "calibration": scoring.calibration(main, labels),
            "likelihood": scoring.nll_difference(DISTILLED, ALONE, logits, labels),
            **_clipped(plan),
            "sensitivity": scoring.sensitivities(last_round(chosen.tuning), [ALONE, DISTILLED]),
            **({} if members is None else _about_teacher(plan, chosen, logits, members)),
            **_order_of_classes(plan, members),
            **({"class_bias": _class_bias(plan)} if config.fit_bias else {}),
            **_about_losses(plan, rows),
            **({"same_cost": _same_cost(plan, chosen, rows, differences)} if config.same_cost else {}),
            **({"in_use": in_use(plan, test)} if config.int8 else {}),
        },
    }


def _rows(
    plan: Plan, chosen: Chosen, kinds: list[str], logits: dict[str, list[Tensor]], labels: Tensor
) -> list[Row]:
    shape, rows = plan.splits.test.example_shape, []
    if "teacher" in logits:
        costs = scoring.cost_row(plan.teacher_fits, shape)
        about = {"network": plan.teacher_name, **about_failures([plan.teacher_fits]), **costs}
        if len(plan.searched_members) == 1:
            about["learning_rate"] = Run.read(plan.teacher_fits[0]).config["fit"]["learning_rate"]
        rows.append(scoring.scored_row("teacher", logits["teacher"], labels, **about))
    on_train = scoring.train_fidelity(plan, kinds)
    names = {row: loss for loss, row in plan.rows_of_losses.items()}
    for kind in kinds:
        on_test = scoring.fidelity(logits[kind], logits["teacher"][0], "teacher") if "teacher" in logits else {}
        fitted = DISTILLED if kind == CORRECTED else kind
        candidate = chosen.candidates[fitted]
        about = {
            **about_failures(plan.fits(fitted)),
            **on_test,
            **on_train[kind],
            **scoring.cost_row(plan.fits(kind)[:1], shape),
            **as_text(candidate.settings),
            **({"epochs": _epochs(plan, fitted)} if plan.config.same_cost else {}),
        }
        if plan.config.loss and fitted in names:
            about = {"loss": names[fitted], **about}
        rows.append(scoring.scored_row(kind, logits[kind], labels, network=plan.config.student.network, **about))
    return rows


def _epochs(plan: Plan, kind: str) -> int:
    return int(Run.read(plan.fits(kind)[0]).config["fit"]["epochs"])


def _about_losses(plan: Plan, rows: list[Row]) -> Row:
    """Which loss helps, and the layers that were compared."""
    found: Row = {}
    if len(plan.rows_of_losses) > 1:
        values = {row["name"]: row["values"] for row in rows}
        found["losses"] = compared_losses({loss: values[row] for loss, row in plan.rows_of_losses.items()})
    if pairs := [{"loss": loss, **pair} for loss in plan.rows_of_losses for pair in _layers(plan, loss)]:
        found["hint_layers"] = pairs
    return found


def _layers(plan: Plan, loss: str) -> list[Row]:
    """The layers by which a loss teaches; none where it compares answers alone."""
    if loss not in KINDS:
        return []
    soft = plan.teaching_with(loss).soft_settings(plan.config.middle_loss)
    student = load_run_network(plan.fits(plan.rows_of_losses[loss])[0])
    return [
        {
            "teacher": member.settings.network,
            "teacher_layer": hint.teacher_layer,
            "student_layer": hint.student_layer,
        }
        for member, fit in zip(plan.members, plan.teacher_fits, strict=True)
        for hint in hints_between(soft, load_run_network(fit), student, plan.splits.train)
    ]


def _same_cost(plan: Plan, chosen: Chosen, rows: list[Row], differences: list[Row]) -> Row:
    """What the student alone could train for, and whether distilling paid."""
    teacher, student, epochs = plan.allowance
    about = {
        "teacher_multiplications": teacher,
        "student_multiplications": student,
        "student_epochs": plan.student_settings.epochs,
        "allowed_epochs": epochs,
        "tried_epochs": [row["epochs"] for row in chosen.tuning if row["name"] == SAME_COST],
        "epochs": chosen.longer_epochs,
    }
    alone = next(row for row in rows if row["name"] == SAME_COST)
    difference = next(row for row in differences if row["minus"] == SAME_COST)
    return {"sentence": verdict(about, alone, difference), **about}


def _about_teacher(plan: Plan, chosen: Chosen, logits: dict[str, list[Tensor]], members: Tensor) -> Row:
    """Where it and the first distilled student differ, its soft targets, and the members of an ensemble."""
    test, temperature = plan.splits.test, chosen.candidates[DISTILLED].settings["temperature"]
    found: Row = {
        "disagreements": scoring.disagreements(logits[DISTILLED][0], logits["teacher"][0], test),
        "dark_knowledge": scoring.dark_knowledge(members, temperature, plan.config.ensemble_mean, test),
    }
    if len(members) > 1:
        scores = [score(one, test.labels(test.ids)) for one in members]
        found["members"] = [
            {
                "name": member.job.rpartition("/")[2],
                "network": member.settings.network,
                **{f"test_{key}": value for key, value in one.items()},
            }
            for member, one in zip(plan.members, scores, strict=True)
        ]
    return found


def _order_of_classes(plan: Plan, members: Tensor | None) -> Row:
    """Which teachers have their classes in another order than the data, in sentences; empty where none has."""
    if members is None:
        values, labels = scoring.stored_on_train(plan)
        given = {"The stored teacher": values}
    else:
        labels = plan.splits.test.labels(plan.splits.test.ids)
        names = [member.job.replace("teacher/", "teacher ") for member in plan.members]
        given = {f"The {name}": one for name, one in zip(names, members, strict=True)}
    said = [about_order(one, labels, plan.splits.class_names, name=name) for name, one in given.items()]
    return {"class_order": found} if (found := [sentence for sentence in said if sentence]) else {}


def _transfer(plan: Plan) -> Row:
    """What the students learned from, in counts of examples, and the classes that it lacks."""
    data, control = (training_data(plan.splits, one) for one in (plan.config.transfer, plan.config.control))
    return {
        "examples_are": _word_for(plan.splits),
        "num_examples": len(data),
        "num_labelled": int((data.labels(data.ids) >= 0).sum()),
        "num_control": len(control),
        "missing_classes": plan.missing,
    }


def _word_for(splits: Splits) -> str:
    """What people call examples of this kind."""
    if splits.preparation is not None:
        return {"text": "texts", "sound": "clips", "table": "rows", "picture": "images"}[splits.preparation.kind]
    shape = splits.train.example_shape
    return "images" if is_plain(shape) and len(shape) == 3 else "examples"


def _clipped(plan: Plan) -> dict[str, list[Row]]:
    """The networks without normalisation that got a bound on the gradient, and perhaps a warm-up."""
    searched: list[NetworkSettings] = [member.settings for member in plan.searched_members]
    if plan.is_searched:
        searched.append(plan.students[0].settings)
    found = [
        {"network": one.network, "warmup_epochs": one.warmup_epochs, "gradient_clip": one.gradient_clip}
        for one in searched
        if one.gradient_clip
    ]
    return {"clipped": found} if found else {}


def _class_bias(plan: Plan) -> dict[str, float]:
    found = [Run.read(fit).result()["rows"][0]["bias"] for fit in plan.fits(CORRECTED)]
    return {name: sum(bias[name] for bias in found) / len(found) for name in plan.moved}


def use_it(path: str, result: Result) -> list[str]:
    """The commands that use the student that is best on validation, and others; the last line says which it is."""
    rows = {row["name"]: row for row in result["rows"]}
    commands = use_lines(path)
    taken = find_fit(path) if commands else Path()
    if taken.parent.name == ALONE:
        commands += use_lines(f"{path}:{DISTILLED}", comment="the distilled student")[:1]
    elif rows[DISTILLED].get(FAILED) or rows[DISTILLED]["mean"] > rows[ALONE]["mean"]:
        commands += use_lines(f"{path}:{ALONE}", comment="the student alone, which made fewer errors")[:1]
    losses = result["details"].get("losses", {"rows": []})["rows"]
    if helpful := [one for one in losses if (one["high_of_all"] or 0) < 0]:
        loss = min(helpful, key=lambda one: float(one["mean"]))["loss"]
        commands += use_lines(f"{path}:student-{loss}", comment="the loss that helped")[:1]
    return [*commands, f"# {which_is_taken(path, taken)}"] if commands else []


def which_is_taken(path: str, taken: Path) -> str:
    """Which network a run of `instar distill` stands for, and, where it is not a distilled one, why."""
    name = "/".join(taken.parts[-2:])
    if taken.parent.name != ALONE:
        return f"{path} stands for {name}, the best student on validation"
    return f"{path} stands for {name}, not for a distilled student: validation decides ({why_taken(path)})"


STUDY: Study[DistillConfig, Plan, Chosen] = Study(
    recipe="distill",
    place=place,
    plan=Plan,
    check=check_plan,
    rounds=rounds,
    num_rounds=lambda plan: 2,
    measure=measure,
    page=page,
    answer=answer,
    table=rows_table,
    published=lambda config: f"distill-{config.data.name}",
    failures=failures,
    observe=observations,
    use=use_it,
)
