"""Contenders take turns in every round, so that other load on the machine falls on all; ratios are of medians."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class Race:
    """What came of one. rates: items per second by contender, ours first. targets: the least ratio of our rate to a
    peer's that the project asks for. bytes_moved: what an item has to read and write, where that is its bound."""

    title: str
    rates: dict[str, float]
    targets: dict[str, float]
    bytes_moved: int | None
    threads: int

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as fast ours is as each peer."""
        ours, *others = self.rates
        return {name: self.rates[ours] / self.rates[name] for name in others}

    @property
    def lines(self) -> list[list[str]]:
        """Rows of the table: what, ours/s, peer, peer/s, ratio, target."""
        found: list[list[str]] = []
        for name, ratio in self.ratios.items():
            least = self.targets.get(name)
            verdict = "" if least is None else f"{least:.2f} {'reached' if ratio >= least else 'MISSED'}"
            first = not found
            rate = f"{self.rates[name]:,.4g}"
            if self.bytes_moved is not None:
                rate += f" ({self.rates[name] * self.bytes_moved / 2**30:,.0f} GiB/s)"
            ours = f"{next(iter(self.rates.values())):,.4g}"
            found.append([self.title if first else "", ours if first else "", name, rate, f"{ratio:.2f}", verdict])
        return found


RACES = pytest.StashKey[list[Race]]()
"""All races of this session; conftest.py prints them."""


def take_turns(
    request: pytest.FixtureRequest,
    title: str,
    contenders: Mapping[str, tuple[int, Callable[[], Any]]],
    *,
    targets: Mapping[str, float] | None = None,
    bytes_moved: int | None = None,
    rounds: int = 7,
    cuda: bool = False,
) -> None:
    """Times each contender, (items that one call makes, the call), the first being ours. targets, bytes_moved: as Race.

    The first stands in pytest-benchmark's own columns; the rates of all go to its JSON. Nothing is asserted about time.
    """
    if not request.config.pluginmanager.hasplugin("benchmark"):
        pytest.skip("timings are taken by make perf")
    benchmark: Any = request.getfixturevalue("benchmark")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}

    def clocked(name: str) -> None:
        start = perf_counter()
        contenders[name][1]()
        if cuda:
            torch.cuda.synchronize()
        seconds[name].append(perf_counter() - start)

    first, *others = contenders
    for name in contenders:  # compiles, fills caches
        contenders[name][1]()
    if cuda:
        torch.cuda.synchronize()

    def rest() -> None:
        for name in others:
            clocked(name)

    benchmark.pedantic(lambda: clocked(first), setup=rest, rounds=rounds)
    rates = {name: items / median(seconds[name]) for name, (items, _) in contenders.items()}
    race = Race(title, rates, dict(targets or {}), bytes_moved, torch.get_num_threads())
    benchmark.extra_info.update(asdict(race), times_as_fast_as=race.ratios, seconds=seconds)
    request.config.stash.setdefault(RACES, []).append(race)
