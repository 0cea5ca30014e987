"""The geometric operations of pillow_ops for Triton, on packed images (pillow_triton)."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.kernels.pillow_triton_pixels import packed


@triton.jit
def translate(src, dst, height, width, across, down, BLOCK: tl.constexpr):
    """Output (x, y) is input (x + across, y + down); what comes from outside is black."""
    size = height * width
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        y, x = i // width + down, i % width + across
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (i < size)
        tl.store(dst + i, tl.load(src + y * width + x, mask=inside, other=0), mask=i < size)


@triton.jit
def between(a, b, t):
    first = a.to(tl.float64)
    return first + (b.to(tl.float64) - first) * t


@triton.jit
def interpolated(a, b, c, d, s, t):
    upper, lower = between(a, b, s), between(c, d, s)
    return (upper + (lower - upper) * t).to(tl.int32)


@triton.jit
def affine(src, dst, height, width, xx, xy, x0, yx, yy, y0, BLOCK: tl.constexpr):
    """Output pixel centre (x, y) reads input (xx x + xy y + x0, yy y + yx x + y0), interpolated as pillow_ops says."""
    size = height * width
    half = tl.full((), 0.5, tl.float64)
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        row, column = (i // width).to(tl.float64) + half, (i % width).to(tl.float64) + half
        across, down = (xx * column + xy * row) + x0, (yy * row + yx * column) + y0
        inside = (across >= 0) & (across < width) & (down >= 0) & (down < height) & (i < size)
        across, down = across - half, down - half
        left, top = tl.floor(across), tl.floor(down)
        s, t = across - left, down - top
        x1, y1 = left.to(tl.int32), top.to(tl.int32)
        x2, y2 = tl.minimum(x1 + 1, width - 1), tl.minimum(y1 + 1, height - 1) * width
        x1, y1 = tl.maximum(x1, 0), tl.maximum(y1, 0) * width
        a, b = tl.load(src + y1 + x1, mask=inside, other=0), tl.load(src + y1 + x2, mask=inside, other=0)
        c, d = tl.load(src + y2 + x1, mask=inside, other=0), tl.load(src + y2 + x2, mask=inside, other=0)
        red = interpolated(a & 255, b & 255, c & 255, d & 255, s, t)
        green = interpolated(a >> 8 & 255, b >> 8 & 255, c >> 8 & 255, d >> 8 & 255, s, t)
        blue = interpolated(a >> 16, b >> 16, c >> 16, d >> 16, s, t)
        tl.store(dst + i, packed(red, green, blue), mask=i < size)
