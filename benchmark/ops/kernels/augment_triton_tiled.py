"""Chains and views of large images: every launch has programs for all tiles of all chains.

So a few images fill a GPU, and an operation may read anywhere in the output of the launch before it.

First the images are packed. Then each launch does one operation of every chain that has further ones to come. The last
operation of each chain is done while its view is mixed, and its result is never written. If an operation needs a
statistic of the whole image, the launch before it gathers that, while the pixels are at hand.
"""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import torch
import triton
import triton.language as tl

from benchmark.ops.kernels.augment_triton_mix import add_chain, blend_with_image, nothing, pack, unpack
from benchmark.ops.kernels.dispatch import tile
from benchmark.ops.kernels.pillow_triton import apply, learn

TILE = 1024
LANE = 8
"""Pixels of a tile, and those of them that a lane takes."""
REGISTERS = 128
"""The most that a lane takes; None: as many as the compiler likes."""
SCRATCH = 2**28
"""Bytes for images between two operations. More views than fit are made one part after another."""
KNOWN = tl.constexpr(768)
EXACT = {"num_stages": 1, "enable_fp_fusion": False}


def launch_tiled(x, op, magnitude, w, m, turns, out, *, pixels=TILE, lane=LANE, registers=REGISTERS, scratch=SCRATCH):
    """Writes `out`; see augment_triton.launch. The keywords: as the constants above."""
    (views, chains, depth), (height, width) = op.shape, x.shape[2:]
    size, mixed = height * width, w is not None
    last = mixed and not out.is_contiguous()
    slots = min(2, max(1, depth - 1))
    part = min(views, max(1, scratch // (4 * size * chains * slots)))
    rows = part * chains

    def words(*shape):
        return torch.empty(shape, dtype=torch.int32, device=x.device)

    start, kept, known = words(len(x), size), words(slots, rows, size), words(rows, depth, KNOWN.value)
    block = tile(size, pixels)
    tiles, strides = triton.cdiv(size, block), (1 if last else size, 3 if last else 1)
    options = EXACT | {"BLOCK": block, "num_warps": max(1, block // (32 * lane))}
    options |= {} if registers is None else {"maxnreg": registers}
    shape = {"HEIGHT": height, "WIDTH": width}
    for begin in range(0, views, part):
        here = min(part, views - begin)
        known.zero_()
        pack_images[(here, tiles)](
            x, op, start, known, begin, len(x), chains, depth, *strides, size, FLOATS=mixed, **options
        )
        for number in range(depth - 1):
            step[(here * chains, tiles)](
                start, kept, op, magnitude, turns, known, number, begin, len(x), chains, depth, rows, **options, **shape
            )  # fmt: skip
        finish[(here, tiles)](
            x, start, kept, op, magnitude, w, m, turns, known, out, begin, len(x), chains, depth, rows, *strides,
            MIX=mixed, **options, **shape,
        )  # fmt: skip


@triton.jit(do_not_specialize=("begin", "images"))
def pack_images(
    x, op, start, known, begin, images, chains, depth, per_channel, per_pixel, size,
    FLOATS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Packs the image of a view, once for all its views, and learns for the first operation of each of its chains."""
    view = begin + tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = i < size
    p = pack(x + view % images * 3 * size + i * per_pixel, per_channel, there, FLOATS)
    if view < images:
        tl.store(start + view * size + i, p, mask=there)
    for chain in range(chains):
        own = tl.program_id(0).to(tl.int64) * chains + chain
        slots = op + (view * chains + chain) * depth
        count, first = search(slots, depth, 0)
        if count > 0:
            learn(p, there, tl.load(slots + first), known + own * depth * KNOWN)


@triton.jit(do_not_specialize=("number", "begin", "images", "rows"))
def step(
    start, kept, op, value, turns, known, number, begin, images, chains, depth, rows,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The operation of this number, from 0, of a chain that has more: from the image, or from one slot of `kept`,
    int32 [2,rows,H*W], to the other. Learns for the next."""
    size: tl.constexpr = HEIGHT * WIDTH
    own = tl.program_id(0).to(tl.int64)
    slots = (begin.to(tl.int64) * chains + own) * depth
    count, here = search(op + slots, depth, number)
    if number < count - 1:
        _, after = search(op + slots, depth, number + 1)
        i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        source = before(start, kept, number, (begin + own // chains) % images, own, rows, size)
        known += (own * depth + number) * KNOWN
        o, magnitude = tl.load(op + slots + here), tl.load(value + slots + here)
        p = apply(source, i, i < size, o, magnitude, turns, known, HEIGHT, WIDTH, False)
        there = i < size
        tl.store(kept + (number % 2 * rows.to(tl.int64) + own) * size + i, p, mask=there)
        learn(p, there, tl.load(op + slots + after), known + KNOWN)


@triton.jit(do_not_specialize=("begin", "images", "rows"))
def finish(
    x, start, kept, op, value, w, m, turns, known, out, begin, images, chains, depth, rows, per_channel, per_pixel,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, MIX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The last operation of a view's chains, mixed, or as bytes."""
    size: tl.constexpr = HEIGHT * WIDTH
    view = begin + tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = i < size
    red, green, blue = nothing(BLOCK)
    for chain in range(chains):
        own, unit = tl.program_id(0).to(tl.int64) * chains + chain, view * chains + chain
        count, _ = search(op + unit * depth, depth, 0)
        _, last = search(op + unit * depth, depth, count - 1)
        source = before(start, kept, count - 1, view % images, own, rows, size)
        o, magnitude = tl.full((), -1, tl.int64), tl.full((), 0, tl.float64)
        if count > 0:
            o, magnitude = tl.load(op + unit * depth + last), tl.load(value + unit * depth + last)
        there_known = known + (own * depth + tl.maximum(count - 1, 0)) * KNOWN
        p = apply(source, i, there, o, magnitude, turns, there_known, HEIGHT, WIDTH, False)
        if MIX:
            red, green, blue = add_chain(red, green, blue, p, tl.load(w + unit))
        else:
            unpack(out + unit * 3 * size + i, size, p, there)
    if MIX:
        source, target = x + view % images * 3 * size + i * per_pixel, out + view * 3 * size + i * per_pixel
        blend_with_image(source, target, per_channel, red, green, blue, tl.load(m + view), there)


@triton.jit
def search(slots, depth, number):
    """How many operations a chain has, and the slot of the one of this number."""
    count, found = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    for slot in range(depth):
        here = (tl.load(slots + slot) >= 0).to(tl.int32)
        found += slot * here * (count == number).to(tl.int32)
        count += here
    return count, found


@triton.jit
def before(start, kept, number, image, own, rows, size):
    """What the operation of this number reads."""
    found = start + image * size
    if number > 0:
        found = kept + ((number - 1) % 2 * rows.to(tl.int64) + own) * size
    return found
