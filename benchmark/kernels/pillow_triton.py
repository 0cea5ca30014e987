"""Pillow's operations compiled for a GPU by Triton: what pillow_ops defines, byte for byte, one image a program.

An image is packed: int32 [H*W], red + 256 green + 65536 blue. Launch with enable_fp_fusion=False: a fused multiply-add
rounds once, Pillow twice.
"""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.kernels.pillow_triton_geometry import affine, translate
from benchmark.kernels.pillow_triton_pixels import (
    autocontrast,
    blend_with,
    color,
    equalize,
    keep_bits,
    mean_grey,
    sharpness,
    solarize,
)


@triton.jit
def apply(src, dst, op, value, turns, height, width, BLOCK: tl.constexpr):
    """One operation, numbered as in image_ops.OPS, from src to dst; value: its magnitude, float64."""
    size = height * width
    whole, factor = value.to(tl.int32), (value + tl.full((), 0.1, tl.float64)).to(tl.float32)
    half = tl.full((), 0.5, tl.float64)
    if op == 0:
        autocontrast(src, dst, size, BLOCK)
    elif op == 1:
        equalize(src, dst, size, BLOCK)
    elif op == 2:
        keep_bits(src, dst, size, ((whole * 0 + 0xF0) << whole & 255) * 0x010101, BLOCK)
    elif op == 4:
        solarize(src, dst, size, 256 - whole, BLOCK)
    elif (op == 3) | (op == 5) | (op == 6):
        turn = turns + 2 * (tl.where(op == 3, whole, 0) + 180)
        cos, sin = tl.load(turn), tl.load(turn + 1)  # of no angle, for the shears: exactly 1 and 0
        x0 = cos * (-half * width) + sin * (-half * height) + half * width
        y0 = cos * (-half * height) - sin * (-half * width) + half * height
        across, down = tl.where(op == 5, value, sin), tl.where(op == 6, value, -sin)
        affine(src, dst, height, width, cos, across, x0, down, cos, y0, BLOCK)
    elif (op == 7) | (op == 8):
        translate(src, dst, height, width, tl.where(op == 7, whole, 0), tl.where(op == 8, whole, 0), BLOCK)
    elif op == 9:
        color(src, dst, size, factor, BLOCK)
    elif op == 12:
        sharpness(src, dst, height, width, factor, BLOCK)
    else:
        base = tl.full((), 0, tl.int64)
        if op == 10:
            base = mean_grey(src, size, BLOCK)
        blend_with(src, dst, size, base.to(tl.float32), factor, BLOCK)
