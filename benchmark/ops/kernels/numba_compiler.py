"""Numba's compiler with a cache that costs no run.

A damaged cache is rebuilt. A cache that cannot be written is left out. A hash checks what is read from it, another
that the sources are still those that were compiled.
"""

# mypy: ignore-errors
# Numba has no types, and its cache is no public part of it.

import functools
import hashlib
import warnings
from pathlib import Path

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

SHA256_BYTES = 32
HERE = Path(__file__).parent
SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in (*sorted(HERE.glob("pillow_cpu*.py")), HERE.parent / "operations.py"))
).hexdigest()
"""Of all that is compiled: the code of a function holds the functions and numbers of other files, of which Numba looks
at none."""


class File(IndexDataCacheFile):
    """A function's machine code, followed by its hash."""

    def _dump(self, obj):
        content = super()._dump(obj)
        return content + hashlib.sha256(content).digest()

    def _load_data(self, name):
        content = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(content[:-SHA256_BYTES]).digest() != content[-SHA256_BYTES:]:
            raise ValueError(f"{self._data_path(name)}: it is not what was written")
        return super()._load_data(name)


class Cache(FunctionCache):
    """Raises nothing: the worst that can be wrong with a cache is that it is of no use."""

    def __init__(self, function):
        super().__init__(function)
        of = self._cache_file
        self._cache_file = File(self.cache_path, of._index_name.removesuffix(".nbi"), (of._source_stamp, SOURCES))

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001 - pickle raises what it likes for a damaged file
            self._begin_anew()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception:  # noqa: BLE001 - a full disk, a folder that is gone
            self.disable()

    def _begin_anew(self):
        try:
            self.flush()
        except OSError:
            self.disable()


def compiled(function):
    """Decorator: compiled when it is first called, without the interpreter's lock."""
    made = njit(nogil=True, error_model="numpy")(function)
    try:
        made._cache = Cache(function)
    except (RuntimeError, OSError):  # neither beside the source nor in the home folder can be written
        _say()
    return made


@functools.cache
def _say():
    warnings.warn(
        "Numba finds no folder for its cache that it can write, so each process compiles anew, for some 20 seconds; "
        "NUMBA_CACHE_DIR=FOLDER in the environment names one",
        RuntimeWarning,
        stacklevel=3,
    )
