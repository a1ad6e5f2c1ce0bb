"""`instar targets`: write a store of teachers' logits, check a store, show a store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from instar.data import Dataset, Splits, parse_views
from instar.distillation import SoftTargetStore
from instar.distillation.store_checks import reading_of
from instar.errors import UsageError
from instar.networks import TEACHER_FORMS
from instar.recipes.loading import (
    comes_with_weights,
    load_network,
    member_specs,
    warn_of_head,
    warn_of_plain_pictures,
)
from instar.recipes.reading_settings import checked, merge
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.splits import load_splits
from instar.reports import Column, Table
from instar.runs import Run, find_run, is_run


def write_store(
    out: Path,
    specs: Sequence[str],
    *,
    data: Mapping[str, Any],
    views: str = "none",
    num_views: int = 1,
    quiet: bool = False,
    **options: Any,
) -> SoftTargetStore:
    """Compute teachers' logits on the training and validation examples, and store them.

    Args:
        out: the store's folder.
        specs: the teachers: `RUN:job`, `NAME@WEIGHTS` or `python:MODULE:FUNCTION`, each with a name in front of it
            (`big=RUN:teacher`); the default name is that of the job.
        data: settings of the data; those that are None are taken from the run of the first teacher.
        views: augmentation of the students.
        num_views: number of views of each example.
        quiet: show no progress.
        options: of `SoftTargetStore.write`.

    Raises:
        UsageError: a teacher is no trained network, two have one name, no augmented view would be stored, or the
            store refuses the data.
    """
    shown = parse_views(views)
    if shown is not None and num_views == 1:
        raise UsageError(
            f"views {views}, but one view of each example, which is the unchanged one: give --num-views 2 or more"
        )
    settings = data_settings(specs, data)
    splits = load_splits(settings)
    teachers = load_teachers(specs, splits)
    examples = examples_of(splits).with_views(shown, view_seed=settings.view_seed)
    with _progress(quiet) as progress:
        return SoftTargetStore.write(
            out,
            teachers,
            examples,
            views=num_views,
            split=split_of(settings, splits),
            progress=progress,
            **options,
        )


def check_store(
    path: Path, specs: Sequence[str], *, data: Mapping[str, Any], temperature: float | None
) -> dict[str, Any]:
    """Read a whole store, compare it with teachers and data where they are given, and measure what is left out.

    Returns:
        What JSON can hold: sizes, `errors` of the precision at each temperature, `readings` of a top-k store of
        one teacher that keeps rows in full or whose teacher is given, and what it was `compared` with.

    Raises:
        UsageError: the teachers or the data differ from those of the store.
        DataError: a shard is damaged.
    """
    store = SoftTargetStore.open(path)
    report = store.check(temperature=temperature)
    compared, asked = [], dict[str, Any]()
    if specs or data.get("name") is not None:
        splits = load_splits(data_settings(specs, data))
        shown = examples_of(splits).with_views(parse_views(store.views), view_seed=store.view_seed)
        if specs:
            teachers = load_teachers(specs, splits)
            store.check_teachers(teachers, examples_of(splits))
            compared.append("teachers")
            if shown.fingerprint == store.settings.data_fingerprint:
                asked = {"teachers": teachers, "data": shown}
        if data.get("name") is not None:
            store.check_data(shown.with_views(shown.views, view_seed=store.view_seed, num_views=store.num_views))
            compared.append("data")
    has_full = store.top_k is not None and len(store.members) == 1 and (asked or store.settings.num_full)
    return {
        "store": str(path),
        "rows": report.rows,
        "shards": report.shards,
        "bytes": report.bytes,
        "kept": _kept(store),
        "errors": [asdict(error) for error in report.errors],
        "readings": [asdict(one) for one in store.left_out(temperature=temperature, **asked)] if has_full else [],
        "compared": compared,
    }


def _kept(store: SoftTargetStore) -> str:
    if store.settings.is_sparse:
        return f"{store.dtype} (the classes outside the top {store.top_k} as one)"
    return store.dtype if store.top_k is None else f"{store.dtype} and the cut to the top {store.top_k}"


def check_tables(about: Mapping[str, Any]) -> list[Table]:
    """What `check_store` found."""
    found = [
        f"L1 distance to the teacher's own, due to {about['kept']}, over members and rows; without a mean it is a "
        "bound.",
        f"{about['store']}: all {about['rows']:,} rows are as they were written; shards: {about['shards']}.",
    ]
    if about["compared"]:
        found.append(f"The {' and '.join(about['compared'])} are those that it was written for.")
    precision = Table(
        "Loss of precision of the soft targets",
        about["errors"],
        columns=[
            Column("temperature"),
            Column("max_l1", "largest", "{:.2g}"),
            Column("mean_l1", "mean", "{:.2g}"),
        ],
        caption="\n".join(found),
    )
    return [precision, _readings(about["readings"])] if about["readings"] else [precision]


def _readings(found: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each reading at each temperature, with the gradients of both stand-ins for a student."""
    rows: dict[tuple[float, str], dict[str, Any]] = {}
    for one in found:
        row = rows.setdefault((one["temperature"], one["reading"]), {})
        row |= {name: one[name] for name in ("temperature", "reading", "floor_nats")}
        row |= {f"{name} {one['student']}": one[name] for name in ("bias", "noise")}
    students = dict.fromkeys(one["student"] for one in found)
    parts = [
        Column(f"{name} {student}", f"{name}, {student}", "{:.2g}")
        for student in students
        for name in ("bias", "noise")
    ]
    return Table(
        "What the reading of the classes outside the top k leaves out",
        list(rows.values()),
        columns=[Column("temperature"), Column("reading"), *parts, Column("floor_nats", "floor, nats", "{:.2g}")],
        caption=f"Of the gradient in the logits, relative to that with all classes, in {found[0]['rows']} rows.\n"
        "Bias stays; noise, of the draws in one row, falls with the square root of the rows.\n"
        "Floor: how far a student that fits the targets perfectly still is from the teacher, at best.",
    )


def store_tables(path: Path) -> list[Table]:
    """The content of a store."""
    store = SoftTargetStore.open(path)
    settings, report = store.settings, store.summary()
    kept = "all classes" if store.top_k is None else f"the top {store.top_k} and the total of the others"
    if settings.hidden_width:
        kept = f"hidden states of {settings.hidden_width}, and the head once"
    if settings.num_draws:
        kept += f", {settings.num_draws} draws of them at {settings.draws_at:g}"
    if settings.num_full:
        kept += f", {settings.num_full} rows in full"
    views = f"{store.num_views} of {store.views} (view_seed {store.view_seed})"
    about = {
        "examples": f"{settings.num_examples:,}"
        + (f" of {settings.num_positions:,} positions" if settings.num_positions else ""),
        "views": "none" if store.views == "none" else views,
        "classes": _few(store.class_names),
        "kept": f"{kept}, {store.dtype}",
        "temperatures": ", ".join(f"{T:g}" for T in store.temperatures) if store.top_k else "any",
        **({"read as": _readings_of(store)} if settings.is_sparse else {}),
        "rows": f"{report.rows:,}",
        "shards": f"{report.shards:,}",
        "bytes": f"{report.bytes:,} ({report.bytes / report.rows:.1f} for each row)",
        "data": settings.data_fingerprint[:12],
        "split": "unknown"
        if settings.split is None
        else "split_seed {split_seed}, validation_fraction {validation_fraction:g}".format(**settings.split),
    }
    members = [{"member": name, "weights": weights} for name, weights in settings.teachers.items()]
    return [
        Table(str(path), [{"": key, "value": value} for key, value in about.items()]),
        Table("Teachers", members),
    ]


def _readings_of(store: SoftTargetStore) -> str:
    """What a student is told of the classes outside the top k, where nobody says."""
    words = {"drawn": "the draws", "tail": "one class, from which little is learned where it has much mass"}
    default = {T: reading_of(store.path, store.settings, None, T) for T in store.temperatures}
    return ", ".join(f"at {T:g} {reading} ({words[str(reading)]})" for T, reading in default.items())


def data_settings(specs: Sequence[str], data: Mapping[str, Any]) -> DataSettings:
    """The settings of the data; those that are not given are taken from the run of the first teacher."""
    found: Mapping[str, Any] = {}
    if specs:
        spec = _named_members(specs[0])[0][1]
        found = Run.read(find_run(spec)).config.get("data", {}) if is_run(spec) else {}
    if data.get("name") not in (None, found.get("name")):
        found = {}  # the split of other data has no meaning here
    return checked(DataSettings, merge(found, data))


def load_teachers(specs: Sequence[str], splits: Splits) -> dict[str, nn.Module]:
    """Trained networks by their names in the store.

    Raises:
        UsageError: a spec is no trained network, or two have one name.
    """
    teachers: dict[str, nn.Module] = {}
    for name, spec in (member for text in specs for member in _named_members(text)):
        if name in teachers:
            raise UsageError(f"two teachers are called {name!r}: give them names, --teacher one={spec}")
        settings = checked(FitSettings, {"network": spec})
        if not comes_with_weights(settings) and not spec.startswith("python:"):
            raise UsageError(
                f"teacher {spec!r} is no run ({find_run(spec)} is not there) and no network with weights; "
                f"expected RUN:teacher, NAME@FILE.safetensors, python:MODULE:FUNCTION, {', '.join(TEACHER_FORMS)}"
            )
        teachers[name] = load_network(settings, splits)
        warn_of_head(teachers[name])
        warn_of_plain_pictures(teachers[name], spec, splits)
    return teachers


def _named_members(text: str) -> list[tuple[str, str]]:
    """A teacher by its name in the store; of an ensemble all members."""
    name, spec = _split_spec(text)
    members = member_specs(spec)
    if members == [spec]:
        return [(name, spec)]
    return [(f"{name}-{number}", member) for number, member in enumerate(members)]


def _split_spec(text: str) -> tuple[str, str]:
    """The name and the spec of `NAME=SPEC`; of a spec alone its last part is the name."""
    name, separator, spec = text.partition("=")
    if separator and name.isidentifier():
        return name, spec
    return text.rpartition(":")[2].rpartition("/")[2] or text, text


def split_of(settings: DataSettings, splits: Splits) -> dict[str, Any]:
    """Which of the stored examples are validation: the teachers were not trained on them."""
    about = settings.model_dump(include={"split_seed", "validation_fraction"})
    return {**about, "fingerprint": splits.fingerprint}


def check_store_of(store: SoftTargetStore, splits: Splits, transfer: Dataset | None = None) -> None:
    """Refuse a store of other data than a student learns from, the training part by default, or of another split.

    Raises:
        UsageError: names the difference.
    """
    store.check_data(splits.train if transfer is None else transfer)
    split = store.settings.split
    if split is not None and split["fingerprint"] != splits.fingerprint:
        raise UsageError(
            f"{store.path} is of another split of {splits.name} (split_seed {split['split_seed']}, "
            f"validation_fraction {split['validation_fraction']:g}): its teachers may have been trained on "
            "examples that are validation here; use the same split"
        )


def examples_of(splits: Splits) -> Dataset:
    """Training and validation examples together; training examples alone where `union` refuses these."""
    try:
        return splits.train.union(splits.validation)
    except UsageError:
        return splits.train


def _few(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A progress bar on stderr, if it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("computing the teachers' logits", total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
