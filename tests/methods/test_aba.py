"""ABA: five training steps of the released loop in float64, the law of its network, and what each setting changes."""

import importlib
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from benchmark.method import Method, Rng
from benchmark.ops import adam_state
from benchmark.ops.transformers import Posterior, divergence, part_shapes, sample_posterior
from tests.methods import learned_cases as cases

TOLERANCE = 1e-12
"""Of losses, weights and statistics after five steps in float64."""
STEPS = 3
LAYERS = ((3, 18), (18, 18), (18, 18), (18, 18), (18, 3))


def make(**options: Any) -> Method:
    plain = {"round_steps": cases.ROUND, "pre_rounds": cases.PRE, "adv_steps": STEPS, "adv_lr": 0.01}
    given = {**plain, "kernel_sizes": (3,), **options}
    method: Method = importlib.import_module("benchmark.methods.aba").Method(**given)
    return method


def numbers(flat: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """A weight and, but for the last layer, a bias of each layer, from numbers in a row."""
    parts, at = [], 0
    for i, ((fan, out), k) in enumerate(zip(LAYERS, sizes, strict=True)):
        for shape in ((out, fan, k, k), (out,))[: 2 if i < 4 else 1]:
            parts.append(flat[at : at + math.prod(shape)].reshape(shape).double())
            at += math.prod(shape)
    assert at == len(flat)
    return parts


def divergences(mu: Sequence[Tensor], rho: Sequence[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(0, 9, 2):
        k = mu[i].shape[-1]
        q, prior = Normal(mu[i], torch.log1p(rho[i].exp())), Normal(torch.zeros_like(mu[i]), 1 / math.sqrt(3 * k * k))
        total = total + kl_divergence(q, prior).mean()
    return total


def attack(
    sign: float = -1, beta: float = 1, low: float = 1e-3, moving: tuple[int, ...] = (8,), adam: str = "kept"
) -> cases.View:
    """The released attack, with kernels of one size, so that one optimiser can hold all moments."""
    shapes = [shape for fan, out in LAYERS for shape in ((out, fan, 3, 3), (out,))][:9]
    mu, rho = ([nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes] for _ in range(2))
    leaves = [part[i] for part in (mu, rho) for i in moving]
    optimizers = [torch.optim.Adam(leaves, lr=0.01)]

    def run(net: nn.Module, z: Tensor, y: Tensor, rng: Rng) -> tuple[Tensor, Tensor | None]:
        q = rng.draw("posterior", sample_posterior, (3,))
        for parts, flat in ((mu, q.mu), (rho, q.rho)):
            for part, value in zip(parts, numbers(flat, q.sizes), strict=True):
                part.data.copy_(value)
        eps = torch.randn(STEPS + 2, len(q.mu), generator=rng.generator("eps"))
        if adam == "reset":
            optimizers[0] = torch.optim.Adam(leaves, lr=0.01)

        def g(i: int) -> Tensor:
            out = z
            sample = [m + e * torch.log1p(r.exp()) for m, r, e in zip(mu, rho, numbers(eps[i], q.sizes), strict=True)]
            for layer in range(4):
                out = F.leaky_relu(F.conv2d(out, sample[2 * layer], sample[2 * layer + 1], padding=1), 0.2)
            return F.conv2d(out, sample[8], padding=1).clamp(low, 1)

        for i in range(STEPS):
            loss = -F.cross_entropy(net(g(i)), y) + sign * beta * divergences(mu, rho)
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
        return g(STEPS), g(STEPS + 1)

    return run


@pytest.fixture(scope="module")
def by_default() -> nn.Module:
    """The network that the default settings train."""
    net = cases.network()
    cases.ours(make(), net)
    return net


@pytest.mark.parametrize(
    ("fields", "loop", "attacked"),
    [
        ({}, {}, {}),
        ({"kl": "shrinks", "beta": 5.0}, {}, {"sign": 1, "beta": 5}),
        ({"ascend": "all"}, {}, {"moving": tuple(range(9))}),
        ({"adam": "reset"}, {}, {"adam": "reset"}),
        ({"clamp": "full", "stays_eval": False}, {"stays_eval": False}, {"low": -1}),
        ({"w": 0.5}, {"w": 0.5}, {}),
    ],
)
def test_five_steps_are_those_of_the_released_loop(
    fields: dict[str, Any],
    loop: dict[str, Any],
    attacked: dict[str, Any],
    by_default: nn.Module,
) -> None:
    one, two = cases.network(), cases.network()
    losses, _ = cases.ours(make(**fields), one)
    expected = cases.released(two, attack(**attacked), **loop)
    largest = max(cases.deviation(one, two), *(abs(a - b) for a, b in zip(losses, expected, strict=True)))
    assert largest < TOLERANCE, f"largest deviation: {largest}"
    if fields:  # and the setting is not without effect
        assert cases.deviation(one, by_default) > 1e-5


def test_law_of_the_network() -> None:
    sizes: list[int] = []
    for seed in range(200):
        q = sample_posterior((1, 3, 5, 7), torch.Generator().manual_seed(seed))
        sizes += q.sizes
    assert max(abs(sizes.count(k) - 250) for k in (1, 3, 5, 7)) < 55  # four standard deviations
    large = sample_posterior((7,), torch.Generator().manual_seed(1))
    assert large.mu.std().item() == pytest.approx(0.1, rel=0.02)
    assert abs(large.mu.mean().item()) < 0.002
    assert large.rho.mean().item() == pytest.approx(-1, abs=0.002)
    assert large.rho.std().item() == pytest.approx(0.1, rel=0.02)


def test_divergence_is_that_of_torch() -> None:
    q = sample_posterior((1, 3, 5, 7), torch.Generator().manual_seed(4))
    assert len(set(q.sizes)) > 1
    mu, rho = numbers(q.mu, q.sizes), numbers(q.rho, q.sizes)
    ours = divergence(*(q.split(part.double()) for part in (q.mu, q.rho)))
    torch.testing.assert_close(ours, divergences(mu, rho), rtol=1e-10, atol=0)


def test_moments_of_small_kernels_lie_in_the_middle_of_those_of_large_ones() -> None:
    shape = part_shapes((7,) * 5)[8]
    assert shape == (3, 18, 7, 7)
    moments = {"m": [torch.arange(3 * 18 * 49.0).view(shape)], "v": [torch.ones(shape)]}
    frames: adam_state.Kept = {"step": torch.zeros(()), **moments}
    like = [torch.empty(3, 18, 3, 3)]
    part = adam_state.cut(frames, like)
    assert torch.equal(part["m"][0], frames["m"][0][..., 2:5, 2:5])
    _, moved = adam_state.adam_step(like, [torch.ones(3, 18, 3, 3)], part, 0.1)
    whole = adam_state.put_back(frames, moved)
    assert torch.equal(whole["m"][0][..., 2:5, 2:5], moved["m"][0])
    rim = torch.ones(7, 7, dtype=torch.bool)
    rim[2:5, 2:5] = False
    assert torch.equal(whole["m"][0][..., rim], frames["m"][0][..., rim])
    assert whole["step"] == 1
    assert frames["step"] == 0


def test_released_settings_are_the_defaults() -> None:
    plain = importlib.import_module("benchmark.methods.aba").Method()
    assert plain.settings() == {
        "lam": 0.75, "w": 1.0, "adv_steps": 10, "adv_lr": 5e-6, "round_steps": 250, "pre_rounds": 5, "stays_eval": True,
        "adam": "kept", "clamp": "positive", "mix": False, "kernel_sizes": (1, 3, 5, 7), "beta": 1.0, "kl": "grows",
        "ascend": "last",
    }  # fmt: skip
    assert plain.work(10_000, 10_000).per_image == plain.passes


def test_views_are_two_samples_in_the_bright_half() -> None:
    method, net, (_, x, y) = make(kernel_sizes=(1, 3, 5, 7)), cases.Scaled(cases.network()), next(iter(cases.batches()))
    state = cases.state_of(method)
    assert method.views(net, x, y, Rng(0, 1), state) == []
    learned, other = method.views(net, x, y, Rng(0, 2), state)
    assert not torch.allclose(learned, other)
    for view in (learned, other):
        assert view.min() >= 0.5
        assert view.max() <= 1


@pytest.mark.parametrize("wrong", [{"kernel_sizes": (2,)}, {"kernel_sizes": ()}, {"beta": -1}, {"kl": "x"}, {"w": 2.5}])
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(**wrong)


def test_a_posterior_splits_as_its_layers_lie() -> None:
    sizes = (1, 3, 5, 7, 3)
    count = sum(math.prod(shape) for shape in part_shapes(sizes))
    flat = torch.arange(float(count))
    for ours, theirs in zip(Posterior(sizes, flat, flat).split(flat), numbers(flat, sizes), strict=True):
        assert torch.equal(ours.double(), theirs)
