"""torchdistill's own distillation box, fed as its documentation says and as fast as its interface allows.

As documented: a data set behind a DataLoader, which collates example by example, and a teacher that runs at
each step (release 1.1.5 stores no teacher outputs; older ones could). As fast as possible: a sampler that asks for
whole batches, and in the teacher's place a module that hands out stored logits.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

_kept: list[object] = []


def _import_box() -> Callable[..., Any]:
    logging.disable(logging.WARNING)  # it logs the loss and the models
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # A torchvision built for CUDA beside a torch built for the CPU lacks its operators. None is used here.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # an operator is there as long as its library is
    from torchdistill.core.distillation import get_distillation_box

    box: Callable[..., Any] = get_distillation_box
    return box


get_distillation_box = _import_box()


class Examples(torch.utils.data.Dataset[tuple[Any, ...]]):
    """(input, label) in memory; with stored logits (input, label, supplement), which torchdistill passes on."""

    def __init__(self, inputs: Tensor, labels: Tensor, logits: Tensor | None = None) -> None:
        self._inputs, self._labels, self._logits = inputs, labels, logits

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int | Tensor) -> tuple[Any, ...]:
        example = self._inputs[index], self._labels[index]
        return example if self._logits is None else (*example, {"logits": self._logits[index]})


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """(input, label) of (n, 1, height, width) uint8, each through PIL and ToTensor as torchvision's MNIST does."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from torchvision.transforms import ToTensor

        self._images, self._labels, self._transform = images.squeeze(1).numpy(), labels.tolist(), ToTensor()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


class WholeBatches(torch.utils.data.Sampler[Tensor]):
    """Shuffled indices, a batch of them at a time."""

    def __init__(self, data: Examples, batch_size: int) -> None:
        self._num_examples, self._batch_size = len(data), batch_size

    def __len__(self) -> int:
        return -(-self._num_examples // self._batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.split(torch.randperm(self._num_examples), self._batch_size))


class StoredTeacher(nn.Module):
    """Stands in the teacher's place and hands out the logits that came with the batch."""

    def forward(self, _: Tensor, supplement: dict[str, Tensor]) -> Tensor:
        return supplement["logits"]


class Averaging(nn.Module):
    """An ensemble in the teacher's place: the mean of the members' logits, which is their geometric mean."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self._members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([member(inputs) for member in self._members]).mean(0)


class TorchdistillTraining:
    """A student in torchdistill's box: each call is an epoch.

    Args:
        teacher: a `StoredTeacher` where the examples carry logits.
        student: trained in place.
        data: what is trained on.
        batch_size: examples of a step.
        num_workers: processes of the DataLoader; None asks for whole batches in this process instead.
        bfloat16: whether the forward pass runs in autocast.
        learning_rate: of SGD with momentum 0.9.
        temperature: of the soft targets.
        hard_weight: of the labels' cross-entropy; the soft term has weight 1.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        data: Examples | Pictures,
        *,
        batch_size: int,
        num_workers: int | None,
        bfloat16: bool,
        learning_rate: float,
        temperature: float,
        hard_weight: float,
    ) -> None:
        is_stored = isinstance(teacher, StoredTeacher)
        loader: dict[str, Any] = {"dataset_id": "train", "requires_supp": not is_stored}
        if num_workers is None:
            loader["sampler"] = {"class_or_func": WholeBatches, "kwargs": {"batch_size": batch_size}}
            loader["kwargs"] = {"batch_size": None}
        else:
            loader["sampler"] = {"class_or_func": torch.utils.data.RandomSampler}
            loader["kwargs"] = {
                "batch_size": batch_size,
                "num_workers": num_workers,
                "persistent_workers": num_workers > 0,
            }
        weights = {"temperature": temperature, "alpha": hard_weight, "beta": 1.0}
        teacher_logits = {"teacher_module_path": ".", "teacher_module_io": "output"}
        student_logits = {"student_module_path": ".", "student_module_io": "output"}
        loss = {"key": "KDLoss", "kwargs": {**weights, **teacher_logits, **student_logits}}
        config = {
            "num_epochs": 1,
            "train_data_loader": loader,
            "teacher": {
                "requires_grad": False,
                "forward_proc": "forward_batch_supp_dict" if is_stored else "forward_batch_only",
            },
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {"key": "SGD", "kwargs": {"lr": learning_rate, "momentum": 0.9, "fused": True}},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
            },
        }
        device = torch.device("cpu")
        self._box = get_distillation_box(teacher, student, {"train": data}, config, device, None, False, 1)
        self._bfloat16 = bfloat16

    def __call__(self) -> None:
        """One epoch, as torchdistill's example scripts write it, without their logging."""
        self._box.pre_epoch_process(epoch=0)
        for inputs, labels, supplement in self._box.train_data_loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
                loss = self._box.forward_process(inputs, labels, supplement)
            self._box.post_forward_process(loss=loss)
        self._box.post_epoch_process()
