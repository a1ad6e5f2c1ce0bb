"""`instar transfer`: how transferable each layer of a network is.

Every network is trained alike, and evaluated on test once, after its last epoch. Nothing is chosen but the
learning rate, where none is given: by short fits of a base, on validation.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instar.jobs import duration
from instar.recipes.choosing import tuning_table
from instar.recipes.rates import Found
from instar.recipes.result_tables import result_tables
from instar.recipes.rows import ACCURACY, excludes_zero
from instar.recipes.shipping.use_it import use_lines
from instar.recipes.splits import load_splits
from instar.recipes.study import Page, Place, Result, Round, Rounds, Study
from instar.recipes.transfer.figures import (
    SERIES,
    layer_table,
    part_figures,
    task_table,
    treatment_boxes,
    treatment_table,
)
from instar.recipes.transfer.filters import filter_details, filter_sections, first_filters
from instar.recipes.transfer.plan import MANIFEST, Plan
from instar.recipes.transfer.results import failures, part_of
from instar.recipes.transfer.settings import TransferConfig
from instar.recipes.transfer.tasks import halves_hashes
from instar.reports import Details, Headline
from instar.runs import Run


def _place(config: TransferConfig) -> Place:
    tasks = [load_splits(data) for data in (config.source, config.data) if data is not None]
    names = [*(task.name for task in tasks), config.halves.how, config.network.network]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    return Place("transfer", slug, {"halves": halves_hashes(config)})


def _rounds(plan: Plan) -> Rounds[Found | None]:
    Run.read(plan.path).write_json(MANIFEST, plan.manifest())
    found = (yield from plan.find_rate()) if plan.lengths else None
    yield Round((plan if found is None else dataclasses.replace(plan, rate=found.rate)).jobs())
    return found


def _measure(plan: Plan, found: Found | None) -> dict[str, Any]:
    """The result: rows, differences and details as in `results.Part`, and `filters` as in `filter_details`.

    Where the learning rate was found, also `tuning`.
    """
    part = part_of(plan)
    details = part.details
    filters = filter_details(first_filters(plan))
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {row["name"]: row["mean"] for row in part.rows},
        "rows": part.rows,
        "differences": part.differences,
        "num_test": details.pop("num_test"),
        "seeds": details.pop("seeds"),
        "details": details | ({"filters": filters} if filters else {}),
        **({} if found is None else {"tuning": found.rows}),
    }


def answer(result: Result) -> Headline:
    """Which layers to copy, in a sentence: the best treatment with layers of the other task, beside both bases."""
    base = next(row for row in result["rows"] if row["treatment"] == "base")
    over_base = [
        row for row in result["differences"] if row["minus"] == "base" and row["treatment"] in ("AnB", "AnB+")
    ]
    if not over_base:
        return Headline(
            f"A base reaches {base['mean']:.1f} %.", "No treatment with layers of the other task was run."
        )
    best = max(over_base, key=lambda row: row["mean"])
    name, gain = best["name"], _beside(best, f"a base of {base['mean']:.1f} %")
    n = f"n = {best['n']} split{'s' if best['n'] > 1 else ''}"
    chosen = f"It is the best of {len(over_base)} treatments, chosen on test: expect a little less."
    if best["low"] is None:
        words = f"{name} is {gain}; one split gives no interval."
        return Headline(words, f"Use --splits 3 or more ({n}). {chosen}")
    interval = f"95 % interval {best['low']:+.1f} to {best['high']:+.1f}, {n}."
    if best["high"] < 0:
        return Headline(f"Do not copy layers here: the best treatment that does, {name}, is {gain}.", interval)
    or_longer = ""
    over_longer = _over_longer(result, name)
    if over_longer is not None:  # a copy has the training of two networks: the base may have as much
        beside = _beside(over_longer, "a base trained as long")
        interval += f" Over the base trained as long: {over_longer['low']:+.1f} to {over_longer['high']:+.1f}."
        if over_longer["high"] < 0:
            words = f"Train longer, do not copy: the best treatment that copies, {name}, is {gain}, but {beside}."
            return Headline(words, interval)
        gain = f"{gain}, and {beside}"
        or_longer = "" if over_longer["low"] > 0 else " or train longer (these splits show no difference)"
    if not excludes_zero(best):
        words = f"Copying layers of the other task brings no gain that can be shown: the best, {name}, is {gain}."
        return Headline(words, _frozen_losses(over_base) + interval)
    how = "fine-tune" if best["treatment"] == "AnB+" else "freeze"
    layers, them = _first_layers(result, best["cut"]), "it" if best["cut"] == 1 else "them"
    words = f"Copy {layers} and {how} {them}{or_longer}: {name} is {gain}."
    return Headline(words, f"{interval} {chosen}")


def _frozen_losses(over_base: Sequence[Result]) -> str:
    """How much frozen copies lose, where an interval shows it."""
    losses = [row for row in over_base if row["treatment"] == "AnB" and row["high"] < 0]
    if not losses:
        return ""
    worst = min(losses, key=lambda row: row["mean"])
    return f"Frozen, they cost up to {-worst['mean']:.1f} points ({worst['name']}). "


def _beside(difference: Result, other: str) -> str:
    where = "above" if difference["mean"] >= 0 else "below"
    return f"{abs(difference['mean']):.1f} points {where} {other}"


def _over_longer(result: Result, name: str) -> Result | None:
    pairs = {(row["name"], row["minus"]): row for row in result["differences"]}
    return pairs.get((name, "base-long"))


def _first_layers(result: Result, n: int) -> str:
    layer = result["details"]["layers"][n - 1]["name"]
    return f"the first {n} layers (to {layer})" if n > 1 else f"the first layer ({layer})"


def transfer_page(plan: Plan, result: Result) -> Page:
    """The report of `instar transfer`."""
    config, part = plan.config, {**result, **result["details"]}
    tasks = config.data.name if config.source is None else f"{config.source.name} to {config.data.name}"
    return Page(
        f"How transferable are the layers of {config.network.network}: {tasks}",
        f"Yosinski, Clune, Bengio and Lipson 2014, on your data; {duration(result['seconds'])}",
        [
            treatment_boxes(part),
            *part_figures(part),
            treatment_table(part),
            *filter_sections(first_filters(plan), part.get("filters", {})),
            layer_table(part["layers"]),
            *([tuning_table(result["tuning"])] if result.get("tuning") else []),
            Details("Every number", result_tables(result)),
            Details("Splits", [task_table(part["tasks"])]),
        ],
        SERIES,
        again=f"instar transfer --config {plan.path / 'config.toml'} --run-dir runs/again",
    )


def use_it(path: str, result: Result) -> list[str]:
    """The commands that use the network of the treatment with the highest mean, in the first split."""
    best = max(result["rows"], key=lambda row: row["mean"])
    same = (best["treatment"], best["cut"])
    jobs = [one["job"] for one in result["details"]["networks"] if (one["kind"], one["n"]) == same]
    return use_lines(f"{path}:{jobs[0]}", comment=f"{best['name']}, the highest mean") if jobs else []


STUDY: Study[TransferConfig, Plan, Found | None] = Study(
    recipe="transfer",
    place=_place,
    plan=Plan,
    check=Plan.check,
    rounds=_rounds,
    num_rounds=lambda plan: 1 + len(plan.lengths),
    measure=_measure,
    page=transfer_page,
    answer=answer,
    table=lambda result: treatment_table(result),
    published=lambda config: f"transfer-{config.data.name}",
    failures=failures,
    use=use_it,
)
