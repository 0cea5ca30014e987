"""The pointwise, histogram and neighbourhood operations of pillow_ops for Triton, on packed images (pillow_triton)."""

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
def grey(p):
    return (19595 * (p & 255) + 38470 * (p >> 8 & 255) + 7471 * (p >> 16) + 32768) >> 16


@triton.jit
def stretched(value, low, high):
    """The entry of autocontrast's table, each operation rounded to double precision."""
    bottom = low.to(tl.float64)
    scale = tl.full((), 255, tl.float64) / tl.maximum(high - low, 1).to(tl.float64)
    found = value.to(tl.float64) * scale - bottom * scale
    limit = tl.full((), 255, tl.float64)
    return tl.where(high > low, tl.minimum(tl.maximum(found, 0), limit).to(tl.int32), value)


@triton.jit
def autocontrast(src, dst, size, BLOCK: tl.constexpr):
    r0, g0, b0 = tl.full((BLOCK,), 255, tl.int32), tl.full((BLOCK,), 255, tl.int32), tl.full((BLOCK,), 255, tl.int32)
    r1, g1, b1 = tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.int32)
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        least, most = tl.load(src + i, mask=i < size, other=0xFFFFFF), tl.load(src + i, mask=i < size, other=0)
        r0, r1 = tl.minimum(r0, least & 255), tl.maximum(r1, most & 255)
        g0, g1 = tl.minimum(g0, least >> 8 & 255), tl.maximum(g1, most >> 8 & 255)
        b0, b1 = tl.minimum(b0, least >> 16), tl.maximum(b1, most >> 16)
    red0, green0, blue0 = tl.min(r0, 0), tl.min(g0, 0), tl.min(b0, 0)
    red1, green1, blue1 = tl.max(r1, 0), tl.max(g1, 0), tl.max(b1, 0)
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        red, green = stretched(p & 255, red0, red1), stretched(p >> 8 & 255, green0, green1)
        tl.store(dst + i, packed(red, green, stretched(p >> 16, blue0, blue1)), mask=i < size)


@triton.jit
def flattening(histogram, size):
    """Equalize's table, int32 [256]."""
    level = tl.arange(0, 256)
    top = tl.max(tl.where(histogram > 0, level, 0), 0)
    step = (size - tl.sum(tl.where(level == top, histogram, 0), 0)) // 255
    below = tl.cumsum(histogram, 0) - histogram
    return tl.where(step > 0, tl.minimum((below + step // 2) // tl.maximum(step, 1), 255), level)


@triton.jit
def equalize(src, dst, size, BLOCK: tl.constexpr):
    reds, greens, blues = tl.zeros((256,), tl.int32), tl.zeros((256,), tl.int32), tl.zeros((256,), tl.int32)
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        reds += tl.histogram(p & 255, 256, mask=i < size)
        greens += tl.histogram(p >> 8 & 255, 256, mask=i < size)
        blues += tl.histogram(p >> 16, 256, mask=i < size)
    reds, greens, blues = flattening(reds, size), flattening(greens, size), flattening(blues, size)
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        red, green = tl.gather(reds, p & 255, 0), tl.gather(greens, p >> 8 & 255, 0)
        tl.store(dst + i, packed(red, green, tl.gather(blues, p >> 16, 0)), mask=i < size)


@triton.jit
def keep_bits(src, dst, size, kept, BLOCK: tl.constexpr):
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        tl.store(dst + i, tl.load(src + i, mask=i < size, other=0) & kept, mask=i < size)


@triton.jit
def inverted(value, threshold):
    return tl.where(value < threshold, value, 255 - value)


@triton.jit
def solarize(src, dst, size, threshold, BLOCK: tl.constexpr):
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        red, green = inverted(p & 255, threshold), inverted(p >> 8 & 255, threshold)
        tl.store(dst + i, packed(red, green, inverted(p >> 16, threshold)), mask=i < size)


@triton.jit
def mean_grey(src, size, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.int64)
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        total += tl.where(i < size, grey(p), 0)
    return (2 * tl.sum(total, 0) + size) // (2 * size)


@triton.jit
def blend_with(src, dst, size, base, factor, BLOCK: tl.constexpr):
    """Blends every byte with one number."""
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        red, green = blended(base, p & 255, factor), blended(base, p >> 8 & 255, factor)
        tl.store(dst + i, packed(red, green, blended(base, p >> 16, factor)), mask=i < size)


@triton.jit
def color(src, dst, size, factor, BLOCK: tl.constexpr):
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        level = grey(p).to(tl.float32)
        red, green = blended(level, p & 255, factor), blended(level, p >> 8 & 255, factor)
        tl.store(dst + i, packed(red, green, blended(level, p >> 16, factor)), mask=i < size)


@triton.jit
def smoothed(total, value, factor):
    return blended(((2 * total + 13) // 26).to(tl.float32), value, factor)


@triton.jit
def sharpness(src, dst, height, width, factor, BLOCK: tl.constexpr):
    size = height * width
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        y, x = i // width, i % width
        inner = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
        p = tl.load(src + i, mask=i < size, other=0)
        # Red and blue are summed together in the two halves of a word: 13 * 255 takes 12 bits.
        both, green = 4 * (p & 0xFF00FF), 4 * (p >> 8 & 255)
        for dy in tl.static_range(-1, 2):
            for dx in tl.static_range(-1, 2):
                q = tl.load(src + i + dy * width + dx, mask=inner, other=0)
                both += q & 0xFF00FF
                green += q >> 8 & 255
        out = packed(
            smoothed(both & 0xFFFF, p & 255, factor),
            smoothed(green, p >> 8 & 255, factor),
            smoothed(both >> 16, p >> 16, factor),
        )
        tl.store(dst + i, tl.where(inner, out, p), mask=i < size)
