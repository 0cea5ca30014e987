"""What the tests of SADA share: images, networks and draws of an attack."""

import importlib
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.ops.attacks.spectrum import (
    AmplitudeAttack,
    Draws,
    Trace,
    attack_spectrum,
    decompose,
    recon,
    sample_draws,
)
from tests.conftest import Golden

sada = importlib.import_module("benchmark.methods.sada")
DTYPES = [torch.float32, torch.float64]
PLAIN = {"random_init": False, "brightness": "off"}
"""No random number: five steps of ascent, and nothing else."""
NONE = Draws(None, None)


def make(**options: Any) -> AmplitudeAttack:
    made: AmplitudeAttack = cast("Any", AmplitudeAttack)(**options)
    return made


def unit_images(arrays: Golden, name: str) -> Tensor:
    return torch.from_numpy((arrays[name].astype(np.float64) / 65535).astype(np.float32))


# Dense float64 images: with black backgrounds signs of gradients are round-off.


def dense(batch: int, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.8 * torch.rand(batch, 3, size, size, generator=generator, dtype=torch.float64)


def labels(net: nn.Module, x: Tensor, wrong: tuple[int, ...] = ()) -> Tensor:
    """What the network says of the first image that the attack shows it (no random start), or something else."""
    y: Tensor = net(recon(*decompose(x))).argmax(dim=1)
    y[list(wrong)] = (y[list(wrong)] + 1) % 10
    return y


def draws_for(x: Tensor, config: AmplitudeAttack, seed: int = 1) -> Draws:
    return sample_draws(x.shape, torch.Generator().manual_seed(seed), config)


def ascend(net: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None = None, **options: Any) -> tuple[Tensor, Trace]:
    trace: Trace = {}
    return attack_spectrum(net, x, y, NONE, make(**PLAIN | options), weight=weight, trace=trace), trace


def log_ratio(trace: Trace) -> Tensor:
    return (trace["amplitude"][-1] / trace["amplitude"][0]).log()


def batch_norm_net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 784, 10)
        return nn.Sequential(*parts).double()


def brightness_detector() -> nn.Module:
    """Two classes: 1 where an image's mean exceeds a half, and a little noise in its weights."""
    linear = nn.Linear(3 * 32 * 32, 2).double()
    noise = torch.randn(3 * 32 * 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([0 * noise, 1 / (3 * 32 * 32) + 1e-4 * noise]))
        linear.bias.copy_(torch.tensor([0.0, -0.5]))
    return nn.Sequential(nn.Flatten(), linear)
