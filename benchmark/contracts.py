"""What a file of a method or a dataset has to define, and its settings, read from texts.

The contracts themselves are imported when they are first asked for: they import torch, which takes seconds.
"""

import difflib
import importlib
import inspect
import math
import sys
from collections.abc import Collection
from contextlib import suppress
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import TypeAdapter, ValidationError

from benchmark.core.settings import names_of

Kind = Literal["method", "dataset"]
MODULES: dict[Kind, str] = {"method": "benchmark.method", "dataset": "benchmark.data"}
WANTED = (
    "write `class Method(benchmark.method.Method)` or `class Dataset(benchmark.data.Dataset)`, or register a network "
    "with `timm.models.register_model`"
)


def _contract(kind: Kind) -> Any:
    return getattr(importlib.import_module(MODULES[kind]), kind.title())


def defines(module: ModuleType, kind: Kind) -> bool:
    """Whether a module has a class of this kind."""
    base, cls = _contract(kind), getattr(module, kind.title(), None)
    return isinstance(cls, type) and issubclass(cls, base) and cls is not base


def registers(modules: Collection[str]) -> bool:
    """Whether one of these modules has registered a network with timm."""
    timm: Any = sys.modules.get("timm")
    return timm is not None and any(timm.model_entrypoint(name).__module__ in modules for name in timm.list_models())


def breach(kind: Kind, cls: Any) -> str:
    """What a class lacks of its contract that no run could do without; empty where it has it."""
    if kind == "method" and not (isinstance(cls.passes, int | float) and 0 < cls.passes < math.inf):
        return f"passes = {cls.passes!r}: write a number above 0"
    if misspelt := _misspelt(cls, _contract(kind)):
        return misspelt
    hints = {key: str(hint) for key, hint in inspect.get_annotations(cls).items()}
    own = [key for key, hint in hints.items() if "ClassVar" not in hint and not key.startswith("_")]
    if lost := [key for key in own if key not in names_of(cls).values()]:
        what = "method" if kind == "method" else "data"
        return f"{', '.join(lost)}: no setting without `@{what}.frozen()` above the class"
    return ""


def _misspelt(cls: Any, base: Any) -> str:
    """Names the first name of a class that nearly is a part of the contract, which the class does not have; or empty.
    Names that the class uses itself are its own. A word and its plural are two words: `read` is no `reads`."""
    contract = {*dir(base), *inspect.get_annotations(base), "licence", "citation"}
    functions = [getattr(value, "__func__", value) for value in vars(cls).values()]
    used = {each for made in functions if inspect.isfunction(made) for each in made.__code__.co_names}
    parts = [part for part in sorted(contract) if not part.startswith("_") and part not in vars(cls)]
    known = contract | used | {*names_of(cls)} | {*names_of(cls).values()}
    for name in (name for name in vars(cls) if not name.startswith("_") and name not in known):
        for meant in difflib.get_close_matches(name, parts, n=1, cutoff=0.85):
            if meant.rstrip("s") != name.rstrip("s"):
                return f"{name}: did you mean '{meant}'? The class does not use it. If it is your own, call it _{name}"
    return ""


def unwritten(kind: Kind, cls: Any) -> str:
    """The function that a class has to define and does not; empty where it does."""
    wanted = "loss" if kind == "method" else "load"
    return wanted if getattr(cls, wanted) is getattr(_contract(kind), wanted) else ""


def read(cls: type[Any], key: str, value: Any) -> Any:
    """Reads a text as its field's type: as JSON where it is, as a comma-separated list where the field takes one."""
    if not isinstance(value, str):
        return value
    adapter: TypeAdapter[Any] = TypeAdapter(_annotation(cls, key))
    if value in ("null", "None"):  # none, where the field takes it: a text field would take the word
        with suppress(ValidationError):
            return adapter.validate_python(None)
    readings = adapter.validate_strings, adapter.validate_json, lambda text: adapter.validate_python(text.split(","))
    for reading in readings:
        try:
            return reading(value)
        except ValidationError:
            continue
    if value.lower() == "none":
        with suppress(ValidationError):
            return adapter.validate_python(None)
    return value


def _annotation(cls: type[Any], key: str) -> Any:
    field = cls.__pydantic_fields__[names_of(cls)[key]]
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
