"""Methods that say that they can be replayed and cannot, and how each is found out."""

import copy
import itertools
import math
import random
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import Method, Rng, Source, State


class Plugin(Method):
    """A method that says that it can be replayed, and may be wrong."""

    replayable: ClassVar[bool] = True

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        factor: Tensor | float = self.factor(x, rng, state)
        return F.cross_entropy(net(x), y) * factor

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 1.0

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        return {"list": [1.0], "plain": 1.0, "place": torch.ones(()), "nest": {"n": 0}}


class Unprepared(Plugin):
    replayable: ClassVar[bool] = False


class ReadsStep(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 2.0 if rng.step >= 12 else 1.0


class ReadsProgress(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 1.0 + (rng.progress > 0.5)


class SeedsItself(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 1.0 + (np.random.default_rng(rng.key("mine")).random() < 0.1)


class Copies(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 1.0 + copy.copy(rng).step / 100


class Flips(Plugin):
    """A coin that mostly falls on one side: nothing to be seen in the operations of most steps."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 2.0 if random.random() < 0.05 else 1.0


class FlipsNumpy(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 2.0 if np.random.random() < 0.05 else 1.0  # noqa: NPY002


class FlipsTorch(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return torch.rand(len(x)).mean()


OWN = random.Random(0)


class FlipsItsOwn(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 2.0 if OWN.random() < 0.05 else 1.0


CALLS = itertools.count()


class Clock(Plugin):
    """Another number at each step, from where nobody looks."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 1.0 + math.fmod(hidden(), 7.0)


class Counts(Plugin):
    calls: ClassVar[int] = 0

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        Counts.calls += 1
        return 2.0 if Counts.calls > 15 else 1.0


class CountsGlobally(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 2.0 if next(CALLS) > 15 else 1.0


class CountsInTheNetwork(Plugin):
    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        calls = net.__dict__["calls"] = net.__dict__.get("calls", 0) + 1
        return F.cross_entropy(net(x), y) * (2.0 if calls > 15 else 1.0)


AVERAGE: dict[str, Tensor] = {}


class Averages(Plugin):
    """A running mean in a new tensor at each step: a replay would read the old one for ever."""

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        loss = F.cross_entropy(net(x), y)
        AVERAGE["loss"] = 0.9 * AVERAGE.get("loss", loss.detach()) + 0.1 * loss.detach()
        return loss * AVERAGE["loss"]


class WritesState(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        state["plain"] += 1
        return min(state["plain"], 20)


class WritesDeepInState(Plugin):
    """Turns between two values: each is a kind that a replay would stay in."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        state["nest"]["n"] = 1 - state["nest"]["n"]
        return 1.0 + state["nest"]["n"]


class Draws(Plugin):
    """Draws of a length that changes late."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return rng.draw("lengths", sample_lengths).mean()


def sample_lengths(generator: torch.Generator) -> Tensor:
    return torch.rand(3 if torch.rand((), generator=generator) < 0.9 else 4, generator=generator)


@dataclass(frozen=True)
class Sized:
    size: int
    values: Tensor


class DrawsNumbers(Plugin):
    """Draws with a number for the host, mostly the same."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        drawn = rng.draw("sized", sample_sized)
        return drawn.values.mean() * drawn.size


def sample_sized(generator: torch.Generator) -> Sized:
    return Sized(1 + int(torch.rand((), generator=generator) > 0.9), torch.rand(3, generator=generator))


class DrawsByTensor(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return rng.draw("means", sample_about, state["place"])


def sample_about(mean: Tensor, generator: torch.Generator) -> Tensor:
    return mean + torch.rand((), generator=generator)


class LooksAtNumbers(Plugin):
    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return 2.0 if x.mean().item() > 0.6 else 1.0


class DrawsAfterALook(LooksAtNumbers):
    """Draws from torch's own generator of the device, which a capture takes over for as long as it lasts."""

    def factor(self, x: Tensor, rng: Rng, state: State) -> Any:
        return super().factor(x, rng, state) + torch.rand((), device=x.device)


def hidden() -> float:
    return float(sys.modules["tests.recorders"].ticks.__next__())


NOTICED = [
    (Unprepared, "does not say that its loss can be replayed"),
    (ReadsStep, r"reads rng\.step, and Method\.kind does not"),
    (ReadsProgress, r"reads rng\.progress, and Method\.kind does not"),
    (SeedsItself, r"reads rng\.key"),
    (Copies, r"reads rng\."),
    (Flips, "Python's random"),
    (FlipsNumpy, "NumPy's random"),
    (FlipsTorch, "torch's generator on the CPU"),
    (FlipsItsOwn, "replayed_methods.OWN"),
    (Clock, "becomes aten.mul"),
    (Counts, "Counts.calls"),
    (CountsGlobally, "replayed_methods.CALLS"),
    (CountsInTheNetwork, "network.calls"),
    (Averages, "replayed_methods.AVERAGE.loss"),
    (WritesState, r"writes to state\['plain'\]"),
    (WritesDeepInState, "state.nest.n"),
    (Draws, "of another form|becomes"),
    (DrawsNumbers, "of another form|becomes"),
    (DrawsByTensor, "hands a tensor"),
    (LooksAtNumbers, "operation not permitted when stream is capturing"),
    (DrawsAfterALook, "torch's generator on the CPU"),
]
