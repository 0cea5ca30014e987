"""What a loss reads of the host, noted: WatchedRng and WatchedState go with a launched step instead of its own."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmark.core.rng import Rng
from benchmark.training.trace import Trace

T = TypeVar("T")


@dataclass(frozen=True)
class WatchedRng(Rng):
    """An Rng that notes which of step and progress is read, which generators are asked for, and what is drawn."""

    reads: set[str] = field(default_factory=set)
    purposes: list[str] = field(default_factory=list)
    drawn: list["Drawn"] = field(default_factory=list)
    trace: Trace | None = None
    """Does not see what `draw` does: the host draws anew for a replay."""

    @classmethod
    def of(cls, rng: Rng, trace: Trace | None = None) -> "WatchedRng":
        return cls(rng.seed, rng.step, rng.progress, rng.on, trace=trace)

    def __getattribute__(self, name: str) -> Any:
        if name in ("step", "progress", "key", "__dict__"):  # a key is another at each step
            object.__getattribute__(self, "__dict__").get("reads", set()).add(name)
        return object.__getattribute__(self, name)

    def generator(self, purpose: str) -> torch.Generator:
        self.purposes.append(purpose)
        return self._plain().generator(purpose)

    def draw(self, purpose: str, sample: Callable[..., T], *given: Any, **named: Any) -> T:
        self.drawn.append(Drawn(purpose, sample, given, named))
        with self.trace.paused() if self.trace else nullcontext():
            return self._plain().draw(purpose, sample, *given, **named)

    def _plain(self) -> Rng:
        """The same without a watcher: what the referee itself reads is not the loss's doing."""
        step, progress = (object.__getattribute__(self, name) for name in ("step", "progress"))
        return Rng(self.seed, step, progress, self.on)


@dataclass(frozen=True)
class Drawn:
    """A call of Rng.draw."""

    purpose: str
    sample: Callable[..., Any]
    given: tuple[Any, ...]
    named: dict[str, Any]

    def holds_tensors(self) -> bool:
        """Whether a tensor is among what the sampler is given: later steps might have another."""
        return any(isinstance(value, Tensor) for value in tree_leaves((self.given, self.named)))

    def again(self, rng: Rng) -> Any:
        """What the call gives for another step, on the CPU."""
        return Rng(rng.seed, rng.step).draw(self.purpose, self.sample, *self.given, **self.named)


class WatchedState(dict[str, Any]):
    """A method's state that notes which entries are read, or that all are, and that one is written."""

    def __init__(self, state: dict[str, Any]):
        super().__init__(state)
        self.reads: set[str] = set()
        self.whole = False
        """Whether it was looked at as a whole: its length, its names, a copy of it."""
        self.written = ""

    def __getitem__(self, name: str) -> Any:
        self.reads.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.reads.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.reads.add(str(name))
        return super().__contains__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.written = self.written or name
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self.written = self.written or name
        super().__delitem__(name)

    def update(self, *given: Any, **named: Any) -> None:
        for name, value in dict(*given, **named).items():
            self[name] = value

    def __ior__(self, other: Any) -> "WatchedState":  # type: ignore[override]
        self.update(other)
        return self

    def pop(self, name: str, *default: Any) -> Any:
        self.written = self.written or name
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        name, value = super().popitem()
        self.written = self.written or name
        return name, value

    def clear(self) -> None:
        for name in [*super().keys()]:
            del self[name]

    def setdefault(self, name: str, default: Any = None) -> Any:
        if not super().__contains__(name):
            self[name] = default
        return self[name]

    def plain(self) -> dict[str, Any]:
        """What it holds, without noting that."""
        return dict(super().items())

    def __iter__(self) -> Iterator[str]:
        self.whole = True
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self.whole = True
        return super().__reversed__()

    def __len__(self) -> int:
        self.whole = True
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self.whole = True
        return super().__eq__(other)

    __hash__ = None

    def __repr__(self) -> str:
        self.whole = True
        return super().__repr__()

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def copy(self) -> dict[str, Any]:
        self.whole = True
        return self.plain()

    def keys(self) -> Any:
        self.whole = True
        return super().keys()

    def values(self) -> Any:
        self.whole = True
        return super().values()

    def items(self) -> Any:
        self.whole = True
        return super().items()
