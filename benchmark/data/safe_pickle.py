"""Reads pickles of arrays and plain containers, such as CIFAR's and MNIST-M's, without letting them run code."""

import io
import pickle
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmark.core.regular_files import content

LIMIT = 2**31
"""Bytes of a pickle that is read."""
Array: TypeAlias = NDArray[Any]


class _Dtype:
    """Stands in for numpy.dtype, so that a pickle can describe arrays of numbers and texts but not of objects."""

    def __init__(self, code: Any):
        self.plain = np.dtype(code)
        if self.plain.kind not in "biufSU":
            raise pickle.UnpicklingError(f"it holds an array of {self.plain}; allowed: numbers and texts")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__((*state[:2], state[2].plain, *state[3:]))


class _Unpickler(pickle.Unpickler):
    """Imports nothing: the few names that a pickled array asks for stand for the methods below."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}".replace("numpy._core", "numpy.core")
        known: dict[str, Any] = {"numpy.ndarray": None, "numpy.dtype": self.dtype, "_codecs.encode": self.encode}
        known |= {"numpy.core.multiarray._reconstruct": self.array, "numpy.core.numeric._frombuffer": self.view}
        known |= {"__builtin__.bytes": self.empty}
        if name not in known:
            raise pickle.UnpicklingError(f"it asks for '{name}', which no array needs; refused")
        return known[name]

    def array(self, *_: Any) -> Array:
        return _Array(0)

    def view(self, raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> Array:
        return np.frombuffer(raw, dtype.plain).reshape(shape, order=order)

    def dtype(self, code: Any, *_: Any) -> _Dtype:
        return _Dtype(code)

    def empty(self) -> bytes:  # with a number, bytes would fill the memory
        return b""

    def encode(self, text: str, _: str) -> bytes:  # how Python 3 writes bytes for Python 2
        return text.encode("latin1")


def unpickle(source: Path | bytes) -> Any:
    """A pickled value of arrays and plain containers, Python 2's texts as bytes. Else raises pickle.UnpicklingError,
    and ValueError for what is no plain file of at most LIMIT bytes."""
    raw = source if isinstance(source, bytes) else content(source, LIMIT)
    return _Unpickler(io.BytesIO(raw), encoding="bytes").load()
