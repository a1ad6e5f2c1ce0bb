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


def sound_folder(path: Path, kind: str, class_names: Sequence[str], **extractor: Any) -> Any:
    """A small network of sounds with random weights and its feature extractor, and the module itself.

    Args:
        path: the folder to write.
        kind: `wav2vec2`, which takes samples, or `ast`, which takes spectrograms.
        class_names: in the order of the logits.
        extractor: what its feature extractor is told.
    """
    from instar.networks.libraries.of_transformers import transformers

    package = transformers()
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    sizes |= {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: n for n, name in enumerate(class_names)},
    }
    torch.manual_seed(1)
    if kind == "ast":
        patches = {"patch_size": 8, "frequency_stride": 8, "time_stride": 8}
        shape = {"max_length": 48, "num_mel_bins": 16}
        network = package.ASTForAudioClassification(package.ASTConfig(**sizes, **shape, **patches))
        extracting = package.ASTFeatureExtractor(**shape | extractor)
    else:
        layers = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
        small = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
        norm = {
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
        }  # with a mask padding counts for nothing
        config = package.Wav2Vec2Config(**sizes, **layers, **small, **norm, vocab_size=5)
        network = package.Wav2Vec2ForSequenceClassification(config)
        extracting = package.Wav2Vec2FeatureExtractor(**extractor)
    for value in network.parameters():
        value.data += 0.1 * torch.randn_like(value)
    network.save_pretrained(path)
    extracting.save_pretrained(path)
    return network.eval()
