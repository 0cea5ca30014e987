"""Keyed random numbers: every generator is a function of (seed, step, purpose).

So a run resumed at any step draws what the undisturbed run would have drawn. A new draw for one purpose never shifts
the draws for another.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from benchmark.core.devices import on_gpu
from benchmark.core.packed_draws import sent

T = TypeVar("T")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rng:
    """What a method hook draws from.

    seed: the run's seed. step: the training step, from 0. progress: the share of the budget spent before this step, in
    [0, 1): what schedules are written in, because a budget may be steps, passes or seconds. on: the device that draws
    are for.
    """

    seed: int
    step: int = 0
    progress: float = 0.0
    on: torch.device = CPU

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh generator on the device for one purpose; asking twice gives the same stream twice, so name each draw
        once. Better where draws are small: `draw`."""
        return torch.Generator(self.on).manual_seed(self.key(purpose))

    def draw(self, purpose: str, sample: Callable[..., T], *given: Any, **named: Any) -> T:
        """`sample(*given, generator=..., **named)` for one purpose, drawn on the CPU and sent to the device: the same
        numbers on every device, and one copy to a GPU instead of tens of launches.

        sample: gives a tensor, or a dataclass some of whose fields are tensors.
        """
        drawn = sample(*given, generator=torch.Generator().manual_seed(self.key(purpose)), **named)
        return sent(drawn, self.on) if on_gpu(self.on) else drawn

    def key(self, purpose: str) -> int:
        """The seed of this purpose at this step."""
        return key(self.seed, self.step, purpose)


def key(*parts: object) -> int:
    """A 63-bit seed from any printable parts, equal on every machine and Python."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
