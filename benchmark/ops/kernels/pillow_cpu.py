"""Pillow's operations compiled for a CPU by Numba: the bytes that ops/pillow.py defines, one image at a time.

An image is packed: uint32 [H*W + 1], red + 256 green + 65536 blue. A black pixel at the end stands for everything
outside the image. Three channels then cost one load, and their arithmetic runs in the processor's vector lanes.
"""

# mypy: ignore-errors
# The types are Numba's, taken from the arguments.

import numpy as np
from numba import float32, int64, uint8, uint32

from benchmark.ops import operations
from benchmark.ops.kernels.numba_compiler import compiled
from benchmark.ops.kernels.pillow_cpu_geometry import affine, translate
from benchmark.ops.kernels.pillow_cpu_pixels import (
    autocontrast,
    blend_with,
    color,
    contrast,
    equalize,
    posterize,
    sharpness,
    solarize,
)


@compiled
def chains(x, op, magnitude, out, turns):
    """Chains of operations. x: uint8 [B,3,H,W]; op: int64 [B,W,D], indices into operations.OPS, negative for none;
    magnitude: float64 [B,W,D]; out: uint8 [B,W,3,H,W], written; turns: float64 [361,2], cosine and sine of -180..180
    degrees."""
    batch, _, height, width = x.shape
    size = height * width
    start, here, there = np.zeros(size + 1, np.uint32), np.zeros(size + 1, np.uint32), np.zeros(size + 1, np.uint32)
    for b in range(batch):
        pack(x[b].reshape(3, size), start)
        for i in range(op.shape[1]):
            here, there = chain(start, here, there, height, width, op[b, i], magnitude[b, i], turns)
            unpack(here, out[b, i].reshape(3, size))


@compiled
def views(x, op, magnitude, w, m, out, turns):
    """Augment-and-mix views. x, out: float32 [B,3,H,W]; w: float32 [B,W]; m: float32 [B]; the rest as for chains."""
    batch, _, height, width = x.shape
    size = height * width
    start, here, there = np.zeros(size + 1, np.uint32), np.zeros(size + 1, np.uint32), np.zeros(size + 1, np.uint32)
    planes, share = np.empty((3, size), np.uint8), np.empty(256, np.float32)
    for b in range(batch):
        source, mixed, kept = x[b].reshape(3, size), out[b].reshape(3, size), float32(1) - m[b]
        for c in range(3):
            for i in range(size):
                planes[c, i] = uint8(min(max(source[c, i], float32(0)), float32(1)) * float32(255))
        pack(planes, start)
        for i in range(op.shape[1]):
            here, there = chain(start, here, there, height, width, op[b, i], magnitude[b, i], turns)
            unpack(here, planes)
            for value in range(256):
                share[value] = w[b, i] * (float32(value) / float32(255))
            for c in range(3):
                for j in range(size):
                    part = share[planes[c, j]]
                    mixed[c, j] = part if i == 0 else mixed[c, j] + part
        for c in range(3):
            for i in range(size):
                mixed[c, i] = kept * source[c, i] + m[b] * mixed[c, i]


@compiled
def chain(start, here, there, height, width, op, magnitude, turns):
    """One chain, from start into the first of the two images that it returns."""
    here[:] = start
    for step in range(len(op)):
        if op[step] >= 0:
            apply(here, there, height, width, op[step], magnitude[step], turns)
            here, there = there, here
    return here, there


@compiled
def pack(planes, packed):
    for i in range(planes.shape[1]):
        packed[i] = uint32(planes[0, i]) | uint32(planes[1, i]) << 8 | uint32(planes[2, i]) << 16


@compiled
def unpack(packed, planes):
    for i in range(planes.shape[1]):
        planes[0, i] = uint8(packed[i])
        planes[1, i] = uint8(packed[i] >> 8)
        planes[2, i] = uint8(packed[i] >> 16)


@compiled
def apply(src, dst, height, width, op, magnitude, turns):
    """One operation, numbered as in operations.OPS, from src to dst."""
    size = height * width
    if op == operations.AUTOCONTRAST:
        autocontrast(src, dst, size)
    elif op == operations.EQUALIZE:
        equalize(src, dst, size)
    elif op == operations.POSTERIZE:
        posterize(src, dst, size, int64(magnitude))
    elif op == operations.ROTATE:
        cos, sin = turns[int64(magnitude) + 180]
        x0 = cos * (-width / 2) + sin * (-height / 2) + width / 2
        y0 = cos * (-height / 2) - sin * (-width / 2) + height / 2
        affine(src, dst, height, width, cos, sin, x0, -sin, cos, y0)
    elif op == operations.SOLARIZE:
        solarize(src, dst, size, 256 - magnitude)
    elif op == operations.SHEAR_X:
        affine(src, dst, height, width, 1.0, magnitude, 0.0, 0.0, 1.0, 0.0)
    elif op == operations.SHEAR_Y:
        affine(src, dst, height, width, 1.0, 0.0, 0.0, magnitude, 1.0, 0.0)
    elif op in (operations.TRANSLATE_X, operations.TRANSLATE_Y):
        pixels, across = int64(magnitude), op == operations.TRANSLATE_X
        translate(src, dst, height, width, pixels if across else 0, 0 if across else pixels)
    elif op == operations.COLOR:
        color(src, dst, size, float32(magnitude + 0.1))
    elif op == operations.CONTRAST:
        contrast(src, dst, size, float32(magnitude + 0.1))
    elif op == operations.BRIGHTNESS:
        blend_with(src, dst, size, 0, float32(magnitude + 0.1))
    else:
        sharpness(src, dst, height, width, float32(magnitude + 0.1))
