"""Progressive random convolutions (Choi et al., CVPR 2023): one random block, applied to a batch again and again.

On the scale z = 2x - 1, with the same draws in all repetitions:

    G(z) = tanh(gamma (Y - mean Y) / sqrt(var Y + eps) + beta),   Y = deform_conv(z; w, dp)

Mean and variance run over the pixels of each image and channel. Every pixel and tap has an offset of its own, dp. The
tap reads the image there, bilinearly, and 0 (mid-grey) outside. Positions do not change between repetitions, so they
are computed once, and a repetition is one gather and one matrix product.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from benchmark.core.timing import span
from benchmark.ops.random_conv import sample_random_conv

EPS = 1e-5
"""Added to the variance; torch's value for instance normalisation."""


@dataclass(frozen=True)
class BlockDraws:
    """Draws for G blocks: one for the whole batch (G = 1) or one for each image (G = B).

    weight: [G,3,3,k,k] (out, in), smoothed. gamma, beta: [G,3]. sigma_offset: [G], deviation of the offsets in pixels.
    """

    weight: Tensor
    gamma: Tensor
    beta: Tensor
    sigma_offset: Tensor


def smoothing(k: int, sigma: Tensor) -> Tensor:
    """exp(-(i^2 + j^2) / (2 sigma^2)) about the centre tap, not normalised. sigma: [G]; [G,1,1,k,k]."""
    i = torch.arange(k, device=sigma.device) - k // 2
    square = i[:, None].square() + i.square()
    return torch.exp(-square / (2 * sigma.square()[:, None, None, None, None]))


@span("augment")
def sample_block(
    groups: int, generator: Generator, *, k: int, smooth: tuple[float, float], offset: tuple[float, float], style: float
) -> BlockDraws:
    """Draws `groups` blocks, on the generator's device.

    Weights are N(0, 1/(3 k^2)), k odd, times `smoothing` with a sigma uniform over `smooth`. gamma and beta are
    N(0, style^2), sigma_offset is uniform over `offset`.
    """
    weight = sample_random_conv(groups, generator, kernel_sizes=(k,), mixing=False).weight
    gamma, beta = style * torch.randn(2, groups, 3, generator=generator, device=generator.device)
    u, v = torch.rand(2, groups, generator=generator, device=generator.device)
    sigma = smooth[0] + (smooth[1] - smooth[0]) * u
    return BlockDraws(weight * smoothing(k, sigma), gamma, beta, offset[0] + (offset[1] - offset[0]) * v)


@span("augment")
def sample_offsets(groups: int, k: int, height: int, width: int, generator: Generator) -> Tensor:
    """Unit offsets N(0, 1) of every tap at every pixel, [G,k*k,2,H,W] (down, right), on the generator's device."""
    return torch.randn(groups, k * k, 2, height, width, generator=generator, device=generator.device)


@span("augment")
def progressive_conv(x: Tensor, draws: BlockDraws, offsets: Tensor, repetitions: int) -> Tensor:
    """G applied `repetitions` times to x [B,3,H,W] in [0,1]; [B,3,H,W] in (0,1), or x where that is 0.

    offsets: as sample_offsets gives them, for the batch or for each image, in units of draws.sigma_offset. Autocast
    changes nothing.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _repeated(x, draws, offsets, repetitions)


def _repeated(x: Tensor, draws: BlockDraws, offsets: Tensor, repetitions: int) -> Tensor:
    b, _, h, w = x.shape
    grid = _positions(offsets.to(x) * draws.sigma_offset.to(x)[:, None, None, None, None], draws.weight.shape[-1])
    grid = grid.expand(b, *grid.shape[1:])
    weight = draws.weight.to(x).flatten(2)  # [G,3,3*k*k]: the order of what is gathered
    gamma, beta = (part.to(x)[:, :, None] for part in (draws.gamma, draws.beta))
    z = (2 * x - 1).contiguous()
    for _ in range(repetitions):
        read = F.grid_sample(z, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # [B,3,k*k*H,W]
        y = weight @ read.reshape(b, -1, h * w)
        var, mean = torch.var_mean(y, dim=2, correction=0, keepdim=True)
        z = torch.tanh(gamma * (y - mean) * torch.rsqrt(var + EPS) + beta).view(b, 3, h, w)
    return (z + 1) / 2


def _positions(offsets: Tensor, k: int) -> Tensor:
    """Where every tap reads, as grid_sample wants it. offsets: [G,k*k,2,H,W] in pixels; [G,k*k*H,W,2] (x, y)."""
    groups, taps, _, h, w = offsets.shape
    i = torch.arange(k, device=offsets.device) - k // 2
    row = torch.arange(h, device=offsets.device)[:, None] + i.repeat_interleave(k)[:, None, None] + offsets[:, :, 0]
    column = torch.arange(w, device=offsets.device) + i.repeat(k)[:, None, None] + offsets[:, :, 1]
    return torch.stack([(2 * column + 1) / w - 1, (2 * row + 1) / h - 1], dim=-1).view(groups, taps * h, w, 2)
