"""The training steps of one run: launched, or captured once for each kind of step and replayed (capture.py).

A replay runs the launched operations with the launched numbers: what changes from step to step lies in tensors that are
written before it (positions of the batch, learning rate, draws), or in generators that are seeded before it.

All that the host decides is fixed by a capture, so a step is replayed only where that is known not to change:

- The method says so (Method.replayable), and what its loss decides by `rng` it names in Method.kind.
- Entries of `state` that the loss reads are looked at before each replay: another value or tensor is captured anew.
- The first steps of a kind are launched and watched. A loss that reads `rng.step` or `rng.progress` beyond its kind,
  writes to `state`, changes anything else that it holds on the host (held.py), or gives an operation another number
  from the host than the step before, is never captured.
- A capture is traced too, and dropped where it has other operations than the launched steps had.
- Before and after each evaluation a step is launched and held against those: a host that has changed its mind ends the
  run.
"""

import operator
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from benchmark import timing
from benchmark.capture import Recorder, Work, capture, recorder
from benchmark.devices import on_gpu
from benchmark.held import addresses, changed, entries, outline
from benchmark.parcel import Parcel, form, tensors_of, with_tensors
from benchmark.rng import Rng
from benchmark.timing import Passes
from benchmark.watch import Drawn, Trace, WatchedRng, WatchedState, difference

T = TypeVar("T")
LAUNCHED = 6
"""Steps of a kind that are launched before it is captured: one compiles, two are traced, and three are timed."""
TRACED = 1, 2
KINDS = 16
"""Kinds of step that are captured in a run; a method that names more is launched."""


class ChangedError(Exception):
    """The host decided otherwise than when the step was captured, so replayed steps may have been wrong."""


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
    redrawn: "Redrawn | None" = None
    audit: bool = False
    """Whether the next step is launched and held against those that were captured."""


class Redrawn:
    """All that a step draws by Rng.draw, at one place of the device, where it is drawn anew for each replay."""

    def __init__(self, calls: Sequence[Drawn], rng: Rng):
        self.calls = [*calls]
        drawn = self._again(rng)
        tensors = _tensors(drawn)
        self._parcel, self._forms = Parcel.of(tensors), [form(each) for each in drawn]
        self._buffer = self._parcel.pack(tensors, rng.on).to(rng.on) if tensors else torch.empty(0)
        places = iter(self._parcel.unpack(self._buffer))
        self.handed = [with_tensors(each, [next(places) for _ in tensors_of(each)]) for each in drawn]
        """What each call gave, with its tensors where later draws are written."""

    def refresh(self, rng: Rng) -> bool:
        """Draws for this step. False, and nothing is written, where the draws are of another form than at first."""
        drawn = self._again(rng)
        if [form(each) for each in drawn] != self._forms:
            return False
        if self._parcel.places:
            self._buffer.copy_(self._parcel.pack(_tensors(drawn), rng.on), non_blocking=True)
        return True

    def _again(self, rng: Rng) -> list[Any]:
        with timing.unmetered():
            return [call.again(rng) for call in self.calls]


def _tensors(drawn: Sequence[Any]) -> list[Tensor]:
    return [tensor for each in drawn for tensor in tensors_of(each)]


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
        self.name, self.body, self.kind, self.images = name, body, kind, images
        self.pool, self.places, self.held = pool, places, held
        self.discard = discard
        """Drops what a failed capture may have left in the network: gradients."""
        self.kinds: dict[str, Kind] = {}
        self.reads: set[str] = set()
        """Entries of the state that the loss has read."""
        self.whole = False
        """Whether it has looked at the state as a whole."""
        self._last: tuple[Hashable, list[Tensor], str] | None = None
        """What the method said of the last step's kind, the pool, and the kind's name."""
        unsaid = not replayable and recorder() is not None
        self.why = f"{name} does not say that its loss can be replayed (Method.replayable)" if unsaid else ""
        """Why steps are launched on a device where they could be replayed; empty where they are not."""

    def audit(self) -> None:
        """The next step of every kind that was captured is launched and held against the capture."""
        for known in self.kinds.values():
            known.audit = known.replay is not None

    def take(self, rng: Rng, state: dict[str, Any], fill: Work) -> None:
        """One step: launched, or replayed where its kind is known. fill: prepares the batch."""
        by = recorder()
        kind = self._kind(rng, state) if by is not None and not self.why else None
        if by is None or kind is None:
            self._launch(rng, state, fill)
            return
        known = self.kinds[kind]
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

    def _entries(self, state: dict[str, Any]) -> list[Any]:
        """What the loss reads of the state."""
        return [(name, state.get(name)) for name in sorted(state.keys() | self.reads if self.whole else self.reads)]

    def _kind(self, rng: Rng, state: dict[str, Any]) -> str | None:
        """The name of this step's kind: what the method says, the shape of the pool, and the entries of the state that
        the loss reads."""
        said, pool = self.kind(rng), self.pool()
        if self._last is not None and not (self.reads or self.whole):  # as nearly every step, of the last one's kind
            before, tensors, name = self._last
            if said == before and len(pool) == len(tensors) and all(map(operator.is_, pool, tensors)):
                return name
        name = repr((said, outline(pool), outline(self._entries(state), on_gpu(rng.on))))
        if name not in self.kinds:
            if len(self.kinds) == KINDS:
                self.why = f"{self.name} names more than {KINDS} kinds of step (Method.kind)"
                return None
            self.kinds[name] = Kind()
        self._last = said, pool, name
        return name

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
        known, meter = self.kinds[kind], timing.active()
        trace = Trace(rng.on)
        watched, seen = WatchedRng.of(rng, trace), WatchedState(state)
        count = meter.counted.copy() if meter else Passes()
        traced = known.seen in TRACED or known.seen >= LAUNCHED
        before = self._held(seen) if known.seen else {}  # the first step may fill caches
        self._launch(watched, seen, fill, None if traced or not known.seen else kind, trace if traced else None)
        known.passes = meter.counted - count if meter else Passes()
        self.reads |= seen.reads
        self.whole |= seen.whole
        known.seen += 1
        allowed = WatchedRng.of(rng)
        self.kind(allowed)
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
        fixed = tuple([tensor.data_ptr() for tensor in self.places()]), addresses(self._entries(state))
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
                self.body(_Handing(rng.seed, rng.step, rng.progress, rng.on, *given), seen)

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


@dataclass(frozen=True)
class _Handing(Rng):
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
