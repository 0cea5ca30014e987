"""What tests of several folders make: a method, a generator, and draws and a clock that they set."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from benchmark.method import Method, Rng


def made(name: str, /, **settings: Any) -> Method:
    """A method, without what the registry reads into its settings and says of them."""
    method: Method = import_module(f"benchmark.methods.{name}").Method(**settings)
    return method


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True, kw_only=True)
class Given(Rng):
    """Gives the draws of a test, by purpose, and refuses every other purpose."""

    seed: int = 0
    draws: Mapping[str, Any]

    def draw(self, purpose: str, sample: Any, *args: Any, **named: Any) -> Any:
        return self.draws[purpose]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now
