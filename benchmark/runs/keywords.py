"""Fields of Args given as values, not as words: keywords of `benchmark.compare` and keys of a plan file."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.escaping import one_line
from benchmark.runs.args import PATHS, Args
from benchmark.runs.command_line import expanded, home

KINDS = {str: "a text", Path: "a path", int: "a whole number", float: "a number", bool: "true or false"}


def checked(given: Mapping[str, Any], refused: Mapping[str, str], where: str) -> dict[str, Any]:
    """The values as fields of Args hold them. A single value stands for a list of one; a text for a path.

    refused: fields that may not be given, each with what to do instead. where: a file or a function, which errors name.
    Raises UsageError for an unknown name, with the nearest one, and for a value of another type, with what is allowed.
    """
    hints = {name: hint for name, hint in get_type_hints(Args).items() if name in {f.name for f in fields(Args)}}
    found = {}
    for name, value in given.items():
        if name in refused:
            raise UsageError(f"{where}: {name}: {refused[name]}")
        if name not in hints:
            raise UsageError(f"{where}: unknown name '{name}': {did_you_mean(name, hints.keys() - refused.keys())}")
        try:
            found[name] = TypeAdapter(hints[name]).validate_python(_prepared(value, hints[name], name), strict=True)
        except UsageError as problem:
            raise UsageError(f"{where}: {problem}") from problem
        except ValidationError as problem:
            try:
                shown = one_line(repr(value))
            except ValueError:  # Python prints no number that long
                shown = "a number of thousands of digits"
            like = ", like 'sada.lam=5' or 'pacs.size=112'" if name == "set" else ""
            raise UsageError(f"{where}: {name} = {shown}: it has to be {_wanted(hints[name])}{like}") from problem
    return found


def _prepared(value: Any, hint: Any, name: str) -> Any:
    """A value in the types that the field has: tuples for lists, paths for texts, Python's numbers for NumPy's and
    torch's."""
    if type(value).__module__ in ("numpy", "torch") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if get_origin(hint) is tuple:
        many = isinstance(value, Iterable) and not isinstance(value, str | bytes | Path | Mapping)
        return tuple(_prepared(each, get_args(hint)[0], name) for each in (value if many else [value]))
    a_path = Path in (hint, *get_args(hint))
    if not isinstance(value, str | Path) or not (a_path or name in PATHS):
        return value
    if "\0" in str(value):
        raise UsageError(f"{name}: no path has a zero character in it")
    if a_path and value == "":  # it would be the working folder
        raise UsageError(f"{name}: its path is empty")
    return home(Path(value)) if a_path else expanded(str(value))


def _wanted(hint: Any) -> str:
    """What a field takes, in words."""
    inner = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if get_origin(hint) is tuple:
        return f"a list, each part of it {_wanted(inner[0])}"
    return KINDS[hint] if hint in KINDS else " or ".join(map(_wanted, inner))
