"""The AugMix operations, batched: every image has its own operation, level and sign, on a CPU or a GPU.

AugMix, AugMax and SADA share them. All thirteen turn uint8 images into exactly the bytes that Pillow gives. So the same
draws make the same pictures as the released code (Hendrycks et al., AugMix, ICLR 2020), which has these ranges. What is
random is drawn here; kernels/augment_mix.py applies it.

Magnitudes at level l, where int() cuts towards zero and the sign comes last:

    autocontrast, equalize      none
    posterize                   keeps 4 - int(4 l / 10) bits
    rotate                      +-int(30 l / 10) degrees, counter-clockwise, about the centre
    solarize                    inverts values from 256 - int(256 l / 10) up
    shear_x, shear_y            +-0.3 l / 10; the top left corner stays
    translate_x, translate_y    +-int((size / 3) l / 10) pixels, left or up for +; size: the image's width or height
    color, contrast, brightness, sharpness
                                blend with factor 1.8 l / 10 + 0.1; factor 1 is the identity, so that below level 5 a
                                smaller level is a stronger effect
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.timing import span
from benchmark.ops.kernels import augment_mix
from benchmark.ops.operations import NINE, OPS, OpName

__all__ = [
    "NINE", "OPS", "MixDraws", "OpName", "apply_chains", "apply_op", "augmix_view", "augmix_views", "magnitudes",
    "sample_chains", "sample_mix",
]  # fmt: skip


@dataclass(frozen=True)
class MixDraws:
    """All that is random in B augment-and-mix views of W chains of at most D operations.

    w: weights of the chains, float32 [B,W], on the simplex. m: share of the augmented mixture, float32 [B] in [0,1].
    depth: operations in each chain, int64 [B,W] in 1..D. op: indices into OPS, int64 [B,W,D], -1 beyond the chain's
    depth. level: float64 [B,W,D] in [0,10]. sign: +1 or -1, int64 [B,W,D]. An operation uses the last two or not.
    """

    w: Tensor
    m: Tensor
    depth: Tensor
    op: Tensor
    level: Tensor
    sign: Tensor


def sample_mix(
    batch: int,
    generator: torch.Generator,
    *,
    ops: Sequence[str] = NINE,
    severity: float = 3.0,
    width: int = 3,
    depth: int = -1,
    alpha: float = 1.0,
) -> MixDraws:
    """Draws for `batch` views, on the generator's device.

    w ~ Dirichlet(alpha, ..., alpha), m ~ Beta(alpha, alpha); a chain has `depth` operations, or 1 to 3 for a depth
    below 1; each is uniform over `ops`, its level U[0.1, severity) for a severity in [0.1, 10], its sign a fair coin.
    Raises UsageError for an unknown operation.
    """
    for name in ops:
        if name not in OPS:
            raise UsageError(f"unknown operation '{name}': {did_you_mean(name, OPS)}")
    w, m, depths, chosen = sample_chains(batch, generator, choices=len(ops), width=width, depth=depth, alpha=alpha)
    op = _choice(tuple(ops), generator.device)[chosen.clamp(min=0)].where(chosen >= 0, -1)
    level = 0.1 + (severity - 0.1) * torch.rand(op.shape, generator=generator, device=op.device, dtype=torch.float64)
    sign = 2 * torch.randint(0, 2, op.shape, generator=generator, device=op.device) - 1
    return MixDraws(w, m, depths, op, level, sign)


def sample_chains(
    batch: int, generator: torch.Generator, *, choices: int, width: int, depth: int, alpha: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """w, m, depth and op of MixDraws for operations that are numbered 0..choices-1; PRIME has chains of its own."""
    device = generator.device

    def shares(count: int) -> Tensor:
        gamma = torch._standard_gamma(_full(batch, count, alpha, device), generator)
        return (gamma / gamma.sum(dim=1, keepdim=True)).float()

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator, device=device)

    shallowest, deepest = (depth, depth) if depth > 0 else (1, 3)
    w, m, depths = shares(width), shares(2)[:, 0], integers(shallowest, deepest + 1, batch, width)
    op = integers(0, choices, batch, width, deepest)
    return w, m, depths, op.where(_places(deepest, device) < depths[..., None], -1)


def augmix_view(x: Tensor, draws: MixDraws) -> Tensor:
    """One augment-and-mix view of each image: x float [B,3,H,W] in [0,1], and so is the view."""
    return augmix_views(x, [draws])[0]


@span("augment")
def augmix_views(x: Tensor, draws: Sequence[MixDraws]) -> list[Tensor]:
    """One view of x for each of the draws, made in one batch."""
    joint = MixDraws(*(torch.cat([getattr(d, field.name) for d in draws]) for field in fields(MixDraws)))
    magnitude = magnitudes(joint.op, joint.level, joint.sign, *x.shape[2:])
    return list(augment_mix.views(x, joint.op, magnitude, joint.w, joint.m).chunk(len(draws)))


def apply_chains(x: Tensor, draws: MixDraws) -> Tensor:
    """Every image's chains of operations, unmixed: uint8 [B,3,H,W] to uint8 [B,W,3,H,W]."""
    with span("augment"):
        return augment_mix.chains(x, draws.op, magnitudes(draws.op, draws.level, draws.sign, *x.shape[2:]))


def apply_op(x: Tensor, op: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """One operation for each image of x, uint8 [N,3,H,W]: op [N] indexes OPS, and -1 leaves the image as it is; level
    [N] in [0,10]; sign [N] of +1 and -1."""
    slots = op[:, None, None], magnitudes(op, level, sign, *x.shape[2:])[:, None, None]
    return augment_mix.chains(x, *slots)[:, 0]


def magnitudes(op: Tensor, level: Tensor, sign: Tensor, height: int, width: int) -> Tensor:
    """What the operations do with their levels and signs, float64 of the same shape, on the same device."""
    maximum, whole, signed = _rules(height, width, op.device)
    # Divided by a tensor: a GPU divides by a number by multiplying with its rounded inverse.
    value = level.double() * maximum[op] / torch.full_like(level, 10, dtype=torch.float64)
    value = value.trunc().where(whole[op], value)
    return (sign * value).where(signed[op], value)


@cache
def _rules(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of OPS: the magnitude at level 10, whether it is cut to a whole number, and whether it has a sign. Kept
    on the device, because a copy to it in every step would make the host wait."""
    maximum = _MAXIMUM | {"translate_x": width / 3, "translate_y": height / 3}
    whole = ("posterize", "rotate", "solarize", "translate_x", "translate_y")
    return (
        torch.tensor([maximum.get(name, 0.0) for name in OPS], dtype=torch.float64, device=device),
        torch.tensor([name in whole for name in OPS], device=device),
        torch.tensor([name.startswith(("rotate", "shear", "translate")) for name in OPS], device=device),
    )


_MAXIMUM = {
    "posterize": 4.0, "rotate": 30.0, "solarize": 256.0, "shear_x": 0.3, "shear_y": 0.3,
    "color": 1.8, "contrast": 1.8, "brightness": 1.8, "sharpness": 1.8,
}  # fmt: skip


@cache
def _full(batch: int, count: int, alpha: float, device: torch.device) -> Tensor:
    return torch.full((batch, count), alpha, dtype=torch.float64, device=device)


@cache
def _places(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device)


@cache
def _choice(ops: tuple[str, ...], device: torch.device) -> Tensor:
    """Indices into OPS, kept on the device."""
    return torch.tensor([OPS.index(name) for name in ops], device=device)
