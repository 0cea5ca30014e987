"""AAUA and AAD (He et al., NeurIPS 2024): attacks on low-frequency amplitude statistics, and dropout of amplitudes.

Spectra are those of spectrum.py, unshifted. The released code shifts them over all dimensions, batch and channel too,
and back again; nothing between depends on the order, so that is the same.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmark.core.settings import frozen
from benchmark.core.timing import span
from benchmark.networks.attacked import attack_mode
from benchmark.ops.attacks.spectrum import decompose, recon
from benchmark.ops.kernels.spectrum_step import TINY, Magnitude, Norm

EPS = 1e-4
"""What the released code adds to each spread, before it divides or multiplies by it."""
LARGEST = 0.5
"""Upper end of the drawn side of the square."""


@frozen()
class AmplitudeSettings:
    """Settings of both attacks; defaults are what the released code runs."""

    steps: NonNegativeInt = 5
    """T: ascent steps of AAUA; 0 leaves the random start."""
    step_size: NonNegativeFloat = 1.0
    """alpha: one step adds it, with the sign of the gradient, to d_mu and d_sd."""
    low_frequency: Annotated[float, Field(gt=0, le=1)] | Literal["drawn"] = 0.1
    """l: side of the square of low frequencies, a share of the image's; drawn: from U[0,0.5) in each step (paper)."""
    statistic: Literal["sd", "variance"] = "sd"
    """What is the spread of the amplitudes: the root, as released, or the variance, as the paper writes it."""
    clamp_amplitude: bool = False
    """Whether amplitudes that AAUA makes negative become 0; as released they stay and turn the phase round."""
    attack_in: Literal["train", "eval"] = "train"
    """train: in the mode of the network, which is train mode while it trains; BatchNorm takes the statistics of each
    attack pass and moves its own, as released. eval: in eval mode, as for all other attacks here."""
    saliency: Literal["signed", "magnitude"] = "signed"
    """What AAD drops: amplitudes of large positive gradients, as released, or of large ones of any sign (ours)."""
    symmetric: bool = False
    """Whether AAD drops an amplitude and its mirror frequency together, which keeps images real (ours)."""
    recon_norm: Norm = "batch_max"
    """What a reconstruction is divided by: the largest value of the batch (released), of the image, or nothing."""
    magnitude: Magnitude = "abs"
    """How the complex inverse transform becomes an image: folded (released), or its real part, negatives clamped."""


@dataclass(frozen=True)
class StatisticDraws:
    """side: l, float64 []. d_mu, d_sd: N(0,1), [B,C,1,1]: where the ascent starts."""

    side: Tensor
    d_mu: Tensor
    d_sd: Tensor


def sample_statistics(shape: torch.Size, generator: Generator, config: AmplitudeSettings) -> StatisticDraws:
    """Draws for images [B,C,H,W] of this shape, on the generator's device."""
    on, given = generator.device, config.low_frequency
    side = LARGEST * torch.rand((), generator=generator, device=on, dtype=torch.float64)
    side = side if given == "drawn" else torch.full_like(side, float(given))
    d_mu, d_sd = torch.randn(2, *shape[:2], 1, 1, generator=generator, device=on)
    return StatisticDraws(side, d_mu, d_sd)


def low_square(height: int, width: int, side: Tensor) -> Tensor:
    """Bool [H,W] in the layout of fft2: rows and columns int((1-l)N/2) to int((1+l)N/2) - 1 of the centred spectrum.

    The constant stands at N // 2 there. So the square may reach one frequency further to the negative side than to the
    other, and a small side leaves one row, or none.
    """

    def within(n: int) -> Tensor:
        at = torch.arange(n, device=side.device)
        return (at >= ((1 - side) * n / 2).floor()) & (at < ((1 + side) * n / 2).floor())

    found: Tensor = torch.fft.ifftshift(within(height)[:, None] & within(width), dim=(-2, -1))
    return found


def _unbiased(x: Tensor, dim: int | tuple[int, ...], count: Tensor | int, inside: Tensor | None = None) -> Tensor:
    """Variance over `dim` with n - 1, or 1 where there is but one value; a single one has none."""
    mean = (x if inside is None else x * inside).sum(dim, keepdim=True) / count
    square = (x - mean).square() if inside is None else (x - mean).square() * inside
    less = count - 1
    return square.sum(dim, keepdim=True) / (less.clamp(min=1) if isinstance(less, Tensor) else max(less, 1))


@span("attack")
def attack_statistics(net: nn.Module, x: Tensor, y: Tensor, draws: StatisticDraws, config: AmplitudeSettings) -> Tensor:
    """AAUA: images of x's shape, [B,C,H,W] in [0,1], whose low-frequency amplitudes have statistics that the network
    finds hard; no gradient. Cost: `steps` forward and backward passes."""
    amplitude, phasor = decompose(x.detach())
    inside = low_square(x.shape[-2], x.shape[-1], draws.side).to(amplitude)
    count = inside.sum().clamp(min=1)
    mu = (amplitude * inside).sum((-2, -1), keepdim=True) / count
    sd = _unbiased(amplitude, (-2, -1), count, inside)
    sd = sd.sqrt() if config.statistic == "sd" else sd
    s_mu, s_sd = (_unbiased(each, 0, len(x)).sqrt() + EPS for each in (mu, sd))
    standard = (amplitude - mu) / (sd + EPS)

    def image(d_mu: Tensor, d_sd: Tensor) -> Tensor:
        found = standard * (sd + d_sd * s_sd + EPS) + mu + d_mu * s_mu
        found = found.clamp(min=0) if config.clamp_amplitude else found
        return recon(torch.where(inside > 0, found, amplitude), phasor, config.recon_norm, config.magnitude)

    d_mu, d_sd = draws.d_mu.to(amplitude), draws.d_sd.to(amplitude)
    with attack_mode(net, evaluate=config.attack_in == "eval"), torch.enable_grad():
        for _ in range(config.steps):
            d_mu, d_sd = d_mu.detach().requires_grad_(), d_sd.detach().requires_grad_()
            up_mu, up_sd = torch.autograd.grad(F.cross_entropy(net(image(d_mu, d_sd)), y), (d_mu, d_sd))
            d_mu, d_sd = d_mu + config.step_size * up_mu.sign(), d_sd + config.step_size * up_sd.sign()
    return image(d_mu.detach(), d_sd.detach())


@span("attack")
def drop_amplitudes(net: nn.Module, x: Tensor, y: Tensor, p: Tensor, config: AmplitudeSettings) -> Tensor:
    """AAD: N images of each x [B,C,H,W], [N,B,C,H,W] in [0,1], without the amplitudes where s > p; no gradient.

    p: [N,B,C,H,W] in [0,1). s in [0,1]: the gradient of the cross-entropy to the amplitude, stretched for each image
    and channel. Each of the N is normalised by itself.
    Cost: one forward and backward pass, whatever N."""
    amplitude, phasor = decompose(x.detach())
    with attack_mode(net, evaluate=config.attack_in == "eval"), torch.enable_grad():
        leaf = amplitude.detach().requires_grad_()
        image = recon(leaf, phasor, config.recon_norm, config.magnitude)
        (g,) = torch.autograd.grad(F.cross_entropy(net(image), y), leaf)
    g = g if config.saliency == "signed" else g.abs()
    low = g.amin((-2, -1), keepdim=True)
    s = (g - low) / (g.amax((-2, -1), keepdim=True) - low).clamp(min=TINY)
    kept = s <= p.to(s)
    if config.symmetric:
        kept = torch.where(_first_half(x.shape[-2], x.shape[-1], x.device), kept, mirrored(kept))
    return recon(amplitude * kept, phasor.expand(kept.shape), config.recon_norm, config.magnitude)


def mirrored(spectrum: Tensor) -> Tensor:
    """What stands at -k, for each frequency k of [...,H,W] in the layout of fft2."""
    return spectrum.flip((-2, -1)).roll((1, 1), (-2, -1))


def _first_half(height: int, width: int, device: torch.device) -> Tensor:
    """Bool [H,W]: one of each pair of mirror frequencies, and those that are their own mirror."""
    at = torch.arange(height * width, device=device).view(height, width)
    return at <= mirrored(at)
