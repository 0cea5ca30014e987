"""Real Fourier waves on a square image: which frequencies there are, what they look like, and the layout of a map.

A frequency (v, u) is vertical, then horizontal, in cycles per image. A map [N,N] holds one value a frequency in the
layout of `torch.fft.fft2`: frequency zero at [0,0], frequency (v, u) at [v mod N, u mod N]. Real images cannot
distinguish (v, u) from (-v, -u). So maps are point-symmetric, exactly: each mirror pair is computed once and copied.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def classes(n: int) -> Tensor:
    """One member (v, u) of every mirror pair {(v, u), (-v, -u)} mod n, int64 [K,2], each in 0..n-1.

    K = (n^2 + 4) / 2 for even n, of which four are their own mirror images; (n^2 + 1) / 2 for odd n.
    """
    v, u = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    first = v * n + u <= (-v % n) * n + (-u % n)
    return torch.stack([v[first], u[first]], dim=1)


def spread(values: Tensor, n: int) -> Tensor:
    """The map [n,n] with values [K], in the order of `classes(n)`, at both members of every pair."""
    v, u = classes(n).unbind(1)
    out = values.new_empty(n, n)
    out[v, u] = values
    out[-v % n, -u % n] = values
    return out


def signed(n: int) -> Tensor:
    """The n frequencies of one axis in FFT order, int64: 0, 1, ..., n/2 - 1, -n/2, ..., -1."""
    at = torch.arange(n)
    return torch.where(at < (n + 1) // 2, at, at - n)


def cosines(size: int, frequencies: Tensor, period: int | None = None) -> Tensor:
    """cos(2 pi (v y + u x) / period) at every pixel (y, x), for integers (v, u) [K,2]: float64 [K,size,size].

    period: how many pixels the frequencies' cycles are counted over; by default the image, `size`.
    """
    period = period or size
    table = torch.cos(2 * torch.pi * torch.arange(period, dtype=torch.float64) / period)
    at = torch.arange(size)
    phase = frequencies[:, 0, None, None] * at[:, None] + frequencies[:, 1, None, None] * at
    return table[phase % period]  # reduced in integers, so that the argument is exact at any frequency


def waves(size: int, frequencies: Tensor, period: int | None = None) -> Tensor:
    """`cosines`, each scaled to unit L2 norm: float32 [K,size,size]."""
    wave = cosines(size, frequencies, period)
    norm: Tensor = torch.linalg.vector_norm(wave, dim=(1, 2), keepdim=True)
    return (wave / norm).float()


def is_symmetric(error: Tensor) -> bool:
    """Whether a map [N,N] equals its point reflection (v, u) -> (-v, -u) mod N, bit for bit."""
    return torch.equal(error, reflected(error))


def reflected(error: Tensor) -> Tensor:
    """The point reflection of a map [N,N]: out[v, u] = error[-v mod N, -u mod N]."""
    return error.flip(0, 1).roll((1, 1), (0, 1))


def resample(error: Tensor, n: int) -> Tensor:
    """A map [G,G] read as values at the normalised frequencies k / G (cycles per pixel), as a map [n,n].

    Bilinear between the nearest measured frequencies, periodic, and exactly symmetric where `error` is.
    """
    size = len(error)
    position = signed(n).double() * size / n
    low = position.floor()
    weight = (position - low)[:, None]
    here, after = (F.one_hot((low.long() + shift) % size, size) for shift in (0, 1))
    axis = (1 - weight) * here + weight * after
    full = axis @ error.double() @ axis.T
    v, u = classes(n).unbind(1)
    return spread(full[v, u].to(error.dtype), n)


def centred(error: Tensor) -> Tensor:
    """A map [N,N] with frequency zero in the middle, for pictures. For even N the row and the column of frequency
    -N/2 are repeated at N/2, which is the same frequency: [N+1,N+1], symmetric to the eye."""
    out = torch.fft.fftshift(error)
    return out if len(out) % 2 else F.pad(out[None, None], (0, 1, 0, 1), mode="circular")[0, 0]


def view31(error: Tensor) -> Tensor:
    """A map [N,N], N even, as the released code lays it out: [N-1,N-1] (31x31 at N = 32), frequency zero in the middle,
    without the row and the column of frequency N/2."""
    shifted: Tensor = torch.fft.fftshift(error)
    return shifted[1:, 1:]


def from_centered(map31: Tensor, n: int) -> Tensor:
    """A released map [M-1,M-1] (31x31; frequency zero in the middle, without frequency M/2) as a map [n,n].

    The missing row and column take their nearest neighbour's values, the result is averaged with its point reflection
    (the released map is not quite symmetric), and for n other than M it is resampled by normalised frequency.
    Raises ValueError where map31 is not square with an odd side.
    """
    side = len(map31)
    if map31.shape != (side, side) or side % 2 == 0:
        raise ValueError(f"a centred map is square with an odd side, not {list(map31.shape)}")
    full = torch.fft.ifftshift(F.pad(map31[None, None].float(), (1, 0, 1, 0), mode="replicate")[0, 0])
    error = (full + reflected(full)) / 2
    return error if n == side + 1 else resample(error, n)


def radius(n: int) -> Tensor:
    """The radial frequency sqrt(v^2 + u^2) of every point of a map, in cycles per image: float32 [n,n]."""
    v = signed(n).float()
    return torch.hypot(v[:, None], v)


def radial_profile(error: Tensor, at: Tensor | None = None) -> Tensor:
    """Mean of a map [N,N] over the rings of radius 0, 1, ..., N // 2 (rounded) cycles per image: float64 [N//2+1].

    at: the radius of every point; by default that of the `fft2` layout.
    """
    ring = (radius(len(error)) if at is None else at).round().long().flatten()
    total = torch.bincount(ring, weights=error.double().flatten())
    return (total / torch.bincount(ring))[: len(error) // 2 + 1]


def released_basis(n: int, dif_map: Tensor | None = None) -> Tensor:
    """The released code's un-normalised basis: n (n/2 + 1) cosines [K,n,n], float32, for even n (544 at n = 32).

    Order: vertical frequency -n/2..n/2-1, then horizontal 0..n/2. Each is the inverse real FFT of a one-hot spectrum,
    (c / n^2) cos(2 pi (v y + u x) / n) with c = 1 for u in {0, n/2} and 2 between. dif_map [n,n/2+1] scales them; the
    released code reads its rows in FFT order, unlike everything else here, and so does this function.
    """
    half = n // 2
    v, u = torch.meshgrid(torch.arange(-half, half), torch.arange(half + 1), indexing="ij")
    gain = torch.where((u == 0) | (u == half), 1.0, 2.0) / n**2
    if dif_map is not None:
        gain = gain * dif_map.roll(half, 0)
    return (gain.view(-1, 1, 1) * cosines(n, torch.stack([v.flatten(), u.flatten()], dim=1))).float()


def released_map(errors: Tensor, n: int) -> Tensor:
    """The released map [n-1,n-1], frequency zero in the middle, from one value a released basis [n (n/2+1)].

    Frequencies -n/2 and n/2 are dropped, and the left half is the right half turned by 180 degrees. The centre column
    was measured on both sides and stays as it is, so the map is not quite symmetric there.
    """
    right = errors.view(n, n // 2 + 1)[1:, :-1]
    return torch.cat([right.flip(0, 1)[:, :-1], right], dim=1)
