"""What the loss takes from the host and leaves there is seen, whichever way it goes about it."""

import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.method import Method, Rng
from benchmark.training.held import changed, entries, held
from benchmark.training.trace import Trace, difference
from benchmark.training.watch import WatchedRng, WatchedState

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RNG = Rng(3, 5, 0.25)


def sample(size: int, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator)


def test_a_watched_rng_gives_the_same_numbers() -> None:
    watched = WatchedRng.of(RNG)
    for name in ("a", "b", "a"):
        found = torch.rand(3, generator=watched.generator(name))
        assert torch.equal(found, torch.rand(3, generator=RNG.generator(name)))
    assert torch.equal(watched.draw("c", sample, 4), RNG.draw("c", sample, 4))
    assert not watched.reads
    assert watched.purposes == ["a", "b", "a"]
    (drawn,) = watched.drawn
    assert torch.equal(drawn.again(Rng(3, 6)), Rng(3, 6).draw("c", sample, 4))
    assert not drawn.holds_tensors()
    watched.draw("d", lambda x, generator: x, x=[torch.ones(1)])
    assert watched.drawn[1].holds_tensors()


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda rng: rng.step, "step"),
        (lambda rng: rng.progress, "progress"),
        (lambda rng: rng.key("mine"), "key"),
        (lambda rng: replace(rng, seed=1), "step"),
        (repr, "progress"),
        (vars, "__dict__"),
        (lambda rng: copy.copy(rng).step, "step"),
        (lambda rng: getattr(rng, "st" + "ep"), "step"),
    ],
)
def test_what_is_read_of_an_rng_is_noted(read: Callable[[Rng], Any], what: str) -> None:
    watched = WatchedRng.of(RNG)
    assert (watched.seed, watched.on) == (3, CPU)
    assert not watched.reads
    read(watched)
    assert what in watched.reads


@pytest.mark.parametrize(
    ("use", "reads", "whole", "written"),
    [
        (lambda s: s["a"], {"a"}, False, ""),
        (lambda s: s.get("z"), {"z"}, False, ""),
        (lambda s: "z" in s, {"z"}, False, ""),
        (lambda s: s.setdefault("a", 3), {"a"}, False, ""),
        (lambda s: s.setdefault("z", 3), {"z"}, False, "z"),
        (list, set(), True, ""),
        (lambda s: list(reversed(s)), set(), True, ""),
        (len, set(), True, ""),
        (bool, set(), True, ""),
        (lambda s: s == {}, set(), True, ""),
        (lambda s: s | {}, set(), True, ""),
        (lambda s: {} | s, set(), True, ""),
        (lambda s: s.copy(), set(), True, ""),
        (dict, set(), True, ""),
        (lambda s: {**s}, set(), True, ""),
        (lambda s: s.values(), set(), True, ""),
        (lambda s: s.items(), set(), True, ""),
        (repr, set(), True, ""),
        (lambda s: s.__setitem__("b", 1), set(), False, "b"),
        (lambda s: s.__delitem__("a"), set(), False, "a"),
        (lambda s: s.update(c=1), set(), False, "c"),
        (lambda s: s.__ior__({"c": 1}), set(), False, "c"),
        (lambda s: s.pop("a"), set(), False, "a"),
        (lambda s: s.popitem(), set(), False, "b"),
        (lambda s: s.clear(), set(), False, "a"),
    ],
)
def test_what_is_done_with_a_state_is_noted(use: Any, reads: set[str], whole: bool, written: str) -> None:
    plain: dict[str, Any] = {"a": 1, "b": 2}
    seen, twin = WatchedState(plain), dict(plain)
    use(seen)
    use(twin)
    assert written in (seen.written, "")
    assert (seen.reads >= reads, seen.whole, seen.written) == (True, whole, written)
    assert plain == {"a": 1, "b": 2}
    assert seen.plain() == twin


def traced(work: Callable[[], Any], device: torch.device = CPU) -> list[Any]:
    trace = Trace(device)
    with trace:
        work()
    return trace.seen


def test_a_trace_has_what_the_host_decides_and_not_what_the_device_holds() -> None:
    x, y = torch.zeros(3), torch.ones(3)
    assert difference(traced(lambda: x * 2), traced(lambda: y * 2)) == ""
    for other in (lambda: x * 3, lambda: x + 2, lambda: x[:2] * 2, lambda: x.double() * 2, lambda: x * True):
        assert "becomes" in difference(traced(lambda: x * 2), traced(other))
    assert difference(traced(lambda: (x * 2, x + 1)), traced(lambda: x * 2)) == "its step has 2 operations, then 1"
    assert traced(lambda: torch.zeros(2, dtype=torch.int64)) != traced(lambda: torch.zeros(2))


def test_numbers_of_the_hosts_tensors_are_noted_in_a_run_on_a_gpu() -> None:
    x, y, z = torch.zeros(3), torch.ones(3), torch.zeros(3)
    assert difference(traced(lambda: x * 2, GPU), traced(lambda: y * 2, GPU))
    assert not difference(traced(lambda: x * 2, GPU), traced(lambda: z * 2, GPU))
    large = torch.zeros(2**20 + 1)
    before = traced(lambda: large[0], GPU)
    assert before == traced(lambda: large[0], GPU)
    large[5] = 1
    assert before != traced(lambda: large[0], GPU)


def test_what_a_paused_trace_does_not_see() -> None:
    trace, x = Trace(CPU), torch.zeros(3)
    watched = WatchedRng.of(RNG, trace)
    with trace:
        watched.draw("a", sample, 4)
        with trace.paused():
            x + 1
        torch.rand(3, generator=watched.generator("b"))
    assert [entry[0] for entry in trace.seen if isinstance(entry, tuple)] == ["aten.rand.generator"]


COUNT: dict[str, Any] = {}


def kept(bag: list[int]) -> Callable[[], None]:
    return lambda: bag.append(1)


class Subject(Method):
    table = (1, 2)

    @staticmethod
    def default(bag: list[int] = []) -> None:  # noqa: B006
        bag.append(1)


class Plain:
    def __init__(self) -> None:
        self.n = 0


@pytest.mark.parametrize(
    ("first", "change", "where"),
    [
        (1, lambda v: COUNT.update(it=2), "test_watch.COUNT.it"),
        ([1], lambda v: v.append(2), "test_watch.COUNT.it"),
        ({1}, lambda v: v.add(2), "test_watch.COUNT.it"),
        ({"n": {"m": 1}}, lambda v: v["n"].update(m=2), "test_watch.COUNT.it.n.m"),
        (itertools.count(), next, "test_watch.COUNT.it"),
        (random.Random(0), lambda v: v.random(), "test_watch.COUNT.it"),
        (np.random.default_rng(0), lambda v: v.random(), "test_watch.COUNT.it"),
        (torch.Generator(), lambda v: torch.rand(1, generator=v), "test_watch.COUNT.it"),
        (np.zeros(2), lambda v: v.fill(1), "test_watch.COUNT.it"),
        (torch.zeros(2), lambda v: COUNT.update(it=v + 1), "test_watch.COUNT.it"),
        (Plain(), lambda v: setattr(v, "n", 1), "test_watch.COUNT.it.n"),
        (kept([]), lambda v: v(), "test_watch.COUNT.it.kept[0]"),
        (kept, lambda v: setattr(v, "calls", 1), "test_watch.COUNT.it"),
        (1, lambda v: Subject.default(), "Subject.default"),
        (1, lambda v: setattr(Subject, "table", (1, 3)), "Subject.table[1]"),
        (1, lambda v: random.random(), "Python's random"),
        (1, lambda v: np.random.random(), "NumPy's random"),  # noqa: NPY002
        (1, lambda v: torch.rand(1), "torch's generator on the CPU"),
    ],
)
def test_what_a_method_leaves_behind_is_found(first: Any, change: Callable[[Any], Any], where: str) -> None:
    COUNT["it"] = first
    subject = Subject()
    before = held(subject)
    assert changed(before, held(subject)) == ""
    change(first)
    assert changed(before, held(subject)).startswith(where)


def test_what_a_network_and_a_state_hold_is_found() -> None:
    net: Any = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state: dict[str, Any] = {"a": [torch.zeros(1)], "b": 1}
    state["c"] = state["a"]

    def now() -> dict[str, Any]:
        return {**held(Subject(), network=net), **entries("state", state)}

    before = now()
    net(torch.rand(4, 2, generator=torch.Generator().manual_seed(0))).sum().backward()
    net[0].weight.data.add_(1)
    state["a"][0].add_(1)
    assert changed(before, now()) == ""  # numbers of tensors are not the host's
    net[1].eval()
    assert changed(before, now()) == "network._modules.1.training"
    net[1].train()
    net[1].running_mean = torch.zeros(2)
    assert changed(before, now()) == "network._modules.1._buffers.running_mean"
    before = now()
    state["a"].append(2)
    assert changed(before, now()).startswith("state.a")
