"""Contenders take turns in every round, so that other load on the machine falls on all; ratios are of medians."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch


def take_turns(
    request: pytest.FixtureRequest,
    title: str,
    contenders: Mapping[str, tuple[int, Callable[[], Any]]],
    *,
    rounds: int = 7,
    cuda: bool = False,
) -> None:
    """Times each contender, (items that one call makes, the call), and prints its rate and the first one's over it.

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

    def rest() -> None:
        for name in others:
            clocked(name)

    benchmark.pedantic(lambda: clocked(first), setup=rest, rounds=rounds)
    rates = {name: items / median(seconds[name]) for name, (items, _) in contenders.items()}
    ratios = {name: rates[first] / rate for name, rate in rates.items() if name != first}
    benchmark.extra_info.update(
        items_per_second={name: round(rate, 1) for name, rate in rates.items()},
        times_as_fast_as={name: round(ratio, 3) for name, ratio in ratios.items()},
        threads=torch.get_num_threads(),
    )
    with request.getfixturevalue("capsys").disabled():
        print(f"\n{title}: {first} {rates[first]:,.4g}/s; ", end="")  # noqa: T201
        print(", ".join(f"{ratio:.2f} x {name} ({rates[name]:,.4g}/s)" for name, ratio in ratios.items()))  # noqa: T201
