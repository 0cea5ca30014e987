"""Where a search may look for a setting: a range of numbers, or a choice of values. Drawing is a pure function of u in
[0, 1), so the same u gives the same value on every machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included. Whole where both ends are whole numbers.

    log: equal chances for equal ratios, and not for equal differences. Raises ValueError where the ends are not finite
    and rising, and where `log` begins at 0 or below.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"a range rises from one finite number to another, not from {self.low} to {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.low}")

    @property
    def ends(self) -> Sequence[float]:
        return self.low, self.high

    def at(self, u: float) -> float:
        """The value at u in [0, 1), fractions with three significant digits: no setting is found more exactly."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        top = self.high + 1 if whole else self.high
        found = self.low * (top / self.low) ** u if self.log else self.low + (top - self.low) * u
        return min(math.floor(found), self.high) if whole else min(max(float(f"{found:.3g}"), self.low), self.high)

    def __contains__(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of these values, with equal chances. Raises ValueError for fewer than two."""

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError("a choice needs two values at least")

    @property
    def ends(self) -> Sequence[Any]:
        """All values."""
        return self.values

    def at(self, u: float) -> Any:
        """The value at u in [0, 1)."""
        return self.values[int(u * len(self.values))]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in self.values)
