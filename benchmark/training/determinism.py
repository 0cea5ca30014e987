"""Repeatability of a run: torch's deterministic algorithms, and the operations that have none.

An empty list means that every operation met so far has a deterministic algorithm.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import torch


@contextmanager
def determinism(wanted: bool) -> Iterator[list[str]]:
    """Within, torch takes deterministic algorithms where they are `wanted` and it has them.

    Yields a list that names the operations that have none, as they are met.
    """
    found: list[str] = []
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        if wanted:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is taken
            warnings.filterwarnings("always", message=".*does not have a deterministic implementation.*")
            show = warnings.showwarning

            def heard(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                operation, says, _ = str(message).partition(" does not have a deterministic implementation")
                if not says:
                    show(message, category, filename, lineno, file, line)
                elif (text := f"not deterministic: {operation}") not in found:
                    found.append(text)

            warnings.showwarning = heard
        torch.use_deterministic_algorithms(wanted, warn_only=True)
        try:
            yield found
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
