"""Starts processes that share nothing with this one: not its threads, and not the script that it runs."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


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
