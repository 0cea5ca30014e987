"""The pointwise operations of ops/pillow.py for Triton, with helpers, on tiles of packed pixels (pillow_triton)."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl


@triton.jit
def packed(red, green, blue):
    return red | green << 8 | blue << 16


@triton.jit
def blended(base, value, factor):
    """base + factor (value - base) in single precision, cut to a byte."""
    found = (value.to(tl.float32) - base) * factor + base
    return tl.minimum(tl.maximum(found, 0.0), 255.0).to(tl.int32)


@triton.jit
def blend(p, red, green, blue, factor):
    """Blends each channel with its base."""
    return packed(
        blended(red, p & 255, factor), blended(green, p >> 8 & 255, factor), blended(blue, p >> 16, factor)
    )  # fmt: skip


@triton.jit
def grey(p):
    return (19595 * (p & 255) + 38470 * (p >> 8 & 255) + 7471 * (p >> 16) + 32768) >> 16


@triton.jit
def inverted(value, threshold):
    return tl.where(value < threshold, value, 255 - value)


@triton.jit
def solarize(p, threshold):
    red, green = inverted(p & 255, threshold), inverted(p >> 8 & 255, threshold)
    return packed(red, green, inverted(p >> 16, threshold))


@triton.jit
def look_up(table, p):
    """Replaces each byte by its channel's entry in a table of packed entries, int32 [256]."""
    red, green = tl.gather(table, p & 255, 0) & 0xFF, tl.gather(table, p >> 8 & 255, 0) & 0xFF00
    return red | green | tl.gather(table, p >> 16, 0) & 0xFF0000
