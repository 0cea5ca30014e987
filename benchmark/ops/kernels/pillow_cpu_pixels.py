"""The pointwise, histogram and neighbourhood operations of ops/pillow.py, compiled, on packed images (pillow_cpu)."""

# mypy: ignore-errors
# The types are Numba's, taken from the arguments.

import numpy as np
from numba import float32, float64, int32, int64, uint32

from benchmark.ops.kernels.numba_compiler import compiled


@compiled
def look_up(src, dst, size, table):
    """Replaces every byte by its entry in table, uint32 [3,256]."""
    for i in range(size):
        p = src[i]
        dst[i] = table[0, p & 255] | table[1, p >> 8 & 255] << 8 | table[2, p >> 16 & 255] << 16


@compiled
def autocontrast(src, dst, size):
    low, high, table = np.full(3, 255, np.int64), np.zeros(3, np.int64), np.empty((3, 256), np.uint32)
    for c in range(3):
        least, most = uint32(255), uint32(0)
        for i in range(size):
            value = src[i] >> uint32(8 * c) & uint32(255)
            least, most = min(least, value), max(most, value)
        low[c], high[c] = least, most
        scale = 255.0 / float64(high[c] - low[c])
        for v in range(256):
            stretched = min(max(v * scale - low[c] * scale, 0.0), 255.0)
            table[c, v] = uint32(stretched) if high[c] > low[c] else uint32(v)
    look_up(src, dst, size, table)


@compiled
def equalize(src, dst, size):
    histogram, table = np.zeros((3, 256), np.int64), np.empty((3, 256), np.uint32)
    for i in range(size):
        p = src[i]
        histogram[0, p & 255] += 1
        histogram[1, p >> 8 & 255] += 1
        histogram[2, p >> 16 & 255] += 1
    for c in range(3):
        top = 255
        while histogram[c, top] == 0:
            top -= 1
        step, below = (size - histogram[c, top]) // 255, 0
        for v in range(256):
            table[c, v] = uint32(min((below + step // 2) // step, 255)) if step > 0 else uint32(v)
            below += histogram[c, v]
    look_up(src, dst, size, table)


@compiled
def posterize(src, dst, size, dropped):
    """Keeps the highest 4 - dropped bits of each byte."""
    kept = uint32((-(1 << (4 + dropped)) & 255) * 0x010101)
    for i in range(size):
        dst[i] = src[i] & kept


@compiled
def solarize(src, dst, size, threshold):
    table = np.empty((3, 256), np.uint32)
    for v in range(256):
        table[:, v] = uint32(v if v < threshold else 255 - v)
    look_up(src, dst, size, table)


@compiled
def blended(degenerate, value, factor):
    """degenerate + factor (value - degenerate) in single precision, cut to a byte."""
    base = float32(degenerate)
    return uint32(min(max((float32(value) - base) * factor + base, float32(0)), float32(255)))


@compiled
def blend_with(src, dst, size, degenerate, factor):
    """Blends every byte with one number."""
    table = np.empty((3, 256), np.uint32)
    for v in range(256):
        table[:, v] = blended(degenerate, v, factor)
    look_up(src, dst, size, table)


@compiled
def grey(p):
    return (19595 * (p & 255) + 38470 * (p >> 8 & 255) + 7471 * (p >> 16 & 255) + 32768) >> 16


@compiled
def contrast(src, dst, size, factor):
    total = int64(0)
    for i in range(size):
        total += grey(int64(src[i]))
    blend_with(src, dst, size, (2 * total + size) // (2 * size), factor)


@compiled
def color(src, dst, size, factor):
    for i in range(size):
        p = int32(src[i])
        level = grey(p)
        red, green = blended(level, p & 255, factor), blended(level, p >> 8 & 255, factor)
        dst[i] = red | green << 8 | blended(level, p >> 16 & 255, factor) << 16


@compiled
def sharpness(src, dst, height, width, factor):
    for y in range(height):
        for x in range(width):
            i = y * width + x
            if 0 < y < height - 1 and 0 < x < width - 1:
                out = uint32(0)
                for shift in (0, 8, 16):
                    total = 4 * (src[i] >> shift & 255)
                    for row in (i - width, i, i + width):
                        total += (
                            (src[row - 1] >> shift & 255) + (src[row] >> shift & 255) + (src[row + 1] >> shift & 255)
                        )
                    out |= blended((2 * total + 13) // 26, src[i] >> shift & 255, factor) << shift
                dst[i] = out
            else:
                dst[i] = src[i]
