"""CUDA graphs: work that a GPU repeats is captured once and replayed, with one launch instead of hundreds.

A small network keeps a GPU waiting for launches. Under `capturing`, steps.py captures whole training steps, and `Loop`
any other repeated work. On a CPU, and wherever a capture fails, everything is launched as usual.
docs/adr/0007-cuda-graphs.md says why.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from benchmark.core import timing
from benchmark.core.devices import on_gpu
from benchmark.core.passes import Passes

Work: TypeAlias = Callable[[], None]
Recorder: TypeAlias = Callable[[Work, Sequence[torch.Generator]], Work]
"""Captures some work that draws from the generators, without doing it; returns what does it."""

_recorders: list[Recorder] = []


@contextmanager
def capturing(device: torch.device, *, wanted: bool = True) -> Iterator[None]:
    """Within, repeated work on this GPU is captured. Without effect on a CPU, in a run split over processes, and if not
    `wanted`."""
    if not (wanted and on_gpu(device)) or dist.is_initialized():
        yield
        return
    stream = torch.cuda.Stream(device)  # a capture takes no work from the default stream
    stream.wait_stream(torch.cuda.current_stream(device))
    pool = torch.cuda.graph_pool_handle()

    def record(work: Work, generators: Sequence[torch.Generator]) -> Work:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay

    with torch.cuda.stream(stream), recording(record):
        kept = record(lambda: _nothing(device), ())  # memory that graphs share is gone for good with the last of them
        yield
        del kept
    torch.cuda.current_stream(device).wait_stream(stream)


def _nothing(device: torch.device) -> None:
    torch.zeros((), device=device)


@contextmanager
def recording(by: Recorder) -> Iterator[None]:
    """Within, repeated work is captured by this recorder."""
    _recorders.append(by)
    try:
        yield
    finally:
        _recorders.pop()


def recorder() -> Recorder | None:
    """The recorder in use; None where work is launched."""
    return _recorders[-1] if _recorders else None


def capture(by: Recorder, work: Work, generators: Sequence[torch.Generator]) -> Work | str:
    """The captured work, or why it cannot be captured, in one line."""
    try:
        with timing.unmetered():
            return by(work, generators)
    except Exception as problem:  # noqa: BLE001 - a method's loss may raise anything; the step is launched instead
        return f"{type(problem).__name__}: {problem}".partition("\n")[0]


class Loop:
    """Work on tensors of one shape, done again and again; it draws nothing and decides nothing on the host.

    On a GPU under `capturing` its first two rounds are launched, the rest replayed; otherwise all are launched.
    """

    def __init__(self, work: Callable[..., None]):
        self.work = work
        self.rounds = 0
        self.passes = Passes()
        self.inputs: tuple[Tensor, ...] = ()
        self.replay: Work | str | None = None

    def __call__(self, *inputs: Tensor) -> None:
        """One round. inputs: on the device; what `work` is given has their values, at fixed places."""
        by, meter = recorder(), timing.active()
        if by is None or isinstance(self.replay, str) or self.rounds < 2:
            before = meter.counted.copy() if meter else Passes()
            self.work(*inputs)
            self.passes = meter.counted - before if meter else Passes()
            self.rounds += 1
            return
        if self.replay is None:
            self.inputs = tuple(given.clone() for given in inputs)
            self.replay = capture(by, lambda: self.work(*self.inputs), [])
            if isinstance(self.replay, str):
                self(*inputs)
                return
        if [(place.shape, place.dtype) for place in self.inputs] != [(given.shape, given.dtype) for given in inputs]:
            self.work(*inputs)
            return
        for place, given in zip(self.inputs, inputs, strict=True):
            place.copy_(given, non_blocking=True)
        self.replay()
        if meter is not None:
            meter.counted.add(self.passes)
