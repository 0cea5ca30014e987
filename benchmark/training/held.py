"""Watches what the host holds and a loss might change. A replayed step runs no Python, so it would miss such a change.

Watched: the method's fields and class, the globals of its module with what its functions keep, the network without the
numbers in its tensors, the run's state, and the generators that everybody shares. An empty text from `changed` means
that nothing changed.
"""

import itertools
import random
import sys
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.core.devices import on_gpu

PLAIN = (bool, int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, itertools.count)
SMALL = 2**16
"""Bytes of the largest NumPy array whose numbers are looked at."""


@dataclass(frozen=True, eq=False)
class Same:
    """Stands for an object that equals nothing but itself; it is kept, so that no other one can take its address."""

    of: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.of is other.of

    __hash__ = None  # type: ignore[assignment]


def held(method: object, **roots: Any) -> dict[str, Any]:
    """By name, what a method and these objects hold: plain values and the states of generators as text, the rest as it
    is. A tensor is held itself, not its numbers, which a replayed step changes as a launched one does."""
    own = {cls.__module__ for cls in type(method).__mro__} - {"builtins"}
    own = {name for name in own if name.partition(".")[0] not in ("benchmark", "pydantic")}
    walk = _Walk(own)
    walk.into(type(method).__name__, vars(method))
    for cls in type(method).__mro__:
        if cls.__module__ in own:
            walk.names(cls.__name__, vars(cls))
    for name in own & sys.modules.keys():
        walk.names(name.rpartition(".")[2], vars(sys.modules[name]))
    for name, root in roots.items():
        walk.into(name, root)
    kind, key, *rest = np.random.get_state()  # noqa: NPY002 - whoever uses it is to be found out
    walk.found["Python's random"] = hash(random.getstate())
    walk.found["NumPy's random"] = kind, hash(np.asarray(key).tobytes()), *rest
    walk.found["torch's generator on the CPU"] = hash(torch.get_rng_state().numpy().tobytes())
    return walk.found


def entries(name: str, root: Any) -> dict[str, Any]:
    """By name, what one object holds."""
    walk = _Walk(set())
    walk.into(name, root)
    return walk.found


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The name of the first thing that is another than before; empty where none is."""
    return next((name for name in {**before, **after} if before.get(name) != after.get(name)), "")


class _Walk:
    """Goes through containers, modules, and what is of the method's own file. own: names of such files' modules."""

    def __init__(self, own: set[str]):
        self.own = own
        self.found: dict[str, Any] = {}
        self._been: dict[int, Any] = {}

    def names(self, path: str, values: Any) -> None:
        """Into the names of a class or a module, except for those that Python and pydantic keep for themselves."""
        for name, value in list(values.items()):
            if not name.startswith("__"):
                self.into(f"{path}.{name}", value)

    def into(self, path: str, value: Any) -> None:
        if isinstance(value, PLAIN):
            self.found[path] = repr(value)
            return
        if id(value) in self._been:
            self.found[path] = Same(value)
            return
        self._been[id(value)] = value
        inner = self._inside(value)
        if inner is None:
            self.found[path] = _state_of(value)
            return
        self.found[path] = type(value).__name__, len(inner)
        for name, part in inner.items():
            self.into(f"{path}.{name}" if isinstance(name, str) else f"{path}[{name!r}]", part)

    def _inside(self, value: Any) -> dict[Any, Any] | None:
        """The parts of an object that is looked into."""
        if isinstance(value, dict):
            return dict(value)
        if isinstance(value, list | tuple | deque | set | frozenset):
            return dict(enumerate(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value))
        if isinstance(value, staticmethod | classmethod):
            return {"function": value.__func__}
        if isinstance(value, FunctionType) and value.__module__ in self.own:
            cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
            return {"kept": cells, "defaults": [value.__defaults__, value.__kwdefaults__], **vars(value)}
        if isinstance(value, nn.Module) or (type(value).__module__ in self.own and hasattr(value, "__dict__")):
            return dict(vars(value))
        return None


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _state_of(value: Any) -> Any:
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, torch.Generator):
        return hash(value.get_state().numpy().tobytes())
    if isinstance(value, np.ndarray) and value.nbytes <= SMALL:
        return repr(value.tolist())
    return Same(value)


def outline(value: Any, gpu: bool = False) -> Hashable:
    """An entry of a state without what tensors hold. gpu: in a run on a GPU, where a loss can read what tensors on the
    CPU hold: whether one was written to is then noted as well."""
    if isinstance(value, Tensor):
        host = (id(value), value._version) if gpu and not on_gpu(value) else ()
        return tuple(value.shape), tuple(value.stride()), str(value.dtype), str(value.device), *host
    if isinstance(value, dict):
        return tuple((name, outline(inner, gpu)) for name, inner in value.items())
    return tuple(outline(inner, gpu) for inner in value) if isinstance(value, list | tuple) else repr(value)


def addresses(value: Any) -> Hashable:
    """Where the tensors of an entry of a state lie."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return tuple(addresses(inner) for inner in value)
    return value.data_ptr() if isinstance(value, Tensor) else None
