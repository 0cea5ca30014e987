"""Planar waves in random directions, added to images (AFA, Vaish et al., CVPR 2024): the draws, and what they make.

The waves of the sensitivity map (sensitivity/fourier.py) are cosines with whole periods in an image. The even part of a
wave along an axis is one of them, over N - 1 pixels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchmark.core.timing import span

ANGLES = 448
"""Directions to choose from, evenly over [-pi, 0], both ends included."""
Highest = Literal["reference", "nyquist"]


@dataclass(frozen=True)
class WaveDraws:
    """One wave for each channel of B images, whatever their size; each float64 [B,3].

    frequency, angle: in [0,1), the place among the frequencies and among the directions. strength: >= 0, of mean 1.
    """

    frequency: Tensor
    angle: Tensor
    strength: Tensor


def sample_waves(batch: int, generator: torch.Generator) -> WaveDraws:
    """Draws on the generator's device: uniform frequency and angle, exponential strength."""
    u = torch.rand(3, batch, 3, generator=generator, device=generator.device, dtype=torch.float64)
    return WaveDraws(u[0], u[1], -torch.log1p(-u[2]))


def planar_waves(height: int, width: int, cycles: Tensor, theta: Tensor) -> Tensor:
    """sin(2 pi k/N (X cos theta + Y sin theta) - pi/4), scaled to unit L2 norm: [...,H,W] for k and theta [...].

    N: the longer side. X, Y: from -side/2 to side/2, both ends included, so that k periods fill N - 1 pixels.
    """
    sides = height, width
    rows, columns = (torch.linspace(-n / 2, n / 2, n, device=theta.device, dtype=theta.dtype) for n in sides)
    k, t = cycles[..., None, None], theta[..., None, None]
    along = columns * t.cos() + rows[:, None] * t.sin()
    wave = torch.sin(2 * math.pi * k / max(sides) * along - math.pi / 4)
    norm: Tensor = torch.linalg.vector_norm(wave, dim=(-2, -1), keepdim=True)
    return wave / norm.clamp(min=1e-12)


@span("augment")
def add_waves(
    x: Tensor, draws: WaveDraws, *, mean: float, minimum: float = 0.0, highest: Highest = "reference"
) -> Tensor:
    """clamp(x + (N/32) sigma wave, 0, 1), sigma = minimum + mean * strength, a wave for each channel of each image.

    x: float [B,3,H,W] in [0,1]. Frequencies are k/N, k = 1..N (reference) or k = 1..N/2 (nyquist), N the longer side.
    In the gain N/32, N is sqrt(H W), so that the wave is as strong in an image of any shape.
    """
    height, width = x.shape[2:]
    n = max(height, width)
    many = n if highest == "reference" else max(1, n // 2)
    cycles = (draws.frequency * many).floor() + 1
    theta = ((draws.angle * ANGLES).floor() / (ANGLES - 1) - 1) * math.pi
    sigma = (minimum + mean * draws.strength).to(x)[..., None, None]
    wave = planar_waves(height, width, cycles.to(x), theta.to(x))
    return (x + math.sqrt(height * width) / 32 * sigma * wave).clamp(0, 1)
