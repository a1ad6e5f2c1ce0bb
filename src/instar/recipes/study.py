"""An experiment is a record of functions; `run_study` carries it out in its run directory."""

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import tomli_w

from instar.jobs import Batch, Job, JobReport, check_engine, open_engine, run_batches
from instar.recipes.contents import code_of, contents_of
from instar.recipes.learning import FAILED, failed_fits, failures_in_words
from instar.recipes.observations import OBSERVATIONS, observations, what_to_look_at
from instar.recipes.rows import SCHEMA
from instar.recipes.settings import Settings
from instar.recipes.words import where_to_read, words_section
from instar.reports import Code, Details, Headline, Section, Table, prepare_drawing, write_page
from instar.runs import ENVIRONMENT, REPORT, Run, check_tensorboard, run_hash

Result = Mapping[str, Any]
"""The content of a `result.json`; `instar.recipes.rows` says what its keys mean."""


@dataclass(frozen=True)
class Execution:
    """How a study is run. None of it belongs to the configuration: the identity of a run does not depend on it."""

    device: str = "cpu"
    engine: str = "local"
    processes: int = 1
    """that share one fit"""
    tensorboard: bool = False
    quiet: bool = False


DEFAULT = Execution()
"""On the CPU, with worker processes of this machine."""


@dataclass(frozen=True)
class Round:
    """Jobs that are run together; a study takes one round or several."""

    jobs: Sequence[Job]
    may_fail: bool = False
    """whether the study handles failed jobs itself (candidates); otherwise the first failure ends it"""
    early: bool = False
    """whether the study is told how all jobs so far go while they run, and may add others"""
    beside: int = 0
    """how many series of other jobs share the cores with these"""

    def is_due(self, report: JobReport) -> bool:
        """Whether the study goes on."""
        return self.early or report.has_ended(self.jobs)

    def report(self, whole: JobReport) -> JobReport:
        """What the study is told.

        Raises:
            InstarError: a job failed that may not fail.
        """
        if self.early:
            return whole
        own = whole.of([job.name for job in self.jobs])
        if not self.may_fail:
            own.raise_if_failed()
        return own


class Page(NamedTuple):
    """What a report shows, below the headline and what to look at."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    series: Sequence[str] = ()
    """names that keep their colour on the whole page"""
    again: str = ""
    """the command that repeats the run; with it the page ends in this command and the configuration"""


class Place(NamedTuple):
    """Where runs live, `runs/FOLDER/NAME-HASH`; the hash covers the settings and the content of what they name."""

    folder: str
    name: str
    contents: Mapping[str, Any] = {}
    """by name, what the settings name and `contents_of` does not find"""


ConfigT = TypeVar("ConfigT", bound=Settings)
PlanT = TypeVar("PlanT")
FoundT = TypeVar("FoundT")
Rounds = Generator[Round, JobReport, FoundT]
"""Yields rounds of jobs, is sent the report of each, and returns what the rounds decided."""


@dataclass(frozen=True)
class Study(Generic[ConfigT, PlanT, FoundT]):
    """An experiment, from its configuration to its page."""

    recipe: str
    """the name of the experiment in run directories and results"""
    place: Callable[[ConfigT], Place]
    plan: Callable[[ConfigT, Path, Execution], PlanT]
    check: Callable[[PlanT], None]
    """refuses a plan that could not be carried out, before the run directory is created"""
    rounds: Callable[[PlanT], Rounds[FoundT]]
    num_rounds: Callable[[PlanT], int]
    measure: Callable[[PlanT, FoundT], dict[str, Any]]
    """reads the test data, once"""
    page: Callable[[PlanT, Result], Page]
    """draws what the result holds; it computes nothing"""
    answer: Callable[[Result], Headline]
    """of networks that learned; `headline` says first which did not"""
    table: Callable[[Result], Table]
    published: Callable[[ConfigT], str]
    """the name of its file in `results/`"""
    failures: Callable[[Result], str] = lambda result: failures_in_words(result["rows"])
    """which of the networks that the answer compares failed to learn, in a sentence; empty where all learned"""
    observe: Callable[[Result], list[str]] = observations
    """what an expert would look at first, in sentences"""
    use: Callable[[str, Result], Sequence[str]] = lambda path, result: ()
    """the commands that use what was trained, given the run directory"""

    def headline(self, result: Result) -> Headline:
        """The answer, after the networks that failed to learn: no comparison with them stands alone."""
        answer, failures = self.answer(result), self.failures(result)
        return Headline(failures, f"With them: {answer.sentence} {answer.detail}") if failures else answer


def run_path(study: Study[ConfigT, PlanT, FoundT], config: ConfigT, root: Path = Path("runs")) -> Path:
    """The default run directory of a configuration."""
    place = study.place(config)
    known = {**contents_of(config), **place.contents, "code": code_of(config)}
    return root / place.folder / f"{place.name}-{run_hash(study.recipe, config.model_dump(), contents=known)}"


def run_study(
    study: Study[ConfigT, PlanT, FoundT],
    config: ConfigT,
    path: Path | None = None,
    execution: Execution = DEFAULT,
) -> dict[str, Any]:
    """Run a study, resume it, or read its result where it is done.

    Args:
        study: the experiment.
        config: its configuration.
        path: the run directory; by default one below `runs/`.
        execution: how it is run.

    Returns:
        The content of `result.json`.

    Raises:
        UsageError: the plan could not be carried out.
        RunError: the run directory belongs to another configuration, or is in use.
        InstarError: a job failed.
    """
    check_engine(execution.engine)
    if execution.tensorboard:
        check_tensorboard()
    path = path or run_path(study, config)
    plan = study.plan(config, path, execution)
    study.check(plan)
    contents = {**contents_of(config), **study.place(config).contents}
    with Run(path, recipe=study.recipe, config=config.model_dump(), contents=contents) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(execution.engine) as engine:
            threading.Thread(target=prepare_drawing).start()
            course = Course(study.rounds(plan), study.num_rounds(plan))
            run_batches(course.more, path, engine=engine, quiet=execution.quiet)
        result = {"schema": SCHEMA, **study.measure(plan, course.found), **_time_spent(path, started)}
        if failed := failed_fits(path):
            result["details"][FAILED] = failed
        described = {"recipe": study.recipe, "config": run.config, **result}
        if seen := study.observe(described):
            result["details"][OBSERVATIONS] = seen
        page = study.page(plan, described)
        machine = run.read_json(ENVIRONMENT)
        sections = [study.headline(described), *what_to_look_at(described), *page.sections]
        write_page(
            path / REPORT,
            page.title,
            [
                *sections,
                *_tail(page, study.use(str(path), described), run.config, machine),
                *words_section(sections),
            ],
            subtitle=page.subtitle,
            footer=f"instar {machine['instar']}; {where_to_read(study.plan.__module__)}",
            series=page.series,
        )
        run.finish(result)
        return run.result()


def _tail(page: Page, use: Sequence[str], config: Mapping[str, Any], machine: Mapping[str, Any]) -> list[Section]:
    """The end of a page: how to use what was trained, how to repeat the run, its configuration and its machine."""
    if not page.again:
        return []
    about = {key: machine[key] for key in ("instar", "torch", "python", "processor", "cores") if key in machine}
    configuration: list[Section] = [Code("config.toml", tomli_w.dumps(config)), Table("Machine", [about])]
    using = [Code("Use it", "\n".join(use))] if use else []
    return [*using, Code("Get it again", page.again), Details("Configuration and machine", configuration)]


class Course(Generic[FoundT]):
    """The rounds of a study on their way, from one report to the next.

    Args:
        rounds: of the study.
        total: how many rounds there are, without those that come early.
    """

    found: FoundT
    """what the rounds decided, after the last one"""

    def __init__(self, rounds: Rounds[FoundT], total: int) -> None:
        self._rounds, self._total = rounds, total
        self._current: Round | None = None
        self._number, self._is_over = 1, False

    def more(self, report: JobReport) -> Batch | None:
        """The jobs that follow, as `run_batches` asks for them.

        Raises:
            InstarError: a job failed that may not fail.
        """
        current = self._current
        if self._is_over or (current is not None and not current.is_due(report)):
            return None if self._is_over else Batch(())
        try:
            following = next(self._rounds) if current is None else self._rounds.send(current.report(report))
        except StopIteration as end:
            self.found, self._is_over = end.value, True
            return None
        if current is not None and not following.early:
            self._number += 1
        self._current = following
        title = f"part {self._number} of {self._total}" if self._total > 1 else "all jobs"
        return Batch(following.jobs, title, following.beside)


def _time_spent(path: Path, started: float) -> dict[str, float]:
    """Seconds since the last start, and training seconds of all fits over all restarts."""
    fits = [lines[-1] for file in path.glob("jobs/**/metrics.jsonl") if (lines := Run.read(file.parent).metrics())]
    return {
        "seconds": round(time.monotonic() - started, 1),
        "fit_seconds": round(sum(float(line["seconds"]) for line in fits), 1),
    }
