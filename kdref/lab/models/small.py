"""Small architectures in a few named sizes, in plain PyTorch.

Every model is a ``nn.Sequential`` of named children: ``features`` (layers such as ``conv1``, ``norm1``, ``relu1``) and
``classifier``. So a layer is reached as ``model.features.relu2``, and torchvision's
``create_feature_extractor(model, ["features.relu2"])`` taps it. Lesson: notebooks/01_soft_targets.ipynb.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["NAMES", "cnn1d", "cnn2d", "count_parameters", "make", "mlp", "table"]

NAMES = ("mlp-32", "mlp-100x100", "cnn1d-4", "cnn1d-16", "cnn1d-32", "cnn2d-8", "cnn2d-16")
DEFAULT_SHAPES = {"mlp": (1, 40), "cnn1d": (1, 40), "cnn2d": (1, 8, 8)}  # mnist1d, mnist1d, digits


def mlp(num_inputs: int, num_classes: int, *, hidden: Sequence[int] = (100, 100)) -> nn.Sequential:
    """Multi-layer perceptron: flatten, then a linear layer and a ReLU per hidden width, then the classifier.

    Args:
        num_inputs: Values per example, once flattened.
        num_classes: Logits per example.
        hidden: Widths of the hidden layers; none gives a linear classifier.

    Returns:
        A model from ``(B, ...)`` to ``(B, C)``.

    Example:
        >>> mlp(40, 10, hidden=(32,)).features.fc1
        Linear(in_features=40, out_features=32, bias=True)
    """
    widths = [num_inputs, *hidden]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, len(widths)):
        layers[f"fc{number}"] = nn.Linear(widths[number - 1], widths[number])
        layers[f"relu{number}"] = nn.ReLU()
    children: dict[str, nn.Module] = {"flatten": nn.Flatten(), "features": nn.Sequential(layers)}
    return nn.Sequential(OrderedDict(children, classifier=nn.Linear(widths[-1], num_classes)))


def cnn1d(num_classes: int, *, channels: int = 25, in_channels: int = 1, batch_norm: bool = True) -> nn.Sequential:
    """Three strided convolutions over a signal, the mean over time, a classifier.

    The kernels (5, 3, 3), strides (2, 2, 2) and 25 channels are those of the MNIST-1D paper
    (https://arxiv.org/abs/2011.14439); batch normalisation and the mean over time are ours, so that any length fits.

    Args:
        num_classes: Logits per example.
        channels: Width of every convolution.
        in_channels: Channels of the signal.
        batch_norm: Normalise after each convolution. Without it the same recipe is about 8 points worse on mnist1d.

    Returns:
        A model from ``(B, in_channels, L)`` to ``(B, C)``.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, kernel in enumerate((5, 3, 3), start=1):
        fan_in = in_channels if number == 1 else channels
        layers[f"conv{number}"] = nn.Conv1d(fan_in, channels, kernel, stride=2, padding=1, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm1d(channels)
        layers[f"relu{number}"] = nn.ReLU()
    return _classify(layers, nn.AdaptiveAvgPool1d(1), channels, num_classes)


def cnn2d(num_classes: int, *, channels: int = 16, in_channels: int = 1, batch_norm: bool = True) -> nn.Sequential:
    """Three 3 × 3 convolutions over an image, the last two strided, the mean over the map, a classifier.

    Args:
        num_classes: Logits per example.
        channels: Width of every convolution.
        in_channels: Channels of the image.
        batch_norm: Normalise after each convolution.

    Returns:
        A model from ``(B, in_channels, H, W)`` to ``(B, C)``; the maps are of size H × W, then a half, a quarter.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, stride in enumerate((1, 2, 2), start=1):
        fan_in = in_channels if number == 1 else channels
        layers[f"conv{number}"] = nn.Conv2d(fan_in, channels, 3, stride=stride, padding=1, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(channels)
        layers[f"relu{number}"] = nn.ReLU()
    return _classify(layers, nn.AdaptiveAvgPool2d(1), channels, num_classes)


def make(
    name: str, *, num_classes: int = 10, shape: Sequence[int] | None = None, seed: int | None = None
) -> nn.Sequential:
    """Build a model by its name: a family and its width, as in ``NAMES`` ("mlp-100x100": two hidden layers of 100).

    Other widths of the three families work too ("cnn1d-25").

    Args:
        name: Family and width.
        num_classes: Logits per example.
        shape: Shape of one input, channels first. By default mnist1d's (1, 40), or digits' (1, 8, 8) for "cnn2d".
        seed: Draws the weights, leaving torch's global generator as it was. None draws from the global generator.

    Returns:
        The model, in train mode.

    Raises:
        ValueError: If the name means nothing.

    Example:
        >>> model = make("mlp-32", shape=(1, 8, 8), seed=0)
        >>> count_parameters(model)  # 64 * 32 + 32 + 32 * 10 + 10
        2410
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed a GPU as well
            return make(name, num_classes=num_classes, shape=shape)
    family, _, size = name.partition("-")
    widths = size.split("x")
    if family not in DEFAULT_SHAPES or not all(width.isdecimal() for width in widths) or int(min(widths)) < 1:
        raise ValueError(f"no model is named {name!r}: choose one of {', '.join(NAMES)}, or another width of these")
    shape = DEFAULT_SHAPES[family] if shape is None else tuple(shape)
    if family == "mlp":
        return mlp(math.prod(shape), num_classes, hidden=[int(width) for width in widths])
    if len(widths) > 1:
        raise ValueError(f"{family} has one width, as in '{family}-16', got {name!r}")
    build = cnn1d if family == "cnn1d" else cnn2d
    return build(num_classes, channels=int(size), in_channels=shape[0])


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values; buffers such as BatchNorm's running statistics do not count."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def table() -> list[tuple[str, int]]:
    """Name and number of parameters of each model in ``NAMES``, for ten classes and its default shape."""
    return [(name, count_parameters(make(name))) for name in NAMES]


def _classify(layers: "OrderedDict[str, nn.Module]", pool: nn.Module, channels: int, num_classes: int) -> nn.Sequential:
    children: dict[str, nn.Module] = {"features": nn.Sequential(layers), "pool": pool, "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(children, classifier=nn.Linear(channels, num_classes)))
