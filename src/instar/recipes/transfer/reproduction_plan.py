"""The parts of the first paper's study, each a plan of `instar transfer`, and the jobs of the whole study."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from instar.jobs import Job
from instar.recipes.fitting import fit_job
from instar.recipes.settings import DataSettings, FitSettings, Settings, checked
from instar.recipes.study import DEFAULT, Execution
from instar.recipes.transfer.plan import Plan
from instar.recipes.transfer.settings import HalvesSettings, TransferConfig

CONVNET, RESNET, DISSIMILAR, SIMILAR = "convnet", "resnet", "dissimilar", "similar"
"""The parts: two networks on random halves of all classes; dissimilar halves; random halves of the same size."""

_Count = Annotated[int, Field(ge=1)]


class CurvePoint(Settings):
    """One point of the curve."""

    percent: Annotated[float, Field(gt=0, le=100)]
    """the share of the training images of each class"""
    epochs: _Count


class CurveSettings(Settings):
    """Networks on few images of every class, as in the paper's supplement."""

    points: list[CurvePoint]
    seeds: _Count
    """replicates of each point"""


class ReproductionConfig(Settings):
    """The configuration of `instar reproduce transfer`."""

    scale: str
    data: DataSettings
    splits: _Count
    """replicates of each part"""
    convnet: FitSettings
    """the network without normalisation, of all parts but one, and of the curve"""
    convnet_cuts: list[int] | None = None
    """numbers of copied layers; by default all"""
    resnet: FitSettings
    """the network with normalisation"""
    resnet_cuts: list[int] | None = None
    """numbers of copied layers; by default all"""
    dissimilar: HalvesSettings = HalvesSettings(how="semantic")
    """halves that are unlike each other"""
    similar: HalvesSettings
    """random halves of the same size"""
    curve: CurveSettings

    @model_validator(mode="after")
    def _has_parts(self) -> Self:
        _ = self.parts
        return self

    @property
    def parts(self) -> dict[str, TransferConfig]:
        """The configuration of each part."""
        shared = {"data": self.data, "splits": self.splits}
        convnet = {**shared, "network": self.convnet, "cuts": self.convnet_cuts}
        frozen = {**convnet, "treatments": ["AnB"], "longer": False}
        parts = {
            CONVNET: convnet,
            DISSIMILAR: {**frozen, "halves": self.dissimilar},
            SIMILAR: {**frozen, "halves": self.similar},
            RESNET: {**shared, "network": self.resnet, "cuts": self.resnet_cuts, "targets": ["B"]},
        }
        return {name: checked(TransferConfig, content) for name, content in parts.items()}


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
