"""Whole chains and views of augment_mix in one launch of Triton's. Images lie packed (pillow_triton) in scratch memory
that stays in the GPU's cache; an operation reads one and writes another."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

from functools import cache

import torch
import triton
import triton.language as tl

from benchmark.kernels.dispatch import processors, tile
from benchmark.kernels.pillow_triton import apply
from benchmark.kernels.pillow_triton_pixels import keep_bits, packed
from benchmark.pillow_ops import TURNS

REGISTERS, WARPS = 64, 32
"""Registers that a lane may take, and the warps that a multiprocessor then holds: both follow from its 65,536."""
SMALL = 64 * 64
PIXELS = 64
"""Pixels of a warp at a time, two for each lane: with more the registers do not suffice."""


def launch(x, op, magnitude, w, m, out):
    """Writes views to `out` or, where w and m are None, chains; see augment_mix. x and out have one memory format.

    A program handles one image after another; so many run that they fill the GPU, and no more, to save scratch.
    """
    (views, chains, depth), (height, width) = op.shape, x.shape[2:]
    size, mixed, last = height * width, w is not None, not out.is_contiguous()
    units, slots = (views, chains + 2) if mixed else (views * chains, 3)
    if units * size == 0:
        return
    warps = 4 if size <= SMALL else 16
    programs = min(units, processors(x.device) * WARPS // warps)
    scratch = torch.empty(programs, slots, size, dtype=torch.int32, device=x.device)
    there = [t if t is None else t.to(x.device, non_blocking=True).contiguous() for t in (op, magnitude, w, m)]
    augment[(programs,)](
        x, *there, _turns(x.device), scratch, out, units, len(x), height, width, chains, depth,
        1 if last else size, 3 if last else 1,
        MIX=mixed, BLOCK=tile(size, PIXELS * warps), num_warps=warps, num_stages=1,
        enable_fp_fusion=False, maxnreg=REGISTERS,
    )  # fmt: skip


@cache
def _turns(device):
    return TURNS.to(device)


@triton.jit(do_not_specialize=("units", "images"))  # it takes seconds to compile: once for all batches
def augment(
    x, op, value, w, m, turns, scratch, out, units, images, height, width, chains, depth, per_channel, per_pixel,
    MIX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Programs share out the units. MIX: a unit is a view, x and out are float32 [.,3,H,W], view v is of image
    v % images, and its chains are mixed. Else a unit is one chain of an image; x and out are uint8.

    per_channel, per_pixel: strides of x, and with MIX of out. scratch: int32 [programs, slots, H*W]; the slots are
    those of the finished chains (one without MIX), then the image as it came, then one spare.
    """
    size = height * width
    wide = tl.full((), 3, tl.int64) * size
    count = 1
    if MIX:
        count = chains
    own = scratch + tl.program_id(0).to(tl.int64) * (count + 2) * size
    start, spare = count * size, (count + 1) * size
    for unit in range(tl.program_id(0), units, tl.num_programs(0)):
        source = x + (unit % images if MIX else unit // chains) * wide
        pack(source, own + start, size, per_channel, per_pixel, MIX, BLOCK)
        tl.debug_barrier()
        for i in range(count):
            first = (unit * count + i) * depth
            run_chain(own, i * size, start, spare, op + first, value + first, turns, height, width, depth, BLOCK)
        target = out + unit * wide
        if MIX:
            mix(source, own, w + unit * count, tl.load(m + unit), target, size, count, per_channel, per_pixel, BLOCK)
        else:
            unpack(own, target, size, BLOCK)
        tl.debug_barrier()  # the next unit overwrites what this one reads


@triton.jit
def run_chain(own, slot, start, spare, op, value, turns, height, width, depth, BLOCK: tl.constexpr):
    """One chain, from the image at `start` to `slot`: the steps alternate with the spare so as to end there."""
    left = 0
    for step in range(depth):
        left += (tl.load(op + step) >= 0).to(tl.int32)
    if left == 0:
        keep_bits(own + start, own + slot, height * width, 0xFFFFFF, BLOCK)
    here = start
    for step in range(depth):
        o = tl.load(op + step)
        if o >= 0:
            there = tl.where(left % 2 == 1, slot, spare)
            apply(own + here, own + there, o, tl.load(value + step), turns, height, width, BLOCK)
            tl.debug_barrier()
            here = there
            left -= 1
    tl.debug_barrier()


@triton.jit
def byte(x, FLOATS: tl.constexpr):
    if FLOATS:
        x = tl.minimum(tl.maximum(x, 0.0), 1.0) * 255.0
    return x.to(tl.int32)


@triton.jit
def pack(x, dst, size, per_channel, per_pixel, FLOATS: tl.constexpr, BLOCK: tl.constexpr):
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        at = x + i * per_pixel
        red = byte(tl.load(at, mask=i < size, other=0), FLOATS)
        green = byte(tl.load(at + per_channel, mask=i < size, other=0), FLOATS)
        blue = byte(tl.load(at + 2 * per_channel, mask=i < size, other=0), FLOATS)
        tl.store(dst + i, packed(red, green, blue), mask=i < size)


@triton.jit
def unpack(src, out, size, BLOCK: tl.constexpr):
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        p = tl.load(src + i, mask=i < size, other=0)
        tl.store(out + i, (p & 255).to(tl.uint8), mask=i < size)
        tl.store(out + size + i, (p >> 8 & 255).to(tl.uint8), mask=i < size)
        tl.store(out + 2 * size + i, (p >> 16).to(tl.uint8), mask=i < size)


@triton.jit
def mix(x, own, w, m, out, size, chains, per_channel, per_pixel, BLOCK: tl.constexpr):
    for begin in range(0, size, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        red, green, blue = (
            tl.zeros((BLOCK,), tl.float32),
            tl.zeros((BLOCK,), tl.float32),
            tl.zeros((BLOCK,), tl.float32),
        )
        for chain in range(chains):
            p, share = tl.load(own + chain * size + i, mask=i < size, other=0), tl.load(w + chain)
            red += share * fraction(p & 255)
            green += share * fraction(p >> 8 & 255)
            blue += share * fraction(p >> 16)
        blend(x + i * per_pixel, out + i * per_pixel, red, m, i < size)
        blend(x + i * per_pixel + per_channel, out + i * per_pixel + per_channel, green, m, i < size)
        blend(x + i * per_pixel + 2 * per_channel, out + i * per_pixel + 2 * per_channel, blue, m, i < size)


@triton.jit
def fraction(level):
    return tl.div_rn(level.to(tl.float32), tl.full(level.shape, 255, tl.float32))


@triton.jit
def blend(x, out, mixture, m, mask):
    tl.store(out, (1 - m) * tl.load(x, mask=mask, other=0) + m * mixture, mask=mask)
