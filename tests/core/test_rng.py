"""Keyed random numbers: every seed, step and purpose has its own, and they are the same everywhere."""

import torch

from benchmark.core.rng import Rng, key


def test_every_seed_step_and_purpose_has_its_own_numbers() -> None:
    keys = [Rng(seed, step).key(purpose) for seed in range(5) for step in range(20) for purpose in ("views", "noise")]
    assert len(set(keys)) == len(keys)
    assert Rng(0, 1, progress=0.5).key("views") == Rng(0, 1).key("views")


def test_a_key_is_the_same_on_every_machine() -> None:
    assert key(0, 1, "views") == 3648067446036887342
    assert Rng(0, 1).key("views") == key(0, 1, "views") == key("0/1", "views")


def test_asking_twice_gives_the_same_draws() -> None:
    rng = Rng(3, 7)
    first, again = (torch.rand(4, generator=rng.generator("views")) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(rng.draw("views", torch.rand, 4), first)
    assert not torch.equal(rng.draw("noise", torch.rand, 4), first)
