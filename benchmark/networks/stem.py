"""A network's first convolution, with a faster gradient with respect to the image on a CPU.

Attacks need that gradient at every step. With y = x * w (valid, stride 1, kernel k x k, three input channels),

    dL/dx[p] = sum_d w[d] dL/dy[p - d]

has three output channels, too few for the processor's lanes. So 2 x 2 output pixels are computed as one pixel of twelve
channels, by a convolution of stride 2 with kernels of k + 1: (k+1)^2/k^2 times the arithmetic, in half the time.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.devices import on_gpu


class Stem(nn.Conv2d):
    """A convolution without padding; numbers as nn.Conv2d's, except for the rounding of the gradient named above."""

    def forward(self, input: Tensor) -> Tensor:
        x, k = input, self.kernel_size[0]
        plain = self.stride == (1, 1) and self.kernel_size == (k, k) and x.shape[2] % 2 == x.shape[3] % 2 == 0
        if plain and x.requires_grad and not on_gpu(x) and not torch.is_autocast_enabled("cpu"):
            found: Tensor = _Convolution.apply(x, self.weight, self.bias)
            return found
        return super().forward(x)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.bias = bias is not None

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        wanted = [False, ctx.needs_input_grad[1], ctx.bias and ctx.needs_input_grad[2]]
        fixed = (
            [1, 1],
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            1,
        )  # stride, padding, dilation, transposed, output padding, groups
        rest = (None, None, None)
        if any(wanted):
            rest = torch.ops.aten.convolution_backward(grad, x, weight, [len(weight)], *fixed, wanted)
        return image_gradient(grad, weight) if ctx.needs_input_grad[0] else None, rest[1], rest[2]


def image_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """dL/dx [B,3,H,W], H and W even, from dL/dy [B,O,H-k+1,W-k+1] and w [O,3,k,k]; differentiable in both."""
    k = weight.shape[-1]
    turned = weight.flip(2, 3).transpose(0, 1)
    shifted = [F.pad(turned, (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)]
    kernels = torch.stack(shifted, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return F.pixel_shuffle(F.conv2d(grad, kernels, stride=2, padding=k - 1), 2)
