"""The experiments as functions: the same options, settings, run directory and result as from the command line.

The keywords of a function are its command's options (`--teacher-epochs 3` is `teacher_epochs=3`) and the parts of
its configuration (`student={"network": "mlp:16x1", "dropout": 0.2}`, as in a file for `--config`). The frequent
ones are in the signature; a wrong one is answered with the nearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from instar.recipes.commands import ADVISE, DISTILL, SPECIALISTS, SPEECH, TRANSFER, command_of_task
from instar.recipes.experiments import run_experiment
from instar.recipes.options import Command, from_keywords
from instar.recipes.reproductions import reproduction, reproduction_config
from instar.recipes.splits import load_pictures, load_splits
from instar.recipes.study import Execution

Result = dict[str, Any]
Part = str | Mapping[str, Any] | None
"""The name of data or of a network, or settings by name."""

Numbers = float | Sequence[float] | None
"""A number, or candidates of which the best on validation is used."""


def distill_study(
    *,
    data: Part = None,
    teacher: Part = None,
    student: Part = None,
    temperature: Numbers = None,
    hard_weight: Numbers = None,
    loss: str | Sequence[str] | None = None,
    same_cost: bool | None = None,
    epochs: int | None = None,
    teacher_epochs: int | None = None,
    learning_rate: Numbers = None,
    seeds: int | None = None,
    seed: int | None = None,
    task: str | None = None,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    processes: int = 1,
    tensorboard: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Train a large network, distil it into a small one, and compare that with the small one trained alone.

    `instar distill` from Python. (`instar.distill` trains one student, from modules and tensors of your own.)

    Args:
        data: `digits`, `mnist`, `folder:PATH`, `python:MODULE:FUNCTION`, ...
        teacher: `mlp:1200x2`, `convnet:8`, `python:MODULE:FUNCTION`, `NAME@WEIGHTS` or `RUN:teacher`.
        student: the small network.
        temperature: of the soft targets.
        hard_weight: the weight of the labels, beside the soft targets.
        loss: several losses to be compared, of `kd`, `dkd`, `dist`, `standardised`, `hints` and `attention`.
        same_cost: also a student on labels alone that may train for what teacher and student cost together.
        epochs: of each student.
        teacher_epochs: of the teacher.
        learning_rate: of the students, alone and distilled.
        seeds: how many students of each kind.
        seed: the first seed.
        task: `causal-lm` for language models, of `text:FILES`; `token-classification` for a class of each word;
            by default classifiers.
        run_dir: the run directory, new or to be resumed. By default below `runs/`.
        device: `cpu`, `cuda` or `mps`.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        processes: how many share one fit.
        tensorboard: write TensorBoard event files too.
        quiet: show no progress.
        settings: any other option of `instar distill`, or part of its configuration.

    Returns:
        The content of `result.json`: `rows` of teacher, student alone and student distilled, in test errors, and
        their `differences`. The page is `report.html` in the run directory.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        TrainingError, RunError: a fit failed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = distill_study(
        ...         teacher="mlp:16x1", teacher_epochs=1, epochs=1, temperature=4, learning_rate=0.1, seeds=1,
        ...         run_dir=folder,
        ...     )
        >>> [row["name"] for row in result["rows"]]
        ['teacher', 'student-alone', 'student-distilled']

    References:
        Hinton, Vinyals and Dean 2015.
    """
    given = locals()
    task = given.pop("task")
    if task is None:
        return _run(DISTILL, given)
    return _run(command_of_task(task), {key: value for key, value in given.items() if value is not None})


def transfer_study(
    *,
    data: Part = None,
    source: Part = None,
    network: Part = None,
    treatments: Sequence[str] | None = None,
    cuts: Sequence[int] | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    splits: int | None = None,
    seed: int | None = None,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Measure how transferable each layer of a network is: `instar transfer` from Python.

    Args:
        data: the data set whose classes are divided into A and B; with `source`, all of it is B.
        source: another data set, all of which is A.
        network: `mlp:64x3`, `convnet:8`, `python:MODULE:FUNCTION`, ...
        treatments: of `BnB`, `BnB+`, `AnB`, `AnB+`, `RnB`.
        cuts: numbers of copied layers.
        epochs: of each network.
        learning_rate: of each network.
        splits: independent replicates.
        seed: the first split.
        run_dir: the run directory, new or to be resumed. By default below `runs/`.
        device: `cpu`, `cuda` or `mps`.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: any other option of `instar transfer`, or part of its configuration.

    Returns:
        The content of `result.json`: `rows` by treatment and cut in percent, `differences` in points,
        `details` with `boosts` and `transition`. The page is `report.html` in the run directory.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        TrainingError, RunError: a fit failed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = transfer_study(
        ...         run_dir=folder, epochs=1, cuts=[1], treatments=["AnB"], splits=1, targets=["B"], longer=False
        ...     )
        >>> [(row["treatment"], row["cut"], row["n"]) for row in result["rows"]]
        [('base', 0, 1), ('AnB', 1, 1)]

    References:
        Yosinski et al. 2014.
    """
    return _run(TRANSFER, locals())


def advise(
    *,
    network: str | None = None,
    data: Part = None,
    source: Part = None,
    examples: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    seeds: int | None = None,
    controls: bool | None = None,
    seed: int | None = None,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Find which layers of a trained network to keep, and whether to freeze them: `instar advise` from Python.

    Args:
        network: `RUN:job`, `NAME@WEIGHTS` or `python:MODULE:FUNCTION`; others are trained on the source first.
        data: the target.
        source: the data that a network without weights is trained on first.
        examples: for each class of the target on average, training and validation together.
        epochs: of a full fit.
        learning_rate: of all fits on the target.
        seeds: full fits of each finalist.
        controls: also train the head alone, fine-tune everything, and train from scratch.
        seed: the first seed.
        run_dir: the run directory, new or to be resumed. By default below `runs/`.
        device: `cpu`, `cuda` or `mps`.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: any other option of `instar advise`, or part of its configuration.

    Returns:
        The content of `result.json`: `rows` of the treatments with full fits, the advice with `chosen` true and
        its expected accuracy `mean` within `low` to `high`; `tuning`, all that were tried; `details` with the
        `scores` at every cut and the `cost`.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        TrainingError, RunError: a fit failed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = advise(run_dir=folder, base={"epochs": 2}, epochs=3, rounds=[0.3])
        >>> sum(row["chosen"] for row in result["rows"]), [row["cut"] for row in result["details"]["scores"]]
        (1, [1, 2, 3])
    """
    return _run(ADVISE, locals())


def specialists_study(
    *,
    data: Part = None,
    network: Part = None,
    sets: int | Sequence[Mapping[str, Any]] | None = None,
    classes_per_set: int | None = None,
    epochs: int | None = None,
    specialist_epochs: int | None = None,
    learning_rate: float | None = None,
    distill: bool | Mapping[str, Any] | None = None,
    controls: Sequence[str] | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Train a generalist and specialists for what it confuses: `instar specialists` from Python.

    Args:
        data: `digits`, `cifar100`, `omniglot`, `folder:PATH`, `python:MODULE:FUNCTION`, ...
        network: of the generalist.
        sets: how many class sets, each with a specialist; or candidates, of which the best on validation is used.
        classes_per_set: classes in each set.
        epochs: of the generalist.
        specialist_epochs: of a specialist, over the examples of its classes.
        learning_rate: of the generalist.
        distill: also distil generalist and specialists into one network; or the settings of that.
        controls: of `longer`, `random`, `ensemble`, `mixture`, `full-softmax`.
        seeds: how many generalists.
        seed: the first seed.
        run_dir: the run directory, new or to be resumed. By default below `runs/`.
        device: `cpu`, `cuda` or `mps`.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: any other option of `instar specialists`, or part of its configuration.

    Returns:
        The content of `result.json`: `rows` of the generalist, with specialists and the controls, in percent, and
        their `differences`. The page is `report.html` in the run directory.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        TrainingError, RunError: a fit failed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = specialists_study(
        ...         run_dir=folder, sets=2, epochs=1, specialist_epochs=1, top_n=1, controls=[], seeds=1
        ...     )
        >>> result["recipe"]
        'specialists'

    References:
        Hinton, Vinyals and Dean 2015, section 5.
    """
    return _run(SPECIALISTS, locals())


def speech_study(
    *,
    data: Part | Path = None,
    network: Part = None,
    teacher: Path | str | None = None,
    temperature: float | None = None,
    grammar: str | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    fraction: float | None = None,
    seed: int | None = None,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Train a speech recogniser, or distil one into a smaller network: `instar speech train` from Python.

    Args:
        data: `fsdd`, or the path of a Kaldi data directory.
        network: the acoustic network: `mlp:256x2`, `python:MODULE:FUNCTION`.
        teacher: the run directory of a recogniser to distil.
        temperature: of its soft targets.
        grammar: `loop`, `one` or `ngram:N`.
        epochs: of each network.
        learning_rate: of each network.
        fraction: share of the recordings that are used.
        seed: of initialisation and order.
        run_dir: the run directory, new or to be resumed. By default below `runs/`.
        device: `cpu`, `cuda` or `mps`.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: any other option of `instar speech train`, or part of its configuration.

    Returns:
        The content of `result.json`. The recogniser is in `recogniser/` of the run directory, for
        `instar speech decode` and `instar.speech.recogniser.Recogniser.load`.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        DataError: a data directory is damaged.
        TrainingError, RunError: a fit failed.
    """
    given = locals()
    return _run(
        SPEECH, given if data is None or isinstance(data, Mapping) else given | {"data": {"name": str(data)}}
    )


def reproduce(
    name: str,
    *,
    scale: str | None = None,
    data: str | None = None,
    config: Path | str | None = None,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Repeat a study of the papers: `instar reproduce NAME` from Python.

    Args:
        name: `mnist`, `transfer`, `advise`, `transfer-or-distil`, `texts`, `tokens`, `tables`, `specialists` or
            `speech`.
        scale: `tiny` (for tests), `small` (minutes, the default) or `full` (hours).
        data: the data set, where the study has several.
        config: a TOML file in place of scale and data; `instar reproduce NAME --show` prints one to change.
        run_dir: the run directory, new or to be resumed. By default below `runs/`.
        device: `cpu`, `cuda` or `mps`.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: settings over those of the scale.

    Returns:
        The content of `result.json`.

    Raises:
        UsageError: no such study, scale, data set or setting.
        TrainingError, RunError: a fit failed.
    """
    file = None if config is None else Path(config)
    chosen = reproduction_config(name, scale, data, file, settings)
    return _result(reproduction(name).study, chosen, run_dir, Execution(device, engine, quiet=quiet))


def _run(command: Command, given: dict[str, Any]) -> Result:
    """Run an experiment with the arguments of its function."""
    names = [field.name for field in fields(Execution) if field.name in given]
    execution = Execution(**{name: given.pop(name) for name in names})
    run_dir, settings = given.pop("run_dir", None), given.pop("settings")
    config = command.read_config(from_keywords(command, {**given, **settings}))
    return _result(command.study, config, run_dir, execution)


def _result(study: str, config: Any, run_dir: Path | str | None, execution: Execution) -> Result:
    for loaded in (load_splits, load_pictures):  # the data may have changed since the last call
        loaded.cache_clear()
    if study.startswith("instar.recipes.speech."):
        from instar.recipes.speech.data import forget_recordings

        forget_recordings()
    return run_experiment(study, config, None if run_dir is None else Path(run_dir), execution)[2]
