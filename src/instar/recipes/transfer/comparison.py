"""`instar reproduce transfer-or-distil`: one student on few examples, transferred, distilled, both, neither.

Every seed has its own base, teacher and four students. The students of a seed start alike and see the data in the
same order, so each difference is paired. Nothing is chosen: every network is trained as configured, and evaluated
on test once, after its last epoch.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instar.evaluation import evaluate
from instar.jobs import Job, duration
from instar.networks import layers_of
from instar.recipes.fitting import LOGITS_OF, fit_job
from instar.recipes.learning import about_failures
from instar.recipes.loading import build_for, load_run_network
from instar.recipes.reading_settings import checked
from instar.recipes.reproductions import repeat_command
from instar.recipes.result_tables import accuracy_bars, differences_table, rows_table
from instar.recipes.rows import ACCURACY, difference, row, with_interval
from instar.recipes.scales import choose_scale
from instar.recipes.settings import DataSettings, FitSettings, Settings, SoftSettings, Temperature
from instar.recipes.splits import few_examples, load_splits
from instar.recipes.study import DEFAULT, Execution, Page, Place, Result, Round, Rounds, Study
from instar.recipes.teacher_answers import logits_job
from instar.recipes.transfer.jobs import treatment_job
from instar.recipes.transfer.plan import TREATMENT_SEED
from instar.recipes.transfer.settings import CopySettings
from instar.reports import Headline, Table
from instar.transfer import Treatment

TEACHER, SCRATCH, TRANSFERRED, DISTILLED, BOTH = "teacher", "from scratch", "transferred", "distilled", "both"
STUDENTS = (SCRATCH, TRANSFERRED, DISTILLED, BOTH)
PAIRS = (
    (TRANSFERRED, SCRATCH),
    (DISTILLED, SCRATCH),
    (BOTH, SCRATCH),
    (TRANSFERRED, DISTILLED),
    (BOTH, TRANSFERRED),
    (BOTH, DISTILLED),
)


class ComparisonConfig(Settings):
    """The configuration of `instar reproduce transfer-or-distil`."""

    scale: str
    source: DataSettings
    """the data that the base is trained on"""
    data: DataSettings
    """the target"""
    examples_per_class: int
    """training and validation examples of the target together"""
    student: FitSettings
    base_epochs: int
    """epochs of the base: the student's architecture, on the source"""
    teacher: FitSettings
    """a larger network, on the same few examples of the target"""
    temperature: Temperature = 4.0
    soft_weight: float = 1.0
    hard_weight: float = 0.1
    seeds: Annotated[int, Field(ge=2)] = 5


def config_for(scale: str) -> ComparisonConfig:
    """The configuration of a scale: `tiny`, `small` or `full`.

    Raises:
        UsageError: there is no such scale.
    """
    return checked(ComparisonConfig, choose_scale("transfer-or-distil", "", scale))


@dataclass(frozen=True)
class ComparisonPlan:
    """A configuration, its run directory, and how it is run."""

    config: ComparisonConfig
    path: Path
    execution: Execution = DEFAULT

    @cached_property
    def target(self) -> DataSettings:
        """The few examples of the target."""
        return few_examples(self.config.data, self.config.examples_per_class)

    @cached_property
    def treatment(self) -> Treatment:
        """All layers but the last, fine-tuned."""
        splits = load_splits(self.target)
        network = build_for(self.config.student, splits, seed=0)
        num_layers = len(layers_of(network, splits.train.gather(splits.train.ids[:2], 0)))
        return Treatment("A", "B", num_layers - 1, fine_tune=True)

    def jobs(self) -> list[Job]:
        """For every seed the base, the teacher and its logits, and four students."""
        return [job for seed in range(self.config.seeds) for job in self._jobs_of(seed)]

    def _jobs_of(self, seed: int) -> list[Job]:
        config = self.config
        base, teacher = job_name("base", seed), job_name(TEACHER, seed)
        soft = SoftSettings(
            teachers=[teacher],
            temperature=config.temperature,
            soft_weight=config.soft_weight,
            hard_weight=config.hard_weight,
        )
        teachers = (teacher, teacher + LOGITS_OF)
        own = TREATMENT_SEED + seed  # the new layers of students start from other weights than the base's
        on_source = config.student.model_copy(update={"epochs": config.base_epochs})
        return [
            self._fit(base, on_source, config.source, seed),
            self._fit(teacher, config.teacher, self.target, seed),
            logits_job(teacher, self.target, device=self.execution.device),
            self._fit(job_name(SCRATCH, seed), config.student, self.target, own),
            self._fit(job_name(DISTILLED, seed), config.student, self.target, own, soft=soft, needs=teachers),
            self._transfer(job_name(TRANSFERRED, seed), base, own),
            self._transfer(job_name(BOTH, seed), base, own, soft=soft, teachers=teachers),
        ]

    def _fit(self, name: str, settings: FitSettings, data: DataSettings, seed: int, **options: Any) -> Job:
        return fit_job(self.path, name, settings, data, seed=seed, device=self.execution.device, **options)

    def _transfer(self, name: str, base: str, seed: int, **options: Any) -> Job:
        return treatment_job(
            self.path,
            name,
            self.treatment,
            self.config.student,
            self.target,
            base=base,
            seed=seed,
            copied=CopySettings(),
            device=self.execution.device,
            **options,
        )


def job_name(kind: str, seed: int) -> str:
    """The job of one network of a seed.

    Example:
        >>> job_name("from scratch", 2)
        'from-scratch/seed-2'
    """
    return f"{kind.replace(' ', '-')}/seed-{seed}"


def _place(config: ComparisonConfig) -> Place:
    return Place("reproduce", f"transfer-or-distil-{config.scale}")


def _rounds(plan: ComparisonPlan) -> Rounds[None]:
    yield Round(plan.jobs())


def _measure(plan: ComparisonPlan, _: None) -> dict[str, Any]:
    """The result; `details` has the `treatment` of the transferred students, and `num_train` examples."""
    splits, seeds = load_splits(plan.target), range(plan.config.seeds)
    fits = {kind: [plan.path / "jobs" / job_name(kind, seed) for seed in seeds] for kind in (TEACHER, *STUDENTS)}
    accuracies = {
        kind: [
            100 * evaluate(load_run_network(path), splits.test, device=plan.execution.device)["accuracy"]
            for path in paths
        ]
        for kind, paths in fits.items()
    }
    rows = [row(kind, values, **about_failures(fits[kind])) for kind, values in accuracies.items()]
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {row["name"]: row["mean"] for row in rows},
        "rows": rows,
        "differences": [difference(kind, other, accuracies[kind], accuracies[other]) for kind, other in PAIRS],
        "num_test": len(splits.test),
        "seeds": list(seeds),
        "details": {"treatment": plan.treatment.name, "num_train": len(splits.train)},
    }


def answer(result: Result) -> Headline:
    """Which of the four students is best, and what each way adds."""
    means = {row["name"]: row["mean"] for row in result["rows"] if row["name"] in STUDENTS}
    best = max(means, key=lambda name: means[name])
    over_scratch = {row["name"]: row for row in result["differences"] if row["minus"] == SCRATCH}
    if best == SCRATCH:
        sentence = (
            f"Neither transfer nor distillation helps: from scratch this student reaches {means[best]:.1f} %."
        )
    else:
        gain = f"{with_interval(over_scratch[best])} points over {SCRATCH}"
        sentence = f"Best is {best}: {means[best]:.1f} % on test, {gain}."
    others = [row for row in result["differences"] if row["minus"] != SCRATCH]
    words = "; ".join(f"{row['name']} minus {row['minus']}: {with_interval(row)}" for row in others)
    return Headline(sentence, f"{words} points, paired by seed, 95 % intervals, n = {others[0]['n']} seeds.")


def comparison_table(result: Result) -> Table:
    """The teacher and the four students."""
    num_train, treatment = (result["details"][key] for key in ("num_train", "treatment"))
    caption = (
        f"{num_train:,} training examples. Transferred is {treatment}. The teacher is larger and learns from the "
        "same examples; both: transferred, and distilled from the teacher."
    )
    return rows_table(result, "Transfer or distillation?", caption)


def comparison_page(plan: ComparisonPlan, result: Result) -> Page:
    """The report of `instar reproduce transfer-or-distil`."""
    config = plan.config
    caption = "95 % intervals over seeds; the differences below are paired, and their intervals narrower."
    return Page(
        f"Transfer or distillation: {config.student.network} on {config.data.name}",
        f"{config.examples_per_class} examples per class; {duration(result['fit_seconds'])} of training",
        [
            accuracy_bars(result, caption=caption),
            comparison_table(result),
            differences_table(result, caption="Paired by seed."),
        ],
        again=repeat_command("transfer-or-distil", config, plan.path),
    )


STUDY: Study[ComparisonConfig, ComparisonPlan, None] = Study(
    recipe="reproduce-transfer-or-distil",
    place=_place,
    plan=ComparisonPlan,
    check=lambda plan: None,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=comparison_page,
    answer=answer,
    table=comparison_table,
    published=lambda config: f"transfer-or-distil-{config.scale}",
)
