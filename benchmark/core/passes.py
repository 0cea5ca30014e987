"""Counts of forward and backward passes: what a method costs on any machine."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Passes:
    """Images that went forward and backward through the network, by the size of their batch."""

    forward: Counter[int] = field(default_factory=Counter)
    backward: Counter[int] = field(default_factory=Counter)

    def copy(self) -> "Passes":
        return Passes(Counter(self.forward), Counter(self.backward))

    def __sub__(self, earlier: "Passes") -> "Passes":
        """What has come since."""
        return Passes(self.forward - earlier.forward, self.backward - earlier.backward)

    def add(self, more: "Passes") -> None:
        self.forward.update(more.forward)
        self.backward.update(more.backward)
