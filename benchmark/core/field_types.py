"""The types of a record's fields: a number out of its range is refused where a record is made and where it is read."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**53)]
"""Of something that has to be there."""
Whole = Annotated[int, Field(ge=0, le=2**53)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ROUNDING = 1e-3
"""By which shares may miss 1."""


def _adds_up(shares: dict[str, float]) -> dict[str, float]:
    if abs(sum(shares.values()) - 1) > ROUNDING:
        raise ValueError(f"the shares add up to {sum(shares.values()):.6g}; they are parts of 1")
    return shares


def _rises(quartiles: tuple[float, float]) -> tuple[float, float]:
    if quartiles[0] > quartiles[1]:
        raise ValueError(f"the lower quartile, {quartiles[0]:g}, is above the upper one, {quartiles[1]:g}")
    return quartiles


def _plain(value: Any) -> Any:
    """JSON that every program reads: nothing but finite numbers in it."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _plain(part)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError(f"{value} is no finite number")
    return value


AddsUp = AfterValidator(_adds_up)
Quartiles = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_rises)]
PlainJson = Annotated[dict[str, Any], AfterValidator(_plain)]
"""A dictionary without NaN or infinity in its dictionaries and lists."""
