"""The Triton form of spectrum_step. Complex numbers are pairs of floats, [...,2]; images lie one after another."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import torch
import triton
import triton.language as tl

BLOCK = 512
EXACT = {"enable_fp_fusion": False}
"""Each operation is rounded: as in the definition, and so that a value is the largest in every kernel or in none."""


def ascend(amplitude, phasor, gradient, weight, moving, low, high, step, after, spectrum):
    """Writes `after` and `spectrum`; see spectrum_step.ascend_torch. low, high: bounds of each amplitude, or None."""
    bins = amplitude.shape[-2] * amplitude.shape[-1]
    _ascend[(triton.cdiv(amplitude.numel(), BLOCK),)](
        amplitude, phasor, gradient, weight, moving, low, high, step, after, spectrum, amplitude.numel(),
        amplitude.shape[-3] * bins, bins,
        WEIGHT=weight is not None, BOUNDS=low is not None, BLOCK=BLOCK, **EXACT,
    )  # fmt: skip


def image(z, groups, magnitude, brightness):
    """The image [E] of z [...,H,W,2] and each group's largest value [groups]; groups 0: none is divided by."""
    elements = z.numel() // 2
    found, peak = z.new_empty(elements), z.new_zeros(max(1, groups))
    group = elements // max(1, groups)
    if groups:
        _peak[(triton.cdiv(group, BLOCK), groups)](z, peak, group, ABS=magnitude == "abs", BLOCK=BLOCK, **EXACT)
    pixels = z.shape[-4:-1].numel()
    _finish[(triton.cdiv(elements, BLOCK),)](
        z, peak, brightness, found, elements, group, pixels,
        ABS=magnitude == "abs", NORM=groups > 0, BRIGHT=brightness is not None, BLOCK=BLOCK, **EXACT,
    )  # fmt: skip
    return found, peak


def image_gradient(z, peak, gradient, groups, magnitude):
    """The gradient to z, of its shape, from that to the image."""
    elements = z.numel() // 2
    group = elements // max(1, groups)
    blocks = triton.cdiv(group, BLOCK)
    constants = {"ABS": magnitude == "abs", "NORM": groups > 0, "BLOCK": BLOCK, **EXACT}
    through = ties = None
    if groups:
        sums = z.new_empty(2, groups, blocks)
        _sums[(blocks, groups)](
            z, peak, gradient, sums, group, groups * blocks, ABS=magnitude == "abs", BLOCK=BLOCK, **EXACT
        )
        through, ties = sums.sum(dim=2)
    out = torch.empty_like(z)
    _slope[(triton.cdiv(elements, BLOCK),)](z, peak, gradient, through, ties, out, elements, group, **constants)
    return out


@triton.jit
def pair(z, i, mask):
    """Two tiles, the real and the imaginary parts."""
    at = z + 2 * i[:, None] + tl.arange(0, 2)[None, :]
    return tl.split(tl.load(at, mask=mask[:, None], other=0))


@triton.jit
def store_pair(z, i, real, imaginary, mask):
    at = z + 2 * i[:, None] + tl.arange(0, 2)[None, :]
    tl.store(at, tl.join(real, imaginary), mask=mask[:, None])


@triton.jit
def size_of(real, imaginary, ABS: tl.constexpr):
    if ABS:
        real = tl.sqrt_rn(real * real + imaginary * imaginary)
    return real


@triton.jit
def _ascend(
    amplitude, phasor, gradient, weight, moving, low, high, step, after, spectrum, elements, per_image, bins,
    WEIGHT: tl.constexpr, BOUNDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < elements
    a = tl.load(amplitude + i, mask=there, other=0)
    p_real, p_imaginary = pair(phasor, i, there)
    g_real, g_imaginary = pair(gradient, i, there)
    slope = g_real * p_real + g_imaginary * p_imaginary
    change = tl.where(slope > 0, step, tl.where(slope < 0, -step, 0.0)) * a
    if WEIGHT:
        change *= tl.load(weight + i % bins, mask=there, other=0)
    a = tl.maximum(a + tl.where(tl.load(moving + i // per_image, mask=there, other=0) != 0, change, 0.0), 0.0)
    if BOUNDS:
        a = tl.maximum(a, tl.load(low + i, mask=there, other=0))
        a = tl.minimum(a, tl.load(high + i, mask=there, other=0))
    tl.store(after + i, a, mask=there)
    store_pair(spectrum, i, a * p_real, a * p_imaginary, there)


@triton.jit
def _peak(z, peak, group, ABS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real, imaginary = pair(z, tl.program_id(1).to(tl.int64) * group + i, i < group)
    # Values below zero cannot win: the divisor is positive.
    tl.atomic_max(peak + tl.program_id(1), tl.maximum(tl.max(size_of(real, imaginary, ABS), 0), 0.0))


@triton.jit
def divided(value, peak, i, group, there, NORM: tl.constexpr):
    if NORM:
        value = tl.div_rn(value, tl.maximum(tl.load(peak + i // group, mask=there, other=1), 1e-12))
    return value


@triton.jit
def _finish(
    z, peak, brightness, out, elements, group, pixels,
    ABS: tl.constexpr, NORM: tl.constexpr, BRIGHT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < elements
    real, imaginary = pair(z, i, there)
    value = divided(size_of(real, imaginary, ABS), peak, i, group, there, NORM)
    value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    if BRIGHT:
        value = tl.minimum(tl.load(brightness + i // pixels, mask=there, other=0) * value, 1.0)
    tl.store(out + i, value, mask=there)


@triton.jit
def passed(value, gradient, i, there):
    """The gradient that the cut to [0,1] lets through to `value`: none at its two ends, as in torch."""
    found = tl.load(gradient + i, mask=there, other=0)
    return tl.where((value > 0) & (value < 1), found, 0.0)


@triton.jit
def _sums(z, peak, gradient, sums, group, stride, ABS: tl.constexpr, BLOCK: tl.constexpr):
    """For each block of a group: the sum of gradient times value, and how many values are the largest."""
    block = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there, i = block < group, tl.program_id(1).to(tl.int64) * group + block
    real, imaginary = pair(z, i, there)
    value, largest = size_of(real, imaginary, ABS), tl.load(peak + tl.program_id(1))
    slope = passed(divided(value, peak, i, group, there, True), gradient, i, there)
    at = sums + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(at, tl.sum(slope * value, 0))
    tl.store(at + stride, tl.sum(tl.where(there & (value == largest), 1.0, 0.0), 0))


@triton.jit
def _slope(
    z, peak, gradient, through, ties, out, elements, group,
    ABS: tl.constexpr, NORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < elements
    real, imaginary = pair(z, i, there)
    value = size_of(real, imaginary, ABS)
    slope = passed(divided(value, peak, i, group, there, NORM), gradient, i, there)
    if NORM:
        largest = tl.load(peak + i // group, mask=there, other=1)
        divisor = tl.maximum(largest, 1e-12)
        count = tl.maximum(tl.load(ties + i // group, mask=there, other=1), 1.0)  # none where all is black or below
        share = tl.load(through + i // group, mask=there, other=0) / count
        to_largest = tl.where((value == largest) & (largest >= 1e-12), share / divisor, 0.0)
        slope = (slope - to_largest) / divisor
    if ABS:
        scale = tl.where(value > 0, slope / tl.where(value > 0, value, 1.0), 0.0)
        store_pair(out, i, real * scale, imaginary * scale, there)
    else:
        store_pair(out, i, slope, tl.zeros_like(slope), there)
