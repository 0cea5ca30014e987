"""Blurs: defocus, glass, motion, zoom, and Gaussian (extra).

x: float64 [B,3,H,W] in [0,1]. Constants: (disk radius, blur of the disk); (sigma, reach of the shuffle, its rounds);
(radius, sigma); zoom factors; sigma.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from benchmark.corruptions.counter_rng import Stream
from benchmark.corruptions.filters import blur, motion, reflected, zoomed
from benchmark.corruptions.noise import Draws
from benchmark.corruptions.severities import Constants


def gaussian_blur(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    return blur(x, c[0])


@lru_cache(maxsize=16)
def disk(radius: float, alias: float) -> Tensor:
    """The defocus kernel: the pixels of a disk, blurred by a Gaussian of standard deviation `alias` over 3 taps, over 5
    where the radius exceeds 8, as released; empty margins are cut off."""
    side, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    place = np.arange(-side, side + 1)
    flat = (place[:, None] ** 2 + place**2 <= radius**2).astype(np.float64)
    weight = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * alias**2))
    soft = flat / flat.sum()
    for axis in (0, 1):
        soft = ndimage.correlate1d(soft, weight / weight.sum(), axis=axis, mode="mirror")
    margin = int((soft.max(axis=0) > 0).argmax())
    return torch.from_numpy(soft[margin : len(soft) - margin, margin : len(soft) - margin].copy())


def defocus_blur(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    kernel = disk(*c)
    reach, (height, width) = len(kernel) // 2, x.shape[2:]
    rows, columns = (reflected(torch.arange(-reach, n + reach, device=x.device), n, "mirror") for n in (height, width))
    wide, out = x[:, :, rows][:, :, :, columns], torch.zeros_like(x)
    for top, left in kernel.nonzero().tolist():  # several times faster than a float64 convolution
        out.add_(wide[:, :, top : top + height, left : left + width], alpha=kernel[top, left].item())
    return out


def motion_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    return {"angle": stream.uniform("angle", -45, 45)}


def motion_blur(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    return motion(x, int(c[0]), c[1], draws["angle"])


def zoom_blur(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """The mean of the image and its enlargements."""
    total = x.clone()
    for factor in c:
        total += zoomed(x, factor)
    return total / (len(c) + 1)


def glass_draws(stream: Stream, height: int, width: int, c: Constants) -> Draws:
    """How far down and right, -reach..reach - 1, a pixel's new value lies: int64 [B,rounds,2,H,W]."""
    return {"step": stream.integers("step", -int(c[1]), int(c[1]), int(c[2]), 2, height, width)}


def glass_blur(x: Tensor, c: Constants, draws: Draws) -> Tensor:
    """Blur to bytes, pixels taken from near places, blur again.

    The released code means to swap pixels, but its assignment of array views copies one onto the other; so does this.
    """
    sigma, reach, rounds = c[0], int(c[1]), int(c[2])
    small = (blur(x, sigma) * 255 + 2**-10).floor().clamp(0, 255) / 255
    flat = small.flatten(2)
    for n in range(rounds):
        source = glass_sources(draws["step"][:, n, 0], draws["step"][:, n, 1], reach)
        flat = flat.gather(2, source[:, None].expand_as(flat))
    return blur(flat.reshape(x.shape), sigma)


def glass_sources(down: Tensor, right: Tensor, reach: int) -> Tensor:
    """Where each pixel's value comes from after one round, int64 [B,H*W]. down, right: its steps, int64 [B,H,W].

    A round goes through the inner pixels from the last to the first, each taking the present value of another, so a
    pixel that takes from a later one takes what that one took. Those chains are followed by doubling.
    """
    _, height, width = down.shape
    row, column = torch.meshgrid(*(torch.arange(n, device=down.device) for n in (height, width)), indexing="ij")
    inner = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
    here = (row * width + column).flatten()
    target = here + torch.where(inner, down * width + right, 0).flatten(1)
    chained = (target > here) & inner.flatten()[target]
    follow = torch.where(chained, target, here)
    while not torch.equal(further := follow.gather(1, follow), follow):
        follow = further
    return target.gather(1, follow)
