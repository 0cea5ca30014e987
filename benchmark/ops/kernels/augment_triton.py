"""Whole chains and views of augment_mix on a GPU, in one of two forms.

Held: a program holds a whole image in its registers, and one launch does all. Tiled, for images too large for that: one
launch for each operation of the chains, with programs for every tile of every chain (augment_triton_tiled).
"""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

from functools import cache

import torch
import triton
import triton.language as tl

from benchmark.ops.kernels import augment_triton_mix
from benchmark.ops.kernels.augment_triton_mix import add_chain, blend_with_image, nothing, pack, unpack
from benchmark.ops.kernels.augment_triton_tiled import launch_tiled
from benchmark.ops.kernels.dispatch import tile
from benchmark.ops.kernels.pillow_triton import apply
from benchmark.ops.pillow import TURNS

HELD = 32 * 32
"""Pixels of the largest image that is held."""
LANE = 4
"""Pixels of an image that a lane holds."""
REGISTERS = 64
"""The most that a lane may take; None: as many as the compiler likes, which leaves room for few images at a time."""


def launch(x, op, magnitude, w, m, out, *, held=HELD, **settings):
    """Writes views to `out` or, where w and m are None, chains; see augment_mix. x and out have one memory format.

    held: pixels of the largest image that is held. settings: keywords of launch_held or launch_tiled, for tuning.
    """
    size = x.shape[2] * x.shape[3]
    if op.shape[0] * op.shape[1] * size == 0:
        return
    there = [t if t is None else t.to(x.device, non_blocking=True).contiguous() for t in (op, magnitude, w, m)]
    form = launch_held if size <= held else launch_tiled
    form(x, *there, _turns(x.device), out, **settings)


@cache
def _turns(device):
    return TURNS.to(device)


def launch_held(x, op, magnitude, w, m, turns, out, *, split=False, lane=LANE, registers=REGISTERS):
    """A program makes one view or, where w is None, one chain.

    split: it makes one chain of a view, and a second launch mixes. lane: pixels that a lane holds.
    """
    (views, chains, depth), (height, width) = op.shape, x.shape[2:]
    size, mixed = height * width, w is not None
    last = mixed and not out.is_contiguous()
    split = split and mixed
    made = torch.empty(views, chains, size, dtype=torch.int32, device=x.device) if split else out
    programs = views if mixed and not split else views * chains
    block = tile(size, size * 2)
    limit = {} if registers is None else {"maxnreg": registers}
    hold[(programs,)](
        x, op, magnitude, None if split else w, None if split else m, turns, made, len(x), chains, depth,
        1 if last else size, 3 if last else 1,
        HEIGHT=height, WIDTH=width, FLOATS=mixed, MIX=mixed and not split, PACKED=split, BLOCK=block,
        num_warps=min(16, max(1, block // (32 * lane))), num_stages=1, enable_fp_fusion=False, **limit,
    )  # fmt: skip
    if split:
        augment_triton_mix.launch(x, made, w, m, out)


@triton.jit(do_not_specialize=("images",))  # it takes seconds to compile: once for all batches
def hold(
    x, op, value, w, m, turns, out, images, chains, depth, per_channel, per_pixel,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, FLOATS: tl.constexpr, MIX: tl.constexpr, PACKED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """x: float32 with FLOATS, else uint8, [images,3,H,W]; view v is of image v % images; per_channel, per_pixel: its
    strides. MIX: a program makes a view, float32 with x's strides. Else one chain: packed, int32 [views,chains,H*W], or
    bytes, uint8 [views,chains,3,H*W]."""
    size: tl.constexpr = HEIGHT * WIDTH
    unit = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    there = i < size
    view, count = unit, chains
    if not MIX:
        view, count = unit // chains, 1
    source = x + view % images * 3 * size + i * per_pixel
    start = pack(source, per_channel, there, FLOATS)
    red, green, blue = nothing(BLOCK)
    for chain in range(count):
        p = start
        first = (unit * count + chain) * depth
        for step in range(depth):
            o = tl.load(op + first + step)
            if o >= 0:
                p = apply(p, i, there, o, tl.load(value + first + step), turns, value, HEIGHT, WIDTH, True)
        if MIX:
            red, green, blue = add_chain(red, green, blue, p, tl.load(w + unit * count + chain))
        elif PACKED:
            tl.store(out + unit * size + i, p, mask=there)
        else:
            unpack(out + unit * 3 * size + i, size, p, there)
    if MIX:
        target = out + unit * 3 * size + i * per_pixel
        blend_with_image(source, target, per_channel, red, green, blue, tl.load(m + unit), there)
