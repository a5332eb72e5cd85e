"""The networks of the field's CIFAR-100 tables, written out: ResNets four times as wide, VGG-13, half a MobileNetV2.

Layer for layer those of RepDistiller and mdistiller, so that results can stand beside the published table; a test
compares the numbers of parameters. Each gives ``Seen``: what losses look at, and the logits.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Seen(NamedTuple):
    """What a forward pass shows."""

    maps: list[Tensor]  # (B, C_i, H_i, W_i), three of them, after their ReLU, early to late
    before: Tensor  # the last of them before its ReLU
    pooled: Tensor  # (B, D), what the classifier sees
    logits: Tensor  # (B, 100)


class Network(nn.Module):
    """Stages, of which some are shown, a mean over places, and a linear layer.

    Args:
        stages: In order; each ends before its last ReLU, which is applied here.
        shown: Numbers of the stages whose maps losses may look at, three of them.
        width: Channels of the last stage.
        linear: Numbers of the stages after which there is no ReLU.
        classes: Of the classifier.
    """

    def __init__(
        self, stages: list[nn.Module], shown: list[int], width: int, *, linear: tuple[int, ...] = (), classes: int = 100
    ) -> None:
        super().__init__()
        self.stages, self.shown, self.linear = nn.ModuleList(stages), shown, linear
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Seen:
        maps, befores = [], []
        for number, stage in enumerate(self.stages):
            before = stage(x)
            x = before if number in self.linear else F.relu(before)
            if number in self.shown:
                maps.append(x)
                befores.append(before)
        pooled = x.mean(dim=(2, 3))
        return Seen(maps, befores[-1], pooled, self.classifier(pooled))


def conv(inputs: int, outputs: int, size: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias, and BatchNorm."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions beside a shortcut, without the ReLU after their sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(inputs, outputs, stride=stride), conv(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x))) + self.shortcut(x)


def resnet(depth: int) -> Network:
    """resnet32x4 and resnet8x4: three stages of (depth - 2) / 6 blocks, of 64, 128 and 256 channels."""
    blocks, stages, inputs = (depth - 2) // 6, [conv(3, 32)], 32
    for outputs, stride in ((64, 1), (128, 2), (256, 2)):
        stages += [Block(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1) for i in range(blocks)]
        inputs = outputs
    return Network(stages, [blocks, 2 * blocks, 3 * blocks], 256)


def vgg13() -> Network:
    """Five pairs of convolutions; its pooling after the first three leaves 4 × 4 places."""
    stages: list[nn.Module] = []
    inputs = 3
    for number, outputs in enumerate((64, 128, 256, 512, 512)):
        for i in range(2):
            layer = nn.Conv2d(inputs, outputs, 3, padding=1)
            pool = [nn.MaxPool2d(2)] if i == 0 and 0 < number < 4 else []
            stages.append(nn.Sequential(*pool, layer, nn.BatchNorm2d(outputs)))
            inputs = outputs
    return Network(stages, [3, 5, 9], 512)


class Inverted(nn.Module):
    """MobileNetV2's block: widen, one filter for each channel, narrow without a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        inside, self.same = inputs * widen, stride == 1 and inputs == outputs
        self.widen, self.filter = conv(inputs, inside, 1), conv(inside, inside, stride=stride, groups=inside)
        self.narrow = conv(inside, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.narrow(F.relu(self.filter(F.relu(self.widen(x)))))
        return found + x if self.same else found


def mobilenet_v2() -> Network:
    """MobileNetV2 with half the channels, 0.81 million parameters."""
    settings = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    stages: list[nn.Module] = [conv(3, 16, stride=2)]
    inputs, shown = 16, []
    for widen, channels, count, stride in settings:
        for i in range(count):
            stages.append(Inverted(inputs, channels // 2, stride if i == 0 else 1, widen))
            inputs = channels // 2
        shown.append(len(stages) - 1)
    blocks = tuple(range(1, len(stages)))
    stages.append(conv(inputs, 1280, 1))
    return Network(stages, [shown[1], shown[2], shown[4]], 1280, linear=blocks)  # of VGG's sizes: 16, 8 and 4


NETWORKS = {
    "resnet32x4": lambda: resnet(32),
    "resnet8x4": lambda: resnet(8),
    "vgg13": vgg13,
    "MobileNetV2": mobilenet_v2,
}


def make(name: str, seed: int) -> Network:
    """One of ``NETWORKS`` with first weights of this seed."""
    torch.manual_seed(seed)
    return NETWORKS[name]()
