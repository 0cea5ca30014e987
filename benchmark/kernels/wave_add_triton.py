"""The Triton form of wave_add: a program takes a tile of pixels of one image under one wave."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.kernels.dispatch import tile


def launch(x, waves, signs, out, clamp):
    """Writes `out`, [K n,3,N,N] in the memory format of x."""
    size, last = waves.shape[1] * waves.shape[2], not out.is_contiguous()
    block = tile(size, 1024)
    if len(out):
        add[(len(out), triton.cdiv(size, block))](
            x,
            waves,
            signs,
            out,
            len(x),
            size,
            1 if last else size,
            3 if last else 1,
            CLAMP=clamp,
            BLOCK=block,
            enable_fp_fusion=True,
        )


@triton.jit
def add(x, waves, signs, out, images, size, per_channel, per_pixel, CLAMP: tl.constexpr, BLOCK: tl.constexpr):
    seen = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    wave = tl.load(waves + seen // images * size + i, mask=i < size, other=0)
    for channel in tl.static_range(3):
        at = channel * per_channel + i * per_pixel
        value = tl.load(x + seen % images * 3 * size + at, mask=i < size, other=0)
        value += tl.load(signs + seen * 3 + channel) * wave
        if CLAMP:
            value = tl.minimum(tl.maximum(value, 0.0), 1.0)
        tl.store(out + seen * 3 * size + at, value, mask=i < size)
