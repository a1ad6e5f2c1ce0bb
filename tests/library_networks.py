"""Small networks of timm and transformers, as their users have them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SMALL_VIT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
SHOWN = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 16, "width": 16},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}


def vit_folder(
    path: Path, class_names: Sequence[str] | None, *, shown: dict[str, Any] | None = SHOWN, **changes: Any
) -> Any:
    """A ViT with random weights, as `save_pretrained` writes it, and the module itself."""
    from instar.networks.libraries.of_transformers import transformers

    package = transformers()
    config = package.ViTConfig(**SMALL_VIT | changes)
    if class_names is not None:
        config.num_labels = len(class_names)
        config.id2label = dict(enumerate(class_names))
        config.label2id = {name: number for number, name in enumerate(class_names)}
    torch.manual_seed(1)
    network = package.ViTForImageClassification(config).eval()
    for value in network.parameters():
        value.data += 0.3 * torch.randn_like(value)  # logits that differ from class to class
    network.save_pretrained(path)
    if shown is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(shown))
    return network
