"""SADA's attack against the numbers of the released code."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark import networks
from benchmark.ops.attacks.spectrum import Draws, Trace, attack_spectrum
from tests.conftest import Golden, golden_cases, golden_net
from tests.methods.sada_cases import DTYPES, PLAIN, make, unit_images


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
    return attack_spectrum(net, x, y, draws, config, weight=w, trace=trace), trace, net, x


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
        allowed = 2e-3 if name.endswith("logits") else tolerance
        torch.testing.assert_close(deviation, 0.0, rtol=0, atol=allowed, msg=f"{name}: {deviation}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_parity_odd_size_and_map_layout(golden: Any, dtype: torch.dtype) -> None:
    """The original multiplies the centred 31x31 map without a shift, which only a 31x31 image lets it do."""
    arrays = golden("sada_attack")
    x, w = unit_images(arrays, "img31/images_u16").to(dtype), torch.from_numpy(arrays["map31_centred"])
    y, net = torch.from_numpy(arrays["img31/labels"]).long(), golden_net(arrays, "img31/net.").to(dtype)
    trace: Trace = {}
    draws = Draws(None, torch.tensor([float(arrays["img31/brightness_factor"])], dtype=dtype))
    attack_spectrum(net, x, y, draws, make(random_init=False), weight=w, trace=trace)
    assert sum(bool(updated.any()) for updated in trace["updated"]) == int(arrays["img31/n_updates"])
    amplitude = torch.stack(trace["amplitude"])
    ratio = (amplitude[1] / amplitude[0])[0, :1].float()
    assert torch.allclose(ratio, torch.from_numpy(arrays["img31/amp_ratio_step1_s0"]), rtol=0, atol=1e-5)
    assert torch.allclose((ratio[0] - 1).abs(), 0.08 * w, rtol=0, atol=1e-5)
    theirs = torch.from_numpy(arrays["img31/amp_sum"]).to(dtype)
    assert torch.allclose(amplitude.sum(dim=(2, 3, 4)), theirs, rtol=1e-5, atol=0)
    theirs = torch.from_numpy(arrays["img31/final_pre_brightness"]).to(dtype)
    assert torch.allclose(trace["image"][-1][:1, :1], theirs, rtol=0, atol=1e-5)


def test_parity_weight_none_is_a_map_of_ones() -> None:
    x, y = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    net, plain = networks.build("digits_convnet", 10, seed=0), Draws(None, None)
    config = make(**PLAIN)
    without = attack_spectrum(net, x, y, plain, config)
    assert torch.equal(without, attack_spectrum(net, x, y, plain, config, weight=torch.ones(x.shape[-2:])))
