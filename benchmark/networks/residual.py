"""Residual networks for 32x32 images. Each function gives the three parts of a Classifier: stem, trunk and head.

Stages are named layer1, layer2, ... and the norms of a block bn1, bn2, as in torchvision and timm.
"""

import math
from collections import OrderedDict
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

Parts: TypeAlias = tuple[nn.Conv2d, nn.Sequential, nn.Linear]


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class PreActBlock(nn.Module):
    """Pre-activation block (He et al., ECCV 2016). Where the width changes, a 1x1 shortcut reads the activation."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.shortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        skip: Tensor = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return skip + out


class BasicBlock(nn.Module):
    """Basic block (He et al., CVPR 2016). Where the shape changes, the shortcut is a 1x1 convolution and a norm."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        skip: Tensor = x if self.shortcut is None else self.shortcut(x)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(out + skip, inplace=True)


def _stages(block: type[PreActBlock] | type[BasicBlock], widths: list[int], depth: int) -> list[tuple[str, nn.Module]]:
    """Stages of `depth` blocks from widths[0] up; every stage after the first halves the image."""
    stages: list[tuple[str, nn.Module]] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        first = block(inputs, outputs, 1 if i == 0 else 2)
        stages.append((f"layer{i + 1}", nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range(depth - 1)))))
    return stages


def wide_resnet(num_classes: int, depth: int, widen: int) -> Parts:
    """WRN-depth-widen (Zagoruyko and Komodakis, BMVC 2016) without dropout: three stages of (depth - 4)/6 blocks.

    Convolutions are drawn from N(0, 2/(k^2 * outputs)), the head's bias is zero. WRN-40-2 has 2,243,546 parameters for
    ten classes, WRN-16-4 2,748,890.
    """
    widths = [16, 16 * widen, 32 * widen, 64 * widen]
    tail = [("bn", nn.BatchNorm2d(widths[-1])), ("relu", nn.ReLU()), ("pool", nn.AdaptiveAvgPool2d(1))]
    stages = _stages(PreActBlock, widths, (depth - 4) // 6)
    stem, head = conv(3, widths[0], 3), nn.Linear(widths[-1], num_classes)
    trunk = nn.Sequential(OrderedDict([*stages, *tail, ("flatten", nn.Flatten())]))
    for layer in [stem, *(module for module in trunk.modules() if isinstance(module, nn.Conv2d))]:
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels)))
    nn.init.zeros_(head.bias)
    return stem, trunk, head


def resnet18(num_classes: int) -> Parts:
    """ResNet-18 with the CIFAR stem (3x3, stride 1, no pooling) and torch's default initialisation; 11,173,962
    parameters for ten classes."""
    widths = [64, 64, 128, 256, 512]
    begin = [("bn1", nn.BatchNorm2d(64)), ("relu", nn.ReLU())]
    end = [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    trunk = nn.Sequential(OrderedDict([*begin, *_stages(BasicBlock, widths, 2), *end]))
    return conv(3, widths[0], 3), trunk, nn.Linear(widths[-1], num_classes)
