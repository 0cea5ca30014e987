"""The load of the machine while a run goes on, and how many threads a run takes."""

import threading
import time

import pytest
import torch

from benchmark.core.recipe import Recipe
from benchmark.runs import load, machine
from tests.making import Clock


def test_the_load_is_looked_at_every_few_seconds() -> None:
    clock, loads = Clock(), iter([1.0, 4.0, 7.0])
    watched = load.Load(lambda: next(loads), clock)
    for clock.now in (1.0, 2.0, 6.0, 7.0):
        watched.look()
    assert watched.ended() == {"load_start": 1.0, "load": 7.0, "load_mean": 4.0}


@pytest.mark.parametrize(
    ("gone", "computed", "still"),
    [(600.0, 0.0, 600.0), (11.0, 4.0, 11.0), (11.0, 6.0, 0.0), (9.9, 0.0, 0.0), (600.0, 599.0, 0.0)],
)
def test_a_process_that_was_stopped_stood_still(gone: float, computed: float, still: float) -> None:
    """As SIGSTOP and a paused container do it, on up to four threads; before the first look the run has not begun."""
    clock, spent = Clock(), Clock()
    watched = load.Load(lambda: 1.0, clock, spent)
    clock.now = 1000.0
    watched.look()
    clock.now, spent.now = 1001.0, 4.0
    watched.tick()
    clock.now, spent.now = 1001.0 + gone, 4.0 + computed
    watched.tick()
    assert watched.still == still


def test_a_thread_looks_at_the_clock_while_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "TICK", 0.001)
    clock, before = Clock(), threading.active_count()
    with load.Load(lambda: 1.0, clock, lambda: 0.0) as watched:
        watched.look()
        clock.now = 600.0
        for _ in range(1000):
            if not watched.still:
                time.sleep(0.01)
        assert watched.still == 600.0
    for _ in range(1000):
        if threading.active_count() > before:
            time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("mean", "own", "says"),
    [
        (3.9, {}, "3.9 runnable processes on 2 cores"),
        (2.1, {}, ""),
        (3.9, {"sharing": 4}, ""),  # its own neighbours
        (5.5, {"sharing": 4}, "5.5 runnable processes on 2 cores"),
        (3.9, {"threads": 4}, ""),
    ],
)
def test_beyond_the_cores_is_what_the_suite_did_not_ask_for(mean: float, own: dict[str, int], says: str) -> None:
    assert load.beyond({"load_mean": mean, "cores": 2, "threads": 1} | own) == says


def test_a_record_from_before_says_nothing() -> None:
    assert load.beyond({"load": 9.0, "cores": 2, "threads": 1}) == ""


@pytest.mark.parametrize(
    ("network", "batch_size", "threads"),
    [("mini_convnet", 32, 1), ("digits_convnet", 32, 1), ("digits_convnet", 512, 3), ("wrn_40_2", 128, 3)],
)
def test_a_small_network_takes_one_thread(network: str, batch_size: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with machine.threads(Recipe(network=network, batch_size=batch_size)):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
