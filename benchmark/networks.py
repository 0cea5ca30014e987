"""Networks. Each takes float32 x [B,3,H,W] in [0,1] and normalises it itself, so that attacks and the sensitivity map
work in pixel space and no method can disagree about mean and standard deviation."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.errors import UsageError, did_you_mean


class Classifier(nn.Module):
    """A network in three parts: `stem` (its first, linear, layer), `trunk` (to penultimate features) and `head`.

    The cut after the stem serves the sensitivity map: stem(x + p) = stem(x) + stem(p) - stem(0).
    mean, std: per channel, in units of 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, stem: nn.Module, trunk: nn.Module, head: nn.Linear, mean: float, std: float):
        super().__init__()
        self.stem, self.trunk, self.head = stem, trunk, head
        self.register_buffer("mean", torch.full((3, 1, 1), mean), persistent=False)
        self.register_buffer("std", torch.full((3, 1, 1), std), persistent=False)

    def embed(self, x: Tensor) -> Tensor:
        """Output of the first layer, for x in [0,1]."""
        out: Tensor = self.stem((x - self.mean) / self.std)
        return out

    def forward(self, x: Tensor, features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [B,K]; with `features`, (logits, penultimate features [B,D])."""
        z = self.trunk(self.embed(x))
        return (self.head(z), z) if features else self.head(z)


def convnet(num_classes: int, widths: tuple[int, int] = (64, 128), hidden: int = 1024) -> Classifier:
    """The digits ConvNet of GUD, M-ADA, RandConv and SADA for 32x32 inputs: two valid 5x5 convolutions, each followed
    by ReLU and 2x2 max pooling, and two hidden layers; 4,547,466 parameters for ten classes. Torch's default
    initialisation.
    """
    first, second = widths
    trunk = nn.Sequential(
        nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(second * 25, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(),
    )  # fmt: skip
    return Classifier(nn.Conv2d(3, first, 5), trunk, nn.Linear(hidden, num_classes), mean=0.5, std=0.5)


NETWORKS: dict[str, Callable[[int], Classifier]] = {
    "digits_convnet": convnet,
    "mini_convnet": partial(convnet, widths=(16, 32), hidden=128),
}


def build(name: str, num_classes: int, seed: int) -> Classifier:
    """The named network with weights drawn from `seed` alone; the global generator is left as it was.

    Raises UsageError for an unknown name.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network '{name}': {did_you_mean(name, NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](num_classes)
