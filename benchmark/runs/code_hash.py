"""Which code made a record: a hash of everything that a number can depend on, and of nothing else.

Hashed are the packages of HASHED, benchmark/method.py, and the run's own method and dataset. A file
counts by its syntax tree: an edited statement changes the hash; a comment, a docstring or another layout does not.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from benchmark.plugin_files import own_file

PACKAGE = Path(__file__).resolve().parents[1]
HASHED = ("core", "networks", "ops", "sensitivity", "corruptions", "data", "training", "method.py")
UNHASHED = ("data/remote",)
"""Where files come from: their bytes are checked, and every image is in the fingerprint."""


def code_hash(plugins: Iterable[str]) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the referee's code and of the files of a method and a dataset, of
    which these are the hashes."""
    digest = hashlib.sha256(_referee_hash().encode())
    for plugin in plugins:
        digest.update(plugin.encode())
    return digest.hexdigest()[:12]


def file_hash(path: Path) -> str:
    """SHA-256 of a Python file's syntax tree without docstrings, equal under every Python; of its bytes, where it is
    none."""
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256("\n".join(_shape(tree)).encode()).hexdigest()


def plugin_hash(path: Path) -> str:
    """The hash of a method's or dataset's file: `file_hash`, or, where it imports modules that are neither this
    project's nor installed, of all of these."""
    hashes = [file_hash(file) for file in _with_imports(path, [])]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _with_imports(path: Path, found: list[Path]) -> list[Path]:
    """`found`, with a file and, at any depth, those that its import statements name and this process has imported. In
    the order of the statements: wherever the files lie, the hash is the same."""
    found.append(path)
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return found
    for name in _imported(tree, path):
        other = own_file(name) or _of_the_project(name)
        if other and other not in found:
            _with_imports(other, found)
    return found


def _imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """Names of modules in the import statements of the file at `path`; what is imported from one may be one itself."""
    package: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = package or (_package(path).split(".") if node.level else [])
            above = package[: 1 - node.level or None] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _package(path: Path) -> str:
    """The package of an imported module, by its file."""
    for module in [*sys.modules.values()]:
        file = getattr(module, "__file__", None)
        if file and file.endswith(path.name) and Path(file).resolve() == path.resolve():
            return str(module.__package__ or "")
    return ""


def _of_the_project(name: str) -> Path | None:
    """The file of a method or dataset of the project that a plugin builds on: the plugin's own hash has to cover it,
    whether it has been imported yet or not."""
    found = re.fullmatch(r"benchmark\.(methods|datasets)\.(\w+)", name)
    path = PACKAGE.parent / found[1] / f"{found[2]}.py" if found else None
    return path if path and path.is_file() else None


def _shape(node: ast.AST) -> Iterator[str]:
    """A tree as lines. Fields that hold nothing are left out, because Pythons differ in which of those there are."""
    yield type(node).__name__
    for name, value in sorted(ast.iter_fields(node)):
        if value is None or name in ("kind", "type_comment"):
            continue
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, ast.AST):
                yield f"{name}={item!r}"
            elif not _docstring(item):
                yield f"{name}:"
                yield from _shape(item)
    yield "."


def _docstring(node: ast.AST) -> bool:
    """A statement that is a text and nothing else: a docstring, of a module, class, function or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _referee_hash() -> str:
    digest = hashlib.sha256()
    for path in referee_files():
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}:{file_hash(path)}\n".encode())
    return digest.hexdigest()


def referee_files() -> list[Path]:
    """The referee's hashed files, sorted."""
    roots = [PACKAGE / name for name in HASHED]
    found = {path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py"))}
    left_out = {PACKAGE / name for name in UNHASHED}
    return sorted(path for path in found if path.stem != "__main__" and left_out.isdisjoint(path.parents))
