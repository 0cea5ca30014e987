"""Statistics of a comparison over seeds: pure functions of numbers. docs/statistics.md says what each means.

Seeds pair: one seed gives every method the same initial network and order of batches. So methods are compared by the
differences within a seed.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from scipy import stats

ALPHA = 0.05
DIGITS = 9
"""Of percents, after the point: means that differ beyond them differ by rounding alone, and share a rank."""
LEAST_SEEDS = 3
"""Common seeds below which a pair is not judged: it has no p and no interval, and makes those of others no wider."""
ENOUGH_SEEDS = 5
"""Seeds of every row below which nothing is claimed: no row is bold, and the answer is that it is undecided."""
MOST_SEEDS = 50
"""Where more seeds than this would be needed, the number is not worth stating."""

Name = TypeVar("Name", bound=Hashable)
Seeds = Mapping[int, float]
"""A row's value for each seed."""


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds. sd (ddof 1) is None for n = 1; the 95 % t interval is None where n = 1 or all are equal."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None where the spread is unknown or nothing."""
        return None if self.low is None or self.sd is None else self.sd / self.n**0.5


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation (ddof 1) and Student's 95 % interval of the mean. values: at least one."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    if sd <= 1e-9 * max(1.0, abs(mean)):  # equal except for rounding: a spread of nothing proves nothing
        return Estimate(n, mean, 0.0, None, None)
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * sd / n**0.5
    return Estimate(n, mean, sd, mean - half, mean + half)


def p_value(found: Estimate) -> float | None:
    """Two-sided p-value of the one-sample t-test against 0: the paired t-test, where the values are differences."""
    error = found.standard_error
    return None if error is None else float(2 * stats.t.sf(abs(found.mean) / error, found.n - 1))


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's step-down adjusted p-values: the i-th smallest of m times m - i + 1, at most 1, never falling."""
    adjusted, floor = {}, 0.0
    for i, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p) - i) * value))
        adjusted[name] = floor
    return adjusted


def simultaneous(difference: Estimate, family: int) -> tuple[float, float] | None:
    """95 % interval of a difference, for all `family` differences at once (Bonferroni); None without a spread.

    Holm's test rejects 0 wherever these intervals leave it out, and may where they do not: it is the sharper of the two
    and decides. Cut off at 0 there, the intervals would agree with it, but no longer hold in 95 % of cases.
    """
    error = difference.standard_error
    if error is None:
        return None
    half = float(stats.t.ppf(1 - ALPHA / 2 / family, difference.n - 1)) * error
    return difference.mean - half, difference.mean + half


def seeds_to_settle(difference: Estimate, family: int = 1, p_holm: float | None = None) -> int | None:
    """How many more seeds would settle a pair if mean and spread stayed as they are.

    The smallest m >= n, and at least ENOUGH_SEEDS, with t(1 - 0.025/family, m-1) sd / sqrt(m) < |mean|, less n: then
    the simultaneous interval leaves 0 out. 0 where Holm's test settles it already (p_holm). None where the spread is
    unknown or m would exceed MOST_SEEDS.
    """
    if difference.standard_error is None or difference.sd is None:
        return None
    if settles(p_holm, difference.n):
        return 0
    m = np.arange(max(difference.n, ENOUGH_SEEDS), max(MOST_SEEDS, difference.n) + 1)
    enough = stats.t.ppf(1 - ALPHA / 2 / family, m - 1) * difference.sd / np.sqrt(m) < abs(difference.mean)
    return int(m[np.argmax(enough)]) - difference.n if enough.any() else None


def settles(p_holm: float | None, n: int) -> bool:
    """Whether Holm's test on n seeds tells two rows apart, and n is what a claim needs."""
    return p_holm is not None and p_holm < ALPHA and n >= ENOUGH_SEEDS


@dataclass(frozen=True)
class Pair:
    """A row against another: the estimate of its differences over common seeds, and p before and after Holm's
    correction over the whole family. interval: of all differences of the family at once (`simultaneous`). p and
    interval are None where fewer than LEAST_SEEDS seeds are common or all differences are equal."""

    row: str
    versus: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    interval: tuple[float, float] | None
    more_seeds: int | None

    @property
    def significant(self) -> bool:
        """Whether Holm's test tells the two apart, on as many seeds as a claim needs."""
        return settles(self.p_holm, self.difference.n)


def compare(rows: Mapping[str, Seeds], versus: str) -> list[Pair]:
    """Every other row minus `versus`, paired by seed; one Holm family. Rows without a common seed are left out."""
    return compare_pairs(rows, [(row, versus) for row in rows if row != versus])


def compare_pairs(rows: Mapping[str, Seeds], pairs: Iterable[tuple[str, str]]) -> list[Pair]:
    """The first row of each pair minus the second, paired by seed; all are one Holm family. Pairs without a common seed
    are left out; the family are those with a p: LEAST_SEEDS, and differences that are not all equal."""
    found = {}
    for row, versus in pairs:
        common = sorted(rows[row].keys() & rows[versus].keys())
        if common:
            found[row, versus] = estimate([rows[row][seed] - rows[versus][seed] for seed in common])
    judged = {pair: difference for pair, difference in found.items() if difference.n >= LEAST_SEEDS}
    p = {pair: value for pair, difference in judged.items() if (value := p_value(difference)) is not None}
    adjusted, family = holm(p), max(1, len(p))
    return [
        Pair(
            *pair, difference, p.get(pair), adjusted.get(pair),
            simultaneous(difference, family) if pair in p else None,
            seeds_to_settle(difference, family, adjusted.get(pair)),
        )
        for pair, difference in found.items()
    ]  # fmt: skip


def best(rows: Mapping[str, Seeds]) -> str:
    """The row with the highest mean over its seeds; of equal ones the first by name."""
    return max(sorted(rows), key=lambda row: float(np.mean([*rows[row].values()])))


def supported_best(rows: Mapping[str, Seeds], among: Collection[str] | None = None) -> str | None:
    """The best row if it beats every other one after Holm's correction, on ENOUGH_SEEDS: the only one that a table may
    print bold. Where there is ERM it also differs significantly from ERM among all rows, which the tables of
    differences show. None where no row does. among: the rows that are asked of, if not all; the family is of all."""
    able = {row: values for row, values in rows.items() if among is None or row in among}
    first = best(able)
    pairs = [pair for pair in compare(rows, first) if pair.row in able]
    beaten = [pair for pair in pairs if pair.significant and pair.difference.mean < 0]
    if not pairs or len(beaten) < len(able) - 1:
        return None
    if first == "erm" or "erm" not in rows:
        return first
    return first if any(pair.row == first and pair.significant for pair in compare(rows, "erm")) else None


@dataclass(frozen=True)
class Ranks:
    """Average rank of each row over the blocks (1 is best) and the difference below which Nemenyi's test does not tell
    two apart."""

    mean: dict[str, float]
    critical_difference: float
    blocks: int


def average_ranks(blocks: Sequence[Mapping[str, float]]) -> Ranks | None:
    """Ranks over the rows that every block has; equal values share their ranks' mean. Higher values rank first.

    Critical difference: q(0.05, k rows) sqrt(k (k + 1) / 6 N blocks), q the studentised range over sqrt(2) (Nemenyi
    1963; Demsar, JMLR 7, 2006, section 3.2.2). None below two rows or two blocks.
    """
    rows = sorted(set.intersection(*(set(block) for block in blocks))) if blocks else []
    if len(rows) < 2 or len(blocks) < 2:
        return None
    exact = [[-round(block[row], DIGITS) for row in rows] for block in blocks]
    ranked = stats.rankdata(exact, axis=1).mean(axis=0)
    k = len(rows)
    width = _studentised_range(k) / 2**0.5 * (k * (k + 1) / (6 * len(blocks))) ** 0.5
    return Ranks(dict(zip(rows, ranked.tolist(), strict=True)), width, len(blocks))


@cache
def _studentised_range(k: int) -> float:
    return float(stats.studentized_range.ppf(1 - ALPHA, k, np.inf))
