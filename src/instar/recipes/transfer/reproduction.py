"""`instar reproduce transfer`: the first paper's study in one run. Four plans of `instar transfer`, and a curve.

Nothing is chosen: every network is trained as configured, and evaluated on test once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from instar import intervals
from instar.evaluation import evaluate
from instar.jobs import Job, duration
from instar.recipes.fitting import fit_job
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import checked, merge
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import result_tables
from instar.recipes.rows import ACCURACY
from instar.recipes.scales import choose_scale
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import DEFAULT, Execution, Page, Place, Result, Round, Rounds, Study
from instar.recipes.transfer.figures import (
    SERIES,
    difference_figure,
    layer_table,
    part_figures,
    task_table,
    treatment_boxes,
)
from instar.recipes.transfer.filters import filter_details, filter_sections, first_filters
from instar.recipes.transfer.plan import MANIFEST, Plan
from instar.recipes.transfer.results import failures, part_of, study_of
from instar.recipes.transfer.settings import (
    CONVNET,
    DISSIMILAR,
    RESNET,
    SIMILAR,
    CurvePoint,
    ReproductionConfig,
)
from instar.recipes.transfer.tasks import halves_hashes
from instar.reports import Details, Headline, Lines, Section, Text
from instar.runs import Run
from instar.transfer import findings_of


def config_for(scale: str, data: str = "cifar100") -> ReproductionConfig:
    """The configuration of a scale, `tiny`, `small` or `full`, on some data.

    Raises:
        UsageError: there is no such scale.

    Example:
        >>> config_for("full").parts["resnet"].cuts
        [2, 3, 4]
    """
    content = choose_scale("transfer", data, scale)
    return checked(ReproductionConfig, merge(content, {"data": {"name": data}}))


@dataclass(frozen=True)
class ReproductionPlan:
    """A configuration, its run directory, and how it is run."""

    config: ReproductionConfig
    path: Path
    execution: Execution = DEFAULT

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """The plan of each part; all share the run directory."""
        return {
            name: Plan(config, self.path, self.execution, folder=f"{name}/")
            for name, config in self.config.parts.items()
        }

    def check(self) -> None:
        """Refuse parts that could not be carried out; see `Plan.check`."""
        for plan in self.plans.values():
            plan.check()

    def jobs(self) -> list[Job]:
        """The jobs of all parts and of the curve."""
        jobs = [job for plan in self.plans.values() for job in plan.jobs()]
        for point in self.config.curve.points:
            settings = self.config.convnet.model_copy(update={"epochs": point.epochs})
            data = self.curve_data(point)
            for seed in range(self.config.curve.seeds):
                name = curve_name(point, seed)
                jobs.append(fit_job(self.path, name, settings, data, seed=seed, device=self.execution.device))
        return jobs

    def curve_data(self, point: CurvePoint) -> DataSettings:
        """All classes, with a share of their training images."""
        return self.config.data.model_copy(update={"fraction": point.percent / 100})


def curve_name(point: CurvePoint, seed: int) -> str:
    """The job of one network of the curve."""
    return f"curve/{point.percent:g}-percent/{seed}"


def _place(config: ReproductionConfig) -> Place:
    halves = {"halves": {name: halves_hashes(part) for name, part in config.parts.items()}}
    return Place("reproduce", f"transfer-{config.data.name}-{config.scale}", halves)


def _rounds(plan: ReproductionPlan) -> Rounds[None]:
    Run.read(plan.path).write_json(MANIFEST, {name: part.manifest() for name, part in plan.plans.items()})
    yield Round(plan.jobs())


def _measure(plan: ReproductionPlan, _: None) -> dict[str, Any]:
    """The result: rows and differences of all parts, each with its `part`.

    `details` has `findings` (see `instar.transfer.findings_of`), the `curve`: test accuracy over
    `images_per_class`, `filters`, and `parts`: the details of each (see `results.Part`).
    """
    parts = {name: part_of(part) for name, part in plan.plans.items()}
    details = {name: part.details for name, part in parts.items()}
    findings = findings_in(details)
    filters = filter_details(first_filters(plan.plans[CONVNET]))
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {f"{finding['finding']}-{finding['network']}": finding["number"] for finding in findings},
        "rows": [{"part": name, **row} for name, part in parts.items() for row in part.rows],
        "differences": [{"part": name, **row} for name, part in parts.items() for row in part.differences],
        "num_test": len(load_splits(plan.config.data).test),
        "details": {
            "findings": findings,
            "curve": _curve(plan),
            "parts": details,
            **({"filters": filters} if filters else {}),
        },
    }


def findings_in(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The paper's findings on each network, from the accuracies in the details of the parts."""
    studies = {name: study_of(part["networks"]) for name, part in parts.items()}
    unlike = studies.get(DISSIMILAR), studies.get(SIMILAR)
    return [
        finding
        for name in (CONVNET, RESNET)
        if name in studies
        for finding in findings_of(parts[name]["network"], studies[name], *(unlike if name == CONVNET else ()))
    ]


def _curve(plan: ReproductionPlan) -> list[dict[str, Any]]:
    """Test accuracy over training images per class."""
    test, curve = load_splits(plan.config.data).test, plan.config.curve
    rows = []
    for point in curve.points:
        paths = [plan.path / "jobs" / curve_name(point, seed) for seed in range(curve.seeds)]
        accuracies = [
            100 * evaluate(load_run_network(path), test, device=plan.execution.device)["accuracy"]
            for path in paths
        ]
        splits = load_splits(plan.curve_data(point))
        images = round(len(splits.train) / len(splits.class_names), 1)
        over = intervals.over_seeds(accuracies)._asdict()
        rows.append({"images_per_class": images, "epochs": point.epochs, **over, "values": accuracies})
    return rows


def answer(result: Result) -> Headline:
    """How many of the paper's findings hold on each network."""
    findings, sentences = result["details"]["findings"], []
    for network in dict.fromkeys(finding["network"] for finding in findings):
        holds = [finding["holds"] for finding in findings if finding["network"] == network]
        counts = {"true": holds.count(True), "false": holds.count(False), "undecided": holds.count("undecided")}
        sentences.append(f"{network} " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    most = max(finding["n"] for finding in findings)
    return Headline(
        "The paper's findings here: " + "; ".join(sentences) + ".",
        f"By rules that were written before the first run, from 95 % intervals over n = {most} splits.",
    )


def _page(plan: ReproductionPlan, result: Result) -> Page:
    config, details = plan.config, result["details"]
    parts = {name: part_in(result, name) for name in details["parts"]}
    halves = {"dissimilar halves": parts[DISSIMILAR], "random halves": parts[SIMILAR]}
    findings, *numbers = result_tables(result)
    layers = {part["network"]: part["layers"] for part in parts.values()}
    sections = [
        findings,
        Details("Rules", [_rules(details["findings"])]),
        treatment_boxes(parts[CONVNET]),
        *_network_sections(parts[CONVNET]),
        *_network_sections(parts[RESNET]),
        *difference_figure(halves, "Dissimilar halves, and random halves of the same size"),
        _curve_figure(details["curve"]),
        *filter_sections(first_filters(plan.plans[CONVNET]), details.get("filters", {})),
        Details("Every number", numbers),
        Details("Splits", [task_table(part["tasks"]) for part in parts.values()]),
        *(Details(f"Layers: {name}", [layer_table(several)]) for name, several in layers.items()),
    ]
    return Page(
        f"How transferable are features: the study on {config.data.name} ({config.scale})",
        f"Yosinski et al. 2014, repeated; training took {duration(result['fit_seconds'])} of one core",
        sections,
        SERIES,
        again=repeat_command("transfer", config, plan.path),
    )


def part_in(result: Result, name: str) -> dict[str, Any]:
    """One part: its rows, differences and details."""
    rows = {key: [row for row in result[key] if row["part"] == name] for key in ("rows", "differences")}
    return {**result["details"]["parts"][name], **rows}


def _rules(findings: Sequence[Result]) -> Section:
    rules = {
        claim["claim"]: f"{finding['finding']}. {finding['name']}: {claim['claim']}; {claim['rule']}."
        for finding in findings
        for claim in finding["claims"]
    }
    return Text([*rules.values(), "A finding holds if all its claims hold, and is false if one claim is."])


def _network_sections(part: Result) -> list[Section]:
    layers = ", ".join(layer["name"] for layer in part["layers"])
    return [Text(f"{part['halves']}: {layers}.", title=part["network"]), *part_figures(part)]


def _curve_figure(rows: Sequence[Result]) -> Section:
    return Lines(
        "Few images of every class",
        rows,
        x="images_per_class",
        y="mean",
        low="low",
        high="high",
        points=True,
        log_x=True,
        x_title="training images per class",
        y_title="accuracy on test, all classes, %",
        caption=f"The paper's supplement: from random weights, n = {rows[0]['n']} seeds, 95 % intervals.",
    )


STUDY: Study[ReproductionConfig, ReproductionPlan, None] = Study(
    recipe="reproduce-transfer",
    place=_place,
    plan=ReproductionPlan,
    check=ReproductionPlan.check,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=_page,
    answer=answer,
    table=lambda result: result_tables(result)[0],
    published=lambda config: f"transfer-{config.data.name}-{config.scale}",
    failures=failures,
)
