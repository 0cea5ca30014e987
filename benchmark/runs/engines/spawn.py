"""Starts processes that share nothing with this one: not its threads, and not the script that it runs."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
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
    run the script of this process once more, which may have no `__main__` guard, or be no file at all. Ctrl-C does not
    reach it: this process, which hears it too, says what becomes of it."""
    process = CONTEXT.Process(target=main, args=given, daemon=daemon)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        resource_tracker.ensure_running()  # which lets SIGINT through when it starts
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, from the process's first import on
        with _no_script():
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def die_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone: killed, it can tell nobody."""
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def heard(pipe: "Connection[Any, Any]") -> Any:
    """The next message of a process. Raises EOFError where it died: killed, out of memory, segmentation fault; maybe in
    the middle of a message."""
    try:
        return pipe.recv()
    except OSError as problem:
        raise EOFError from problem


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
