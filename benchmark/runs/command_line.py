"""What all command lines share: flags given twice, paths, texts, ranges."""

import os
import platform
import re
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from benchmark import __version__
from benchmark.core.errors import UsageError

MOST = 2**31 - 1
"""The largest count that a flag takes; what is larger is a slip of the finger."""
MOST_SEED = 2**63 - 1
"""The largest whole number that a column of the tables can hold."""


SHELLS = ("bash", "zsh", "fish")
"""Those that have a completion script."""
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes)
"""How tyro reads all command lines: --flag without --no-flag, and no `None` as a value."""


def arguments(
    kind: Any,
    argv: Sequence[str] | None,
    prog: str,
    *,
    paths: Collection[str] = (),
    description: str | None = None,
    default: Any = None,
) -> Any:
    """The command line as a dataclass of this kind, or of one of its subcommands.

    A list flag that is given several times has the values of all; a `~` that begins a path is the home folder. paths:
    fields of texts that may hold paths. default: what flags that are not given hold, where not the kind's own. Ends
    the process with code 2 and one message where the words do not fit; raises UsageError where a value does not.
    """
    words, shape = joined(sys.argv[1:] if argv is None else argv, _typed(kind, tuple)), boxed(kind)
    about = {} if default is None else {"default": _into(shape, default)}
    check_shell(words)
    _require_paths(words, _typed(kind, Path), _typed(kind, bool))
    read = tyro.cli(shape, args=words, prog=prog, config=CONFIG, description=description, **about)
    parts = [getattr(read, box.__name__.lower()) for box in _boxes(kind)] or [read]
    values = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
    make = kind if _boxes(kind) else type(read)
    return make(**{name: _checked(name, value, paths) for name, value in values.items()})


def check_shell(words: Sequence[str]) -> None:
    """Raises UsageError where a completion script for a shell is asked for that there is none for."""
    for word, shell in pairwise(words):
        if word.startswith("--tyro-") and shell not in SHELLS:
            raise UsageError(f"{word} {shell}: the shell is {', '.join(SHELLS[:-1])} or {SHELLS[-1]}")


def boxed(kind: Any) -> Any:
    """What tyro is to read for this dataclass of flags, so that its help has a box for each of the bases."""
    boxes = [(box.__name__.lower(), Annotated[box, tyro.conf.arg(help="")], field(default_factory=box))
             for box in _boxes(kind)]  # fmt: skip
    return make_dataclass(kind.__name__, boxes, namespace={"__doc__": kind.__doc__}) if boxes else kind


def _boxes(kind: Any) -> Sequence[type[Any]]:
    """The dataclasses that this one inherits its flags from, in the order of the flags."""
    bases: Sequence[type[Any]] = getattr(kind, "__bases__", ())
    return [base for base in reversed(bases) if hasattr(base, "__dataclass_fields__")]


def _into(shape: Any, flat: Any) -> Any:
    """The values of a dataclass of flags in the shape that tyro is to read."""
    if isinstance(flat, shape):
        return flat
    parts = {box.__name__.lower(): box for box in _boxes(type(flat))}
    return shape(
        **{name: box(**{each.name: getattr(flat, each.name) for each in fields(box)}) for name, box in parts.items()}
    )


def program(name: str) -> str:
    """What was typed to get to the command of this name, `compare-map` for one."""
    script = Path(sys.argv[0])
    if script.stem == "dg-referee":
        return f"dg-referee {name}"
    if script.name == "__main__.py" and script.parent.name == "benchmark":
        return f"python -m benchmark {name}"
    return f"python -m benchmark.{name.replace('-', '_')}"


def versions() -> str:
    """The versions of this package, of Python and of torch, which is not imported for that."""
    return f"dg-referee {__version__}, Python {platform.python_version()}, torch {metadata.version('torch')}"


def joined(words: Sequence[str], lists: Collection[str]) -> list[str]:
    """Command line words in which each of these flags stands once, with all its values, where it stood first."""
    head = list(words[: words.index("--")]) if "--" in words else list(words)
    given = Counter(word.partition("=")[0].replace("_", "-") for word in head if word.startswith("--"))
    lists = {flag for flag in lists if given[flag] > 1}
    groups: list[list[str]] = []
    for word in head:
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag in lists:
            groups.append([flag, value] if equals else [flag])
            groups += [[]] if equals else []  # what follows --flag=value is no value of it
        elif not groups or not groups[-1] or groups[-1][0] not in lists or re.match(r"-[^\d.]", word):
            groups.append([word])
        else:
            groups[-1].append(word)
    first: dict[str, list[str]] = {}
    for group in groups:
        if group and group[0] in lists:
            if group[0] in first:
                first[group[0]] += group[1:]
                group.clear()
            else:
                first[group[0]] = group
    return [word for group in groups for word in group] + list(words[len(head) :])


def in_range(flag: str, value: float | None, least: float, most: float = MOST) -> None:
    """Raises UsageError for a number outside of least..most, or NaN; None is a flag that was not given."""
    if value is not None and not least <= value <= most:
        wanted = f"{least:g} or more" if value < least and most >= MOST else f"{least:g} to {most}"
        try:
            shown = str(value)
        except ValueError:  # Python writes no number out that is so long
            shown = "of thousands of digits"
        raise UsageError(f"{flag} {shown}: must be {wanted}")


def quoted(word: str) -> str:
    """A word as bash reads it back, bytes that are not UTF-8 included."""
    try:
        word.encode()
        return shlex.quote(word)
    except UnicodeEncodeError:
        return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(word)) + "'"


def home(path: Path) -> Path:
    """The path with the home folder instead of a `~` that begins it. Raises UsageError where there is none."""
    try:
        return path.expanduser()
    except RuntimeError as problem:
        raise UsageError(f"{path}: {problem} Write the whole path for a folder of that name") from problem


def folder_of(given: Path | str, name: str) -> Path:
    """A folder that a caller from Python gives as `name`. Raises UsageError for an empty one, as from a variable that
    is not set: it would be the working folder."""
    if not str(given):
        raise UsageError(f"{name}: its path is empty")
    return home(Path(given))


def expanded(text: str) -> str:
    """A path, or WORD:PATH, as a text, with the home folder instead of a `~` that begins the path. Raises
    UsageError where there is none."""
    start, tilde, rest = re.fullmatch(r"((?:\w+:)?)(~?)(.*)", text, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{start}{home(Path(tilde + rest))}" if tilde else text


def _typed(kind: Any, wanted: type[Any]) -> set[str]:
    """The flags of a dataclass, or of the subcommands of a union, that take a value of this type, or several; of
    `tuple`, those that take any number of values."""
    members: Iterable[Any] = [kind] if is_dataclass(kind) else get_args(kind)
    plain = [get_args(member)[0] if get_origin(member) is Annotated else member for member in members]
    return {
        f"--{name.replace('_', '-')}"
        for member in plain
        for name, hint in get_type_hints(member).items()
        if wanted in (hint, get_origin(hint), *get_args(hint))
    }


def _require_paths(words: Sequence[str], flags: Collection[str], alone: Collection[str]) -> None:
    """Raises UsageError for an empty path, as from a variable that is not set: it would be the working folder. alone:
    flags without a value."""
    for before, word in pairwise(["", *words]):
        flag, _, value = word.partition("=") if "=" in word else (before, "", word)
        name = flag.replace("_", "-")
        if not value and name in flags:
            raise UsageError(f"{flag}: its path is empty")
        if not word and (not flag.startswith("-") or "=" in flag or name in ("--", *alone)):
            raise UsageError(f"an argument{f' after {flag}' if flag else ''} is empty")


def _checked(name: str, value: Any, paths: Collection[str]) -> Any:
    """A value with its paths expanded. Raises UsageError for a text that is not UTF-8 and may be no path."""
    if isinstance(value, tuple):
        return tuple(_checked(name, each, paths) for each in value)
    if isinstance(value, Path):
        return home(value)
    if isinstance(value, str) and name in paths:
        return expanded(value)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            shown = value.encode(errors="backslashreplace").decode()
            raise UsageError(f"--{name.replace('_', '-')} {shown}: it is not UTF-8") from None
    return value
