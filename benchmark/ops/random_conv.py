"""Random convolutions of a batch of images (RandConv, Xu et al., ICLR 2021, section 3): the draws, and the layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from benchmark.core.timing import span
from benchmark.ops.kernels.random_convolution import Clamp, random_convolution

__all__ = ["Clamp", "Distribution", "RandConvDraws", "random_conv", "sample_random_conv"]

Distribution = Literal["kaiming_normal", "kaiming_uniform", "kaiming_normal_clamp", "xavier_normal"]


@dataclass(frozen=True)
class RandConvDraws:
    """Draws for G kernels: one for the whole batch (G = 1) or one for each image (G = B).

    size: int64 [G], odd kernel sizes k. weight: [G,3,3,K,K] (out, in), K the largest size on offer; a smaller kernel
    lies in the middle and is zero around it, so that shapes do not depend on the draw. alpha: [G], share of the
    convolution in the mixture, in [0,1]. identity: bool [G], images left as they are. bias: [G,3] in units of the
    [-1,1] scale, or None.
    """

    size: Tensor
    weight: Tensor
    alpha: Tensor
    identity: Tensor
    bias: Tensor | None = None


@cache
def _offer(kernel_sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The sizes [S], and for each of them the standard deviation of every tap of a K x K frame [S,K,K].

    Kept on the device, because a copy to it in every step would make the host wait.
    """
    frame = max(kernel_sizes)
    taps = [
        F.pad(torch.full((k, k), 1 / math.sqrt(3 * k * k)), [(frame - k) // 2] * 4)  # 1/sqrt(fan in): gain 1
        for k in kernel_sizes
    ]
    return torch.tensor(kernel_sizes, device=device), torch.stack(taps).to(device)


@span("augment")
def sample_random_conv(
    groups: int,
    generator: Generator,
    *,
    kernel_sizes: Sequence[int] = (1, 3, 5, 7),
    mixing: bool = True,
    identity_prob: float = 0.0,
    distribution: Distribution = "kaiming_normal",
    bias: bool = False,
) -> RandConvDraws:
    """Draws `groups` random convolutions, on the generator's device.

    Sizes are uniform over `kernel_sizes` (odd). Weights are N(0, 1/(3 k^2)), or of the same scale under another law:
    uniform of that variance, the normal clamped to two standard deviations, or Xavier's normal, which is the same law
    for three channels to three. alpha is U[0,1) with `mixing`, else 1. bias: U(-sigma, sigma), sigma = 1/sqrt(3 k^2).
    """
    device = generator.device
    sizes, deviations = _offer(tuple(kernel_sizes), device)
    shape = (groups, 3, 3, *deviations.shape[1:])
    # The weights come first: with one size on offer the stream is that of the original's layer.
    if distribution == "kaiming_uniform":
        unit = (2 * torch.rand(shape, generator=generator, device=device) - 1) * math.sqrt(3)
    else:
        unit = torch.randn(shape, generator=generator, device=device)
        if distribution == "kaiming_normal_clamp":
            unit = unit.clamp(-2, 2)
    choice = torch.randint(len(sizes), (groups,), generator=generator, device=device)
    alpha = torch.rand(groups, generator=generator, device=device) if mixing else torch.ones(groups, device=device)
    identity = torch.rand(groups, generator=generator, device=device) < identity_prob
    size = sizes[choice]
    offset = None
    if bias:
        offset = (2 * torch.rand(groups, 3, generator=generator, device=device) - 1) / (3**0.5 * size[:, None])
    return RandConvDraws(size, unit * deviations[choice][:, None, None], alpha, identity, offset)


@span("augment")
def random_conv(x: Tensor, draws: RandConvDraws, clamp_output: Clamp = "off") -> Tensor:
    """R(x) = alpha * conv(x) + (1 - alpha) * x, or x itself where the identity was drawn; [B,3,H,W], same shape.

    x: in [0,1]. The original works on 2x - 1, where its zero padding is mid-grey; by linearity the same map acts here
    on deviations from mid-grey, x - 1/2, so that a network which normalises with mean 0.5 and standard deviation 0.5
    sees the original's numbers. The result leaves [0,1] unless it is clamped.
    clamp_output: the released flag. off: no clamp. true: the mixture is clamped. clamp: the convolution is clamped
    before mixing. norm: each channel of each convolved image is stretched to the full range before mixing.
    """
    return random_convolution(x, draws.size, draws.weight, draws.alpha, draws.identity, draws.bias, clamp_output)
