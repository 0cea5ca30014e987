"""The three primitives of PRIME (Modas et al., ECCV 2022) on float images in [0,1]: what is drawn, and what it does.

    spectral    clamp(conv(x; delta + sigma N), 0, 1), N ~ N(0,1) [k,k]: a filter for each image, one for all channels
    colour      c -> clamp(c + sum_{f=1..F} a_f sin(pi f c), 0, 1), a_f ~ sqrt(T) N(0,1): a curve for each channel
    spatial     x(p + sqrt(T) n u(p)), bilinear, p cut to the image: one displacement u for the batch
                u, v = sum over i, j >= 1 with i^2 + j^2 <= (cut + 1/2)^2 of c_ij / |(i,j)| sin(pi i x) sin(pi j y)

    cut = 2 + int(b (cut_max - 1)),  T = T1 + b' (T2 - T1),  c_ij ~ N(0,1),  b, b' ~ Beta(1/2, 1/2)
    T1 = 1/(pi n^2 log cut),  T2 = max(T1, 4/(pi^3 cut^2 log cut))

Our choice where the source leaves it open: x and y run from 0 to 1 between the centres of the outermost pixels, so the
border stays; n is the larger side; every slot of every chain has its own displacement.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from benchmark.core.devices import on_gpu
from benchmark.core.timing import span
from benchmark.ops.augmix import sample_chains
from benchmark.ops.kernels.augment_mix import mix

PRIMITIVES = ("spectral", "colour", "spatial")
"""By the numbers that draws know them by."""


@dataclass(frozen=True)
class PrimeDraws:
    """All that is random in B views of W chains of at most D primitives.

    w, m, depth and op: as in MixDraws, op in 0..2 being an index into PRIMITIVES. noise: [B,W,D,k,k], N(0,1), what is
    added to the delta. curve: [B,W,D,3,F], a_f. wave: [G,W,D,2,K,K], c_ij / |(i,j)| of u (rightwards) and of v (down),
    K = cut_max, zero beyond the cut. strength: [G,W,D], sqrt(T). G is 1, or B where every image has its own.
    """

    w: Tensor
    m: Tensor
    depth: Tensor
    op: Tensor
    noise: Tensor
    curve: Tensor
    wave: Tensor
    strength: Tensor


def sample_prime(
    batch: int,
    generator: Generator,
    *,
    size: int,
    kernel: int = 3,
    frequencies: int = 100,
    colour_strength: float = 0.01,
    cut_max: int = 100,
    width: int = 3,
    depth: int = -1,
    alpha: float = 1.0,
    per_image: bool = False,
) -> PrimeDraws:
    """Draws for `batch` views, on the generator's device. size: n, the larger side of the images in pixels.
    colour_strength: T of the colour curves. per_image: a displacement for each image, in place of one for all."""
    w, m, depths, op = sample_chains(batch, generator, choices=3, width=width, depth=depth, alpha=alpha)
    device, slots = generator.device, op.shape[1:]
    groups = (batch if per_image else 1, *slots)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def arcsine(*shape: int) -> Tensor:
        """Beta(1/2, 1/2), by its quantile function."""
        return (torch.rand(shape, generator=generator, device=device) * (math.pi / 2)).sin().square()

    noise, curve = normal(*op.shape, kernel, kernel), math.sqrt(colour_strength) * normal(*op.shape, 3, frequencies)
    cut = (2 + (arcsine(*groups) * (cut_max - 1)).floor()).clamp(max=cut_max)
    lowest = 1 / (math.pi * size**2 * cut.log())
    highest = torch.maximum(lowest, 4 / (math.pi**3 * cut**2 * cut.log()))
    strength = (lowest + arcsine(*groups) * (highest - lowest)).sqrt()
    i = torch.arange(1, cut_max + 1, device=device, dtype=torch.float32)
    length = (i[:, None].square() + i.square()).sqrt()
    wave = normal(*groups, 2, cut_max, cut_max) / length * (length <= cut[..., None, None, None] + 0.5)
    return PrimeDraws(w, m, depths, op, noise, curve, wave, strength)


@span("augment")
def prime_view(x: Tensor, draws: PrimeDraws, *, sigma: float = 4.0, centred: bool = False) -> Tensor:
    """One view of each image: x float [B,3,H,W] in [0,1], and so is the view.

    sigma: scale of the filters' noise. centred: whether the delta is in the middle; see `spectral`. On a GPU all
    images go through all primitives, so that the host never waits to see which of them were drawn.
    """
    chains = []
    with torch.autocast(x.device.type, enabled=False):  # a caller's would round filters and displacements
        for i in range(draws.op.shape[1]):
            chain = x
            for d in range(draws.op.shape[2]):
                chain = _apply(chain, draws, i, d, sigma, centred)
            chains.append(chain)
    return mix(x, torch.stack(chains, dim=1), draws.w, draws.m)


def _apply(x: Tensor, draws: PrimeDraws, i: int, d: int, sigma: float, centred: bool) -> Tensor:
    """The primitives of slot d of chain i."""
    op, noise, curve = draws.op[:, i, d], draws.noise[:, i, d], draws.curve[:, i, d]
    moved = displacement(draws.wave[:, i, d], draws.strength[:, i, d], *x.shape[2:]).expand(len(x), -1, -1, -1)
    applied: tuple[Callable[[Any], Tensor], ...] = (
        lambda rows: spectral(x[rows], noise[rows], sigma, centred),
        lambda rows: colour(x[rows], curve[rows]),
        lambda rows: spatial(x[rows], moved[rows]),
    )
    found = x
    for number, primitive in enumerate(applied):
        chosen = op == number
        if on_gpu(x.device):
            found = primitive(slice(None)).where(chosen[:, None, None, None], found)
        elif len(rows := chosen.nonzero().flatten()):
            found = found.index_copy(0, rows, primitive(rows))
    return found


def spectral(x: Tensor, noise: Tensor, sigma: float, centred: bool = False) -> Tensor:
    """A filter delta + sigma noise over each image, noise [B,k,k], with zeros around it, cut to [0,1]. As released the
    delta is at tap ceil(k/2), from 0, of each axis: for k = 3 the last, so that it shifts the image by one pixel up and
    left. centred: at tap (k - 1)/2, where it leaves the image as it is."""
    k = noise.shape[-1]
    kernel = sigma * noise
    at = (k - 1) // 2 if centred else (k + 1) // 2
    kernel[:, at, at] += 1
    kernels = kernel.repeat_interleave(3, dim=0)[:, None]
    out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, padding=k // 2, groups=len(kernels))
    return out.view(x.shape).clamp(0, 1)


def colour(x: Tensor, curve: Tensor) -> Tensor:
    """Every channel through its own curve: curve [B,3,F], the a_f of f = 1..F.

    f = s q + r with r = 1..s and s^2 >= F, and sin(a + b) = sin a cos b + cos a sin b: 4 s sines for a value, not F.
    """
    s = math.isqrt(curve.shape[2] - 1) + 1
    a = F.pad(curve, (0, s * s - curve.shape[2])).view(*curve.shape[:2], s, s)
    step = math.pi * torch.arange(s, dtype=x.dtype, device=x.device)[:, None]
    flat = x.flatten(2)[:, :, None]
    near, far = flat * (step + math.pi), flat * (s * step)
    waves = far.cos() * (a @ near.sin()) + far.sin() * (a @ near.cos())
    return (x + waves.sum(dim=2).view(x.shape)).clamp(0, 1)


def displacement(wave: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """sqrt(T) n (u, v) in pixels: wave [G,2,K,K], strength [G], to [G,2,H,W]."""
    across, down = _sines(wave.shape[-1], width, wave.device), _sines(wave.shape[-1], height, wave.device)
    field = down.mT @ wave.mT @ across  # wave_ij belongs to sin(pi i x) sin(pi j y)
    return strength[:, None, None, None] * max(height, width) * field


def spatial(x: Tensor, moved: Tensor) -> Tensor:
    """Each pixel looked up where its displacement points, moved [B,2,H,W] in pixels to the right and down."""
    height, width = x.shape[2:]
    column = torch.arange(width, device=x.device) + moved[:, 0]
    row = torch.arange(height, device=x.device)[:, None] + moved[:, 1]
    grid = torch.stack([2 * column / max(1, width - 1) - 1, 2 * row / max(1, height - 1) - 1], dim=3)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


@cache
def _sines(count: int, pixels: int, device: torch.device) -> Tensor:
    """sin(pi i t) for i = 1..count at `pixels` places from 0 to 1: float32 [count,pixels], kept on the device."""
    t = torch.linspace(0, 1, pixels, dtype=torch.float64)
    i = torch.arange(1, count + 1, dtype=torch.float64)
    return (math.pi * i[:, None] * t).sin().float().to(device)
