"""The answers of `instar predict`."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from instar.deploy import Model
from instar.errors import DataError
from instar.evaluation import batch_size_on
from instar.recipes.shipping.predictions import answers

BATCH = batch_size_on("cpu")


class Names(list[str]):
    """Names of files, which say when those of the second batch are asked for."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.is_at_the_second_batch = threading.Event()

    def __iter__(self) -> Iterator[str]:
        for place, name in enumerate(super().__iter__()):
            if place > BATCH:
                self.is_at_the_second_batch.set()
            yield name


class Brightness(nn.Module):
    """Logits that say how bright a picture is; waits for an event first."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self.event = event

    def forward(self, inputs: Tensor) -> Tensor:
        assert self.event.wait(60), "no picture was read while the network computed"
        bright = inputs.flatten(1).mean(1)
        return torch.stack((bright, -bright), dim=1)


def pictures(folder: Path, number: int) -> list[str]:
    """Grey pictures, each of another brightness."""
    for one in range(number):
        Image.new("L", (4, 4), one % 256).save(folder / f"{one:04}.png")
    return [str(folder / f"{one:04}.png") for one in range(number)]


def test_pictures_are_read_while_the_network_computes_and_answers_keep_their_order(tmp_path: Path) -> None:
    names = Names(pictures(tmp_path, 2 * BATCH + 3))
    model = Model(Brightness(names.is_at_the_second_batch), ["light", "dark"], (1, 4, 4))
    found = list(answers(model, names, refused=[], quiet=True))
    assert [one.name for one in found] == list(names)
    light = torch.tensor([place % 256 / 255 for place in range(len(names))])
    assert torch.stack([one.probs[0] for one in found]) == pytest.approx(torch.sigmoid(2 * light), abs=1e-6)


def test_what_cannot_be_read_is_left_out_or_ends_the_rest(tmp_path: Path) -> None:
    names = Names(pictures(tmp_path, BATCH + 3))
    Path(names[BATCH + 1]).write_bytes(b"no picture")
    model, refused = Model(Brightness(names.is_at_the_second_batch), ["light", "dark"], (1, 4, 4)), list[str]()
    assert len(list(answers(model, names, refused=refused, quiet=True))) == BATCH + 2
    assert [line.partition(":")[0] for line in refused] == [names[BATCH + 1]]
    with pytest.raises(DataError, match=r"not an image that can be read"):
        list(answers(model, names, refused=[], strict=True, quiet=True))
