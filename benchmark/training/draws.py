"""What a training step draws on the host, anew for each replay and handed out in the same order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmark.core import timing
from benchmark.core.packed_draws import Packing, form, tensors_of, with_tensors
from benchmark.core.rng import Rng
from benchmark.training.watch import Drawn

T = TypeVar("T")


class Redrawn:
    """All that a step draws by Rng.draw, at one place of the device, where it is drawn anew for each replay."""

    def __init__(self, calls: Sequence[Drawn], rng: Rng):
        self.calls = [*calls]
        drawn = self._again(rng)
        tensors = _tensors(drawn)
        self._packing, self._forms = Packing.of(tensors), [form(each) for each in drawn]
        self._buffer = self._packing.pack(tensors, rng.on).to(rng.on) if tensors else torch.empty(0)
        places = iter(self._packing.unpack(self._buffer))
        self.handed = [with_tensors(each, [next(places) for _ in tensors_of(each)]) for each in drawn]
        """What each call gave, with its tensors where later draws are written."""

    def refresh(self, rng: Rng) -> bool:
        """Draws for this step. False, and nothing is written, where the draws are of another form than at first."""
        drawn = self._again(rng)
        if [form(each) for each in drawn] != self._forms:
            return False
        if self._packing.places:
            self._buffer.copy_(self._packing.pack(_tensors(drawn), rng.on), non_blocking=True)
        return True

    def _again(self, rng: Rng) -> list[Any]:
        with timing.unmetered():
            return [call.again(rng) for call in self.calls]


def _tensors(drawn: Sequence[Any]) -> list[Tensor]:
    return [tensor for each in drawn for tensor in tensors_of(each)]


@dataclass(frozen=True)
class Handing(Rng):
    """Hands out generators and draws that a capture knows, in the order in which the launched step asked for them."""

    generators: list[tuple[str, torch.Generator]] = field(default_factory=list)
    draws: list[tuple[Drawn, Any]] = field(default_factory=list)

    def generator(self, purpose: str) -> torch.Generator:
        if not self.generators or self.generators[0][0] != purpose:
            raise RuntimeError(f"the launched steps asked for no generator '{purpose}' here")
        return self.generators.pop(0)[1]

    def draw(self, purpose: str, sample: Callable[..., T], *given: Any, **named: Any) -> T:
        if not self.draws or repr(self.draws[0][0]) != repr(Drawn(purpose, sample, given, named)):
            raise RuntimeError(f"the launched steps drew otherwise than '{purpose}' here")
        found: T = self.draws.pop(0)[1]
        return found
