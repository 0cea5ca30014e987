"""Starts processes that share nothing with this one: not its threads, and not the script that it runs."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from benchmark.training import signals

CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


STOP = signal.SIGUSR1
"""What tells a process that is started here to write its checkpoint and end. SIGTERM is not for it: a terminal, timeout
or Slurm may send that to all processes at once, and a second signal ends a process before its step is done."""


def stop(process: SpawnProcess) -> None:
    """Sends a process STOP, if it still runs."""
    if process.pid is not None and process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, STOP)


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, in such a process: STOP makes `signals.asked` true, and SIGTERM is left to whoever started it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with signals.listening((STOP,), say=False):
        yield


def start(main: Callable[..., None], *given: Any, daemon: bool = False) -> SpawnProcess:
    """Starts a process that calls main(*given), a function of this package. Unlike multiprocessing's own, it does not
    run the script of this process once more, which may have no `__main__` guard, or be no file at all."""
    process = CONTEXT.Process(target=main, args=given, daemon=daemon)
    with _no_script():
        process.start()
    return process


@contextmanager
def _no_script() -> Iterator[None]:
    """Hides from multiprocessing which file this process runs."""
    names = sys.modules["__main__"].__dict__
    kept: dict[str, Any] = {name: names.pop(name) for name in ("__file__", "__spec__") if name in names}
    names["__spec__"] = None
    try:
        yield
    finally:
        del names["__spec__"]
        names.update(kept)
