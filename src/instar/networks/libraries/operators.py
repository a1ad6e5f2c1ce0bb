"""Makes `import torchvision` work beside a torch of another build, as far as classification needs it."""

import importlib.util
import sys
import warnings

import torch

_kept: list[torch.library.Library] = []  # the definitions live as long as these


def repair_torchvision() -> None:
    """Define the two operators without which a torchvision of another build cannot be imported.

    The wheel of torchvision is built for CUDA; beside a torch for the CPU its operators cannot be loaded, and the
    import fails with "operator torchvision::nms does not exist", that of timm and transformers with it. No network
    for classification calls `nms` or `qnms`: their schemas alone are defined, and calling one still fails.
    A torchvision that works, or is not there, is left as it is.
    """
    if _kept or "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its image decoders, which are not used
        try:
            import torchvision
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
            for name in ("nms", "qnms"):
                schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                library.define(schema)  # type: ignore[no-untyped-call]
            _kept.append(library)
            import torchvision  # noqa: F401
