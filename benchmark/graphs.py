"""CUDA graphs of a network's passes (`--graphs`): a pass's launches are recorded once, then replayed by one.

A small network keeps a GPU waiting for launches. torch.compile's backend `cudagraphs` records the forward and backward
pass of each kind (shape, mode, route, what has a gradient) without changing an operation, guards against replaying one
for another, and raises where something is read that a later replay has overwritten. It is asked for in the network's
class, so that a copy of the network, and the network with other parameters, are themselves and not the original.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

KINDS = 64
"""Kinds of pass that are recorded in one run; any more run as without graphs."""


def _replaying(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a network whose passes are recorded and replayed."""
    recorded = torch.compile(kind.forward, backend="cudagraphs", dynamic=False)

    class Replaying(kind):  # type: ignore[misc, valid-type]
        def forward(self, *inputs: Any, **named: Any) -> Tensor | tuple[Tensor, ...]:
            if torch.is_inference_mode_enabled():  # scores are taken of batches of many sizes
                return super().forward(*inputs, **named)  # type: ignore[no-any-return]
            out = recorded(self, *inputs, **named)  # in memory that the next replay writes to
            return tuple(part.clone() for part in out) if isinstance(out, tuple) else out.clone()

    return Replaying


@contextmanager
def replayed(net: nn.Module, wanted: bool) -> Iterator[None]:
    """Until the block ends, passes of `net` are replayed where `wanted`. On a CPU they are compiled, guarded, and run.

    A second derivative raises RuntimeError: a replay has none.
    """
    if not wanted:
        yield
        return
    from torch._dynamo import config  # noqa: PLC0415 - it takes a second, and few runs ask for it

    kind = type(net)
    torch.compiler.reset()  # or kinds of an earlier run in this process would count
    with config.patch(recompile_limit=KINDS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")  # torch's look
        net.__class__ = _replaying(kind)
        try:
            yield
        finally:
            net.__class__ = kind
