"""The first paper's study as one run: networks and kinds of halves, each a plan of `instar transfer`, and a curve.

Nothing is chosen: every network is trained as its part of the configuration says, and read on test once.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import Job, open_engine, run_jobs
from instar.recipes.fitting import fit_job, load_run_network, load_splits
from instar.recipes.publishing import time_spent
from instar.recipes.settings import DataSettings, FitSettings, Settings
from instar.recipes.transfer.filters import filter_scores, first_filters
from instar.recipes.transfer.findings import findings_of
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.recipe import MANIFEST, manifest, plan_result, study_of
from instar.recipes.transfer.settings import TransferConfig
from instar.runs import Run, run_hash

CONVNET, RESNET, DISSIMILAR, SIMILAR = "convnet", "resnet", "dissimilar", "similar"
"""The parts: two networks on random halves of all classes; halves unlike each other; random ones of their size."""


class CurveSettings(Settings):
    """Networks on few images of every class, as in the paper's supplement."""

    network: FitSettings
    epochs: dict[str, Annotated[int, Field(ge=1)]]
    """by percent of the training images: few of them are shown more often"""
    seeds: Annotated[int, Field(ge=1)]


class StudyConfig(Settings):
    """The configuration of `instar reproduce transfer`."""

    scale: str
    data: DataSettings
    parts: dict[str, TransferConfig]
    curve: CurveSettings


@dataclass(frozen=True)
class TransferStudy:
    """A configuration and where it is run: from here come the plans and all jobs."""

    config: StudyConfig
    path: Path
    device: str = "cpu"

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """One for each part; their jobs share the run directory."""
        return {
            name: Plan(config, self.path, self.device, folder=f"{name}/")
            for name, config in self.config.parts.items()
        }

    def jobs(self) -> list[Job]:
        """Of all parts, and of the curve."""
        jobs = [job for plan in self.plans.values() for job in plan.jobs()]
        curve = self.config.curve
        for percent, epochs in curve.epochs.items():
            settings = curve.network.model_copy(update={"epochs": epochs})
            for seed in range(curve.seeds):
                jobs.append(
                    fit_job(
                        self.path,
                        curve_name(percent, seed),
                        settings,
                        self.curve_data(percent),
                        seed=seed,
                        learning_rate=settings.learning_rate[0],
                        device=self.device,
                    )
                )
        return jobs

    def curve_data(self, percent: str) -> DataSettings:
        """All classes, and a share of their training images."""
        return self.config.data.model_copy(update={"fraction": float(percent) / 100})


def curve_name(percent: str, seed: int) -> str:
    """The job of a point of the curve."""
    return f"curve/{percent}-percent/{seed}"


def run_path(config: StudyConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/transfer-DATA-SCALE-HASH`."""
    fingerprint = load_splits(config.data).fingerprint
    hashed = run_hash("reproduce", config.model_dump(), data_fingerprint=fingerprint)
    return root / "reproduce" / f"transfer-{config.data.name}-{config.scale}-{hashed}"


def main(
    config: StudyConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Run the whole study, or go on with it, or read what it found: the content of `result.json`."""
    from instar.recipes.transfer_study.page import write_study_page

    study = TransferStudy(config, path, device)
    for plan in study.plans.values():
        plan.check()
    with Run(path, recipe="reproduce", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        run.write_json(MANIFEST, {name: manifest(plan) for name, plan in study.plans.items()})
        with open_engine(engine) as workers:
            run_jobs(study.jobs(), path, engine=workers, quiet=quiet).raise_if_failed()
        result = _result(study)
        result |= time_spent(path, started)
        write_study_page(run, study, result)
        run.finish(result)
        return run.result()


def _result(study: TransferStudy) -> dict[str, Any]:
    parts = {name: plan_result(plan) for name, plan in study.plans.items()}
    findings = study_findings(parts)
    return {
        "metrics": {f"{one['finding']}-{one['network']}": one["number"] for one in findings},
        "rows": [{**row, "part": name} for name, part in parts.items() for row in part.pop("rows")],
        "findings": findings,
        "curve": _curve(study),
        "filters": filter_scores(first_filters(study.plans[CONVNET])),
        "parts": parts,
        "num_test": len(load_splits(study.config.data).test),
    }


def study_findings(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The paper's findings on each network, from what the parts measured."""
    studies = {name: study_of(part["networks"]) for name, part in parts.items()}
    unlike = studies.get(DISSIMILAR), studies.get(SIMILAR)
    return [
        one
        for name in (CONVNET, RESNET)
        if name in studies
        for one in findings_of(parts[name]["network"], studies[name], *(unlike if name == CONVNET else ()))
    ]


def _curve(study: TransferStudy) -> list[dict[str, Any]]:
    """Test accuracy over images a class."""
    test = load_splits(study.config.data).test
    labels = test.labels(test.ids)
    rows = []
    for percent, epochs in study.config.curve.epochs.items():
        paths = [study.path / "jobs" / curve_name(percent, seed) for seed in range(study.config.curve.seeds)]
        over = metrics.over_seeds(
            [100 * metrics.accuracy(predict_logits(load_run_network(path), test), labels) for path in paths]
        )
        splits = load_splits(study.curve_data(percent))
        images = len(splits.train) / len(splits.class_names)
        rows.append({"images_per_class": round(images, 1), "epochs": epochs, **over._asdict()})
    return rows
