"""The parts of the first paper's study, each a plan of `instar transfer`, and the jobs that they take together."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field

from instar.jobs import Job
from instar.recipes.fitting import fit_job
from instar.recipes.settings import DataSettings, FitSettings, Settings
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.settings import TransferConfig

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
