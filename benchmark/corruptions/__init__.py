"""The corruptions of ImageNet-C and CIFAR-10-C, batched, for images of any height and width.

Fifteen corruptions in four groups, and four extra ones that no mean includes (Hendrycks and Dietterich, ICLR 2019), at
five severities. The seed, the image's number, the corruption and the severity decide what is random about an image;
nothing else does. docs/corruptions.md says how each differs from the released generators.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.corruptions import blurs, digital, jpeg, noise, spatter, weather
from benchmark.corruptions.counter_rng import Stream, stream
from benchmark.corruptions.noise import Draws
from benchmark.corruptions.severities import COMMON, EXTRA, GROUPS, SEVERITIES, Constants, constants

__all__ = ["COMMON", "CORRUPTIONS", "EXTRA", "GROUPS", "SEVERITIES", "apply", "corrupt", "sample"]

CHUNK = 2**19
"""Pixels that are worked on at a time; it bounds memory and changes no result."""


def _nothing(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    return {}


@dataclass(frozen=True)
class Corruption:
    """apply: from images float64 [B,3,H,W] in [0,1], constants and draws to images, which may leave [0,1]; pure.
    draw: all that is random, each value with the batch in front."""

    apply: Callable[[Tensor, Constants, Draws], Tensor]
    draw: Callable[[Stream, int, int, Constants], Draws] = _nothing


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise, noise.normal_draws),
    "shot_noise": Corruption(noise.shot_noise, noise.shot_draws),
    "impulse_noise": Corruption(noise.impulse_noise, noise.impulse_draws),
    "defocus_blur": Corruption(blurs.defocus_blur),
    "glass_blur": Corruption(blurs.glass_blur, blurs.glass_draws),
    "motion_blur": Corruption(blurs.motion_blur, blurs.motion_draws),
    "zoom_blur": Corruption(blurs.zoom_blur),
    "snow": Corruption(weather.snow, weather.snow_draws),
    "frost": Corruption(weather.frost, weather.frost_draws),
    "fog": Corruption(weather.fog, weather.fog_draws),
    "brightness": Corruption(weather.brightness),
    "contrast": Corruption(digital.contrast),
    "elastic_transform": Corruption(digital.elastic_transform, digital.elastic_draws),
    "pixelate": Corruption(digital.pixelate),
    "jpeg_compression": Corruption(jpeg.jpeg_compression),
    "speckle_noise": Corruption(noise.speckle_noise, noise.normal_draws),
    "gaussian_blur": Corruption(blurs.gaussian_blur),
    "spatter": Corruption(spatter.spatter, spatter.spatter_draws),
    "saturate": Corruption(digital.saturate),
}


def corrupt(x: Tensor, name: str, severity: int, ids: Tensor, seed: int = 0) -> Tensor:
    """Corrupted images, uint8 [B,3,H,W], on the device of x.

    x: uint8 [B,3,H,W]. name: one of CORRUPTIONS. severity: 1 to 5. ids: each image's number, int64 [B]. Raises
    UsageError for an unknown name or severity, ValueError for images or numbers of another type or shape.
    """
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape[2:]:
        raise ValueError(f"images must be uint8 [B,3,H,W], not {x.dtype} {list(x.shape)}")
    if ids.dtype != torch.int64 or ids.shape != x.shape[:1]:
        raise ValueError(f"ids must be int64 [{len(x)}], not {ids.dtype} {list(ids.shape)}")
    _check(name, severity)
    height, width = x.shape[2:]
    out, some = torch.empty_like(x), max(CHUNK // (height * width), 1)
    for start in range(0, len(x), some):
        part = slice(start, start + some)
        draws = sample(name, severity, ids[part].to(x.device), height, width, seed)
        out[part] = apply(x[part], name, severity, draws)
    return out


def sample(name: str, severity: int, ids: Tensor, height: int, width: int, seed: int = 0) -> Draws:
    """All that is random, by name, on the device of `ids`."""
    return CORRUPTIONS[name].draw(
        stream(seed, name, severity, ids), height, width, constants(name, severity, height, width)
    )


@torch.no_grad()
def apply(x: Tensor, name: str, severity: int, draws: Draws) -> Tensor:
    """The corruption with these draws; pure. x: uint8 [B,3,H,W]; returns the same.

    Values are cut, not rounded, to bytes, as the released generators do; 2^-10 of a level is added first, so that a
    whole number stays what it is.
    """
    c = constants(name, severity, x.shape[2], x.shape[3])
    found = CORRUPTIONS[name].apply(x.double() / 255, c, draws)
    return (found * 255 + 2**-10).clamp(0, 255).to(torch.uint8)


def _check(name: str, severity: int) -> None:
    if name not in CORRUPTIONS:
        raise UsageError(f"unknown corruption '{name}': {did_you_mean(name, CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity} of {name}: allowed are 1 to 5")
