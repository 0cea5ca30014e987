"""Random numbers, keyed. Every generator is a function of (seed, step, purpose), so a run resumed at any step draws
what the undisturbed run would have drawn, and adding a draw for one purpose never shifts another."""

import hashlib
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rng:
    """What a method hook draws from.

    seed: the run's seed. step: the training step, from 0. progress: the share of the budget spent before this step, in
    [0, 1): what schedules are written in, because a budget may be steps, passes or seconds. on: the generators' device.
    """

    seed: int
    step: int = 0
    progress: float = 0.0
    on: torch.device = CPU

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh generator for one purpose; asking twice gives the same stream twice, so name each draw once."""
        return torch.Generator(self.on).manual_seed(key(self.seed, self.step, purpose))


def key(*parts: object) -> int:
    """A 63-bit seed from any printable parts, equal on every machine and Python."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
