"""The clock: shared operations are wrapped in `span`, and the referee's Meter adds the spans up. Methods never read it.

On a GPU the spans are CUDA events, resolved when the meter is read. So timing adds no synchronisation to a step.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.core.devices import on_gpu
from benchmark.core.outcome import Category
from benchmark.core.passes import Passes

SHARES = get_args(Category)
_active: list["Meter | None"] = []


@contextmanager
def span(category: str) -> Iterator[None]:
    """Charges what runs inside to `category`, a name of SHARES or `setup`, and to nothing else; outside a run it does
    nothing.

    Use it as a decorator or in a `with` block. An inner span's time is not counted in the outer one.
    """
    meter = active()
    if meter is None:
        yield
        return
    start = meter.enter(category)
    try:
        yield
    finally:
        meter.leave(start)


def active() -> "Meter | None":
    """The meter that spans report to; None outside a run, and while a step is captured instead of done."""
    return _active[-1] if _active else None


@contextmanager
def unmetered() -> Iterator[None]:
    """Nothing inside is clocked or counted: it is captured, not done."""
    _active.append(None)
    try:
        yield
    finally:
        _active.pop()


class Meter:
    """Adds up one run's training time by category, and counts passes through its network.

    A replayed step (steps.py) has no spans of its own: its time is shared out as that of launched steps of its kind
    was. A meter's totals can be saved and given to a new one, so a resumed run reports the whole of it.
    """

    def __init__(self, device: torch.device):
        self.cuda = on_gpu(device)
        self.seconds: Counter[str] = Counter()
        """Of all that was launched, by category."""
        self.replayed: Counter[str] = Counter()
        """Seconds of replayed steps, by kind."""
        self.launched: dict[str, Counter[str]] = {}
        """Seconds of launched steps by kind and category: how the time of replayed ones is shared out."""
        self.step_seconds: list[float] = []
        self.images = 0
        self.replays = 0
        self.counted = Passes()
        self._stack: list[str] = []
        self._paused = False
        self._open: list[tuple[str, Any, Any, int, str | None]] = []

    @property
    def forwards(self) -> int:
        """Images that went forward through the network."""
        return self.counted.forward.total()

    @property
    def backwards(self) -> int:
        """Images whose gradient went backward through it."""
        return self.counted.backward.total()

    def _now(self) -> Any:
        if not self.cuda:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def enter(self, category: str) -> Any:
        self._stack.append(category)
        return self._now()

    def leave(self, start: Any) -> None:
        category, end = self._stack.pop(), self._now()
        self._open.append((category, start, end, 1, None))
        if self._stack:
            self._open.append((self._stack[-1], start, end, -1, None))

    @contextmanager
    def running(self, net: nn.Module) -> Iterator["Meter"]:
        """Counts passes of `net` and receives spans until the block ends."""
        hook = net.register_forward_hook(self._count)
        _active.append(self)
        try:
            yield self
        finally:
            _active.pop()
            hook.remove()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Passes inside are not counted: evaluation is the referee's work, not the method's."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def __deepcopy__(self, memo: Any) -> "Meter":
        """A copied network reports to the same meter: what a method does with a copy is its cost too."""
        return self

    def _count(self, net: nn.Module, args: Any, output: Any) -> None:
        if self._paused or active() is not self:
            return
        logits: Tensor = output[0] if isinstance(output, tuple) else output
        self.counted.forward[len(logits)] += len(logits)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self._count_backward(len(gradient)))

    def _count_backward(self, images: int) -> None:
        self.counted.backward[images] += images

    @contextmanager
    def step(self, images: int, kind: str | None = None, *, replayed: bool = False) -> Iterator[None]:
        """One training step over `images` source images; what no inner span claims is forward_backward.

        kind: of a replayed step, or of a launched one whose shares stand for such.
        """
        first = len(self._open)
        start = self.enter("replayed" if replayed else "forward_backward")
        try:
            yield
        finally:
            self.leave(start)
            self._open[first:] = [(*entry[:4], kind) for entry in self._open[first:]]
            self._open.append(("step", start, self._open[-1][2], 1, None))
            self.images += images
            self.replays += replayed

    def read(self) -> dict[str, float]:
        """Seconds by category so far; on a GPU this waits for the device."""
        if self.cuda and self._open:
            torch.cuda.synchronize()
        for category, start, end, sign, kind in self._open:
            seconds = start.elapsed_time(end) / 1000 if self.cuda else end - start
            if category == "step":
                self.step_seconds.append(seconds)
            elif category == "replayed":
                self.replayed[str(kind)] += seconds
            else:
                self.seconds[category] += sign * seconds
                if kind is not None:
                    self.launched.setdefault(kind, Counter())[category] += sign * seconds
        self._open.clear()
        found: dict[str, float] = dict(self.seconds)
        for kind, seconds in self.replayed.items():
            parts = self.launched.get(kind) or {"forward_backward": 1.0}
            for category, part in parts.items():
                found[category] = found.get(category, 0.0) + seconds * part / sum(parts.values())
        return found

    def state(self) -> dict[str, Any]:
        """Totals so far, for a checkpoint."""
        self.read()
        return {
            "seconds": dict(self.seconds),
            "replayed": dict(self.replayed),
            "launched": {kind: dict(parts) for kind, parts in self.launched.items()},
            "step_seconds": self.step_seconds,
            "images": [self.images, self.replays],
            "forward": dict(self.counted.forward),
            "backward": dict(self.counted.backward),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.seconds, self.replayed = Counter(state["seconds"]), Counter(state["replayed"])
        self.launched = {kind: Counter(parts) for kind, parts in state["launched"].items()}
        self.step_seconds = list(state["step_seconds"])
        self.images, self.replays = state["images"]
        self.counted = Passes(Counter(state["forward"]), Counter(state["backward"]))

    def total(self) -> float:
        """Seconds of training so far: all categories but set-up and evaluation."""
        seconds = self.read()
        return sum(seconds.get(share, 0.0) for share in SHARES)

    def shares(self) -> dict[str, float]:
        """Each category's part of the training time; the parts add up to 1."""
        seconds = self.read()
        parts = {share: max(0.0, seconds.get(share, 0.0)) for share in SHARES}  # a difference of clocks may fall below
        total = sum(parts.values())
        return {share: part / total if total else float(share == SHARES[-1]) for share, part in parts.items()}

    def steady(self, batch_size: int) -> tuple[float, tuple[float, float]]:
        """Median and quartiles of source images per second over the steps after the warm-up (a tenth, at least 5)."""
        self.read()
        warm_up = min(max(5, len(self.step_seconds) // 10), len(self.step_seconds) - 1)
        rates = batch_size / np.array(self.step_seconds[warm_up:])
        low, median, high = (float(q) for q in np.percentile(rates, [25, 50, 75]))
        return median, (low, high)

    def passes(self) -> float:
        """Forward-backward passes so far, in images: a forward counts 1/3, a backward 2/3."""
        return (self.forwards + 2 * self.backwards) / 3
