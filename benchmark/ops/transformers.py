"""The networks g that learn views in ALT and ABA: five convolutions of 3, 18, 18, 18, 18, 3 channels, zero-padded, with
LeakyReLU(0.2) between. They are functions of their weights, which come from draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from benchmark.core.devices import on_gpu

CHANNELS = ((18, 3), (18, 18), (18, 18), (18, 18), (3, 18))
"""Of the layers: out, in."""


def transform(z: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """What the last layer gives for z [B,3,H,W]; [B,3,H,W]. weights: five, [out,in,k,k]; biases: [out], of the first
    layers or of all. On a CPU channels last are nearly twice as fast here."""
    if not on_gpu(z):
        z = z.contiguous(memory_format=torch.channels_last)
    for i, weight in enumerate(weights):
        bias = biases[i] if i < len(biases) else None
        z = F.conv2d(F.leaky_relu(z, 0.2) if i else z, weight, bias, padding=weight.shape[-1] // 2)
    return z


# ALT: 3x3 kernels.


@dataclass(frozen=True)
class PlainWeights:
    """first: [18,3,3,3]; middle: [3,18,18,3,3]; last: [3,18,3,3]."""

    first: Tensor
    middle: Tensor
    last: Tensor

    def layers(self) -> list[Tensor]:
        return [self.first, *self.middle, self.last]


def sample_weights(generator: Generator) -> PlainWeights:
    """Kaiming's normal law, N(0, 2/fan in), on the generator's device."""
    shapes = (18, 3, 3, 3), (3, 18, 18, 3, 3), (3, 18, 3, 3)
    first, middle, last = (
        torch.randn(s, generator=generator, device=generator.device) * math.sqrt(2 / math.prod(s[-3:])) for s in shapes
    )
    return PlainWeights(first, middle, last)


def sample_biases(generator: Generator) -> Tensor:
    """Of all layers in a row, [75]: U(-1,1)/sqrt(fan in), as torch begins a convolution."""
    u = [2 * torch.rand(out, generator=generator, device=generator.device) - 1 for out, _ in CHANNELS]
    return torch.cat([part / math.sqrt(9 * fan) for part, (_, fan) in zip(u, CHANNELS, strict=True)])


def split_biases(biases: Tensor) -> list[Tensor]:
    """The five of sample_biases."""
    return list(biases.split([out for out, _ in CHANNELS]))


# ABA: a normal law for every weight. Parts are w0, b0, w1, b1, w2, b2, w3, b3, w4: the last layer has no bias.


@dataclass(frozen=True)
class Posterior:
    """q: weights are mu + eps log(1 + e^rho), eps ~ N(0,1). sizes: of the five kernels, known to the host. mu, rho: all
    parts in a row."""

    sizes: tuple[int, ...]
    mu: Tensor
    rho: Tensor

    def split(self, flat: Tensor) -> list[Tensor]:
        """The nine parts, in their shapes, of numbers in a row."""
        shapes = part_shapes(self.sizes)
        parts = flat.split([math.prod(shape) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def part_shapes(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Of the nine parts, for kernels of these sizes."""
    both = [[(out, fan, k, k), (out,)] for (out, fan), k in zip(CHANNELS, sizes, strict=True)]
    return [shape for pair in both for shape in pair][:-1]


def sample_posterior(size: int, generator: Generator) -> Posterior:
    """For five kernels of one size: mu ~ N(0, 0.1^2), rho ~ N(-1, 0.1^2)."""
    sizes = (size,) * len(CHANNELS)
    count = sum(math.prod(shape) for shape in part_shapes(sizes))
    mu, rho = 0.1 * torch.randn(2, count, generator=generator, device=generator.device)
    return Posterior(sizes, mu, rho - 1)


def transform_by(z: Tensor, mu: Sequence[Tensor], rho: Sequence[Tensor], eps: Sequence[Tensor]) -> Tensor:
    """`transform` with a sample of q. mu, rho, eps: nine parts each."""
    parts = [m + e * F.softplus(r) for m, r, e in zip(mu, rho, eps, strict=True)]
    return transform(z, parts[::2], parts[1::2])
