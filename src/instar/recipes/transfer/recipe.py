"""`instar transfer`: how transferable each layer of a network is.

Nothing is chosen: every network is trained as configured, and evaluated on test once, after its last epoch.
"""

import json
from pathlib import Path
from typing import Any

from instar.files import write_bytes
from instar.recipes.fitting import load_splits
from instar.recipes.rows import ACCURACY
from instar.recipes.study import Place, Round, Rounds, Study
from instar.recipes.transfer.figures import treatment_table
from instar.recipes.transfer.filters import filter_details, first_filters
from instar.recipes.transfer.page import answer, transfer_page
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.results import part_of
from instar.recipes.transfer.settings import TransferConfig
from instar.recipes.transfer.tasks import splits_of

MANIFEST = "manifest.json"


def write_manifest(path: Path, content: Any) -> None:
    """Keep which classes are in which half in the run directory."""
    write_bytes(path / MANIFEST, (json.dumps(content, indent=2) + "\n").encode())


def manifest(plan: Plan) -> dict[str, Any]:
    """The classes of both halves of every split."""
    return {f"split-{split.seed}": split.manifest() for split in plan.splits}


def _place(config: TransferConfig) -> Place:
    tasks = [load_splits(data) for data in (config.source, config.data) if data is not None]
    names = [*(task.name for task in tasks), config.halves.how, config.network.network]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    splits = splits_of(config)  # a file of parents may have changed
    halves = [split.halves.hash for split in splits if split.halves]
    fingerprint = " ".join([*(task.fingerprint for task in tasks), *halves])
    return Place("transfer", slug, fingerprint)


def _rounds(plan: Plan) -> Rounds[None]:
    write_manifest(plan.path, manifest(plan))
    yield Round(plan.jobs())


def _measure(plan: Plan, _: None) -> dict[str, Any]:
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
    }


STUDY: Study[TransferConfig, Plan, None] = Study(
    recipe="transfer",
    place=_place,
    plan=Plan,
    check=Plan.check,
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=transfer_page,
    answer=answer,
    table=lambda result: treatment_table(result),
    published=lambda config: f"transfer-{config.data.name}",
)
