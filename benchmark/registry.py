"""Finds methods and datasets by name: the folders are the registry, and the file name is the name.

Three sources: methods/ and datasets/ of this project, entry points of installed packages (groups dg_referee.methods and
dg_referee.datasets, each naming a module), and files given with --plugin. A name found twice is an error. `--list`
shows the first line of a file's docstring.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

from pydantic import PydanticUserError, ValidationError

from benchmark import contracts, plugin_files
from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.record import canonical_json
from benchmark.core.settings import names_of
from benchmark.imports import import_module
from benchmark.plugin_files import load_plugins, plugins

if TYPE_CHECKING:  # both import torch, which takes seconds, and names are known without them
    from benchmark.data import Dataset
    from benchmark.method import Method

__all__ = ["Found", "Kind", "find", "load_plugins", "make", "names", "outline", "plugins", "source_file", "summary"]

Kind: TypeAlias = contracts.Kind
GROUPS = ("all", "everything")
"""What --methods takes for many methods."""
Found: TypeAlias = "type[Method] | type[Dataset]"


def names(kind: Kind) -> list[str]:
    """All known names of a kind, sorted; for methods the experimental ones too."""
    return sorted(_finders(kind))


@overload
def find(kind: Literal["method"], name: str) -> type[Method]: ...
@overload
def find(kind: Literal["dataset"], name: str) -> type[Dataset]: ...
@overload
def find(kind: Kind, name: str) -> Found: ...
def find(kind: Kind, name: str) -> Found:
    """The class behind a name. Raises UsageError with a suggestion where there is none."""
    finders = _finders(kind)
    if name not in finders:
        raise UsageError(f"unknown {kind} '{name}': {did_you_mean(name, finders)}")
    module = finders[name]()
    if not contracts.defines(module, kind):
        raise UsageError(f"{module.__file__}: it defines no {kind.title()}; {contracts.WANTED}")
    found: Found = getattr(module, kind.title())
    return found


def summary(kind: Kind, name: str) -> str:
    """First line of the module's docstring, without its full stop."""
    module = sys.modules[find(kind, name).__module__]
    return (module.__doc__ or "").strip().partition("\n")[0].rstrip(".")


MARKS = {"experimental": False, "in_all": True}
"""What a method says of its place in `all` and `everything`, where it does not say it."""


def outline(kind: Kind, name: str) -> tuple[str, bool, bool]:
    """Its summary, whether it is experimental, and whether `all` names it. A file of this project is read for that, and
    not imported."""
    folders = importlib.import_module(f"benchmark.{kind}s").__path__
    files = [file for folder in folders if (file := Path(folder) / f"{name}.py").is_file()]
    if not files:
        found = find(kind, name)
        marks = {mark: bool(getattr(found, mark, usual)) for mark, usual in MARKS.items()}
        return summary(kind, name), marks["experimental"], marks["in_all"]
    tree = ast.parse(files[0].read_bytes())
    marks = MARKS | {
        mark: bool(ast.literal_eval(node.value))
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and (mark := ast.unparse(node.target)) in MARKS and node.value is not None
    }
    doc = ast.get_docstring(tree) or ""
    return doc.partition("\n")[0].rstrip("."), marks["experimental"], marks["in_all"]


def source_file(kind: Kind, name: str) -> Path:
    """The file that defines it."""
    return Path(str(sys.modules[find(kind, name).__module__].__file__))


@overload
def make(kind: Literal["method"], name: str, settings: Mapping[str, Any]) -> Method: ...
@overload
def make(kind: Literal["dataset"], name: str, settings: Mapping[str, Any]) -> Dataset: ...
@overload
def make(kind: Kind, name: str, settings: Mapping[str, Any]) -> Method | Dataset: ...
def make(kind: Kind, name: str, settings: Mapping[str, Any]) -> Method | Dataset:
    """An instance with these settings; texts, as the command line gives them, are read by the field's own type.

    Raises UsageError naming the field, the value and what is allowed; and where the settings, which a record holds, are
    no plain values, or a method's passes no number.
    """
    cls: Any = find(kind, name)
    if breach := contracts.breach(kind, cls):
        raise UsageError(f"{source_file(kind, name)}: {breach}")
    fields = names_of(cls)
    for key in settings:
        if key not in fields:
            raise UsageError(f"{kind} '{name}' has no setting '{key}': {did_you_mean(key, fields)}")
    made: Method | Dataset = _made(cls, name, {key: contracts.read(cls, key, value) for key, value in settings.items()})
    try:
        canonical_json(made.settings())
    except Exception as problem:  # whatever a plugin does
        file = source_file(kind, name)
        raise UsageError(
            f"{file}: the settings of {kind} '{name}' cannot go into a record ({type(problem).__name__}: {problem}); a "
            "field is a number, a text, true, false, none, or a list of those"
        ) from problem
    if wanted := contracts.unwritten(kind, cls):
        raise UsageError(f"{source_file(kind, name)}: class {kind.title()} has to define `{wanted}`")
    # A default too: 1 of a float field is 1.0; and -0.0 is 0.0, or one setting would be two runs.
    exact = {key: value + 0.0 if isinstance(value, float) else value for key, value in made.settings().items()}
    typed: Method | Dataset = _made(cls, name, exact)
    return typed


def _made(cls: Any, name: str, settings: Mapping[str, Any]) -> Any:
    try:
        return cls(**settings)
    except ValidationError as problem:
        first, *others = problem.errors()
        if first["type"] == "missing":
            raise UsageError(f"{name}.{first['loc'][0]} has no default; every setting needs one") from problem
        where = ".".join([name, *(str(part) for part in first["loc"][:1])])
        branches = [first, *(each for each in others if each["loc"][:1] == first["loc"][:1])]  # of a union, one each
        allowed = "; or ".join(dict.fromkeys(f"{each['msg']}" for each in branches))
        raise UsageError(f"{where}={branches[-1]['input']}: {allowed}") from problem
    except PydanticUserError as problem:
        why = str(problem).partition("\n")[0]
        raise UsageError(
            f"{name}: the type of a setting cannot be found ({why}); import it at the top of the file, and not under "
            "TYPE_CHECKING alone"
        ) from problem


def _finders(kind: Kind) -> dict[str, Callable[[], ModuleType]]:
    """Name -> a function that imports its module."""
    found: dict[str, tuple[str, Callable[[], ModuleType]]] = {}

    def add(name: str, where: str, load: Callable[[], ModuleType]) -> None:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise UsageError(f"{where}: '{name}' is not a name for a {kind}; use letters, digits and any of . _ + -")
        if kind == "method" and name in GROUPS:
            raise UsageError(f"{where}: '{name}' stands for many methods; give this one another name")
        if name in found:
            raise UsageError(f"two {kind}s are called '{name}': {found[name][0]} and {where}; rename one")
        found[name] = (where, load)

    folder = importlib.import_module(f"benchmark.{kind}s")
    for item in pkgutil.iter_modules(folder.__path__):
        if not item.name.startswith("_"):
            module = f"benchmark.{kind}s.{item.name}"
            add(item.name, module, functools.partial(import_module, module))
    for point in _installed(f"dg_referee.{kind}s", tuple(sys.path)):
        add(point.name, f"entry point {point.value}", functools.partial(_loaded, point))
    for path, plugin in plugin_files.loaded.items():
        if contracts.defines(plugin, kind):
            add(
                path.parent.name if path.stem == "__init__" else path.stem,
                str(path),
                functools.partial(plugin_files.loaded.__getitem__, path),
            )
    return {name: load for name, (_, load) in found.items()}


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of all packages on sys.path, which is read once: every package has a file of them."""
    return tuple(entry_points(group=group))


def _loaded(point: EntryPoint) -> ModuleType:
    try:
        return cast("ModuleType", point.load())
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        package = point.dist.name if point.dist else "an installed package"
        raise UsageError(
            f"{package}: importing its entry point {point.value} raised {type(problem).__name__}: {problem}; mend or "
            "uninstall it"
        ) from problem
