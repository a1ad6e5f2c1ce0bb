"""The networks of timm, torchvision and transformers."""

from instar.networks.libraries.building import (
    FORMS,
    Weights,
    brings_weights,
    build_from_library,
    described,
    head_change,
)

__all__ = [
    "FORMS",
    "Weights",
    "brings_weights",
    "build_from_library",
    "described",
    "head_change",
]
