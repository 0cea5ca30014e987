"""What SADA's attack does around its Fourier transforms: a step of the amplitudes A at unit phasors P, and the image.

    g = Re(G conj P)    A' = clip(max(0, A + step sign(g) A w moving))    S' = A' P             G: gradient to S = A P
    image = clamp(c clamp(|z| / max |z|, 0, 1), 0, 1)                                           z = ifft2(S)

On a GPU a step reads 20 and writes 12 bytes for each amplitude. An image reads z twice, 16 bytes, and writes 4; its
gradient reads 24 and writes 8.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from benchmark.ops.kernels.dispatch import on_triton, triton_form

Norm = Literal["batch_max", "image_max", "none"]
Magnitude = Literal["abs", "real"]
Bounds: TypeAlias = tuple[Tensor, Tensor] | None
Ascend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor, float, Bounds], tuple[Tensor, Tensor]]
ToImage: TypeAlias = Callable[..., Tensor]
TINY = 1e-12
"""The least divisor: a guard for all-black images only."""


def forms(x: Tensor) -> tuple[Ascend, ToImage]:
    """ascend and to_image for an attack on images x: Triton's for float32 on a GPU, else the definition."""
    if on_triton(x) and x.dtype == torch.float32:
        return ascend_triton, to_image_triton
    return ascend_torch, to_image_torch


def ascend_torch(
    amplitude: Tensor,
    phasor: Tensor,
    gradient: Tensor,
    weight: Tensor | None,
    moving: Tensor,
    step: float,
    bounds: Bounds,
) -> tuple[Tensor, Tensor]:
    """The definition: the next amplitudes, float, and spectrum, complex; these and the first three given are
    [...,C,H,W].

    gradient: of the objective, to the spectrum. weight: [H,W] or None. moving: bool [...], which images go on. bounds:
    of the amplitudes, or None.
    """
    change = step * to_amplitude(gradient, phasor).sign() * amplitude
    if weight is not None:
        change = change * weight
    # Multiplied by `moving` instead of branched on: no synchronisation, and what has stopped keeps its bits.
    change = change * moving[..., None, None, None]
    after = (amplitude + change).clamp(min=0)
    after = after.clamp(*bounds) if bounds else after
    return after, after * phasor


def to_amplitude(gradient: Tensor, phasor: Tensor) -> Tensor:
    """The gradient to the amplitudes from that to the spectrum."""
    return (gradient * phasor.conj()).real


def ascend_triton(
    amplitude: Tensor,
    phasor: Tensor,
    gradient: Tensor,
    weight: Tensor | None,
    moving: Tensor,
    step: float,
    bounds: Bounds,
) -> tuple[Tensor, Tensor]:
    """One launch, with the bits of the definition where the gradient's sign is not round-off."""
    amplitude, phasor = amplitude.contiguous(), phasor.resolve_conj().contiguous()
    after, spectrum = torch.empty_like(amplitude), torch.empty_like(phasor)
    low, high = (bound.contiguous() for bound in bounds) if bounds else (None, None)
    given = [_pairs(phasor), _pairs(gradient), None if weight is None else weight.contiguous(), moving.contiguous()]
    triton_form("spectrum_triton").ascend(amplitude, *given, low, high, step, after, torch.view_as_real(spectrum))
    return after, spectrum


def to_image_torch(z: Tensor, norm: Norm, magnitude: Magnitude, brightness: Tensor | None = None) -> Tensor:
    """The definition: images in [0,1] from the complex inverse transform, [...,B,C,H,W]; differentiable, through the
    maximum too.

    norm: divide by the largest value of the batch, of the image, or not. magnitude: "abs", or "real", where negative
    values are cut. brightness: factor c, [...,1] or [...,B], or None.
    """
    image: Tensor = z.abs() if magnitude == "abs" else z.real
    if norm != "none":
        dims = (-4, -3, -2, -1) if norm == "batch_max" else (-3, -2, -1)
        image = image / image.amax(dims, keepdim=True).clamp(min=TINY)
    image = image.clamp(0, 1)
    if brightness is not None:
        image = (brightness.to(image)[..., None, None, None] * image).clamp(0, 1)
    return image


def to_image_triton(z: Tensor, norm: Norm, magnitude: Magnitude, brightness: Tensor | None = None) -> Tensor:
    """Two launches, and three for its gradient; none flows to or through a brightness."""
    found: Tensor
    if brightness is None:
        found = _Image.apply(z, norm, magnitude)
    else:
        brightness = brightness.to(z.device).expand(z.shape[:-3]).contiguous()
        found, _ = triton_form("spectrum_triton").image(_pairs(z), groups(z, norm), magnitude, brightness)
    return found.view(z.shape)


def groups(z: Tensor, norm: Norm) -> int:
    """Over how many groups of images a maximum is taken; 0: over none."""
    sizes = {"batch_max": z.shape[:-4], "image_max": z.shape[:-3]}
    return sizes[norm].numel() if norm in sizes else 0


class _Image(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, norm: Norm, magnitude: Magnitude) -> Tensor:
        pairs, ctx.groups, ctx.magnitude = _pairs(z.detach()), groups(z, norm), magnitude
        found: Tensor
        found, peak = triton_form("spectrum_triton").image(pairs, ctx.groups, magnitude, None)
        ctx.save_for_backward(pairs, peak)
        ctx.shape = z.shape
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        slope = triton_form("spectrum_triton").image_gradient(
            *ctx.saved_tensors, grads[0].contiguous(), ctx.groups, ctx.magnitude
        )
        return torch.view_as_complex(slope).view(ctx.shape), None, None


def _pairs(z: Tensor) -> Tensor:
    """Real and imaginary parts, side by side in memory."""
    return torch.view_as_real(z.resolve_conj().contiguous())


CASES = [(2, 3, 8, 8), (3, 2, 3, 5, 7), (1, 1, 1, 1), (2, 3, 3, 6, 4)]
"""Shapes of images that the tests use."""
