"""Random convolutions of a batch of images, mixed with the images themselves (RandConv, Xu et al., ICLR 2021).

    out = x                                                       where the identity was drawn, else
    out = 1/2 + lerp(x - 1/2, clip(conv(x - 1/2, weight) + bias / 2), alpha), clipped

On a GPU an image is read once and written once, 2 x 12 bytes a pixel: the cache serves the repeated reads of the taps.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.devices import on_gpu
from benchmark.ops.kernels.dispatch import on_triton, suggested, triton_form

Clamp = Literal["off", "true", "clamp", "norm"]
GREY = 0.5


def random_convolution(
    x: Tensor, size: Tensor, weight: Tensor, alpha: Tensor, identity: Tensor, bias: Tensor | None, clamp: Clamp
) -> Tensor:
    """x: [B,3,H,W]; the rest as in random_conv.RandConvDraws and random_conv.random_conv; [B,3,H,W]."""
    plain = x.dtype == weight.dtype == torch.float32 and not (x.requires_grad or weight.requires_grad)
    fused = on_triton(x) and plain and clamp != "norm"
    return (random_convolution_triton if fused else random_convolution_torch)(
        x, size, weight, alpha, identity, bias, clamp
    )


def random_convolution_torch(
    x: Tensor, size: Tensor, weight: Tensor, alpha: Tensor, identity: Tensor, bias: Tensor | None, clamp: Clamp
) -> Tensor:
    """The definition; of the type of x under autocast, too."""
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return random_convolution_torch(x, size, weight, alpha, identity, bias, clamp)
    frame = weight.shape[-1]
    if not on_gpu(size):  # leave out the empty rim; on a GPU the host would have to wait for the size
        rim = (frame - int(size.max())) // 2
        weight = weight[..., rim : frame - rim, rim : frame - rim]
    alpha, identity = alpha.to(x)[:, None, None, None], identity.to(x.device)[:, None, None, None]
    deviation = x - GREY
    convolved = _convolve(deviation, weight.to(x))
    if bias is not None:
        convolved = convolved + bias.to(x)[:, :, None, None] / 2  # from the [-1,1] scale to this one
    if clamp == "norm":
        low, high = convolved.amin((2, 3), keepdim=True), convolved.amax((2, 3), keepdim=True)
        convolved = (convolved - low) / (high - low).clamp_min(1e-12) - GREY
    elif clamp == "clamp":
        convolved = convolved.clamp(-GREY, GREY)
    mixed = torch.lerp(deviation, convolved, alpha)
    if clamp != "off":
        mixed = mixed.clamp(-GREY, GREY)
    return torch.where(identity, x, mixed + GREY)


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Zero-padded convolution of x [B,3,H,W] with G = 1 or B kernels, weight [G,3,3,k,k]; [B,3,H,W]."""
    groups, k = len(weight), weight.shape[-1]
    if k == 1:  # a matrix product; on a CPU a hundred times faster than a 1x1 convolution of three channels
        return (weight.flatten(2) @ x.flatten(2)).view(x.shape)
    stacked = x.reshape(len(x) // groups, groups * 3, *x.shape[2:])
    return F.conv2d(stacked, weight.flatten(0, 1), padding=k // 2, groups=groups).reshape(x.shape)


def random_convolution_triton(
    x: Tensor, size: Tensor, weight: Tensor, alpha: Tensor, identity: Tensor, bias: Tensor | None, clamp: Clamp
) -> Tensor:
    """One launch, whose loops know the kernel's size; no gradient flows through it, and clamp is not "norm"."""
    layout = suggested(x)
    out = torch.empty(x.shape, device=x.device, memory_format=layout)
    draws = (size, weight, alpha, identity, bias)
    there = [t if t is None else t.to(x.device, non_blocking=True).contiguous() for t in draws]
    triton_form("random_convolution_triton").launch(x.contiguous(memory_format=layout), *there, clamp, out)
    return out


CASES = [(2, 3, 9, 11), (1, 3, 1, 1), (2, 3, 3, 2)]
"""Shapes of x that the tests use, each with kernels of 1 to 7 for the batch and for each image."""
