"""Networks that can be named: perceptrons, CaffeNet, a smaller one of its form, VGG, residual networks, mixtures.

Each but the mixture is an `nn.Sequential` of named layers, so that "the first n layers" is a slice; the last layer
returns logits.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from instar.errors import UsageError


def perceptron(
    input_shape: Sequence[int],
    hidden: Sequence[int],
    num_classes: int,
    *,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
) -> nn.Sequential:
    """A fully connected ReLU network: fc1 ... fcL.

    Args:
        input_shape: shape of an example; flattened by the first layer.
        hidden: number of units of each hidden layer.
        num_classes: number of logits.
        dropout: probability of dropping an output of a hidden layer.
        input_dropout: probability of dropping an input.

    References:
        Hinton et al. 2015, section 3 (2 x 1200 and 2 x 800 units); Hinton et al. 2012 for dropout .5 and .2.

    Example:
        >>> sum(p.numel() for p in perceptron((1, 28, 28), (1200, 1200), 10).parameters())
        2395210
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = math.prod(input_shape)
    for number, units in enumerate(hidden, 1):
        steps: list[nn.Module] = [nn.Flatten()] if number == 1 else []
        if number == 1 and input_dropout:
            steps.append(nn.Dropout(input_dropout))
        steps += [nn.Linear(width, units), nn.ReLU()]
        if dropout:
            steps.append(nn.Dropout(dropout))
        layers[f"fc{number}"] = nn.Sequential(*steps)
        width = units
    last: list[nn.Module] = [nn.Linear(width, num_classes)]
    if not hidden:
        last.insert(0, nn.Flatten())
    layers[f"fc{len(hidden) + 1}"] = nn.Sequential(*last)
    return nn.Sequential(layers)


def convnet(
    input_shape: Sequence[int], depth: int, num_classes: int, *, dropout: float = 0.0, width: int = 32
) -> nn.Sequential:
    """A small convolutional network of CaffeNet's form: depth - 3 convolutions, then three fully connected layers.

    3x3 convolutions with width, 2 width, 2 width, ... channels; pooling after the first, the second and the last,
    while the image is at least 4 pixels wide. Depth 8 has conv1-5, fc6, fc7, fc8, as in Yosinski et al. 2014.

    Example:
        >>> [name for name, _ in convnet((3, 32, 32), 8, 10).named_children()]
        ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8']
    """
    if depth < 4:
        raise UsageError(
            f"convnet:{depth}: expected at least 4 layers (one convolution and three fully connected layers)"
        )
    channels, height, length = _image_shape(input_shape, f"convnet:{depth}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    num_conv = depth - 3
    for number in range(1, num_conv + 1):
        out = width if number == 1 else 2 * width
        steps: list[nn.Module] = [nn.Conv2d(channels, out, 3, padding=1)]
        if number in (1, 2, num_conv) and min(height, length) >= 4:
            steps.append(nn.MaxPool2d(2))  # before the ReLU: the same result from a quarter of the values
            height, length = height // 2, length // 2
        layers[f"conv{number}"] = nn.Sequential(*steps, nn.ReLU())
        channels = out
    features, units = channels * height * length, 8 * width
    for number in (depth - 2, depth - 1):
        first: list[nn.Module] = [nn.Flatten()] if number == depth - 2 else []
        steps = [*first, nn.Linear(features, units), nn.ReLU()]
        if dropout:
            steps.append(nn.Dropout(dropout))
        layers[f"fc{number}"] = nn.Sequential(*steps)
        features = units
    layers[f"fc{depth}"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)


class Pixels(nn.Module):
    """255 (x - 0.45): maps values from 0 to 1 to pixel values around 0; the mean of photographs is about 0.45."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Values of any shape."""
        return 255 * (inputs - 0.45)


def caffenet(input_shape: Sequence[int], num_classes: int, *, dropout: float = 0.5) -> nn.Sequential:
    """The network of the first paper, Caffe's reference model: five convolutions, three fully connected layers.

    It has an initialiser of its own, `caffenet`, and `instar transfer --network caffenet` uses its schedule. Both
    expect pixel values around 0, to which conv1 first maps values from 0 to 1. Local response normalisation
    divides by (1 + 1e-4 / 5 sum of the squares of 5 channels)^0.75.

    Args:
        input_shape: shape of an image, 3 x 227 x 227 in the paper; at least 67 pixels wide and high.
        num_classes: number of logits; with 1000 classes and 227 pixels there are 60,965,224 weights.
        dropout: probability after fc6 and fc7.

    Raises:
        UsageError: the shape is not that of an image, or the image is too small.

    Example:
        >>> [name for name, _ in caffenet((3, 67, 67), 5).named_children()]
        ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8']

    References:
        Yosinski et al. 2014, section 3 and supplement; Jia et al. 2014 (arXiv 1408.5093); Krizhevsky et al. 2012.
    """
    channels, height, width = _image_shape(input_shape, "caffenet")
    if min(height, width) < 67:
        raise UsageError(
            f"caffenet needs images of at least 67 pixels; these are {height} x {width} (227 in the paper)"
        )

    def pooled() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, stride=2)

    def normalised() -> nn.LocalResponseNorm:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Sequential(Pixels(), nn.Conv2d(channels, 96, 11, stride=4), nn.ReLU(), pooled(), normalised()),
        conv2=nn.Sequential(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), pooled(), normalised()),
        conv3=nn.Sequential(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        conv4=nn.Sequential(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
        conv5=nn.Sequential(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), pooled()),
    )
    area = math.prod(_pooled_thrice((side - 11) // 4 + 1) for side in (height, width))
    dropped = [nn.Dropout(dropout)] if dropout else []
    layers["fc6"] = nn.Sequential(nn.Flatten(), nn.Linear(256 * area, 4096), nn.ReLU(), *dropped)
    layers["fc7"] = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(), *(nn.Dropout(layer.p) for layer in dropped))
    layers["fc8"] = nn.Linear(4096, num_classes)
    return nn.Sequential(layers)


def _pooled_thrice(side: int) -> int:
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side


def vgg(
    input_shape: Sequence[int], depth: int, num_classes: int, *, dropout: float = 0.0, width: int = 32
) -> nn.Sequential:
    """A network of VGG's form with batch norm, for small images: conv1 ... convN, then two fully connected layers.

    Stages of two 3x3 convolutions; each ends with pooling, and the next one has twice the channels, at most
    8 width. Depth 8 has three stages.

    Args:
        input_shape: shape of an image.
        depth: an even number of layers, at least 4.
        num_classes: number of logits.
        dropout: probability of dropping an output of the first fully connected layer.
        width: channels of the first stage.

    Raises:
        UsageError: another depth, a shape that is not that of an image, or an image too small for so many stages.

    Example:
        >>> [name for name, _ in vgg((1, 28, 28), 8, 10).named_children()]
        ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'conv6', 'fc7', 'fc8']

    References:
        Simonyan and Zisserman 2015 (arXiv 1409.1556); Ioffe and Szegedy 2015 (arXiv 1502.03167).
    """
    if depth < 4 or depth % 2:
        raise UsageError(f"vgg:{depth}: the depth should be even, two layers a stage and two more: 4, 6, 8, 10")
    channels, height, length = _image_shape(input_shape, f"vgg:{depth}")
    num_stages = (depth - 2) // 2
    if min(height, length) < 2**num_stages:
        raise UsageError(
            f"vgg:{depth} halves an image {num_stages} times, this one has {height} x {length} pixels: take fewer "
            "layers"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, depth - 1):
        out = width * min(8, 2 ** ((number - 1) // 2))
        steps = [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        layers[f"conv{number}"] = nn.Sequential(*steps, *([] if number % 2 else [nn.MaxPool2d(2)]))
        channels = out
    features, units = channels * (height >> num_stages) * (length >> num_stages), 8 * width
    hidden = [nn.Flatten(), nn.Linear(features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
    layers[f"fc{depth - 1}"] = nn.Sequential(*hidden, *([nn.Dropout(dropout)] if dropout else []))
    layers[f"fc{depth}"] = nn.Linear(units, num_classes)
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """y = relu(x + f(x)), where f is two 3x3 convolutions with batch norm; x is projected if the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            # For every second pixel: a strided 1x1 convolution of few channels may crash, see `channels_last_`.
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels_in, h, w) -> (batch, channels_out, h / stride, w / stride)."""
        sampled = inputs if self.stride == 1 else inputs[:, :, :: self.stride, :: self.stride]
        return nn.functional.relu(self.shortcut(sampled) + self.residual(inputs))


def residual(
    input_shape: Sequence[int], depth: int, num_classes: int, *, dropout: float = 0.0, width: int = 16
) -> nn.Sequential:
    """The residual network for small images: 6k + 2 layers, three stages of k blocks with 16, 32, 64 channels.

    References:
        He et al. 2016, "Deep residual learning for image recognition", section 4.2.

    Example:
        >>> [name for name, _ in residual((3, 32, 32), 8, 10).named_children()]
        ['stem', 'block1', 'block2', 'block3', 'head']
    """
    if depth < 8 or (depth - 2) % 6:
        raise UsageError(f"resnet:{depth}: the depth should be 6k + 2: 8, 14, 20, 32, 44, 56")
    channels, *_ = _image_shape(input_shape, f"resnet:{depth}")
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    blocks, channels = (depth - 2) // 6, width
    for index in range(3 * blocks):
        out = width * 2 ** (index // blocks)
        layers[f"block{index + 1}"] = ResidualBlock(channels, out, stride=1 if out == channels else 2)
        channels = out
    head: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if dropout:
        head.append(nn.Dropout(dropout))
    layers["head"] = nn.Sequential(*head, nn.Linear(channels, num_classes))
    return nn.Sequential(layers)


class MixtureOfExperts(nn.Module):
    """Logits log p, with p = sum_k g_k p_k: experts p_k and gate g see the same example and are trained together.

    Args:
        experts: networks that return logits of all classes.
        gate: a network that returns one logit for each expert.

    Example:
        >>> mixture = MixtureOfExperts([nn.Linear(4, 3), nn.Linear(4, 3)], nn.Linear(4, 2))
        >>> torch.allclose(mixture(torch.randn(5, 4)).exp().sum(1), torch.ones(5))
        True

    References:
        Jacobs, Jordan, Nowlan and Hinton 1991; Hinton, Vinyals and Dean 2015, section 6.1, argues against it.
    """

    def __init__(self, experts: Sequence[nn.Module], gate: nn.Module) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gate = gate

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """(batch, ...), as experts and gate take it -> (batch, classes)."""
        log_gate = torch.log_softmax(self.gate(*inputs, **named).float(), 1)
        logits = torch.stack(
            [torch.log_softmax(expert(*inputs, **named).float(), 1) for expert in self.experts], 1
        )
        return torch.logsumexp(log_gate[:, :, None] + logits, 1)


def _image_shape(input_shape: Sequence[int], name: str) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise UsageError(
            f"{name} needs images (channels, height, width); the examples have shape {tuple(input_shape)}"
        )
    return int(input_shape[0]), int(input_shape[1]), int(input_shape[2])
