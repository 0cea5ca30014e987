"""Settings: the checked fields of methods and datasets. Every record stores them."""

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen() -> Callable[[type[T]], type[T]]:
    """Decorator of every method and dataset: a frozen dataclass whose fields are checked against their annotations."""
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True, populate_by_name=True, allow_inf_nan=False)
    decorate: Any = dataclass(frozen=True, config=config)
    return decorate  # type: ignore[no-any-return]


def names_of(cls: Any) -> dict[str, str]:
    """Attribute name by public name; they differ where a field has an alias because a hook has its name."""
    return {field.alias or name: name for name, field in cls.__pydantic_fields__.items()}


def settings_of(instance: Any) -> dict[str, Any]:
    """All fields with their values, under their public names, as stored in the run record."""
    return {public: getattr(instance, name) for public, name in names_of(type(instance)).items()}
