"""Of which kind a training step is: steps of one kind run the same operations, so one of them stands for all."""

import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmark.core.capture import Work
from benchmark.core.devices import on_gpu
from benchmark.core.passes import Passes
from benchmark.core.rng import Rng
from benchmark.training.draws import Redrawn
from benchmark.training.held import outline
from benchmark.training.watch import Drawn, WatchedState

MOST = 16
"""Kinds of step that are captured in a run; a method that names more is launched."""


@dataclass
class Kind:
    """What is known of one kind of step."""

    seen: int = 0
    """Steps that were launched."""
    purposes: list[str] = field(default_factory=list)
    """Generators that the loss asks for, in order."""
    drawn: list[Drawn] = field(default_factory=list)
    """Its calls of Rng.draw, in order."""
    trace: list[Hashable] | None = None
    passes: Passes = field(default_factory=Passes)
    """Of one step."""
    replay: Work | None = None
    fixed: Hashable = None
    """The addresses that the capture was made for."""
    generators: list[torch.Generator] = field(default_factory=list)
    redrawn: Redrawn | None = None
    audit: bool = False
    """Whether the next step is launched and held against those that were captured."""


class Kinds:
    """The kinds of step that a run has had. said: what the method says of a step (Method.kind). pool: the tensors of
    the training pool."""

    def __init__(self, said: Callable[[Rng], Hashable], pool: Callable[[], list[Tensor]]):
        self.said, self.pool = said, pool
        self.known: dict[str, Kind] = {}
        self.reads: set[str] = set()
        """Entries of the state that the loss has read."""
        self.whole = False
        """Whether it has looked at the state as a whole."""
        self._last: tuple[Hashable, list[Tensor], str] | None = None
        """What the method said of the last step's kind, the pool, and the kind's name."""

    def name(self, rng: Rng, state: dict[str, Any]) -> str | None:
        """The name of this step's kind: what the method says, the shape of the pool, and the entries of the state that
        the loss reads. None where that would be one kind too many."""
        said, pool = self.said(rng), self.pool()
        if self._last is not None and not (self.reads or self.whole):  # as nearly every step, of the last one's kind
            before, tensors, name = self._last
            if said == before and len(pool) == len(tensors) and all(map(operator.is_, pool, tensors)):
                return name
        name = repr((said, outline(pool), outline(self.entries(state), on_gpu(rng.on))))
        if name not in self.known:
            if len(self.known) == MOST:
                return None
            self.known[name] = Kind()
        self._last = said, pool, name
        return name

    def entries(self, state: dict[str, Any]) -> list[Any]:
        """What the loss reads of the state."""
        return [(name, state.get(name)) for name in sorted(state.keys() | self.reads if self.whole else self.reads)]

    def saw(self, seen: WatchedState) -> None:
        """Notes what a loss has read of its state."""
        self.reads |= seen.reads
        self.whole |= seen.whole
