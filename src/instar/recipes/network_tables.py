"""What `instar networks` shows."""

from typing import Any

from instar.networks import build_network
from instar.networks.libraries import FORMS as OF_LIBRARIES
from instar.networks.libraries.listing import listed, missing
from instar.reports import Column, Table

_SHAPE, _CLASSES = (3, 32, 32), 10  # for which our own networks are counted
_OURS = {
    "mlp:UNITSxLAYERS": "mlp:800x2",
    "mlp:U1-U2-...": "mlp:300-100",
    "convnet:LAYERSxCHANNELS": "convnet:8",
    "resnet:LAYERSxCHANNELS": "resnet:20",
    "vgg:LAYERSxCHANNELS": "vgg:8",
    "caffenet": None,  # for larger pictures
    "mixture:EXPERTS/EXPERT/GATE": "mixture:4/convnet:8/convnet:8x8",
    "python:MODULE:FUNCTION": None,
}


def known_networks(word: str = "") -> list[dict[str, Any]]:
    """The networks that can be built by name: `name`, `example`, `parameters`, `pretrained`.

    Args:
        word: that their names hold; without one our own forms, and the forms of the libraries' names.
    """
    own = [_ours(form, example) for form, example in _OURS.items() if word in form]
    if not word:
        return own + [_ours(form, None) for form in OF_LIBRARIES]
    return own + [{**one._asdict(), "example": None} for one in listed(word)]


def networks_table(rows: list[dict[str, Any]]) -> Table:
    """The table of what `known_networks` gives."""
    without = ", ".join(f"{name} (pip install 'instar[{name}]')" for name in missing())
    said = [
        f"Weights of ours: for {_CLASSES} classes and pictures of 3x32x32; of others: with their own head.",
        "instar networks WORD lists what timm and torchvision have whose names hold WORD.",
        f"Not installed: {without}." if without else "",
    ]
    columns = [Column("name")] + [Column("example")] * any(row["example"] for row in rows)
    columns += [Column("parameters", "weights", "{:,}"), Column("pretrained", "pretrained kinds")]
    return Table("Networks", rows, columns=columns, caption="\n".join(one for one in said if one))


def _ours(form: str, example: str | None) -> dict[str, Any]:
    if example is None:
        return {"name": form, "example": None, "parameters": None, "pretrained": None}
    network = build_network(example, input_shape=_SHAPE, num_classes=_CLASSES, seed=0)
    count = sum(value.numel() for value in network.parameters())
    return {"name": form, "example": example, "parameters": count, "pretrained": None}
