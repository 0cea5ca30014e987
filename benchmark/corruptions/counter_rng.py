"""Random numbers as pure functions of a key and a position, in integer arithmetic that every device shares.

SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): word n of a stream is mix(key + n * GOLDEN). No word needs the one
before it, so a batch of streams is one tensor operation. Only the final scaling is in floating point, and it is exact.
Normal and Poisson numbers are looked up in tables. So processors and GPUs draw equal numbers.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import special
from torch import Tensor

from benchmark.core import rng

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # all constants are 64-bit words, written as the int64 of the same bits
FACTORS = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
WORD = 2**32
NORMALS = 2**16
"""Different normal numbers there are: the quantiles at (k + 1/2) / NORMALS, which end at 4.3."""


def mix(z: Tensor) -> Tensor:
    """The output function of SplitMix64, a bijection of 64-bit words. z: int64, any shape."""
    for shift, factor in zip((30, 27), FACTORS, strict=True):
        z = (z ^ _shifted(z, shift)) * factor
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits without its sign."""
    out: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return out


@dataclass(frozen=True)
class Stream:
    """One stream for each image of a batch. key: int64 [B]. Asking twice for one purpose gives the same numbers."""

    key: Tensor

    def words(self, purpose: str, *shape: int) -> Tensor:
        """Integers in 0..2^32 - 1, int64 [B,*shape]."""
        n = int(np.prod(shape))
        return self._parts(purpose, torch.int32, n).long().remainder(WORD).reshape(-1, *shape)

    def uniform(self, purpose: str, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in (low, high), float64 [B,*shape]."""
        return low + (high - low) * ((self.words(purpose, *shape).double() + 0.5) / WORD)

    def integers(self, purpose: str, low: int, high: int, *shape: int) -> Tensor:
        """Integers in low..high - 1, int64 [B,*shape]; the range may be up to 2^31 wide."""
        return low + ((self.words(purpose, *shape) * (high - low)) >> 32)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal numbers, one of NORMALS quantiles each, float64 [B,*shape]."""
        n = int(np.prod(shape))
        index = self._parts(purpose, torch.int16, n).int() + NORMALS // 2
        return _quantiles(self.key.device)[index].reshape(-1, *shape)

    def _parts(self, purpose: str, dtype: torch.dtype, n: int) -> Tensor:
        """n integers of 16 or 32 bits for each key, [B,n], cut from 64-bit words."""
        each = 8 // dtype.itemsize
        start = mix(self.key ^ rng.key(purpose))
        position = torch.arange(1, -(-n // each) + 1, device=self.key.device)
        return mix(start[:, None] + position * GOLDEN).view(dtype)[:, :n]


def stream(seed: int, name: str, severity: int, ids: Tensor) -> Stream:
    """The streams of a corruption. ids: the images' numbers, int64 [B], wherever they stand in a batch."""
    return Stream(mix(mix(ids * GOLDEN) ^ rng.key(seed, name, severity)))


def poisson(words: Tensor, level: Tensor, rate: float) -> Tensor:
    """Poisson numbers of mean rate * level / 255 by inverting their distribution, which is tabled to 32 bits.

    words: what Stream.words gives. level: int64 in 0..255, same shape. Returns int64.
    """
    table, width = _poisson_table(rate)
    key = (level * WORD + words).contiguous()
    found = torch.searchsorted(table.to(words.device), key, right=True)
    return found - level * width


@cache
def _quantiles(device: torch.device) -> Tensor:
    table = special.ndtri((np.arange(NORMALS) + 0.5) / NORMALS)
    return torch.from_numpy(table).to(device)


@cache
def _poisson_table(rate: float) -> tuple[Tensor, int]:
    """For each level one row of P(X <= k) * 2^32 + level * 2^32: all rows together are sorted, so one search serves."""
    width = int(rate + 12 * rate**0.5 + 20)
    level = np.arange(256)[:, None]
    below = special.pdtr(np.arange(width), rate * level / 255)
    return torch.from_numpy(((level + below) * 1.0 * WORD).round().astype(np.int64).reshape(-1)), width
