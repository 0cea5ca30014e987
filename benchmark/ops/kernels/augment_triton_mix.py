"""How augment_triton reads images, and what it writes: bytes, or chains mixed with their image."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.ops.kernels.dispatch import tile
from benchmark.ops.kernels.pillow_triton_pixels import packed

TILE = 512
LANE = 4
"""Pixels of a tile that a program mixes, and those of them that a lane takes."""


def launch(x, made, w, m, out, *, pixels=TILE, lane=LANE):
    """Mixes finished chains, packed, int32 [views,chains,H*W], with the images."""
    (views, chains, size), last = made.shape, not out.is_contiguous()
    block = tile(size, pixels)
    mix[(views, triton.cdiv(size, block))](
        x, made, w, m, out, len(x), chains, 1 if last else size, 3 if last else 1, size,
        BLOCK=block, num_warps=max(1, block // (32 * lane)), num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit(do_not_specialize=("images",))
def mix(x, made, w, m, out, images, chains, per_channel, per_pixel, size, BLOCK: tl.constexpr):
    view = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = i < size
    red, green, blue = nothing(BLOCK)
    for chain in range(chains):
        unit = view * chains + chain
        p = tl.load(made + unit * size + i, mask=there, other=0)
        red, green, blue = add_chain(red, green, blue, p, tl.load(w + unit))
    source, target = x + view % images * 3 * size + i * per_pixel, out + view * 3 * size + i * per_pixel
    blend_with_image(source, target, per_channel, red, green, blue, tl.load(m + view), there)


@triton.jit
def byte(x, FLOATS: tl.constexpr):
    if FLOATS:
        x = tl.minimum(tl.maximum(x, 0.0), 1.0) * 255.0
    return x.to(tl.int32)


@triton.jit
def pack(x, per_channel, there, FLOATS: tl.constexpr):
    """Packed pixels from the reds at x, as to_uint8 makes them of floats."""
    red = byte(tl.load(x, mask=there, other=0), FLOATS)
    green = byte(tl.load(x + per_channel, mask=there, other=0), FLOATS)
    return packed(red, green, byte(tl.load(x + 2 * per_channel, mask=there, other=0), FLOATS))


@triton.jit
def unpack(out, per_channel, p, there):
    tl.store(out, (p & 255).to(tl.uint8), mask=there)
    tl.store(out + per_channel, (p >> 8 & 255).to(tl.uint8), mask=there)
    tl.store(out + 2 * per_channel, (p >> 16).to(tl.uint8), mask=there)


@triton.jit
def nothing(BLOCK: tl.constexpr):
    return tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)


@triton.jit
def add_chain(red, green, blue, p, share):
    """The mixture and share times a chain's pixels."""
    red, green = red + share * fraction(p & 255), green + share * fraction(p >> 8 & 255)
    return red, green, blue + share * fraction(p >> 16)


@triton.jit
def fraction(level):
    """level / 255, rounded once, for a byte: 1/255 is 257/65536 and 1/65536 of itself, and the first product is exact.
    A division would take a dozen operations. test_kernels.py holds all 256 to it."""
    level = level.to(tl.float32)
    return level * (257 / 65536) + level * (1 / 255 / 65536)


@triton.jit
def blend_with_image(x, out, per_channel, red, green, blue, m, there):
    """Writes (1 - m) x + m times the mixture; x and out point to the reds."""
    blend(x, out, red, m, there)
    blend(x + per_channel, out + per_channel, green, m, there)
    blend(x + 2 * per_channel, out + 2 * per_channel, blue, m, there)


@triton.jit
def blend(x, out, mixture, m, there):
    tl.store(out, (1 - m) * tl.load(x, mask=there, other=0) + m * mixture, mask=there)
