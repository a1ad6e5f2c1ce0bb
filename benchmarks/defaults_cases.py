"""The data and networks of `benchmarks.defaults`: functions for `python:benchmarks.defaults_cases:NAME`."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from instar.data import Dataset, load_data

Part = tuple[Tensor, Tensor]
_FRAMES = 48  # of 16 ms: most spoken digits are shorter


def mnist_1000() -> tuple[Part, Part]:
    """1,000 training images, 100 of each digit, and 1,000 test images."""
    return _parts("mnist", range(10), [100] * 10, 100)


def mnist_imbalanced() -> tuple[Part, Part]:
    """400 images of the commonest digit, 8 of the rarest (50:1); the test images are balanced."""
    return _parts("mnist", range(10), [round(400 * 50 ** (-number / 9)) for number in range(10)], 100)


def cifar100_4() -> tuple[Part, Part]:
    """Four classes with 100 images each."""
    return _parts("cifar100", (0, 22, 43, 89), [100] * 4, 100)


def cifar100_20() -> tuple[Part, Part]:
    """Twenty classes with 50 images each."""
    return _parts("cifar100", range(0, 100, 5), [50] * 20, 50)


def cifar100_100() -> tuple[Part, Part]:
    """All hundred classes with 20 images each."""
    return _parts("cifar100", range(100), [20] * 100, 10)


def spoken_digits() -> tuple[Part, Part]:
    """Log-mel frames of 300 spoken digits, (48, 40), cut or padded; the publisher's test recordings."""
    from instar.speech.features import FeatureSettings, log_mel
    from instar.speech.fsdd import load_fsdd, official_split

    corpus = load_fsdd()
    digits = sorted({one.words[0] for one in corpus.utterances})
    settings = FeatureSettings(shift_ms=16.0)
    parts = []
    for part, count in zip(official_split(corpus), (300, 300), strict=True):
        chosen = random.Random(0).sample(list(part.utterances), min(count, len(part)))
        frames = [log_mel(part.audio(one), part.sample_rate, settings)[:_FRAMES] for one in chosen]
        padded = torch.stack([nn.functional.pad(one, (0, 0, 0, _FRAMES - len(one))) for one in frames])
        parts.append((padded / 10 - 1, torch.tensor([digits.index(one.words[0]) for one in chosen])))
    return parts[0], parts[1]


def _parts(name: str, classes: Sequence[int], counts: Sequence[int], num_test: int) -> tuple[Part, Part]:
    """So many training images of each class, and test images."""
    splits = load_data(name)
    whole = splits.train.union(splits.validation)
    return _chosen(whole, classes, counts), _chosen(splits.test, classes, [num_test] * len(classes))


def _chosen(data: Dataset, classes: Sequence[int], counts: Sequence[int]) -> Part:
    labels = data.labels(data.ids)
    ids = [data.ids[labels == label][:count] for label, count in zip(classes, counts, strict=True)]
    numbers = [torch.full((len(one),), number) for number, one in enumerate(ids)]
    return data.gather(torch.cat(ids), 0), torch.cat(numbers)


def write_photos(folder: Path) -> None:
    """60 pictures for each of five classes of CIFAR-100, as JPEG and PNG of mixed sizes, some of them grey."""
    train, chance = load_data("cifar100").train, random.Random(1)
    labels = train.labels(train.ids)
    for label in (0, 22, 43, 71, 89):
        (folder / train.class_names[label]).mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(train.raw(train.rows(train.ids[labels == label][:60]))):
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            picture = picture.resize(
                chance.choice([(48, 48), (64, 48), (40, 56), (96, 96)]), Image.Resampling.BICUBIC
            )
            picture = picture.convert("L") if chance.random() < 0.15 else picture
            picture.save(folder / train.class_names[label] / f"{number:02d}.{'png' if number % 3 else 'jpg'}")


class Patches(nn.Module):
    """A small vision transformer: patches of 4 pixels, two blocks of attention, the mean of all patches."""

    def __init__(self, input_shape: Sequence[int], num_classes: int, width: int = 32) -> None:
        super().__init__()
        channels, height, length = input_shape
        self.patches = nn.Conv2d(channels, width, 4, stride=4)
        self.places = nn.Parameter(0.02 * torch.randn(height // 4 * (length // 4), width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes)."""
        return self.head(self.blocks(self.patches(inputs).flatten(2).mT + self.places).mean(1))


class Frames(nn.Module):
    """An LSTM over frames; the mean of its states is classified."""

    def __init__(self, input_shape: Sequence[int], num_classes: int, width: int = 48) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(input_shape[-1], width, batch_first=True), nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, frames, features) -> (batch, classes)."""
        return self.head(self.lstm(inputs)[0].mean(1))


def vit(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """A small vision transformer."""
    return Patches(input_shape, num_classes)


def lstm(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """A small LSTM."""
    return Frames(input_shape, num_classes)
