"""M-ADA: the step that looks one step ahead, in a run and against finite differences."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.timing import Meter
from benchmark.method import Rng
from tests.methods.mada_cases import SMALL, Perceptron, erm, mada, meta_state, small_net, source_of, toy_images


def test_parity_meta_gradient_against_finite_differences() -> None:
    """Gradient of (L1 + L2)/2 through theta' = theta - inner_lr dL1/dtheta, central differences, float64."""
    net, x, y, state = meta_state()
    method, batch = mada.Method(inner_lr=0.5), torch.tensor([4, 1, 2])
    method.loss(net, x, y, Rng(0, 7), state).backward()
    ours = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    def value(theta: Tensor) -> float:
        other = Perceptron()
        nn.utils.vector_to_parameters(theta, other.parameters())
        first = F.cross_entropy(other(x), y)
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(first, list(other.parameters()))])
        nn.utils.vector_to_parameters(theta - 0.5 * slope, other.parameters())
        return float((first + F.cross_entropy(other(state["x"][batch]), state["y"][batch])).detach() / 2)

    theta = nn.utils.parameters_to_vector(net.parameters()).detach()
    basis = torch.eye(len(theta), dtype=torch.float64) * 1e-5
    expected = torch.tensor([(value(theta + e) - value(theta - e)) / 2e-5 for e in basis])
    assert float(method.loss(net, x, y, Rng(0, 7), state).detach()) == pytest.approx(value(theta), abs=1e-12)
    assert torch.allclose(ours, expected.to(ours), rtol=0, atol=1e-6)

    first = F.cross_entropy(net(x), y)  # the same without the second-order term is clearly something else
    slope = torch.autograd.grad(first, list(net.parameters()))
    inner = {n: (p - 0.5 * g).detach() for (n, p), g in zip(net.named_parameters(), slope, strict=True)}
    inner = {n: p.requires_grad_() for n, p in inner.items()}
    second = F.cross_entropy(torch.func.functional_call(net, inner, state["x"][batch]), state["y"][batch])
    of_second = torch.autograd.grad(second, list(inner.values()))
    crude = torch.cat([((a + b) / 2).flatten() for a, b in zip(slope, of_second, strict=True)])
    assert (ours - crude).abs().max() > 1e-3


def test_each_step_has_its_own_pool_batch() -> None:
    net, x, y, state = meta_state()
    state["x"] = state["x"].float()
    place, method = state["at"], mada.Method(phases=1)

    def loss(step: int) -> float:
        method.expand(net, source_of(toy_images(4), batch_size=3), Rng(0, step), step, state)
        return float(method.loss(net, x, y, Rng(0, step), state).detach())

    losses = [loss(step) for step in (6, 7)]
    state["order"] = state["order"].flip(0)
    assert losses == [loss(step) for step in (7, 6)]
    assert losses[0] != losses[1]
    assert state["at"] is place  # where a captured step reads it


def test_frozen_and_unused_parameters_take_no_part() -> None:
    net, x, y, state = meta_state()
    net.hidden.requires_grad_(False)
    net.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    mada.Method().loss(net, x, y, Rng(0, 7), state).backward()
    assert net.hidden.weight.grad is None
    assert net.unused.grad is None or not net.unused.grad.any()
    assert net.head.weight.grad is not None


def test_without_a_phase_it_is_erm() -> None:
    """Before the first phase, or with none, loss and gradients are ERM's own bits."""
    images = toy_images(32)

    def trained(method: Any) -> tuple[Tensor, list[Tensor | None]]:
        net = small_net()
        state = method.setup(net, source_of(images), Rng(0))
        for step in range(10):
            assert method.expand(net, source_of(images), Rng(0, step), step, state) is None
        loss = method.loss(net, images.unit(), images.y, Rng(0, 9), state)
        loss.backward()
        return loss.detach(), [p.grad for p in net.parameters()]

    plain, slopes = trained(erm.Method())
    for options in ({"interval": 11}, {"phases": 0}):
        loss, ours = trained(mada.Method(**SMALL | options))
        assert torch.equal(loss, plain)
        assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(ours, slopes, strict=True))


def test_cost_of_a_step_is_two_forwards_and_three_backwards() -> None:
    images, net, meter = toy_images(40), small_net(), Meter(torch.device("cpu"))
    method, source = mada.Method(**SMALL), source_of(images)
    with meter.running(net):
        state = method.setup(net, source, Rng(0))
        assert (meter.forwards, meter.backwards) == (0, 0)
        method.expand(net, source, Rng(0, 1), 1, state)
        assert (meter.forwards, meter.backwards) == (32 * 3, 32 * 2)  # clean features once, then T_adv of both
        assert set(meter.read()) == {"attack"}
        method.loss(net, images.unit()[:8], images.y[:8], Rng(0, 1), state).backward()
    assert (meter.forwards, meter.backwards) == (32 * 3 + 8 * 2, 32 * 2 + 8 * 3)


def test_a_run_taken_up_from_a_saved_state_goes_on_with_the_same_bits() -> None:
    images, net, method = toy_images(40), small_net(), mada.Method(**SMALL)
    source = source_of(images)
    state = method.setup(net, source, Rng(0))
    for step in range(3):
        method.expand(net, source, Rng(0, step), step, state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=True)
    for step in range(3, 12):
        losses = []
        for each in (state, again):
            method.expand(net, source, Rng(0, step), step, each)
            losses.append(method.loss(net, images.unit()[:8], images.y[:8], Rng(0, step), each).detach())
        assert torch.equal(*losses)
    assert state["phase"] == again["phase"] == 3
    assert all(torch.equal(state["wae"][name], again["wae"][name]) for name in state["wae"])
