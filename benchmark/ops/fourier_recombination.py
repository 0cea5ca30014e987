"""Images made of one image's Fourier amplitudes and another's phases (APR, Chen et al., ICCV 2021)."""

from typing import Literal

import torch
from torch import Tensor

from benchmark.core.timing import span
from benchmark.ops.augmix import apply_op
from benchmark.ops.kernels.augment_mix import to_uint8

Overflow = Literal["wrap", "clip"]
DIMS = (-3, -2, -1)


@span("augment")
def recombine(amplitude_of: Tensor, phase_of: Tensor) -> Tensor:
    """Re ifftn(|fftn(amplitude_of)| exp(i angle fftn(phase_of))), over channels, rows and columns of each image.

    Both float [B,C,H,W], in any unit; so is the result, in the same unit. It may leave the range of the two.
    Where the spectrum of phase_of is zero up to round-off, that round-off decides the phase.
    """
    amplitude, phase = torch.fft.fftn(amplitude_of, dim=DIMS).abs(), torch.fft.fftn(phase_of, dim=DIMS).angle()
    found: Tensor = torch.fft.ifftn(torch.polar(amplitude, phase), dim=DIMS).real
    return found


def to_bytes(value: Tensor, overflow: Overflow) -> Tensor:
    """Floats in units of 1/255 as uint8: cut towards zero; then values outside of 0..255 wrap around, 256 to 0 and -1
    to 255 (NumPy's cast), or are clipped."""
    whole = value.trunc()
    return (whole.remainder(256) if overflow == "wrap" else whole.clamp(0, 255)).to(torch.uint8)


@span("augment")
def recombine_with_own(
    x: Tensor, op: Tensor, level: Tensor, sign: Tensor, again: Tensor, swapped: Tensor, overflow: Overflow = "wrap"
) -> Tensor:
    """APR-S: u = op_0(x); where `again`, u recombined with op_1(u); elsewhere u. On 8-bit images.

    x: float [B,3,H,W] in [0,1], and so is the result. op, level, sign: [B,2], as augmix.apply_op takes them. again,
    swapped: bool [B]; swapped: amplitudes of op_1(u) and phases of u, else the other way round.
    """
    u = apply_op(to_uint8(x), op[:, 0], level[:, 0], sign[:, 0])
    other = apply_op(u, op[:, 1], level[:, 1], sign[:, 1])
    swap = swapped[:, None, None, None]
    first, second = torch.where(swap, other, u).double(), torch.where(swap, u, other).double()  # NumPy's precision
    mixed = to_bytes(recombine(first, second), overflow)
    return torch.where(again[:, None, None, None], mixed, u).to(x.dtype) / 255
