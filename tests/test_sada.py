"""SADA: the amplitude attack against the original's numbers, each released quirk and each alternative, and the loss."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import sensitivity, spectrum
from benchmark.consistency import jensen_shannon
from benchmark.errors import UsageError
from benchmark.kernels.spectrum_step import Norm
from benchmark.method import Rng, Source
from benchmark.networks import build, mini_convnet
from benchmark.spec import Images
from benchmark.spectrum import AmplitudeAttack, Draws, Trace, attack, decompose, initialise, recon, sample_draws
from benchmark.timing import Meter
from tests.conftest import Golden, golden_cases, golden_net

sada = importlib.import_module("benchmark.methods.sada")
DTYPES = [torch.float32, torch.float64]
PLAIN = {"random_init": False, "brightness": "off"}
"""No random number: five steps of ascent, and nothing else."""
NONE = Draws(None, None)


def make(**options: Any) -> AmplitudeAttack:
    made: AmplitudeAttack = cast("Any", AmplitudeAttack)(**options)
    return made


def unit_images(arrays: Golden, name: str) -> Tensor:
    return torch.from_numpy((arrays[name].astype(np.float64) / 65535).astype(np.float32))


def replay(arrays: Golden, case: str, dtype: torch.dtype) -> tuple[Tensor, Trace, nn.Module, Tensor]:
    """Our attack on a golden case with its injected draws: (final images, trace, network, input)."""
    epsilon, step_size, num_steps, tau = (float(value) for value in arrays[f"{case}/config"])
    named = json.loads(str(arrays[f"{case}/config_json"]))
    weight = named.pop("weight_map")
    config = make(
        epsilon=round(epsilon, 6), step_size=round(step_size, 6), num_steps=int(num_steps), tau=int(tau), **named,
        early_stop="per_sample" if case.endswith("_fixedfreeze") else "reference",
    )  # fmt: skip
    x = unit_images(arrays, "images_u16").to(dtype)
    y = torch.from_numpy(arrays.get(f"{case}/labels", arrays["labels"])).long()
    draws = Draws(
        torch.from_numpy(arrays[f"{case}/draw"]).to(dtype) if config.random_init else None,
        torch.tensor([float(arrays[f"{case}/brightness_factor"])], dtype=dtype),
    )
    net = golden_net(arrays).to(dtype)
    w = None if weight == "ones" else torch.from_numpy(arrays[weight])
    trace: Trace = {}
    return attack(net, x, y, draws, config, weight=w, trace=trace), trace, net, x


def pick(stacked: Tensor, like: np.ndarray[Any, Any], kept: np.ndarray[Any, Any]) -> Tensor:
    """The part of [B,C,H,W] that a `_kept` array of shape [k,c,H,W] holds: all channels, or channel 1."""
    samples, channels = like.shape[:2]
    chosen = stacked[torch.from_numpy(kept[:samples]).long()]
    return chosen if channels == 3 else chosen[:, 1:2]


def deviations(arrays: Golden, case: str, dtype: torch.dtype) -> dict[str, float]:
    """Largest deviation from the original by array family, absolute; for amplitudes and gradients, of their largest."""
    final, trace, net, x = replay(arrays, case, dtype)
    kept, passes = arrays["kept"], len(trace["logits"])
    images, amplitudes = torch.stack(trace["image"]), torch.stack(trace["amplitude"])
    found = {
        "clean_logits": net(x),
        "step_logits": torch.stack(trace["logits"]),
        "step_image_mean": images.mean(dim=(2, 3, 4)),
        "step_image_sqmean": (images**2).mean(dim=(2, 3, 4)),
        "amp_sum": amplitudes.sum(dim=(2, 3, 4)),
        "amp_init_kept": pick(amplitudes[0], arrays[f"{case}/amp_init_kept"], kept),
        "amp_final_kept": pick(amplitudes[-1], arrays[f"{case}/amp_final_kept"], kept),
        "final_pre_brightness_kept": pick(images[-1], arrays[f"{case}/final_pre_brightness_kept"], kept),
        "final_kept": pick(final, arrays[f"{case}/final_kept"], kept),
    }
    stored = arrays[f"{case}/step_images_kept"]
    if stored.shape[2] == 2:
        found["step_images_kept"] = images[:passes, kept[:1], :2]
    elif len(stored):
        found["step_images_kept"] = images[3:4, kept[:1], 1:2]
    if f"{case}/grad_first_kept" in arrays:
        found["grad_first_kept"] = trace["gradient"][0][kept[:1]]
    result = {}
    for name, ours in found.items():
        theirs = torch.from_numpy(arrays[f"{case}/{name}"])
        assert ours.shape == theirs.shape, name
        scale = float(theirs.abs().max()) if name.startswith(("amp", "grad")) else 1.0
        result[name] = float((ours.detach().double() - theirs.double()).abs().max()) / scale
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", golden_cases("sada_attack"))
def test_parity_attack(golden: Any, case: str, dtype: torch.dtype) -> None:
    arrays = golden("sada_attack")
    conditioning = float(arrays[f"{case}/f32_vs_f64_maxabs_final"])
    tolerance = 10 * conditioning if conditioning > 1e-6 else 1e-5
    _, trace, _, _ = replay(arrays, case, dtype)
    assert int(torch.stack(trace["updated"]).any(dim=1).sum()) == int(arrays[f"{case}/n_updates"])
    assert torch.equal(torch.stack(trace["wrong"]), torch.from_numpy(arrays[f"{case}/misclassified"]).bool())
    for name, deviation in deviations(arrays, case, dtype).items():
        assert deviation <= (2e-3 if name.endswith("logits") else tolerance), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_parity_odd_size_and_map_layout(golden: Any, dtype: torch.dtype) -> None:
    """The original multiplies the centred 31x31 map without a shift, which only a 31x31 image lets it do."""
    arrays = golden("sada_attack")
    x, w = unit_images(arrays, "img31/images_u16").to(dtype), torch.from_numpy(arrays["map31_centred"])
    y, net = torch.from_numpy(arrays["img31/labels"]).long(), golden_net(arrays, "img31/net.").to(dtype)
    trace: Trace = {}
    draws = Draws(None, torch.tensor([float(arrays["img31/brightness_factor"])], dtype=dtype))
    attack(net, x, y, draws, make(random_init=False), weight=w, trace=trace)
    assert sum(bool(updated.any()) for updated in trace["updated"]) == int(arrays["img31/n_updates"])
    amplitude = torch.stack(trace["amplitude"])
    ratio = (amplitude[1] / amplitude[0])[0, :1].float()
    assert torch.allclose(ratio, torch.from_numpy(arrays["img31/amp_ratio_step1_s0"]), rtol=0, atol=1e-5)
    assert torch.allclose((ratio[0] - 1).abs(), 0.08 * w, rtol=0, atol=1e-5)
    theirs = torch.from_numpy(arrays["img31/amp_sum"]).to(dtype)
    assert torch.allclose(amplitude.sum(dim=(2, 3, 4)), theirs, rtol=1e-5, atol=0)
    theirs = torch.from_numpy(arrays["img31/final_pre_brightness"]).to(dtype)
    assert torch.allclose(trace["image"][-1][:1, :1], theirs, rtol=0, atol=1e-5)


def test_parity_weight_none_is_a_map_of_ones(golden: Any) -> None:
    arrays = golden("sada_attack")
    x, y = unit_images(arrays, "images_u16"), torch.from_numpy(arrays["labels"]).long()
    net, plain = golden_net(arrays), Draws(None, None)
    config = make(**PLAIN)
    without = attack(net, x, y, plain, config)
    assert torch.equal(without, attack(net, x, y, plain, config, weight=torch.ones(x.shape[-2:])))


# Below: quirks and alternatives, on dense float64 images. With black backgrounds signs of gradients are round-off.


def dense(batch: int, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.8 * torch.rand(batch, 3, size, size, generator=generator, dtype=torch.float64)


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mini_convnet(10).double()


def labels(net: nn.Module, x: Tensor, wrong: tuple[int, ...] = ()) -> Tensor:
    """What the network says of the first image that the attack shows it (no random start), or something else."""
    y: Tensor = net(recon(*decompose(x))).argmax(dim=1)
    y[list(wrong)] = (y[list(wrong)] + 1) % 10
    return y


def draws_for(x: Tensor, config: AmplitudeAttack, seed: int = 1) -> Draws:
    return sample_draws(x.shape, torch.Generator().manual_seed(seed), config)


def ascend(net: nn.Module, x: Tensor, y: Tensor, weight: Tensor | None = None, **options: Any) -> tuple[Tensor, Trace]:
    trace: Trace = {}
    return attack(net, x, y, NONE, make(**PLAIN | options), weight=weight, trace=trace), trace


def log_ratio(trace: Trace) -> Tensor:
    return (trace["amplitude"][-1] / trace["amplitude"][0]).log()


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
        out = attack(net, x, y, Draws(None, factor), config)
        expected = factor[..., None, None, None] * x / x[0].amax()
        assert torch.allclose(out, expected.clamp(max=1), atol=1e-12)
    assert draws_for(x, make(**PLAIN)).brightness is None


def test_epsilon_has_no_effect_and_says_so(net: nn.Module) -> None:
    x = dense(4)
    y, default = labels(net, x), make()
    with pytest.warns(UserWarning, match=r"epsilon=0.9 has no effect") as caught:
        other = make(epsilon=0.9)
    assert caught[0].filename == __file__
    draws = draws_for(x, default)
    assert torch.equal(attack(net, x, y, draws, default), attack(net, x, y, draws_for(x, other), other))
    with pytest.warns(UserWarning, match="epsilon"):
        make(epsilon=0.9, random_init=False, randominit_type="uniform")
    for read in ({"project": True}, {"randominit_type": "uniform"}, {"randominit_type": "gaussian"}):
        make(epsilon=0.9, **read)  # a warning here would fail the test


@pytest.mark.parametrize("kind", ["normal", "uniform", "gaussian"])
def test_project_bounds_amplitudes_by_epsilon(net: nn.Module, kind: Any) -> None:
    x = dense(4)
    config = make(project=True, epsilon=0.1, randominit_type=kind, tau=9)
    draws, trace = draws_for(x, config), Trace()
    attack(net, x, labels(net, x), draws, config, trace=trace)
    centre = decompose(x)[0]
    if kind == "normal":
        centre = initialise(centre, draws.init, kind)
    for amplitude in trace["amplitude"]:
        assert ((amplitude / centre - 1).abs() <= 0.1 + 1e-12).all()
    unbounded = Trace()
    attack(net, x, labels(net, x), draws, make(randominit_type=kind, tau=9), trace=unbounded)
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


def batch_norm_net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 784, 10)
        return nn.Sequential(*parts).double()


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


def brightness_detector() -> nn.Module:
    """Two classes: 1 where an image's mean exceeds a half, and a little noise in its weights."""
    linear = nn.Linear(3 * 32 * 32, 2).double()
    noise = torch.randn(3 * 32 * 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([0 * noise, 1 / (3 * 32 * 32) + 1e-4 * noise]))
        linear.bias.copy_(torch.tensor([0.0, -0.5]))
    return nn.Sequential(nn.Flatten(), linear)


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
    out = attack(net, x, y, draws, config, weight=weight, trace=together)
    for v in range(3):
        alone, one = Trace(), Draws(draws.init[v], draws.brightness[v])
        assert torch.allclose(out[v], attack(net, x[v], y, one, config, weight=weight, trace=alone), atol=1e-12)
        for joint, single in zip(together["updated"], alone["updated"], strict=False):
            assert torch.equal(joint[v], single)
        counts.append(len(alone["gradient"]))
    assert counts[0] == 1 < counts[1] < counts[2] == 5


# The method.


class Recorder:
    """Notes each call of the function that it stands for."""

    def __init__(self, function: Any):
        self.function = function
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls.append((args, options))
        return self.function(*args, **options)


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(attack)
    monkeypatch.setattr(sada, "attack", recorder)
    return recorder


def batch(size: int = 4) -> tuple[Tensor, Tensor]:
    return dense(size).float(), torch.arange(size) % 10


def small_source(net: nn.Module, fit_erm: Any, count: int = 6) -> Source:
    images = Images((dense(count) * 255).to(torch.uint8), torch.arange(count) % 10)
    return Source(images, images[:4], count, 2, fit_erm)


UNWEIGHTED = sada.Method(weight_map="none")
MINI = "mini_convnet"


@pytest.mark.parametrize(("step", "lam", "calls"), [(0, 10.0, 0), (1403, 10.0, 0), (1404, 0.025, 1), (11699, 0.025, 1)])
def test_loss_switches_after_six_of_fifty_epochs(step: int, lam: float, calls: int, attacks: Recorder) -> None:
    """lambda 10 on plain AugMix views, then 0.025 on attacked ones; cross-entropy on the clean images only."""
    net, (x, y) = build(MINI, 10, 0), batch()
    rng = Rng(41, step, step / 11700)
    loss = UNWEIGHTED.loss(net, x, y, rng, {})
    assert len(attacks.calls) == calls
    plain = UNWEIGHTED.views(net, x, y, replace(rng, progress=0.0), {})
    views = plain
    if calls:
        (_, start, labels_given, draws, config), options = attacks.calls[0]
        assert torch.equal(start, torch.stack(plain))
        assert torch.equal(labels_given, y)
        assert config is UNWEIGHTED
        assert options == {"weight": None}
        views = [attack(net, plain[v], y, Draws(draws.init[v], draws.brightness[v]), make()) for v in range(3)]
    o = [net(image) for image in [x, *views]]
    expected = F.cross_entropy(o[0], y) + lam * jensen_shannon(*o)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_views_are_what_the_loss_trains_on(attacks: Recorder) -> None:
    net, (x, y) = build(MINI, 10, 0), batch()
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    before, rng = x.clone(), Rng(0, 5, 0.5)
    UNWEIGHTED.loss(net, x, y, rng, {})
    trained_on = seen[-1]
    views = UNWEIGHTED.views(net, x, y, rng, {})
    assert torch.equal(trained_on, torch.cat([x, *views]))
    assert torch.equal(x, before)
    assert net.training
    assert len({float(view.sum()) for view in views}) == UNWEIGHTED.n_views
    for view in views:
        assert view.shape == x.shape
        assert ((view >= 0) & (view <= 1)).all()
        assert not view.requires_grad


@pytest.mark.parametrize(("bn_batching", "sizes"), [("separate", [4, 4, 4, 4]), ("joint", [16])])
def test_forward_passes_with_batch_norm(bn_batching: Any, sizes: list[int]) -> None:
    net, (x, y), seen = batch_norm_net().float(), batch(), []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    method = sada.Method(weight_map="none", bn_batching=bn_batching)
    method.loss(net, x, y, Rng(0, 0, 0.0), {})
    assert [len(images) for images in seen] == sizes
    assert torch.equal(seen[0][:4], x)
    assert int(net.get_buffer("1.num_batches_tracked")) == len(sizes)


def test_base_clean_attacks_the_source_images(attacks: Recorder) -> None:
    net, (x, y) = build(MINI, 10, 0), batch()
    views = sada.Method(weight_map="none", base="clean").views(net, x, y, Rng(0, 5, 0.5), {})
    (_, start, *_), _ = attacks.calls[0]
    assert torch.equal(start, torch.stack([x, x, x]))
    assert not torch.equal(views[0], views[1])


def test_without_consistency_it_is_erm(attacks: Recorder) -> None:
    net, (x, y) = build(MINI, 10, 0), batch()
    method = sada.Method(weight_map="none", lam=0, lam_warmup=0)
    for progress in (0.0, 0.5):
        assert torch.equal(method.loss(net, x, y, Rng(0, 0, progress), {}), F.cross_entropy(net(x), y))
    assert not attacks.calls


def test_setup_maps_an_erm_model_and_leaves_the_network_alone(attacks: Recorder) -> None:
    net, meter = build(MINI, 10, 0), Meter(torch.device("cpu"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fitted: list[nn.Module] = []

    def fit_erm(helper: nn.Module, rng: Rng) -> None:
        fitted.append(helper)
        assert all(torch.equal(value, before[name]) for name, value in helper.state_dict().items())
        with torch.no_grad():
            helper.get_parameter("head.bias")[3] += 0.1

    source, rng = small_source(net, fit_erm), Rng(7)
    with meter.running(net):
        state = sada.Method(map_images=2).setup(net, source, rng)
    assert meter.forwards == 0
    assert fitted[0] is not net
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    expected = sensitivity.measure(fitted[0], source.val, seed=7, limit=2).error
    assert torch.equal(state["w"], 1 + expected)
    x, y = batch()
    sada.Method().views(net, x, y, Rng(0, 0, 0.5), state)
    assert attacks.calls[0][1]["weight"] is state["w"]


def test_setup_without_a_map_does_nothing() -> None:
    net, fit_erm = build(MINI, 10, 0), Recorder(lambda helper, rng: None)
    assert UNWEIGHTED.setup(net, small_source(net, fit_erm), Rng(0)) == {}
    assert not fit_erm.calls


def test_setup_refuses_an_asymmetric_map(monkeypatch: pytest.MonkeyPatch) -> None:
    lopsided = sensitivity.SensitivityMap(torch.arange(1024.0).view(32, 32) / 1024, 0.0, 4, 8.0, 0)
    monkeypatch.setattr(sada, "measure", lambda *args, **options: lopsided)
    net = build(MINI, 10, 0)
    with pytest.raises(ValueError, match="symmetr"):
        sada.Method().setup(net, small_source(net, lambda helper, rng: None), Rng(0))


def test_setup_reads_a_centred_map(tmp_path: Path) -> None:
    """A peak right of the centre belongs at [0,1] and, mirrored, at [0,-1] of the fft2 layout."""
    centred = np.zeros((31, 31), dtype=np.float32)
    centred[15, 15], centred[15, 16], centred[15, 14] = 0.9, 0.6, 0.4
    np.save(tmp_path / "map.npy", centred)
    net = build(MINI, 10, 0)
    source = small_source(net, lambda helper, rng: None)
    w = sada.Method(weight_map=str(tmp_path / "map.npy")).setup(net, source, Rng(0))["w"]
    assert w.shape == (32, 32)
    assert [round(float(w[at]), 6) for at in ((0, 0), (0, 1), (0, -1), (1, 0), (16, 16))] == [1.9, 1.5, 1.5, 1, 1]


SHAPES = [np.zeros((30, 30)), np.zeros((31, 29)), np.zeros(31), np.float64(0)]
VALUES = [np.full((31, 31), 1.5), np.full((31, 31), np.nan), np.full((31, 31), "a")]


@pytest.mark.parametrize("content", [None, b"not a map", *SHAPES, *VALUES])
def test_a_bad_map_file_is_a_usage_error(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    net = build(MINI, 10, 0)
    with pytest.raises(UsageError, match=r"sada\.weight_map"):
        sada.Method(weight_map=str(path)).setup(net, small_source(net, lambda helper, rng: None), Rng(0))


def test_settings_are_json_and_name_the_released_flags() -> None:
    method = sada.Method()
    stored = json.loads(json.dumps(method.settings()))
    assert sada.Method(**stored) == method
    flags = {
        "epsilon": 0.2, "step_size": 0.08, "num_steps": 5, "tau": 1, "random_init": True, "randominit_type": "normal",
        "criterion": "ce", "direction": "neg",
    }  # fmt: skip
    assert flags.items() <= stored.items()
    assert stored["weight_map"] == "erm"
    with pytest.warns(UserWarning, match="epsilon=0.5 has no effect"):
        sada.Method(epsilon=0.5)


@pytest.mark.parametrize(
    "bad",
    [{"epsilon": -0.1}, {"num_steps": -1}, {"direction": "up"}, {"severity": 0.05}, {"ops": ["blur"]}, {"eps": 1}],
)
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        sada.Method(**bad)
