"""What a function gives in another process: one that has loaded no data, and whose hashes of strings are others."""

import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

from tests.faults.harness import forkserver


def elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    """`work` is a function of a module. It sees this process's environment, but none of its patches and plugins."""
    here, there = forkserver().Pipe(duplex=False)
    process = forkserver().Process(target=_send, args=(there, dict(os.environ), work, arguments))
    with mock.patch.dict(os.environ, PYTHONHASHSEED="5"):  # for the process that others are forked from
        process.start()
    there.close()
    salted, found = here.recv()
    process.join()
    assert process.exitcode == 0
    assert salted != hash("salted"), "the other process has this one's hashes"
    return found


def _send(pipe: Connection, environment: Mapping[str, str], work: Callable[..., Any], arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    pipe.send((hash("salted"), work(*arguments)))
