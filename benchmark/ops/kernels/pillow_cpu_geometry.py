"""The geometric operations of ops/pillow.py, compiled, on packed images (pillow_cpu)."""

# mypy: ignore-errors
# The types are Numba's, taken from the arguments.

import math

import numpy as np
from numba import float64, int32, int64, uint32

from benchmark.ops.kernels.numba_compiler import compiled


@compiled
def translate(src, dst, height, width, across, down):
    """Output (x, y) is input (x + across, y + down); what comes from outside is black."""
    left, right = min(max(0, -across), width), min(max(0, width - across), width)
    for y in range(height):
        row = y * width
        if 0 <= y + down < height and left < right:
            origin = row + down * width + across
            dst[row : row + left] = 0
            dst[row + left : row + right] = src[origin + left : origin + right]
            dst[row + right : row + width] = 0
        else:
            dst[row : row + width] = 0


@compiled
def affine(src, dst, height, width, xx, xy, x0, yx, yy, y0):
    """Output pixel centre (x, y) reads input (xx x + xy y + x0, yy y + yx x + y0), interpolated as in ops/pillow.py."""
    corner, part = np.empty((4, width), np.uint64), np.empty((2, width))
    four, black = np.empty((4, width), np.uint32), height * width
    for y in range(height):
        row = y + 0.5
        for x in range(width):
            column = x + 0.5
            across, down = (xx * column + xy * row) + x0, (yy * row + yx * column) + y0
            inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
            across, down = across - 0.5, down - 0.5
            left, top = int64(math.floor(across)), int64(math.floor(down))
            part[0, x], part[1, x] = across - left, down - top
            x1, x2 = max(left, 0), min(left + 1, width - 1)
            y1, y2 = max(top, 0) * width, min(top + 1, height - 1) * width
            corner[0, x] = y1 + x1 if inside else black
            corner[1, x] = y1 + x2 if inside else black
            corner[2, x] = y2 + x1 if inside else black
            corner[3, x] = y2 + x2 if inside else black
        for x in range(width):  # a loop of its own: loads at computed places would keep the others from the lanes
            four[0, x], four[1, x] = src[corner[0, x]], src[corner[1, x]]
            four[2, x], four[3, x] = src[corner[2, x]], src[corner[3, x]]
        interpolate(four, part, dst[y * width : (y + 1) * width])


@compiled
def between(a, b, t):
    return a + (b - a) * t


@compiled
def interpolate(four, part, out):
    """One row of pixels from their four neighbours and the position between them."""
    for x in range(len(out)):
        a, b, c, d = int32(four[0, x]), int32(four[1, x]), int32(four[2, x]), int32(four[3, x])
        s, t = part[0, x], part[1, x]
        red = between(between(float64(a & 255), float64(b & 255), s), between(float64(c & 255), float64(d & 255), s), t)
        a, b, c, d = a >> 8, b >> 8, c >> 8, d >> 8
        green = between(
            between(float64(a & 255), float64(b & 255), s), between(float64(c & 255), float64(d & 255), s), t
        )
        a, b, c, d = a >> 8, b >> 8, c >> 8, d >> 8
        blue = between(
            between(float64(a & 255), float64(b & 255), s), between(float64(c & 255), float64(d & 255), s), t
        )
        out[x] = uint32(int32(red) | int32(green) << 8 | int32(blue) << 16)
