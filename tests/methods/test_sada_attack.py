"""SADA's attack: what each setting does, and what it leaves as found."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.timing import Meter
from benchmark.ops.attacks import spectrum
from benchmark.ops.attacks.spectrum import (
    Draws,
    Trace,
    attack_spectrum,
    decompose,
    initialise,
    recon,
)
from benchmark.ops.kernels.spectrum_step import Norm
from tests.methods import sada_cases
from tests.methods.sada_cases import (
    PLAIN,
    ascend,
    batch_norm_net,
    brightness_detector,
    dense,
    draws_for,
    labels,
    log_ratio,
    make,
)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(3, 17), st.integers(0, 2**16))
def test_recon_of_an_untouched_batch_is_x_over_its_maximum(batch: int, size: int, seed: int) -> None:
    x = dense(batch, size, seed)
    parts = decompose(x)
    assert torch.allclose(recon(*parts), x / x.amax(), atol=1e-12)
    assert torch.allclose(recon(*parts, "image_max"), x / x.amax((1, 2, 3), keepdim=True), atol=1e-12)
    assert torch.allclose(recon(*parts, "none", "real"), x, atol=1e-12)


def test_batch_max_couples_samples_and_image_max_does_not(net: nn.Module) -> None:
    x = dense(4)
    y = labels(net, x)
    brighter = x.clone()
    brighter[3] = 0.5 + x[3] / 2
    for norm, coupled in (("batch_max", True), ("image_max", False), ("none", False)):
        first, _ = ascend(net, x, y, recon_norm=norm, tau=9)
        second, _ = ascend(net, brighter, y, recon_norm=norm, tau=9)
        assert torch.allclose(first[:3], second[:3], atol=1e-9) is not coupled, norm


@pytest.mark.parametrize(("norm", "coupled"), [("batch_max", True), ("image_max", False), ("none", False)])
def test_gradient_flows_through_the_maximum(norm: Norm, coupled: bool) -> None:
    amplitude, phasor = decompose(torch.stack([dense(1)[0] / 2, dense(1, seed=1)[0]]))
    amplitude.requires_grad_()
    (gradient,) = torch.autograd.grad(recon(amplitude, phasor, norm)[0].sum(), amplitude)
    assert bool((gradient[1] != 0).any()) is coupled


def test_magnitude_folds_or_clamps_negative_values() -> None:
    """Without its mean an image is negative in part: abs mirrors those pixels, real makes them black."""
    x = dense(2)
    amplitude, phasor = decompose(x)
    amplitude[..., 0, 0] = 0
    signed = x - x.mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(recon(amplitude, phasor, "none", "abs"), signed.abs(), atol=1e-12)
    assert torch.allclose(recon(amplitude, phasor, "none", "real"), signed.clamp(min=0), atol=1e-12)


@pytest.mark.parametrize("norm", ["batch_max", "image_max", "none"])
@pytest.mark.parametrize("magnitude", ["abs", "real"])
def test_black_images_stay_finite(net: nn.Module, norm: Any, magnitude: Any) -> None:
    x = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
    out, _ = ascend(net, x, torch.tensor([0, 1]), recon_norm=norm, magnitude=magnitude, tau=9)
    assert torch.equal(out, x)


def test_brightness_is_one_factor_a_call_or_one_an_image_or_none(net: nn.Module) -> None:
    x = dense(64)[None].expand(2, -1, -1, -1, -1)
    y = labels(net, x[0])
    shapes = {"reference": (2, 1), "per_image": (2, 64)}
    for option, shape in shapes.items():
        config = make(**PLAIN | {"brightness": option, "num_steps": 0})
        factor = draws_for(x, config).brightness
        assert factor is not None
        assert factor.shape == shape
        assert ((factor >= 1) & (factor < 1.6)).all()
        out = attack_spectrum(net, x, y, Draws(None, factor), config)
        expected = factor[..., None, None, None] * x / x[0].amax()
        assert torch.allclose(out, expected.clamp(max=1), atol=1e-12)
    assert draws_for(x, make(**PLAIN)).brightness is None


def test_epsilon_has_no_effect_and_says_so(net: nn.Module) -> None:
    x = dense(4)
    y, default = labels(net, x), make()
    with pytest.warns(UserWarning, match=r"epsilon=0.9 has no effect") as caught:
        other = make(epsilon=0.9)
    assert caught[0].filename == sada_cases.__file__  # where the method was made
    draws = draws_for(x, default)
    assert torch.equal(
        attack_spectrum(net, x, y, draws, default), attack_spectrum(net, x, y, draws_for(x, other), other)
    )
    with pytest.warns(UserWarning, match="epsilon"):
        make(epsilon=0.9, random_init=False, randominit_type="uniform")
    for read in ({"project": True}, {"randominit_type": "uniform"}, {"randominit_type": "gaussian"}):
        make(epsilon=0.9, **read)  # a warning here would fail the test


@pytest.mark.parametrize("kind", ["normal", "uniform", "gaussian"])
def test_project_bounds_amplitudes_by_epsilon(net: nn.Module, kind: Any) -> None:
    x = dense(4)
    config = make(project=True, epsilon=0.1, randominit_type=kind, tau=9)
    draws, trace = draws_for(x, config), Trace()
    attack_spectrum(net, x, labels(net, x), draws, config, trace=trace)
    centre = decompose(x)[0]
    if kind == "normal":
        centre = initialise(centre, draws.init, kind)
    for amplitude in trace["amplitude"]:
        assert ((amplitude / centre - 1).abs() <= 0.1 + 1e-12).all()
    unbounded = Trace()
    attack_spectrum(net, x, labels(net, x), draws, make(randominit_type=kind, tau=9), trace=unbounded)
    assert ((unbounded["amplitude"][-1] / centre - 1).abs() > 0.11).any()


def test_random_starts() -> None:
    """normal scales DC alone, by 1 to 5; uniform and gaussian scale every bin, and break the symmetry."""
    x = dense(40, size=8)
    amplitude = decompose(x)[0]
    for kind in ("normal", "uniform", "gaussian"):
        config = make(randominit_type=kind)
        ratio = initialise(amplitude, draws_for(x, config).init, kind) / amplitude
        elsewhere = ratio.flatten(-2)[..., 1:]
        if kind == "normal":
            dc = ratio[..., 0, 0]
            assert (elsewhere == 1).all()
            assert ((dc >= 1) & (dc < 5)).all()
            assert float(dc.mean()) == pytest.approx(3, abs=0.4)
        else:
            assert not torch.allclose(elsewhere, elsewhere.flip(-1), atol=1e-3)
            assert float(ratio.mean()) == pytest.approx(1, abs=0.01)
        if kind == "uniform":
            assert float((ratio - 1).abs().max()) == pytest.approx(0.2, abs=1e-3)
        if kind == "gaussian":
            assert float((ratio - 1).std()) == pytest.approx(0.2, rel=0.05)
            assert (ratio >= 0).all()
    off = make(random_init=False)
    assert draws_for(x, off).init is None
    assert torch.equal(initialise(amplitude, None, "normal"), amplitude)


@pytest.mark.parametrize("tau", [0, 1, 2])
def test_reference_stops_the_batch_and_freezes_nobody(net: nn.Module, tau: int) -> None:
    """As released: one right image keeps wrong ones moving; when all are wrong tau times, tau - 1 updates were made."""
    x = dense(3)
    _, trace = ascend(net, x, labels(net, x, wrong=(0, 1)), tau=tau, step_size=0.01)
    moved = log_ratio(trace).abs().amax(dim=(1, 2, 3)) > 0
    assert moved.tolist() == [tau > 0] * 3
    _, trace = ascend(net, x, labels(net, x, wrong=(0, 1, 2)), tau=tau, step_size=0.01)
    assert len(trace["logits"]) == max(1, tau)
    assert len(trace.get("gradient", [])) == max(0, tau - 1)


@pytest.mark.parametrize("tau", [1, 2])
def test_per_sample_freezes_an_image_when_its_budget_is_spent(net: nn.Module, tau: int) -> None:
    x = dense(3)
    y = labels(net, x, wrong=(0, 1))
    _, trace = ascend(net, x, y, tau=tau, early_stop="per_sample", recon_norm="image_max", step_size=0.01)
    for amplitude, image in zip(trace["amplitude"][tau:], trace["image"][tau:], strict=True):
        assert torch.equal(amplitude[:2], trace["amplitude"][tau - 1][:2])
        assert torch.equal(image[:2], trace["image"][tau - 1][:2])
    assert not torch.equal(trace["amplitude"][-1][2], trace["amplitude"][-2][2])
    # batch_max rescales frozen images with the rest of the batch; their amplitudes stay all the same.
    _, trace = ascend(net, x, y, tau=tau, early_stop="per_sample", step_size=0.01)
    assert torch.equal(trace["amplitude"][-1][:2], trace["amplitude"][tau - 1][:2])


@pytest.mark.parametrize("option", ["reference", "per_sample"])
def test_masked_stop_gives_the_same_bits_as_the_break(
    net: nn.Module, option: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = dense(3)
    for wrong in ((), (1,), (0, 1, 2)):
        for tau in (0, 1, 2):
            y = labels(net, x, wrong)
            early, _ = ascend(net, x, y, early_stop=option, tau=tau, step_size=0.05)
            with monkeypatch.context() as patch:
                patch.setattr(spectrum, "stop_is_free", lambda device: False)
                late, trace = ascend(net, x, y, early_stop=option, tau=tau, step_size=0.05)
            assert len(trace["gradient"]) == make().num_steps
            assert torch.equal(early, late)


def test_direction_neg_raises_the_loss_and_pos_lowers_it(net: nn.Module) -> None:
    x = dense(8)
    y = labels(net, x)
    start = F.cross_entropy(net(x / x.amax()), y)
    up, _ = ascend(net, x, y, tau=9)
    down, trace = ascend(net, x, y, tau=9, direction="pos")
    assert F.cross_entropy(net(up), y) > start > F.cross_entropy(net(down), y)
    step = trace["amplitude"][1] / trace["amplitude"][0] - 1
    assert torch.allclose(step, -0.08 * trace["gradient"][0].sign(), atol=1e-12)


def test_kl_ascends_the_divergence_from_the_attacked_image(net: nn.Module) -> None:
    x = dense(4)
    y = labels(net, x)
    p = net(x).softmax(dim=1).detach()

    def divergence(image: Tensor) -> Tensor:
        terms: Tensor = p * (p.log() - net(image).log_softmax(dim=1))
        return terms.sum(dim=1).mean()

    out, trace = ascend(net, x, y, tau=9, criterion="kl")
    amplitude = trace["amplitude"][0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(divergence(recon(amplitude, decompose(x)[1])), amplitude)
    assert torch.allclose(trace["gradient"][0], expected, rtol=1e-9, atol=1e-15)
    assert divergence(out) > 2 * divergence(x / x.amax())
    assert not torch.equal(out, ascend(net, x, y, tau=9)[0])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**16), size=st.sampled_from([31, 32]), steps=st.integers(0, 6))
def test_amplitudes_stay_within_the_compounded_steps(seed: int, size: int, steps: int) -> None:
    """There is no projection: after n steps an amplitude has changed by a factor in [(1 - s w)^n, (1 + s w)^n]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 5)).double()
        x, w = dense(2, size, seed), 1 + torch.rand(size, size, dtype=torch.float64)
    w = (w + w.flip(0, 1).roll((1, 1), (0, 1))) / 2
    out, trace = ascend(linear, x, torch.tensor([0, 1]), num_steps=steps, tau=99, weight=w)
    ratio = trace["amplitude"][-1] / trace["amplitude"][0]
    assert ((ratio >= (1 - 0.08 * w) ** steps - 1e-9) & (ratio <= (1 + 0.08 * w) ** steps + 1e-9)).all()
    assert ((out >= 0) & (out <= 1)).all()


def test_weights_apply_in_fft_layout_and_keep_the_image_real_if_symmetric(net: nn.Module) -> None:
    x = dense(4)
    y = labels(net, x)
    lopsided = 1 + torch.rand(32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    symmetric = (lopsided + lopsided.flip(0, 1).roll((1, 1), (0, 1))) / 2
    _, phasor = decompose(x)
    for w, real in ((symmetric, True), (lopsided, False)):
        _, trace = ascend(net, x, y, tau=9, weight=w)
        imaginary = torch.fft.ifft2(trace["amplitude"][-1] * phasor).imag.abs().max()
        assert bool(imaginary < 1e-12) is real
        step = trace["amplitude"][1] / trace["amplitude"][0] - 1
        assert torch.allclose(step, 0.08 * w * trace["gradient"][0].sign(), atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_attack_leaves_the_network_as_found(training: bool) -> None:
    """The released code forces train mode at exit; ours restores what was there, statistics and flags included."""
    net = batch_norm_net().train(training)
    net[0].eval()
    net.get_parameter("0.weight").requires_grad_(False)
    modes = [module.training for module in net.modules()]
    flags = [parameter.requires_grad for parameter in net.parameters()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = dense(3)
    out, _ = ascend(net, x, torch.tensor([0, 1, 2]), tau=9)
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not out.requires_grad
    # Dropout is off inside: two attacks are one.
    assert torch.equal(out, ascend(net, x, torch.tensor([0, 1, 2]), tau=9)[0])


@pytest.mark.parametrize("criterion", ["ce", "kl"])
def test_passes_are_counted_and_charged_to_the_attack(net: nn.Module, criterion: Any) -> None:
    """The unused clean forward of the released code is skipped; kl uses it."""
    x, meter = dense(4), Meter(torch.device("cpu"))
    y = labels(net, x)
    with meter.running(net):
        ascend(net, x, y, tau=9, criterion=criterion)
    assert (meter.forwards, meter.backwards) == (4 * (5 + (criterion == "kl")), 4 * 5)
    assert meter.read()["attack"] > 0


@pytest.mark.parametrize("option", ["reference", "per_sample"])
@pytest.mark.parametrize("norm", ["batch_max", "image_max"])
def test_views_in_one_pass_equal_separate_calls(option: Any, norm: Any) -> None:
    """Each view keeps its own maximum, brightness and stop: one stops at once, one half-way, one never."""
    net, y, weight = brightness_detector(), torch.zeros(4, dtype=torch.long), torch.full((32, 32), 1.1)
    x = torch.stack([level + 0.1 * (dense(4, seed=v) - 0.5) for v, level in enumerate((0.6, 0.56, 0.1))])
    x[..., 5, 7] = 1
    x[1] *= 0.7
    config = make(early_stop=option, recon_norm=norm, tau=2, randominit_type="uniform")
    draws, together, counts = draws_for(x, config), Trace(), []
    assert draws.init is not None
    assert draws.brightness is not None
    out = attack_spectrum(net, x, y, draws, config, weight=weight, trace=together)
    for v in range(3):
        alone, one = Trace(), Draws(draws.init[v], draws.brightness[v])
        assert torch.allclose(
            out[v], attack_spectrum(net, x[v], y, one, config, weight=weight, trace=alone), atol=1e-12
        )
        for joint, single in zip(together["updated"], alone["updated"], strict=False):
            assert torch.equal(joint[v], single)
        counts.append(len(alone["gradient"]))
    assert counts[0] == 1 < counts[1] < counts[2] == 5


def test_starts_and_brightness_reach_their_ends_and_are_drawn_apart() -> None:
    drawn = draws_for(torch.empty(2, 5000, 3, 1, 1), make(brightness="per_image"))
    assert drawn.init is not None
    assert drawn.brightness is not None
    start, factor = drawn.init.flatten(0, 1), drawn.brightness.flatten()
    for part, low, high in ((start, 0, 1), (factor, 1, 1.6)):
        assert [part.min().item(), part.max().item()] == pytest.approx([low, high], abs=2e-3)
    parts = torch.cat([start.T, factor[None]])
    torch.testing.assert_close(torch.corrcoef(parts), torch.eye(4), rtol=0, atol=0.05)
