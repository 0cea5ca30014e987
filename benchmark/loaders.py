"""What a recipe does to every training batch before any method sees it. The common protocol does nothing."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.rng import Rng
from benchmark.timing import span

JITTER = 0.5
"""Brightness and contrast factors are U[1 - JITTER, 1 + JITTER)."""
CROP_AREA = 0.5
"""Least share of an image that crop_flip keeps."""
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
    """The released filter: 3x3, sigma 1, zero padding, then each image standardised (unbiased) and clamped to [0,1].

    k(u,v) = (u^2 + v^2 - 2) exp(-(u^2 + v^2) / 2) / (2 pi): all its weights are zero or negative, so it is a blur with
    its sign turned, not a band-pass, and inverts a digit. x: float [B,1,H,W]; a constant image becomes 0.
    """
    u, v = torch.meshgrid(*[torch.arange(-1, 2, device=x.device)] * 2, indexing="ij")
    square = (u**2 + v**2).to(x.dtype)
    kernel = (square - 2) * torch.exp(-square / 2) / (2 * math.pi)
    found = F.conv2d(x, kernel[None, None], padding=1)
    mean, std = found.mean((1, 2, 3), keepdim=True), found.std((1, 2, 3), keepdim=True)
    return ((found - mean) / std.clamp(min=1e-12)).clamp(0, 1)


def _brightness(grey: Tensor, factor: Tensor) -> Tensor:
    """Pillow's enhancement of bytes: float32, cut, not rounded."""
    return (grey * factor[:, None, None, None]).clamp(0, 255).floor()


def _contrast(grey: Tensor, factor: Tensor) -> Tensor:
    mean = (grey.mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return (mean + factor[:, None, None, None] * (grey - mean)).clamp(0, 255).floor()


@dataclass(frozen=True)
class CropFlipDraws:
    """What is random in crop_flip, for a batch of B images, all [B]."""

    top: Tensor
    """First row of the part that is kept, int64; `left`, `height` and `width` likewise, in pixels."""
    left: Tensor
    height: Tensor
    width: Tensor
    flipped: Tensor
    """Whether it is mirrored, bool."""


def sample_crop_flip(batch: int, height: int, width: int, generator: torch.Generator) -> CropFlipDraws:
    """Draws on the generator's device, by the rule of torchvision's RandomResizedCrop and RandomHorizontalFlip.

    The part's area is U[0.5,1) of the image, the logarithm of its aspect ratio uniform between 3/4 and 4/3; the first
    of ten such draws that fits is taken, and the whole image where none does.
    """
    area, ratio = torch.rand(2, 10, batch, generator=generator, device=generator.device)
    area, ratio = height * width * (CROP_AREA + (1 - CROP_AREA) * area), torch.exp(math.log(4 / 3) * (2 * ratio - 1))
    w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    w, h = (torch.cat([side, torch.full_like(side[:1], whole)]) for side, whole in ((w, width), (h, height)))
    first = ((w <= width) & (h <= height)).byte().argmax(dim=0)[None]
    w, h = w.gather(0, first)[0], h.gather(0, first)[0]
    u = torch.rand(3, batch, generator=generator, device=generator.device)
    top, left = (
        torch.minimum((u[0] * (height - h + 1)).long(), height - h),
        torch.minimum((u[1] * (width - w + 1)).long(), width - w),
    )
    return CropFlipDraws(top, left, h, w, u[2] < 0.5)


@span("augment")
def crop_flip(x: Tensor, draws: CropFlipDraws) -> Tensor:
    """A part of each image x [B,3,H,W], scaled to HxW and perhaps mirrored. Bilinear: between the centres of pixels,
    beyond the outermost ones constant; parts are never larger than the image, so there is nothing to smooth."""
    height, width = x.shape[2:]
    rows = _between(height, draws.top, draws.height)
    columns = _between(width, draws.left, draws.width, draws.flipped)
    for dim, (low, high, share) in ((2, rows), (3, columns)):
        shape = [1, 1, 1, 1]
        shape[0], shape[dim] = low.shape
        of = [*x.shape]
        a, b = (x.gather(dim, index.view(shape).expand(of)) for index in (low, high))
        x = torch.lerp(a, b, share.view(shape).to(x.dtype))
    return x


def _between(size: int, first: Tensor, length: Tensor, flipped: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Where `size` pixels come from along one axis of a part: two positions and the share of the second, each [B,size].
    first, length: of the part, [B]."""
    out = torch.arange(size, device=first.device)
    at = out.expand(len(first), size) if flipped is None else torch.where(flipped[:, None], size - 1 - out, out)
    position = ((at + 0.5) * length[:, None] / size - 0.5).clamp(min=0)
    low = position.long()
    high = torch.minimum(low + 1, length[:, None] - 1)
    return first[:, None] + low, first[:, None] + high, position - low


def load(x: Tensor, loader: str, rng: Rng) -> Tensor:
    """A batch as the recipe's loader gives it."""
    if loader == "crop_flip":
        return crop_flip(x, sample_crop_flip(len(x), x.shape[2], x.shape[3], rng.generator("loader")))
    if loader == "jitter_log":
        return jitter_log(x, sample_jitter_log(len(x), rng.generator("loader")))
    return x
