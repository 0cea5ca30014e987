"""Recorders that stand in for CUDA graphs on a machine without a GPU, and undo what a capture would not have done."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmark.core import timing
from benchmark.core.capture import Work

READS = torch.ops.aten._local_scalar_dense.default
"""What .item(), float(tensor) and `if tensor` come down to."""


class _Watched(TorchDispatchMode):
    """Notes every operation, and what each is about to overwrite."""

    def __init__(self, refusing: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refusing = refusing
        self.done: list[tuple[Any, Any, Any, Any]] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.refusing and operation == READS:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        for i, argument in enumerate(operation._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[i] if i < len(args) else kwargs.get(argument.name)
                tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
                self.overwritten += [(tensor.detach(), tensor.clone()) for tensor in tensors]
        out = operation(*args, **kwargs)
        if self.refusing:  # aliases, because autograd looks at who else holds a tensor
            self.done.append((operation, *tree_map_only(Tensor, Tensor.detach, (args, kwargs, out))))
        return out

    def undo(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for tensor, before in reversed(self.overwritten):
                tensor.copy_(before)


class Double:
    """Replays by doing the work once more, with the generators, draws and numbers of the Rng that it was captured with;
    what the host decides otherwise it decides anew. It counts."""

    refusing = False

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Work, generators: Sequence[torch.Generator]) -> Work:
        states, everybody = [generator.get_state() for generator in generators], torch.get_rng_state()
        watched = _Watched(self.refusing)
        try:
            with watched:
                work()
        finally:
            watched.undo()
            torch.set_rng_state(everybody)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
        self.captured += 1
        replay = self.replay(work, watched)

        def counted() -> None:
            self.replayed += 1
            with timing.unmetered():
                replay()

        return counted

    def replay(self, work: Work, watched: _Watched) -> Work:
        return work


class Tape(Double):
    """Replays the operations that were captured on the tensors that they were captured on, as a CUDA graph does: all
    that the host decided is fixed. A capture in which the host reads a number is refused. Only for work that is all
    torch's, because nothing else is seen: not for the compiled augmentations."""

    refusing = True

    def replay(self, work: Work, watched: _Watched) -> Work:
        def play() -> None:
            with torch._C._AutoDispatchBelowAutograd():
                for operation, args, kwargs, out in watched.done:
                    again = operation(*args, **kwargs)
                    for place, value in zip(tree_leaves(out), tree_leaves(again), strict=True):
                        if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                            place.copy_(value)

        return play


class Refusing(Double):
    """Raises in the middle of every capture, after all of its work."""

    def __call__(self, work: Work, generators: Sequence[torch.Generator]) -> Work:
        super().__call__(work, generators)
        raise RuntimeError("no captures today")
