"""The configuration of `instar transfer`, and how it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.recipes.reading_settings import check_source, checked, merge, read_config_file
from instar.recipes.settings import Count, DataSettings, FitSettings, Settings, TeacherSettings

_KINDS = ("BnB", "BnB+", "AnB", "AnB+", "RnB")  # of `instar.transfer`


class HalvesSettings(Settings):
    """How the classes of a data set are divided into two tasks."""

    how: Literal["random", "semantic", "parents", "lists"] = "random"
    """random halves; man-made against natural (CIFAR-100, ImageNet); whole parent classes; two lists"""
    a: tuple[str, ...] = ()
    """classes of A (lists), or parent classes of A (parents)"""
    b: tuple[str, ...] = ()
    """classes of B (lists), or parent classes of B (parents)"""
    parents: str | None = None
    """a file with a class, a tab and its parent on each line (parents)"""
    classes_per_half: Count | None = None
    """the size of random halves; by default half of all classes"""


class CopySettings(Settings):
    """What happens to copied layers."""

    frozen_dropout: bool = True
    """whether dropout in frozen layers stays on in training, as in the paper"""
    frozen_norm: Literal["source", "target"] = "source"
    """statistics of frozen normalisation layers: of the source, or first measured on the target's training data"""
    learning_rate_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """factor on the learning rate of fine-tuned copied layers; 1 in the paper"""


class TransferConfig(Settings):
    """The configuration of `instar transfer`."""

    data: DataSettings = DataSettings()
    """the data set whose classes are divided into halves A and B; with `source`, all of it is B"""
    source: DataSettings | None = None
    """another data set, all of which is A"""
    halves: HalvesSettings = HalvesSettings()
    network: TeacherSettings = TeacherSettings(network="mlp:64x3", epochs=40)
    """every network of the study; caffenet is the paper's"""
    treatments: list[str] = list(_KINDS)
    """kinds of treatment: BnB, BnB+, AnB, AnB+, RnB"""
    cuts: list[int] | None = None
    """how many layers to copy, one or several numbers; by default each number that a layer with weights follows"""
    layers: list[str] | None = None
    """names of the modules that count as layers; by default the outermost stages of the network"""
    targets: list[Literal["A", "B"]] = ["A", "B"]
    """the tasks to transfer to: both directions, or one"""
    copied: CopySettings = CopySettings()
    longer: bool = True
    """whether to add a base trained as long as a base and its transfer network together"""
    splits: Count = 5
    """independent replicates, each with its own halves and seeds"""
    seed: Annotated[int, Field(ge=0)] = 0
    """the seed of the first split"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.network.pretrained:
            raise UsageError("network.pretrained is for teachers: every network of a transfer study is trained")
        if not set(self.treatments) <= set(_KINDS):
            from instar.transfer import treatments_of  # imports torch, for which help does not wait

            treatments_of(self.treatments, [1])
        for name in ("treatments", "cuts", "targets"):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise UsageError(f"{name} should be one or more values, none of them twice; found {values}")
        halves = self.halves
        if self.source is not None and halves != HalvesSettings():
            raise UsageError("source and halves: give one of them; with a source, all its classes are A")
        if halves.how == "lists" and not (halves.a and halves.b):
            raise UsageError("halves of lists need the classes of both: halves.a and halves.b")
        if halves.how not in ("lists", "parents") and (halves.a or halves.b):
            raise UsageError(f"halves.a and halves.b are not for {halves.how} halves")
        if halves.how != "parents" and halves.parents:
            raise UsageError(f"halves.parents is for halves by parents, not for {halves.how} halves")
        if halves.classes_per_half is not None and halves.how != "random":
            raise UsageError("halves.classes_per_half is for random halves")
        return self


_DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {
        "halves": {"how": "lists", "a": list("01234"), "b": list("56789")},
        "network": {"network": "mlp:64x3", "learning_rate": 0.1},
    },
    "cifar100": {"network": {"network": "convnet:8", "epochs": 20, "learning_rate": 0.05, "weight_decay": 5e-4}},
}
"""Defaults that depend on the data. Their learning rates are for their networks: that of another one is found."""


def _caffenet(epochs: int) -> dict[str, Any]:
    """The paper's hyperparameters: 450,000 steps of 256, on a half with 645,000 pictures.

    The paper cut pictures of 256 pixels at random to 227 and mirrored them: here pictures of 227 move by up to 14.
    """
    every = epochs * 100_000 / 450_000  # the learning rate falls to a tenth
    return {
        "epochs": epochs,
        "learning_rate": 0.01,
        "schedule": "step:" + ",".join(f"{every * number:g}" for number in range(1, 5)),
        "batch_size": 256,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "bias_rate_factor": 2.0,
        "initialiser": "caffenet",
        "dropout": 0.5,
        "views": "crop:14+flip",
    }


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> TransferConfig:
    """The configuration: defaults for the data, overridden by a TOML file, then by `typed`.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong.
    """
    content = merge(read_config_file(config_file), typed)
    check_source(content)
    halves = content.get("halves", {})
    if isinstance(halves, Mapping) and not halves.get("how"):
        how = "parents" if halves.get("parents") else "lists" if halves.get("a") and halves.get("b") else None
        halves = {**halves, "how": how}
        content = merge(content, {"halves": halves})
    base = TransferConfig().model_dump()
    if content.get("source"):
        base["source"] = DataSettings().model_dump()
    data = merge(base, content)["data"]
    defaults = dict(_DEFAULTS.get(str(data["name"]), {})) if isinstance(data, Mapping) else {}
    if content.get("source") or not isinstance(halves, Mapping) or halves.get("how"):
        defaults.pop("halves", None)
    start, network = merge(base, defaults), content.get("network", {})
    usual = start["network"]["network"]
    if isinstance(network, Mapping) and network.get("network", usual) != usual:
        start = {**start, "network": {**start["network"], "learning_rate": None}}
    if isinstance(network, Mapping) and network.get("network") == "caffenet":
        start = merge(start, {"network": _caffenet(int(network.get("epochs") or 179)), "data": _pictures(data)})
    return checked(TransferConfig, merge(start, content))


def _pictures(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"image_size": 227} if str(data["name"]).startswith("folder:") else {}


CONVNET, RESNET, DISSIMILAR, SIMILAR = "convnet", "resnet", "dissimilar", "similar"
"""The parts: two networks on random halves of all classes; dissimilar halves; random halves of the same size."""


class CurvePoint(Settings):
    """One point of the curve."""

    percent: Annotated[float, Field(gt=0, le=100)]
    """the share of the training images of each class"""
    epochs: Count


class CurveSettings(Settings):
    """Networks on few images of every class, as in the paper's supplement."""

    points: list[CurvePoint]
    seeds: Count
    """replicates of each point"""


class ReproductionConfig(Settings):
    """The configuration of `instar reproduce transfer`."""

    scale: str
    data: DataSettings
    splits: Count
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
        convnet = {**shared, "network": self.convnet.model_dump(), "cuts": self.convnet_cuts}
        frozen = {**convnet, "treatments": ["AnB"], "longer": False}
        parts = {
            CONVNET: convnet,
            DISSIMILAR: {**frozen, "halves": self.dissimilar},
            SIMILAR: {**frozen, "halves": self.similar},
            RESNET: {**shared, "network": self.resnet.model_dump(), "cuts": self.resnet_cuts, "targets": ["B"]},
        }
        return {name: checked(TransferConfig, content) for name, content in parts.items()}
