"""The operations of ops/pillow.py that read other pixels, for Triton, on packed images (pillow_triton).

HELD: `image` is the whole image, a tile of registers, and i is all of its pixels; a pixel is fetched through shared
memory. Otherwise `image` points to it in memory, and i are some of its pixels. `there`: which of i are pixels.
"""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import triton
import triton.language as tl

from benchmark.ops.kernels.pillow_triton_pixels import blended, packed

LIFT = tl.constexpr(2.0**52)
LIFT_BITS = tl.constexpr(0x4330000000000000)


@triton.jit
def fetch(image, index, there, HELD: tl.constexpr):
    """The pixels at these places; black where there are none."""
    if HELD:
        found = tl.where(there, tl.gather(image, tl.where(there, index, 0), 0), 0)
    else:
        found = tl.load(image + index, mask=there, other=0)
    return found


@triton.jit
def fetch_two(image, first, second, there, HELD: tl.constexpr):
    """As two calls of fetch; where the image is held, it goes to shared memory once."""
    if HELD:
        index = tl.where(there[:, None], tl.join(first, second), 0)
        found = tl.gather(image, tl.reshape(index, (2 * there.shape[0],)), 0)
        found = tl.where(there[:, None], tl.reshape(found, (there.shape[0], 2)), 0)
        a, b = tl.split(found)
    else:
        a, b = tl.load(image + first, mask=there, other=0), tl.load(image + second, mask=there, other=0)
    return a, b


@triton.jit
def lifted(value):
    """2^52 + value in double precision, value in [0, 2^32): its bits are put together, because a GPU converts to double
    precision at a quarter of the speed at which it adds."""
    return (value.to(tl.uint32).to(tl.int64) | LIFT_BITS).to(tl.float64, bitcast=True)


@triton.jit
def double(value):
    """A whole number from 0 up, in double precision."""
    return lifted(value) - tl.full((), LIFT, tl.float64)


@triton.jit
def between(a, b, t):
    """a + (b - a) t for bytes a and b, each operation rounded to double precision; b - a is exact."""
    first = lifted(a)
    return (first - tl.full((), LIFT, tl.float64)) + (lifted(b) - first) * t


@triton.jit
def bilinear(a, b, c, d, s, t):
    upper, lower = between(a, b, s), between(c, d, s)
    return (upper + (lower - upper) * t).to(tl.int32)


@triton.jit
def neighbours(place, extent):
    """Of a place along an axis, 0 <= place < extent: the two pixels around it, the border repeated, and how far it is
    from the first to the second, in [0,1)."""
    v = place - tl.full((), 0.5, tl.float64)
    whole = v.to(tl.int32)  # cut towards zero: v is above -1
    part = v - tl.where(v < 0, tl.full((), -1, tl.float64), double(whole))
    return whole, tl.minimum(tl.where(v < 0, 0, whole + 1), extent - 1), part


@triton.jit
def translate(image, i, there, across, down, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HELD: tl.constexpr):
    """Output (x, y) is input (x + across, y + down); what comes from outside is black."""
    y, x = i // WIDTH + down, i % WIDTH + across
    inside = (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH) & there
    return fetch(image, y * WIDTH + x, inside, HELD)


@triton.jit
def shear(image, i, there, slope, down, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HELD: tl.constexpr):
    """Output (x, y) is input (x + slope y, y); with `down`, input (x, y + slope x)."""
    half = tl.full((), 0.5, tl.float64)
    y, x = i // WIDTH, i % WIDTH
    along, aside = tl.where(down, y, x), tl.where(down, x, y)
    extent, stride = tl.where(down, HEIGHT, WIDTH), tl.where(down, WIDTH, 1)
    place = (double(along) + half) + slope * (double(aside) + half)
    inside = (place >= 0) & (place < extent) & there
    first, second, part = neighbours(place, extent)
    line = i - along * stride
    a, b = fetch_two(image, line + first * stride, line + second * stride, inside, HELD)
    red, green = between(a & 255, b & 255, part), between(a >> 8 & 255, b >> 8 & 255, part)
    blue = between(a >> 16, b >> 16, part)
    return packed(red.to(tl.int32), green.to(tl.int32), blue.to(tl.int32))


@triton.jit
def rotate(image, i, there, cos, sin, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HELD: tl.constexpr):
    """Turns about the centre, interpolated as ops/pillow.py says."""
    half = tl.full((), 0.5, tl.float64)
    row, column = double(i // WIDTH) + half, double(i % WIDTH) + half
    x0 = cos * (-half * WIDTH) + sin * (-half * HEIGHT) + half * WIDTH
    y0 = cos * (-half * HEIGHT) - sin * (-half * WIDTH) + half * HEIGHT
    across, down = (cos * column + sin * row) + x0, (cos * row - sin * column) + y0
    inside = (across >= 0) & (across < WIDTH) & (down >= 0) & (down < HEIGHT) & there
    x1, x2, s = neighbours(across, WIDTH)
    y1, y2, t = neighbours(down, HEIGHT)
    a, b = fetch_two(image, y1 * WIDTH + x1, y1 * WIDTH + x2, inside, HELD)
    c, d = fetch_two(image, y2 * WIDTH + x1, y2 * WIDTH + x2, inside, HELD)
    red = bilinear(a & 255, b & 255, c & 255, d & 255, s, t)
    green = bilinear(a >> 8 & 255, b >> 8 & 255, c >> 8 & 255, d >> 8 & 255, s, t)
    return packed(red, green, bilinear(a >> 16, b >> 16, c >> 16, d >> 16, s, t))


@triton.jit
def smoothed(total, value, factor):
    return blended(((2 * total + 13) // 26).to(tl.float32), value, factor)


@triton.jit
def sharpness(image, p, i, there, factor, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, HELD: tl.constexpr):
    """p: the pixels at i."""
    y, x = i // WIDTH, i % WIDTH
    inner = (y > 0) & (y < HEIGHT - 1) & (x > 0) & (x < WIDTH - 1) & there
    # Red and blue are summed together in the two halves of a word: 13 * 255 takes 12 bits.
    both, green = 5 * (p & 0xFF00FF), 5 * (p >> 8 & 255)
    for k in tl.static_range(4):  # neighbours lie in pairs as far before a pixel as behind it
        offset = 1 if k == 0 else WIDTH + k - 2
        a, b = fetch_two(image, i - offset, i + offset, inner, HELD)
        both += (a & 0xFF00FF) + (b & 0xFF00FF)
        green += (a >> 8 & 255) + (b >> 8 & 255)
    out = packed(
        smoothed(both & 0xFFFF, p & 255, factor),
        smoothed(green, p >> 8 & 255, factor),
        smoothed(both >> 16, p >> 16, factor),
    )
    return tl.where(inner, out, p)
