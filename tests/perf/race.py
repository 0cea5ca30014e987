"""A kernel on a GPU beside its definition, eager and compiled, and beside a copy of as many bytes: the last ratio is
the share of the device's copy bandwidth that the kernel reaches, by the bytes that it has to move."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.perf.turns import take_turns

REPEATS = 20
"""Calls between two synchronisations."""


def cuda() -> torch.device:
    """The device, or a skip."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: kernels are timed on a GPU")
    return torch.device("cuda")


def race(
    request: pytest.FixtureRequest,
    title: str,
    moved: int,
    triton: Callable[[], Any],
    definition: Callable[[], Any],
    compiled: Callable[[], Any] | None = None,
) -> None:
    """moved: bytes that the operation has to read and write. compiled: if not the definition as it is, compiled."""
    source = torch.empty(moved // 2, dtype=torch.uint8, device=cuda())
    target = torch.empty_like(source)
    forms: dict[str, Callable[[], Any]] = {
        "Triton": triton,
        "eager": definition,
        "torch.compile": compiled or torch.compile(definition),
        "a copy of as many bytes": lambda: target.copy_(source),
    }

    def repeated(form: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(REPEATS):
                form()

        return run

    contenders = {name: (REPEATS, repeated(form)) for name, form in forms.items()}
    take_turns(request, f"{title}, {moved / 2**20:,.0f} MiB", contenders, rounds=15, cuda=True)
