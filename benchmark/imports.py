"""Imports our own modules, whatever torch's default device is: some hold tables, which belong on the CPU."""

import importlib
import sys
from contextlib import nullcontext
from types import ModuleType


def import_module(name: str) -> ModuleType:
    """As importlib does."""
    torch = sys.modules.get("torch")
    with torch.device("cpu") if torch else nullcontext():
        return importlib.import_module(name)
