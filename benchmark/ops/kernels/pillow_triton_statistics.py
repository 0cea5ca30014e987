"""The whole-image statistics that autocontrast, equalize and contrast need, and the tables made from them.

A statistic is of whole numbers, and their sums and maxima are the same in every order. So programs that know nothing of
each other may gather it tile by tile, and it is exact.
"""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl


@triton.jit
def extremes(p, there):
    """The largest values and the largest of 255 less the values, int32 [8]: red, red', blue, blue', green, green',
    blue, blue'. One reduction for all."""
    red, green, blue = p & 255, p >> 8 & 255, p >> 16
    values = tl.join(tl.join(red, green), tl.join(blue, blue))
    values = tl.join(values, 255 - values)
    return tl.reshape(tl.max(tl.where(there[:, None, None, None], values, 0), 0), (8,))


@triton.jit
def stretching(eight):
    """Autocontrast's table from the extremes, packed, int32 [256]; each operation is rounded to double precision."""
    level = tl.arange(0, 256)
    high, low = tl.split(tl.reshape(eight, (2, 2, 2)))
    high_red, high_green, high_blue = three(high)
    low_red, low_green, low_blue = three(255 - low)
    red, green = stretched(level, low_red, high_red), stretched(level, low_green, high_green)
    return red | green << 8 | stretched(level, low_blue, high_blue) << 16


@triton.jit
def three(four):
    """Red, green and blue of [2,2] extremes."""
    pair, blues = tl.split(four)
    red, green = tl.split(pair)
    blue, _ = tl.split(blues)
    return red, green, blue


@triton.jit
def stretched(value, low, high):
    bottom = low.to(tl.float64)
    scale = tl.full((), 255, tl.float64) / tl.maximum(high - low, 1).to(tl.float64)
    found = value.to(tl.float64) * scale - bottom * scale
    limit = tl.full((), 255, tl.float64)
    return tl.where(high > low, tl.minimum(tl.maximum(found, 0), limit).to(tl.int32), value)


@triton.jit
def histograms(p, there):
    """How often each level occurs in each channel, three int32 [256]."""
    red, green = tl.histogram(p & 255, 256, mask=there), tl.histogram(p >> 8 & 255, 256, mask=there)
    return red, green, tl.histogram(p >> 16, 256, mask=there)


@triton.jit
def field(word, channel: tl.constexpr):
    return (word >> 21 * channel & 0x1FFFFF).to(tl.int32)


@triton.jit
def flattening(red, green, blue, size):
    """Equalize's table from the histograms, packed, int32 [256]. The three are summed together in 64 bits, which an
    image of less than 2^21 pixels allows."""
    level = tl.arange(0, 256)
    counts = red.to(tl.int64) | green.to(tl.int64) << 21 | blue.to(tl.int64) << 42
    below = tl.cumsum(counts, 0) - counts
    highest = tl.zeros((256,), tl.int64)  # the count of the highest level that occurs, at that level
    for channel in tl.static_range(3):
        count, under = field(counts, channel), field(below, channel)
        last = (under < size) & (under + count == size)
        highest |= tl.where(last, count, 0).to(tl.int64) << 21 * channel
    highest = tl.sum(highest, 0)
    table = tl.zeros((256,), tl.int32)
    for channel in tl.static_range(3):
        step = (size - field(highest, channel)) // 255
        found = (field(below, channel) + step // 2) // tl.maximum(step, 1)
        table |= tl.where(step > 0, tl.minimum(found, 255), level) << 8 * channel
    return table


@triton.jit
def rounded_mean(total, size):
    """total / size, rounded half up, as float32."""
    return ((2 * total.to(tl.int64) + size) // (2 * size)).to(tl.float32)
