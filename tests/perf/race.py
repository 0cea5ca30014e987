"""A kernel on a GPU beside its definition, eager and compiled, and beside a copy of as many bytes: the last ratio is
the share of the device's copy bandwidth that the kernel reaches, by the bytes that it has to move."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.perf.turns import take_turns

REPEATS = 20
"""Calls between two synchronisations."""
COPY = "a copy of as many bytes"


def cuda() -> torch.device:
    """The device, or a skip."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: this is timed on a GPU")
    return torch.device("cuda")


def repeated(work: Callable[[], Any]) -> Callable[[], None]:
    """REPEATS calls of some work."""

    def run() -> None:
        for _ in range(REPEATS):
            work()

    return run


def race(
    request: pytest.FixtureRequest,
    title: str,
    moved: int,
    triton: Callable[[], Any],
    definition: Callable[[], Any],
    compiled: Callable[[], Any] | None = None,
    share: float | None = None,
    slow: bool = False,
) -> None:
    """moved: bytes that the operation has to read and write. compiled: if not the definition as it is, compiled.
    share: of the copy bandwidth, to be reached; that a kernel has to beat both forms of its definition holds for all.
    slow: the definition as it is takes tens of milliseconds, and is done once in a round.
    """
    source = torch.empty(moved // 2, dtype=torch.uint8, device=cuda())
    target = torch.empty_like(source)
    forms: dict[str, Callable[[], Any]] = {
        "Triton": triton,
        "eager": definition,
        "torch.compile": compiled or torch.compile(definition),
        COPY: lambda: target.copy_(source),
    }
    take_turns(
        request,
        f"{title}, {moved / 2**20:,.0f} MiB",
        {name: (1, form) if slow and name == "eager" else (REPEATS, repeated(form)) for name, form in forms.items()},
        targets={"eager": 1.0, "torch.compile": 1.0} | ({} if share is None else {COPY: share}),
        bytes_moved=moved,
        rounds=7,
        cuda=True,
    )
