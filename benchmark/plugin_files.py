"""Loads the files given with --plugin: each is code and runs as the user."""

import hashlib
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, get_args

from benchmark import contracts
from benchmark.core import regular_files
from benchmark.core.errors import UsageError

KINDS: tuple[contracts.Kind, ...] = get_args(contracts.Kind)
OURS = {"benchmark", "methods", "datasets"}
"""The packages of this project."""
LIMIT = 2**24
"""Bytes of a plugin."""
SWITCHES = {"mkldnn.enabled": True, "cudnn.enabled": True, "cudnn.benchmark": False, "cudnn.deterministic": False}
"""In torch.backends: they choose how all methods' numbers are computed. As a new process has them."""
loaded: dict[Path, ModuleType] = {}
"""The plugins of this process."""
_helpers: set[str] = set()
"""Names of the user's own modules that plugins were the first to import."""


def load_plugins(paths: Iterable[Path]) -> None:
    """Imports these plugin files instead of any earlier ones; each is code and runs as the user.

    Raises UsageError where a file cannot be imported or has neither a method nor a dataset nor a network.
    """
    loaded.clear()
    for helper in _helpers:  # it may have been edited since, as the plugin may
        sys.modules.pop(helper, None)
    _helpers.clear()
    for path, given in {Path(path).resolve(): path for path in paths}.items():
        if not os.path.lexists(path):
            raise UsageError(f"--plugin {given}: no such file")
        try:
            content = regular_files.content(path, LIMIT)
        except (OSError, ValueError) as problem:
            raise UsageError(f"--plugin {given}: cannot be read ({getattr(problem, 'strerror', problem)})") from problem
        name = _module_name(path, content)
        loader = _AsItIs(name, str(path)) if path.suffix == ".py" else None
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        if spec is None or spec.loader is None:
            raise UsageError(f"--plugin {given}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        before = {*sys.modules}
        try:
            with _torch_as_it_is():
                spec.loader.exec_module(module)
        except UsageError as problem:
            raise UsageError(f"--plugin {given}: {problem}") from problem
        except KeyboardInterrupt:
            raise
        except BaseException as problem:
            told = f"--plugin {given}: importing it raised {type(problem).__name__}: {problem}"
            raise UsageError(f"{told}{_beside(path, problem)}") from problem
        finally:
            _helpers.update(name for name in sys.modules.keys() - before if own_file(name))
        plain = any(contracts.defines(module, kind) for kind in KINDS)
        if not plain and not contracts.registers({name, *sys.modules.keys() - before}):
            raise UsageError(f"--plugin {given}: it has no Method, Dataset or network; {contracts.WANTED}")
        loaded[path] = module


def _beside(path: Path, problem: BaseException) -> str:
    """What to do about a module that is not found though it lies beside the plugin; empty for all else."""
    name = problem.name or "" if isinstance(problem, ModuleNotFoundError) else ""
    found = [place for place in (path.parent / f"{name}.py", path.parent / name / "__init__.py") if place.is_file()]
    return f"; it lies beside the plugin, so set PYTHONPATH={shlex.quote(str(path.parent))}" if name and found else ""


def _module_name(path: Path, content: bytes) -> str:
    """By path and content: plugins may share a file name, and an edited one must not meet what is kept of the old."""
    own = hashlib.sha256(os.fsencode(path) + b"\0" + content).hexdigest()[:8]
    return f"dg_referee_plugin_{path.stem}_{own}"


def require_unedited(path: Path) -> None:
    """Raises UsageError where this is a plugin's file and no longer what was loaded."""
    module = loaded.get(path)
    if module and _module_name(path, path.read_bytes()) != module.__name__:
        raise UsageError(f"--plugin {path}: it was edited after it was loaded; start again to run what it is now")


def own_file(name: str) -> Path | None:
    """The Python file of an imported module that is neither this project's nor Python's nor installed, else None."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not file or Path(file).suffix != ".py" or name.partition(".")[0] in OURS | sys.stdlib_module_names:
        return None
    path = Path(file).absolute()
    depth = name.count(".") + (path.stem == "__init__")
    return None if depth < len(path.parents) and _holds_packages(path.parents[depth]) else path.resolve()


@cache
def _holds_packages(folder: Path) -> bool:
    """Whether pip installs into a folder, which then says what is there: a site folder, or one of `pip --target`."""
    return any(folder.glob("*.dist-info"))


class _AsItIs(SourceFileLoader):
    """Reads and writes no bytecode: that goes by a file's size and the second of its last change, and so may be that of
    another state of it; and nothing is left beside a user's file."""

    def path_stats(self, path: str | bytes) -> NoReturn:
        raise OSError


def switches() -> Iterator[tuple[Any, str, bool]]:
    """SWITCHES as modules of torch, the attributes' names, and values."""
    backends = importlib.import_module("torch").backends
    for name, own in SWITCHES.items():
        module, _, switch = name.partition(".")
        yield getattr(backends, module), switch, own


@contextmanager
def _torch_as_it_is() -> Iterator[None]:
    """Raises UsageError, and undoes it, where what is imported within sets what all methods' numbers depend on."""
    torch = importlib.import_module("torch")

    def products() -> str:
        try:
            return str(torch.get_float32_matmul_precision())
        except RuntimeError:  # it was set by torch's newer names
            return ""

    def now() -> list[Any]:
        own = [torch.get_default_dtype(), torch.is_grad_enabled(), products()]
        return [*own, *(getattr(place, switch) for place, switch, _ in switches())]

    before = now()
    try:
        yield
        names = ["torch's default type", "torch's gradient mode", "torch's precision of products"]
        names += [f"torch.backends.{switch}" for switch in SWITCHES]
        if changed := [name for name, old, new in zip(names, before, now(), strict=True) if old != new]:
            raise UsageError(
                f"importing it set {', '.join(changed)}, which all methods share; take that out of the file"
            )
    finally:
        torch.set_default_dtype(before[0])
        torch.set_grad_enabled(before[1])
        if before[2] and products() != before[2]:
            torch.set_float32_matmul_precision(before[2])
        for (place, switch, _), value in zip(switches(), before[3:], strict=True):
            setattr(place, switch, value)


@contextmanager
def plugins(paths: Iterable[Path]) -> Iterator[None]:
    """Within, these plugin files are loaded; afterwards those from before are again. Raises as load_plugins does."""
    before = dict(loaded)
    try:
        load_plugins(paths)
        yield
    finally:
        loaded.clear()
        loaded.update(before)
