"""The training steps of one run: launched, or captured once for each kind of step and replayed (capture.py).

A replay runs the launched operations with the launched numbers. What changes from step to step lies in tensors that are
written before it (positions of the batch, learning rate, draws), or in generators that are seeded before it.

A capture fixes everything that the host decides. So a step is replayed only if that is known not to change:

- The method says so (Method.replayable), and Method.kind names what its loss decides by `rng`.
- Entries of `state` that the loss reads are checked before each replay: another value or tensor is captured anew.
- The first steps of a kind are launched and watched. A loss is never captured if it reads `rng.step` or `rng.progress`
  beyond its kind, writes to `state`, changes anything else that it holds on the host (held.py), or gives an operation
  another number from the host than the step before.
- A capture is traced too. It is dropped if it has other operations than the launched steps had.
- Before and after each evaluation a step is launched and compared with those. If the host has changed its mind, the run
  ends.
"""

from collections.abc import Callable, Hashable
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmark.core import timing
from benchmark.core.capture import Recorder, Work, capture, recorder
from benchmark.core.passes import Passes
from benchmark.core.rng import Rng
from benchmark.training.draws import Handing, Redrawn
from benchmark.training.held import addresses, changed, entries
from benchmark.training.kinds import MOST, Kind, Kinds
from benchmark.training.trace import Trace, difference
from benchmark.training.watch import WatchedRng, WatchedState

LAUNCHED = 6
"""Steps of a kind that are launched before it is captured: one compiles, two are traced, and three are timed."""
TRACED = 1, 2


class ChangedError(Exception):
    """The host decided otherwise than when the step was captured, so replayed steps may have been wrong."""


Body: TypeAlias = Callable[[Rng, Any], None]
"""A training step, drawing from this Rng and reading this state."""


class Steps:
    """The training steps of one run.

    name: of the method, for messages. replayable, kind: as the method says. body: does a step on the batch that `fill`
    has prepared. pool: the tensors of the training pool. places: all that lie where they are for a captured step: what
    a batch is read from, and the network's. held: what the method and the network hold on the host (held.py), by name.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        *,
        replayable: bool,
        kind: Callable[[Rng], Hashable],
        pool: Callable[[], list[Tensor]],
        places: Callable[[], list[Tensor]],
        images: int,
        discard: Callable[[], None],
        held: Callable[[], dict[str, Any]] = dict,
    ):
        self.name, self.body, self.images = name, body, images
        self.places, self.held = places, held
        self.discard = discard
        """Drops what a failed capture may have left in the network: gradients."""
        self.kinds = Kinds(kind, pool)
        unsaid = not replayable and recorder() is not None
        self.why = f"{name} does not say that its loss can be replayed (Method.replayable)" if unsaid else ""
        """Why steps are launched on a device where they could be replayed; empty where they are not."""

    def audit(self) -> None:
        """The next step of every kind that was captured is launched and held against the capture."""
        for known in self.kinds.known.values():
            known.audit = known.replay is not None

    def take(self, rng: Rng, state: dict[str, Any], fill: Work) -> None:
        """One step: launched, or replayed where its kind is known. fill: prepares the batch."""
        by = recorder()
        kind = self.kinds.name(rng, state) if by is not None and not self.why else None
        if by is None or kind is None:
            if by is not None and not self.why:
                self.why = f"{self.name} names more than {MOST} kinds of step (Method.kind)"
            self._launch(rng, state, fill)
            return
        known = self.kinds.known[kind]
        if known.seen < LAUNCHED or known.audit:
            known.audit = False
            self._watch(kind, rng, state, fill)
            return
        if not self._ready(known, by, rng, state):
            self._launch(rng, state, fill)
            return
        with _metered(self.images, kind, replayed=True):
            fill()
            for purpose, generator in zip(known.purposes, known.generators, strict=True):
                generator.manual_seed(rng.key(purpose))
            assert known.replay is not None
            assert known.redrawn is not None
            if not known.redrawn.refresh(rng):
                self._refuse("its draws are of another form at another step", replayed=False)
                self.body(rng, state)
                return
            known.replay()
        if (meter := timing.active()) is not None:
            meter.counted.add(known.passes)

    def _launch(
        self, rng: Rng, state: dict[str, Any], fill: Work, kind: str | None = None, trace: Trace | None = None
    ) -> None:
        with _metered(self.images, kind):
            with timing.span("data_wait"):
                fill()
            with trace or nullcontext():
                self.body(rng, state)

    def _watch(self, kind: str, rng: Rng, state: dict[str, Any], fill: Work) -> None:
        """A launched step from which a capture learns, or which is held against it."""
        known, meter = self.kinds.known[kind], timing.active()
        trace = Trace(rng.on)
        watched, seen = WatchedRng.of(rng, trace), WatchedState(state)
        count = meter.counted.copy() if meter else Passes()
        traced = known.seen in TRACED or known.seen >= LAUNCHED
        before = self._held(seen) if known.seen else {}  # the first step may fill caches
        self._launch(watched, seen, fill, None if traced or not known.seen else kind, trace if traced else None)
        known.passes = meter.counted - count if meter else Passes()
        self.kinds.saw(seen)
        known.seen += 1
        allowed = WatchedRng.of(rng)
        self.kinds.said(allowed)
        why = ""
        if extra := sorted(watched.reads - allowed.reads):
            why = f"its loss reads rng.{extra[0]}, and Method.kind does not"
        elif seen.written:
            state.clear()
            state.update(seen.plain())
            why = f"its loss writes to state['{seen.written}']"
        elif known.seen == 1:
            known.purposes, known.drawn = watched.purposes, watched.drawn
        elif name := changed(before, self._held(seen)):
            why = f"its loss changes what the host holds: {name}"
        elif (watched.purposes, repr(watched.drawn)) != (known.purposes, repr(known.drawn)):
            why = "its loss draws something else at another step"
        elif any(drawn.holds_tensors() for drawn in watched.drawn):
            why = "it hands a tensor to what it draws by"
        elif traced and known.trace is not None:
            why = difference(known.trace, trace.seen)
        if why:
            self._refuse(why, replayed=known.replay is not None)
        if traced:
            known.trace = trace.seen

    def _held(self, seen: WatchedState) -> dict[str, Any]:
        return {**self.held(), **entries("state", seen.plain())}

    def _refuse(self, why: str, *, replayed: bool) -> None:
        if replayed:
            raise ChangedError(
                f"{self.name}: a captured step no longer is what the method does ({why}): replayed steps may be wrong; "
                "name what decides in Method.kind, or run with --launch"
            )
        self.why = self.why or f"{self.name}: {why}"

    def _ready(self, known: Kind, by: Recorder, rng: Rng, state: dict[str, Any]) -> bool:
        """Captures the step where that has not been done for the present state. False where it cannot be."""
        fixed = tuple([tensor.data_ptr() for tensor in self.places()]), addresses(self.kinds.entries(state))
        if known.replay is not None and known.fixed == fixed:
            return True
        known.replay = None  # its memory goes before the next one's comes
        known.generators = [torch.Generator(rng.on) for _ in known.purposes]
        known.redrawn = redrawn = Redrawn(known.drawn, rng)
        trace, seen = Trace(rng.on), WatchedState(state)

        def work() -> None:
            given = (
                [*zip(known.purposes, known.generators, strict=True)],
                [*zip(redrawn.calls, redrawn.handed, strict=True)],
            )
            with trace:
                self.body(Handing(rng.seed, rng.step, rng.progress, rng.on, *given), seen)

        found = capture(by, work, known.generators)
        why = found if isinstance(found, str) else difference(known.trace or [], trace.seen)
        if why or isinstance(found, str) or seen.written:
            self.why = f"{self.name}: its step cannot be captured ({why or 'it writes to its state'})"
            self.discard()
            return False
        known.replay, known.fixed = found, fixed
        return True


def _metered(images: int, kind: str | None, *, replayed: bool = False) -> Any:
    meter = timing.active()
    return nullcontext() if meter is None else meter.step(images, kind, replayed=replayed)
