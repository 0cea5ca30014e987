"""Pillow's operations compiled for a GPU by Triton: the bytes that ops/pillow.py defines.

Pixels are packed: int32, red + 256 green + 65536 blue. Launch with enable_fp_fusion=False: a fused multiply-add rounds
once, Pillow twice. Height and width are constants, so a pixel's number gives its place without a division.
"""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.ops import operations
from benchmark.ops.kernels.pillow_triton_geometry import rotate, sharpness, shear, translate
from benchmark.ops.kernels.pillow_triton_pixels import blend, grey, look_up, solarize
from benchmark.ops.kernels.pillow_triton_statistics import extremes, flattening, histograms, rounded_mean, stretching

# A kernel reads no number that is not wrapped so.
AUTOCONTRAST = tl.constexpr(operations.AUTOCONTRAST)
EQUALIZE = tl.constexpr(operations.EQUALIZE)
POSTERIZE = tl.constexpr(operations.POSTERIZE)
ROTATE = tl.constexpr(operations.ROTATE)
SOLARIZE = tl.constexpr(operations.SOLARIZE)
SHEAR_Y = tl.constexpr(operations.SHEAR_Y)
TRANSLATE_X = tl.constexpr(operations.TRANSLATE_X)
TRANSLATE_Y = tl.constexpr(operations.TRANSLATE_Y)
COLOR = tl.constexpr(operations.COLOR)
CONTRAST = tl.constexpr(operations.CONTRAST)
BRIGHTNESS = tl.constexpr(operations.BRIGHTNESS)
SHARPNESS = tl.constexpr(operations.SHARPNESS)


@triton.jit
def apply(
    image, i, there, op, value, turns, known, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HELD: tl.constexpr
):  # fmt: skip
    """Pixels i of the image after one operation, an index into operations.OPS, negative for none; value: its
    magnitude, float64.

    image, there, HELD: as pillow_triton_geometry says. known: where `learn` has left what the operation has to know of
    the whole image; not read where it is held.
    """
    p = image if HELD else tl.load(image + i, mask=there, other=0)
    factor = (value + tl.full((), 0.1, tl.float64)).to(tl.float32)
    # Nothing is added, for no magnitude is that large. The compiler cannot know: it would work out in advance, for all
    # operations of all chains, what depends on places alone, and keep it in registers that are needed for pixels.
    j = i + (value > 1e9).to(tl.int32)
    if (op == AUTOCONTRAST) | (op == EQUALIZE):
        p = look_up(table(p, there, op, known, HEIGHT * WIDTH, HELD), p)
    elif (op == POSTERIZE) | (op == SOLARIZE):
        p = cut(p, op, value.to(tl.int32))
    elif (op == CONTRAST) | (op == BRIGHTNESS):
        base = tl.full((), 0, tl.float32)
        if op == CONTRAST:
            total = tl.sum(tl.where(there, grey(p), 0), 0) if HELD else tl.load(known)
            base = rounded_mean(total, HEIGHT * WIDTH)
        p = blend(p, base, base, base, factor)
    elif op == COLOR:
        base = grey(p).to(tl.float32)
        p = blend(p, base, base, base, factor)
    elif op >= 0:
        if op == SHARPNESS:
            p = sharpness(image, p, j, there, factor, HEIGHT, WIDTH, HELD)
        else:
            p = moved(image, j, there, op, value, turns, HEIGHT, WIDTH, HELD)
    return p


@triton.jit
def table(p, there, op, known, size: tl.constexpr, HELD: tl.constexpr):
    """That of autocontrast or equalize, by which the image is replaced: packed entries, int32 [256]."""
    level = tl.arange(0, 256)
    if op == AUTOCONTRAST:
        eight = extremes(p, there) if HELD else tl.load(known + tl.arange(0, 8))
        found = stretching(eight)
    else:
        if HELD:
            red, green, blue = histograms(p, there)
        else:
            red, green, blue = tl.load(known + level), tl.load(known + 256 + level), tl.load(known + 512 + level)
        found = flattening(red, green, blue, size)
    return found


@triton.jit
def cut(p, op, whole):
    """Posterize or solarize."""
    kept = ((whole * 0 + 0xF0) << whole & 255) * 0x010101
    return p & kept if op == POSTERIZE else solarize(p, 256 - whole)


@triton.jit
def moved(
    image, i, there, op, value, turns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HELD: tl.constexpr
):  # fmt: skip
    """One of rotate, shear and translate."""
    whole = value.to(tl.int32)
    if op == ROTATE:
        turn = turns + 2 * (whole + 180)
        p = rotate(image, i, there, tl.load(turn), tl.load(turn + 1), HEIGHT, WIDTH, HELD)
    elif op <= SHEAR_Y:  # the translations come after the shears
        p = shear(image, i, there, value, op == SHEAR_Y, HEIGHT, WIDTH, HELD)
    else:
        across, down = tl.where(op == TRANSLATE_X, whole, 0), tl.where(op == TRANSLATE_Y, whole, 0)
        p = translate(image, i, there, across, down, HEIGHT, WIDTH, HELD)
    return p


@triton.jit
def learn(p, there, op, known):
    """Adds what an operation has to know of these pixels to int32 [768] that were zeros to begin with."""
    level, eight = tl.arange(0, 256), tl.arange(0, 8)
    if op == AUTOCONTRAST:
        tl.atomic_max(known + eight, extremes(p, there), sem="relaxed")
    elif op == EQUALIZE:
        red, green, blue = histograms(p, there)
        tl.atomic_add(known + level, red, mask=red > 0, sem="relaxed")
        tl.atomic_add(known + 256 + level, green, mask=green > 0, sem="relaxed")
        tl.atomic_add(known + 512 + level, blue, mask=blue > 0, sem="relaxed")
    elif op == CONTRAST:
        tl.atomic_add(known, tl.sum(tl.where(there, grey(p), 0), 0), sem="relaxed")
