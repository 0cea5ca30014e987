"""How busy the machine was while a run went on: a speed from a machine that others used says little, and one of a
process that was stopped (SIGSTOP, a debugger, a paused container) says nothing.

An empty text means that the machine had cores enough.
"""

import os
from collections.abc import Callable, Mapping
from time import monotonic, process_time
from typing import Any

from benchmark.runs.ticking import Ticking

EVERY = 5.0
"""Seconds between two looks."""
SLACK = 1.25
"""How far beyond its cores a machine may be: what the system does by itself is no neighbour."""
TICK, STILL, IDLE = 1.0, 10.0, 0.5
"""Seconds between two looks at the clock; how much later one may come before the process stood still; and the share of
that time from which on it computed instead, in something that lets no other thread run."""
WARNING, STOOD = "the machine was loaded", "its process stood still"
"""How the warnings begin."""


def average() -> float:
    """Processes that ran or waited for a core, mean of the last minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


class Load(Ticking):
    """The load from the start of a run to its end. still: seconds in which no thread of the process did anything, from
    the first look on, as far as its `with` block."""

    def __init__(
        self,
        read: Callable[[], float] = average,
        clock: Callable[[], float] = monotonic,
        computed: Callable[[], float] = process_time,
    ):
        super().__init__(TICK)
        self.read, self.clock, self.computed = read, clock, computed
        self.seen = [read()]
        self.last = clock()
        self.ticked: tuple[float, float] | None = None
        """When the clock was looked at last, and how long the process had computed by then; None before the run."""
        self.still = 0.0

    def tick(self) -> None:
        """Looks at the clock: whether the process stood still since the last time."""
        if self.ticked is None:
            return
        now, computed = self.clock(), self.computed()
        gone, done = now - self.ticked[0], computed - self.ticked[1]
        self.still += gone if gone >= STILL and done <= IDLE * gone else 0.0
        self.ticked = now, computed

    def look(self) -> None:
        """Reads the load, if it was read some seconds ago."""
        if self.ticked is None:
            self.ticked = self.clock(), self.computed()
        if self.clock() - self.last >= EVERY:
            self.last = self.clock()
            self.seen.append(self.read())

    def ended(self) -> dict[str, float]:
        """For the record: the load at the start, at the end, and its mean over the run."""
        seen = [*self.seen, self.read()]
        return {
            "load_start": round(seen[0], 2),
            "load": round(seen[-1], 2),
            "load_mean": round(sum(seen) / len(seen), 2),
        }


def beyond(machine: Mapping[str, Any]) -> str:
    """How far the machine of a record was loaded beyond its cores; empty where it was not, or the record does not say.

    What the suite's own runs ask for counts as room: someone who starts more of them than there are cores knows it.
    """
    load, cores = machine.get("load_mean"), machine.get("cores")
    if load is None or not cores:
        return ""
    own = machine["threads"] * machine.get("sharing", 1) * machine.get("processes", 1)
    return f"{load:.1f} runnable processes on {cores} cores" if load > SLACK * max(cores, own) else ""
