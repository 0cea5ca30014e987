"""ABA: five training steps of the released loop in float64, the law of its network, and what each setting changes."""

import importlib
import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from benchmark.core import capture
from benchmark.method import Rng
from benchmark.ops import adam_state
from benchmark.ops.transformers import Posterior, part_shapes, sample_posterior
from tests.core.replaying import same, trained
from tests.making import made
from tests.methods import learned_cases as cases
from tests.recorders import Tape

aba: Any = importlib.import_module("benchmark.methods.aba")

TOLERANCE = 1e-12
"""Of losses, weights and statistics after five steps in float64."""
STEPS = 3
LAYERS = ((3, 18), (18, 18), (18, 18), (18, 18), (18, 3))
SIZES = (1, 3, 5, 7)
FORMS = pytest.mark.parametrize("framed", [False, True], ids=["cropped", "framed"])
"""Of the kernels: as on a CPU, and as on a GPU."""
make = partial(
    made, "aba", round_steps=cases.ROUND, pre_rounds=cases.PRE, adv_steps=STEPS, adv_lr=0.01, kernel_sizes=(3,)
)


def as_if(framed: bool, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aba, "on_gpu", lambda _: framed)


def numbers(flat: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """A weight and, except for the last layer, a bias of each layer, from numbers in a row."""
    parts, at = [], 0
    for i, ((fan, out), k) in enumerate(zip(LAYERS, sizes, strict=True)):
        for shape in ((out, fan, k, k), (out,))[: 2 if i < 4 else 1]:
            parts.append(flat[at : at + math.prod(shape)].reshape(shape).double())
            at += math.prod(shape)
    assert at == len(flat)
    return parts


def middles(parts: Sequence[Tensor], kernels: Tensor) -> list[Tensor]:
    """Kernels and biases without what lies around the kernels in their frames."""
    found = []
    for i, part in enumerate(parts):
        rim = (kernels.shape[-1] - int(kernels[i // 2].sum().sqrt())) // 2
        found.append(part[..., rim : part.shape[-1] - rim, rim : part.shape[-1] - rim] if part.ndim > 1 else part)
    return found


def divergences(mu: Sequence[Tensor], rho: Sequence[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(0, 9, 2):
        k = mu[i].shape[-1]
        q, prior = Normal(mu[i], torch.log1p(rho[i].exp())), Normal(torch.zeros_like(mu[i]), 1 / math.sqrt(3 * k * k))
        total = total + kl_divergence(q, prior).mean()
    return total


def attack(
    sign: float = -1,
    beta: float = 1,
    low: float = 1e-3,
    moving: tuple[int, ...] = (8,),
    adam: str = "kept",
    offer: tuple[int, ...] = (3,),
) -> cases.View:
    """The released attack. One optimiser can hold all moments only if one size is on offer."""
    shapes = [shape for fan, out in LAYERS for shape in ((out, fan, 3, 3), (out,))][:9]
    mu, rho = ([nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes] for _ in range(2))

    def leaves() -> list[nn.Parameter]:
        return [part[i] for part in (mu, rho) for i in moving]

    optimizers = [torch.optim.Adam(leaves(), lr=0.01)]

    def run(net: nn.Module, z: Tensor, y: Tensor, rng: Rng) -> tuple[Tensor, Tensor | None]:
        q = rng.draw("posterior", sample_posterior, max(offer))
        kernels = rng.draw("kernels", aba.sample_kernels, offer)
        eps = torch.randn(STEPS + 2, len(q.mu), generator=rng.generator("eps"))
        for parts, flat in ((mu, q.mu), (rho, q.rho)):
            values = middles(numbers(flat, q.sizes), kernels)
            if adam == "reset":
                parts[:] = map(nn.Parameter, values)
            for part, value in zip(parts, values, strict=True):
                part.data.copy_(value)
        if adam == "reset":
            optimizers[0] = torch.optim.Adam(leaves(), lr=0.01)

        def g(i: int) -> Tensor:
            out = z
            parts = zip(mu, rho, middles(numbers(eps[i], q.sizes), kernels), strict=True)
            sample = [m + e * torch.log1p(r.exp()) for m, r, e in parts]
            for layer in range(4):
                out = F.leaky_relu(F.conv2d(out, sample[2 * layer], sample[2 * layer + 1], padding="same"), 0.2)
            return F.conv2d(out, sample[8], padding="same").clamp(low, 1)

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
        ({"beta": 5.0}, {}, {"beta": 5}),
        ({"kl": "shrinks", "beta": 5.0}, {}, {"sign": 1, "beta": 5}),
        ({"ascend": "all"}, {}, {"moving": tuple(range(9))}),
        ({"adam": "reset"}, {}, {"adam": "reset"}),
        ({"adam": "reset", "kernel_sizes": SIZES}, {}, {"adam": "reset", "offer": SIZES}),
        ({"clamp": "full", "stays_eval": False}, {"stays_eval": False}, {"low": -1}),
        ({"w": 0.5}, {"w": 0.5}, {}),
    ],
)
@FORMS
def test_five_steps_are_those_of_the_released_loop(
    fields: dict[str, Any],
    loop: dict[str, Any],
    attacked: dict[str, Any],
    framed: bool,
    by_default: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_if(framed, monkeypatch)
    one, two = cases.network(), cases.network()
    losses, _ = cases.ours(make(**fields), one)
    expected = cases.released(two, attack(**attacked), **loop)
    largest = max(cases.deviation(one, two), *(abs(a - b) for a, b in zip(losses, expected, strict=True)))
    assert largest < TOLERANCE, f"largest deviation: {largest}"
    if fields:  # and the setting is not without effect
        assert cases.deviation(one, by_default) > 1e-5


@pytest.mark.parametrize("fields", [{}, {"ascend": "all"}, {"kl": "shrinks"}, {"adam": "reset"}])
def test_frames_give_what_cropped_kernels_give(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, network, and Adam's moments, also where they lie around a smaller kernel."""
    made = []
    for framed in (False, True):
        as_if(framed, monkeypatch)
        net = cases.network()
        losses, state = cases.ours(make(kernel_sizes=SIZES, **fields), net)
        made.append([torch.tensor(losses, dtype=torch.float64), *net.state_dict().values(), *tree_leaves(state)])
    for one, two in zip(*made, strict=True):
        torch.testing.assert_close(one, two, rtol=TOLERANCE, atol=TOLERANCE)


def test_frames_are_replayed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host reads nothing, and all sizes take the same operations."""
    as_if(True, monkeypatch)
    method = make(kernel_sizes=(1, 3, 5), adv_steps=1)
    launched, tape = trained(method, "cpu", tmp_path / "a", nullcontext(), steps=22), Tape()
    replayed = trained(method, "cpu", tmp_path / "b", capture.recording(tape), steps=22)
    assert replayed.notes == []
    assert tape.captured >= 2  # the first steps of rounds, and the others
    assert tape.replayed >= replayed.meter.replays >= 5
    replayed.meter.counted = launched.meter.counted  # a CPU leaves attacks early
    same(launched, replayed)
    for one, two in zip(tree_leaves(launched.state), tree_leaves(replayed.state), strict=True):
        assert torch.equal(one, two)


def test_law_of_the_network() -> None:
    sizes: list[int] = []
    for seed in range(200):
        kernels = aba.sample_kernels(SIZES, torch.Generator().manual_seed(seed))
        assert kernels.shape == (5, 7, 7)
        sizes += kernels[:, 3].sum(1).int().tolist()
        for kernel, k in zip(kernels, sizes[-5:], strict=True):
            rim = (7 - k) // 2
            assert torch.equal(kernel, F.pad(torch.ones(k, k), [rim] * 4))
    assert max(abs(sizes.count(k) - 250) for k in SIZES) < 55  # four standard deviations
    large = sample_posterior(7, torch.Generator().manual_seed(1))
    assert large.mu.std().item() == pytest.approx(0.1, rel=0.02)
    assert abs(large.mu.mean().item()) < 0.002
    assert large.rho.mean().item() == pytest.approx(-1, abs=0.002)
    assert large.rho.std().item() == pytest.approx(0.1, rel=0.02)


@FORMS
def test_divergence_is_that_of_torch(framed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    as_if(framed, monkeypatch)
    kernels = aba.sample_kernels(SIZES, torch.Generator().manual_seed(4))
    assert len(kernels.sum((1, 2)).unique()) > 1
    q = sample_posterior(7, torch.Generator().manual_seed(4))
    mu, rho = (middles(numbers(row, q.sizes), kernels) for row in (q.mu, q.rho))
    rows = (row.double() for row in (q.mu, q.rho, torch.ones_like(q.mu)))
    ours = aba.divergence(*(aba.crop(q.split(row), kernels) for row in rows))
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
    plain = aba.Method()
    assert plain.settings() == {
        "lam": 0.75, "w": 1.0, "adv_steps": 10, "adv_lr": 5e-6, "round_steps": 250, "pre_rounds": 5, "stays_eval": True,
        "adam": "kept", "clamp": "positive", "mix": False, "kernel_sizes": (1, 3, 5, 7), "beta": 1.0, "kl": "grows",
        "ascend": "last",
    }  # fmt: skip
    assert plain.work(10_000, 10_000).per_image == plain.passes


def test_views_are_two_samples_in_the_bright_half() -> None:
    method, net, (_, x, y) = make(kernel_sizes=SIZES), cases.Scaled(cases.network()), next(iter(cases.batches()))
    state = cases.state_of(method)
    assert method.views(net, x, y, Rng(0, 1), state) == []
    learned, other = method.views(net, x, y, Rng(0, 2), state)
    assert not torch.allclose(learned, other)
    for view in (learned, other):
        assert view.min() >= 0.5
        assert view.max() <= 1


def test_a_posterior_splits_as_its_layers_lie() -> None:
    sizes = (1, 3, 5, 7, 3)
    count = sum(math.prod(shape) for shape in part_shapes(sizes))
    flat = torch.arange(float(count))
    for ours, theirs in zip(Posterior(sizes, flat, flat).split(flat), numbers(flat, sizes), strict=True):
        assert torch.equal(ours.double(), theirs)
