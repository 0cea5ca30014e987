"""What a recipe does to every training batch before any method sees it. `plain` does nothing."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.rng import Rng
from benchmark.core.timing import span
from benchmark.ops.crops import crop_flip, pad_crop_flip, sample_crop_flip, sample_pad_crop_flip

JITTER = 0.5
"""Brightness and contrast factors are U[1 - JITTER, 1 + JITTER)."""
LOG_PROBABILITY = 0.6
"""SADA's `identity_prob=0.6` is read the other way round by its code: the filter is applied with this probability."""


@dataclass(frozen=True)
class JitterLogDraws:
    """What is random in SADA's loader, for a batch of B images."""

    brightness: Tensor
    """Factor, float32 [B]."""
    contrast: Tensor
    """Factor, float32 [B]."""
    contrast_first: Tensor
    """Order of the two, bool [B]."""
    filtered: Tensor
    """Whether the filter is applied, bool [B]."""


def sample_jitter_log(batch: int, generator: torch.Generator) -> JitterLogDraws:
    """Draws on the generator's device."""
    u = torch.rand(4, batch, generator=generator, device=generator.device)
    factors = 1 - JITTER + 2 * JITTER * u[:2]
    return JitterLogDraws(factors[0], factors[1], u[2] < 0.5, u[3] < LOG_PROBABILITY)


@span("augment")
def jitter_log(x: Tensor, draws: JitterLogDraws) -> Tensor:
    """SADA's released digits loader after its resize: colour jitter on grey bytes, then a Laplacian-of-Gaussian filter.

    x: grey images as float32 [B,3,H,W] in [0,1], three equal channels. Returns the same, cut to bytes as Pillow does.
    Saturation and hue of the released jitter do nothing to grey images, so only their place in the order is left.
    """
    grey = (x[:, :1] * 255 + 0.5).floor()
    first, second = _contrast(grey, draws.contrast), _brightness(grey, draws.brightness)
    first, second = _brightness(first, draws.brightness), _contrast(second, draws.contrast)
    jittered = torch.where(draws.contrast_first[:, None, None, None], first, second) / 255
    filtered = torch.where(draws.filtered[:, None, None, None], laplacian_of_gaussian(jittered), jittered)
    return (filtered.clamp(0, 1) * 255).floor().div(255).expand_as(x)


def laplacian_of_gaussian(x: Tensor) -> Tensor:
    """The released filter: 3x3, sigma 1, zero padding, then each image standardised and clamped to [0,1].

    It is standardised as the released code does it: by the unbiased deviation over all values of its three equal
    channels, so the divisor is 3HW - 1 and not HW - 1.

    k(u,v) = (u^2 + v^2 - 2) exp(-(u^2 + v^2) / 2) / (2 pi): all its weights are zero or negative, so it is a blur with
    its sign turned, not a band-pass, and inverts a digit. x: float [B,1,H,W]; a black image stays 0.
    """
    u, v = torch.meshgrid(*[torch.arange(-1, 2, device=x.device)] * 2, indexing="ij")
    square = (u**2 + v**2).to(x.dtype)
    kernel = (square - 2) * torch.exp(-square / 2) / (2 * math.pi)
    found = F.conv2d(x, kernel[None, None], padding=1)
    mean = found.mean((1, 2, 3), keepdim=True)
    std = found.expand(-1, 3, -1, -1).std((1, 2, 3), keepdim=True)
    return ((found - mean) / std.clamp(min=1e-12)).clamp(0, 1)


def _brightness(grey: Tensor, factor: Tensor) -> Tensor:
    """Pillow's enhancement of bytes: float32, cut, not rounded."""
    return (grey * factor[:, None, None, None]).clamp(0, 255).floor()


def _contrast(grey: Tensor, factor: Tensor) -> Tensor:
    mean = (grey.mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return (mean + factor[:, None, None, None] * (grey - mean)).clamp(0, 255).floor()


def transform_batch(x: Tensor, loader: str, rng: Rng) -> Tensor:
    """A batch as the recipe's loader gives it: x [B,3,H,W], float32 in [0,1], transformed; as it is for `plain`."""
    if loader == "crop_flip":
        return crop_flip(x, rng.draw("loader", sample_crop_flip, len(x), x.shape[2], x.shape[3]))
    if loader == "pad_crop_flip":
        return pad_crop_flip(x, rng.draw("loader", sample_pad_crop_flip, len(x)))
    if loader == "jitter_log":
        return jitter_log(x, rng.draw("loader", sample_jitter_log, len(x)))
    return x
