"""What Pillow's JPEG encoder and decoder do to an image, without the file: libjpeg's steps on a batch.

The steps: YCbCr in bytes, chroma at half the resolution (4:2:0), an 8x8 cosine transform, division by the tables of ISO
10918-1 Annex K at a quality; then all of it back, with libjpeg's triangle filter for the chroma. libjpeg transforms
with integer constants of 13 bits, this module in float64. Now and then a coefficient rounds the other way, which moves
its block.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.corruptions.noise import Draws
from benchmark.corruptions.severities import Constants

LUMINANCE = """
    16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55
    14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92
    49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
CHROMINANCE = """
    17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99
    24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
    99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99
"""
TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TIE = 2**-20
"""Added before rounding, so that float64 does not miss an exact half from below."""
CR_TO_R, CB_TO_B, CB_TO_G, CR_TO_G = 1.402, 1.772, -0.344136286, -0.714136286


def jpeg_compression(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """x: float64 [B,3,H,W] in [0,1]. c: the quality, 1 to 100."""
    height, width = x.shape[2:]
    weight = torch.tensor(TO_YCC, dtype=x.dtype, device=x.device)
    offset = torch.tensor([0.0, 128.0, 128.0], dtype=x.dtype, device=x.device)[:, None, None]
    ycc = torch.einsum("kc,bchw->bkhw", weight, (255 * x).round())
    ycc = (ycc + offset + 0.5).floor().clamp(0, 255)
    luma = coded(extended(ycc[:, :1], 8, 8), table(LUMINANCE, int(c[0])))[:, 0, :height, :width]
    chroma = coded(extended(halved(ycc[:, 1:]), 8, 8), table(CHROMINANCE, int(c[0])))
    chroma = doubled(chroma[:, :, : -(-height // 2), : -(-width // 2)])[:, :, :height, :width]
    cb, cr = (chroma - 128).unbind(1)
    red, blue = luma + (CR_TO_R * cr).round(), luma + (CB_TO_B * cb).round()
    green = luma + (CB_TO_G * cb + CR_TO_G * cr + 0.5).floor()
    return torch.stack([red, green, blue], dim=1).clamp(0, 255) / 255


@lru_cache(maxsize=32)
def table(text: str, quality: int) -> Tensor:
    """The quantisation table [8,8] that libjpeg makes of a base table for a quality."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(max((int(entry) * scale + 50) // 100, 1), 255) for entry in text.split()]
    return torch.tensor(steps, dtype=torch.float64).reshape(8, 8)


def extended(x: Tensor, down: int, across: int) -> Tensor:
    """The image, its last row and column repeated up to multiples of `down` and `across`."""
    return F.pad(x, (0, -x.shape[3] % across, 0, -x.shape[2] % down), mode="replicate")


def halved(chroma: Tensor) -> Tensor:
    """The means of 2x2 pixels, rounded up and down in turn along a row."""
    total = F.avg_pool2d(extended(chroma, 2, 16), 2) * 4
    bias = 1 + torch.arange(total.shape[3], device=total.device) % 2
    return ((total + bias) / 4).floor()[..., : -(-chroma.shape[3] // 2 // 8) * 8 or 8]


def doubled(chroma: Tensor) -> Tensor:
    """Twice the size: each new pixel is 3/4 of the nearest and 1/4 of the next along both axes, edges held."""
    height, width = chroma.shape[2:]
    wide = F.pad(chroma, (1, 1, 1, 1), mode="replicate")
    near = wide[:, :, 1:-1]
    rows = torch.stack([3 * near + wide[:, :, :-2], 3 * near + wide[:, :, 2:]], dim=3).flatten(2, 3)
    near = rows[..., 1:-1]
    both = torch.stack([3 * near + rows[..., :-2] + 8, 3 * near + rows[..., 2:] + 7], dim=4) / 16
    return both.floor().reshape(*chroma.shape[:2], 2 * height, 2 * width)


def coded(plane: Tensor, steps: Tensor) -> Tensor:
    """Cosine transform, rounding to multiples of `steps`, and back to bytes, for each 8x8 block. plane: [B,C,8h,8w]."""
    steps, cosine = steps.to(plane.device), cosines().to(plane.device)
    blocks = (plane - 128).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    eighths = (8 * cosine @ blocks @ cosine.T + 0.5 + TIE).floor()  # libjpeg's transform ends in whole eighths
    level = eighths.sign() * ((eighths.abs() + 4 * steps) / (8 * steps)).floor()
    found = cosine.T @ (level * steps) @ cosine
    out: Tensor = (found + 128.5 + TIE).floor().clamp(0, 255)
    return out.transpose(3, 4).reshape(plane.shape)


@lru_cache(maxsize=1)
def cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values."""
    k = torch.arange(8, dtype=torch.float64)
    found = torch.cos(math.pi * k[:, None] * (2 * k + 1) / 16) / 2
    found[0] /= math.sqrt(2)
    return found
