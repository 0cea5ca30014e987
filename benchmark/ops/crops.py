"""Random crops and flips, batched: the loaders of photographs and of CIFAR."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.timing import span

CROP_AREA = 0.5
"""Least share of an image that crop_flip keeps."""
PAD = 4
"""Black pixels around a CIFAR image before it is cropped."""


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


@dataclass(frozen=True)
class PadCropFlipDraws:
    """What is random in CIFAR's loader, for a batch of B images."""

    top: Tensor
    """First row of the crop in the padded image, int64 [B], 0..2*PAD."""
    left: Tensor
    """First column, the same."""
    flipped: Tensor
    """Whether the image is mirrored, bool [B]."""


def sample_pad_crop_flip(batch: int, generator: torch.Generator) -> PadCropFlipDraws:
    """Draws on the generator's device."""
    top, left = torch.randint(2 * PAD + 1, (2, batch), generator=generator, device=generator.device)
    flipped = torch.rand(batch, generator=generator, device=generator.device) < 0.5
    return PadCropFlipDraws(top, left, flipped)


@span("augment")
def pad_crop_flip(x: Tensor, draws: PadCropFlipDraws) -> Tensor:
    """CIFAR's usual loader: mirrored left to right, then PAD black pixels around, then a crop of the old size.

    x: float32 [B,3,H,W]. Returns the same. The order is AugMix's and AugMax's.
    """
    height, width = x.shape[2:]
    row = torch.arange(height, device=x.device) + draws.top[:, None]
    column = torch.arange(width, device=x.device) + draws.left[:, None]  # of the mirrored image, padding included
    column = torch.where(draws.flipped[:, None], width + 2 * PAD - 1 - column, column)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return F.pad(x, (PAD,) * 4)[image, :, row[:, :, None], column[:, None]].permute(0, 3, 1, 2)
