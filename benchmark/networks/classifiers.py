"""The networks. Each takes float32 x [B,3,H,W] in [0,1] and normalises it itself.

So attacks and the sensitivity map work in pixel space, and no two methods can differ in mean and standard deviation.
"""

import difflib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.recipe import Precision
from benchmark.networks.residual import Parts, resnet18, wide_resnet
from benchmark.networks.stem import Stem

Channels = float | tuple[float, float, float]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel, in units of 1."""


class Classifier(nn.Module):
    """A network in three parts: `stem` (its first, linear, layer), `trunk` (to penultimate features) and `head`.

    The cut after the stem serves the sensitivity map: stem(x + p) = stem(x) + stem(p) - stem(0).
    mean, std: one for all channels or one for each, in units of 1.
    """

    mean: Tensor
    std: Tensor
    precision: Precision = "fp32"
    """What `forward` computes in; the parts called by themselves know of none."""
    rows_on_gpu: bool = False
    """Whether a GPU is faster with a channel's rows side by side than with channels last; see `layout`."""

    def __init__(self, stem: nn.Module, trunk: nn.Module, head: nn.Linear, mean: Channels, std: Channels):
        super().__init__()
        self.stem, self.trunk, self.head = stem, trunk, head
        self.register_buffer("mean", torch.tensor(mean).expand(3).reshape(3, 1, 1).clone(), persistent=False)
        self.register_buffer("std", torch.tensor(std).expand(3).reshape(3, 1, 1).clone(), persistent=False)

    def embed(self, x: Tensor) -> Tensor:
        """Output of the first layer, for x in [0,1]."""
        out: Tensor = self.stem((x - self.mean) / self.std)
        return out

    def forward(self, x: Tensor, features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [B,K]; with `features`, (logits, penultimate features [B,D]). float32 in any precision."""
        if self.precision == "bf16" and not torch.is_inference_mode_enabled():
            with torch.autocast(x.device.type, torch.bfloat16):
                z = self.trunk(self.embed(x))
                logits = self.head(z).float()
            return (logits, z.float()) if features else logits
        z = self.trunk(self.embed(x))
        return (self.head(z), z) if features else self.head(z)


def convnet(num_classes: int, *, normalised: bool = True, glorot: bool = False) -> Classifier:
    """The digits ConvNet of GUD, M-ADA, RandConv and SADA for 32x32 inputs: two valid 5x5 convolutions, each followed
    by ReLU and 2x2 max pooling, and two hidden layers; 4,547,466 parameters for ten classes.

    normalised: inputs scaled to [-1,1] (RandConv, and the common protocol) or left in [0,1] (GUD, M-ADA, SADA). glorot:
    Glorot-uniform weights and zero biases, TensorFlow's default (GUD); otherwise torch's.
    """
    trunk = nn.Sequential(  # pooling before ReLU gives the same numbers and gradients from a quarter of the elements
        nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(64, 128, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(3200, 1024), nn.ReLU(),
        nn.Linear(1024, 1024), nn.ReLU(),
    )  # fmt: skip
    mean, std = (0.5, 0.5) if normalised else (0.0, 1.0)
    net = Classifier(Stem(3, 64, 5), trunk, nn.Linear(1024, num_classes), mean, std)
    net.rows_on_gpu = True
    if glorot:
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
    return net


def mini_convnet(num_classes: int) -> Classifier:
    """A network for 32x32 inputs that trains in seconds on a CPU: two strided convolutions and one hidden layer."""
    trunk = nn.Sequential(
        nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 64), nn.ReLU()
    )
    return Classifier(nn.Conv2d(3, 16, 5, stride=2), trunk, nn.Linear(64, num_classes), mean=0.5, std=0.5)


def residual(num_classes: int, make: Callable[..., Parts], *, normalised: bool = True, **shape: int) -> Classifier:
    """A residual network of residual.py, on inputs scaled to [-1,1] or left in [0,1]."""
    mean, std = (0.5, 0.5) if normalised else (0.0, 1.0)
    return Classifier(*make(num_classes, **shape), mean=mean, std=std)


NETWORKS: dict[str, Callable[[int], Classifier]] = {
    "digits_convnet": convnet,
    "digits_convnet_01": partial(convnet, normalised=False),
    "digits_convnet_tf": partial(convnet, normalised=False, glorot=True),
    "mini_convnet": mini_convnet,
    "wrn_40_2": partial(residual, make=wide_resnet, depth=40, widen=2),
    "wrn_40_2_01": partial(residual, make=wide_resnet, normalised=False, depth=40, widen=2),
    "wrn_16_4": partial(residual, make=wide_resnet, depth=16, widen=4),
    "resnet18_cifar": partial(residual, make=resnet18),
}


def layout(net: nn.Module) -> torch.memory_format:
    """How images and weights of `net` lie in memory where it is: channels last, a third faster on a CPU, and twice as
    fast for residual networks on a GPU; there they would cost the digits ConvNet a copy of every image and back."""
    rows = getattr(net, "rows_on_gpu", False) and on_gpu(next(net.parameters()))
    return torch.contiguous_format if rows else torch.channels_last


def timm_config(name: str) -> Any:
    """timm's configuration of the weights timm:NAME.TAG, or of NAME's default ones: tag, mean, std, hf_hub_id, ...

    Raises UsageError for an unknown name or tag.
    """
    import timm  # noqa: PLC0415 - it takes seconds, and most runs need none of it

    name = name.removeprefix("timm:")
    architecture, _, tag = name.partition(".")
    known = timm.list_pretrained(f"{architecture}.*") if tag and timm.is_model(architecture) else timm.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = did_you_mean(name, close) if close else "timm.list_models() lists them"
        raise UsageError(f"unknown timm network '{name}': {hint}")
    return timm.get_pretrained_cfg(name)


def timm_network(name: str, num_classes: int, weights: str) -> Classifier:
    """A network of timm under a head of our own, with timm's own initialisation.

    It normalises as `weights` were trained (Recipe.weights; of a local file: as the network's default ones), and by
    ImageNet's mean and standard deviation where they are to be scratch. There is no cut for the sensitivity map: the
    stem is the identity. Raises UsageError for an unknown name or tag.
    """
    import timm  # noqa: PLC0415 - as above

    config = timm_config(weights if weights.startswith("timm:") else name)
    mean, std = IMAGENET if weights == "scratch" else (tuple(config.mean), tuple(config.std))
    trunk: Any = timm.create_model(name, pretrained=False, num_classes=0)
    return Classifier(nn.Identity(), trunk, nn.Linear(trunk.head_hidden_size, num_classes), mean, std)


def check(name: str) -> None:
    """Raises UsageError where there is no such network; whether timm has one of that name shows when it is built."""
    if name not in NETWORKS and not name.startswith("timm:"):
        raise UsageError(f"unknown network '{name}': {did_you_mean(name, [*NETWORKS, 'timm:NAME'])}")


def build(name: str, num_classes: int, seed: int, weights: str = "scratch") -> Classifier:
    """The named network, or timm:NAME, with weights drawn from `seed` alone; the CPU's global generator is left as it
    was.

    weights: those that load_weights will put into it, which decide how a timm network normalises. Raises UsageError
    for an unknown name.
    """
    check(name)
    library, _, inner = name.rpartition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm_network(inner, num_classes, weights) if library else NETWORKS[name](num_classes)


def by_size(height: int, width: int) -> str:
    """The network for images of this size where a protocol names none: the digits ConvNet for 32x32, ResNet-18 from 64
    pixels on, and ResNet-18 with CIFAR's stem for all others."""
    if (height, width) == (32, 32):
        return "digits_convnet"
    return "timm:resnet18" if min(height, width) >= 64 else "resnet18_cifar"


@cache
def check_size(name: str, height: int, width: int, batch_size: int = 2) -> None:
    """Raises UsageError where a network does not take images of this size or does not train on batches of `batch_size`
    of them, or is unknown; nothing is computed."""
    with torch.device("meta"):
        net = build(name, 2, 0).eval()
        try:
            net(torch.empty(1, 3, height, width))
        except Exception as problem:  # layers raise what they like for a wrong size
            fit = by_size(height, width)
            raise UsageError(
                f"network '{name}' does not take images of {height}x{width} ({' '.join(str(problem).split())}); "
                f"one that does: {fit}"
            ) from problem
        try:
            net.train()(torch.empty(min(batch_size, 2), 3, height, width))
        except Exception as problem:  # BatchNorm has no variance of one value
            raise UsageError(
                f"network '{name}' does not train on batches of {batch_size} images of {height}x{width} "
                f"({' '.join(str(problem).split())}); give a larger --batch-size, larger images or another --network"
            ) from problem
