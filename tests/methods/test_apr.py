"""APR: both recombinations against a reference in NumPy and float64 from the formulas, the coins, and the step."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.method import Method, Rng
from benchmark.networks.classifiers import Classifier
from benchmark.ops.augmix import NINE, apply_op, sample_mix
from benchmark.ops.fourier_recombination import recombine, to_bytes
from tests.making import Given, made

B = 6
Y = torch.arange(B) % 4
make = partial(made, "apr")


def images(seed: int = 0, size: int = 32, dtype: torch.dtype = torch.float64) -> Tensor:
    """Smooth colour images, whole bytes in units of 1."""
    x = torch.rand(B, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(x, scale_factor=4, mode="bilinear") * 255).round().to(dtype) / 255


def views(method: Method, x: Tensor, rng: Rng | None = None) -> list[Tensor]:
    return method.views(nn.Identity(), x, Y, rng or Rng(0), {})


def reference(amplitude_of: Any, phase_of: Any) -> Any:
    """Of one image: [C,H,W] or [H,W,C]."""
    amplitude, phase = np.abs(np.fft.fftn(amplitude_of)), np.angle(np.fft.fftn(phase_of))
    return np.real(np.fft.ifftn(amplitude * (np.cos(phase) + 1j * np.sin(phase))))


def cross_entropy(net: nn.Module, x: Tensor) -> float:
    z = net(x).detach().numpy()
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(B), Y.numpy()]))


# APR-P.


def test_apr_p_is_the_reference(net: nn.Module) -> None:
    x, order = images(), torch.tensor([3, 0, 5, 1, 4, 2])
    wanted = torch.tensor(np.stack([reference(x[order[i]].numpy(), x[i].numpy()) for i in range(B)]))
    rng = Given(draws={"permutation": order, "pair": torch.tensor([0.59])})
    (found,) = views(make(), x, rng)
    loss = make(lam=0.7).loss(net, x, Y, rng, {})
    deviation = (found - wanted).abs().max().item()
    assert deviation < 1e-13
    assert abs(loss.item() - cross_entropy(net, x) - 0.7 * cross_entropy(net, wanted)) < 1e-12
    single = views(make(), x.float(), rng)[0]
    assert (single - wanted).abs().max() < 1e-5
    assert not torch.allclose(found, x, atol=0.1)


def test_the_result_has_the_amplitudes_of_one_and_the_phases_of_the_other() -> None:
    a, b = images(0), images(1)
    spectrum, amplitude = torch.fft.fftn(recombine(a, b), dim=(1, 2, 3)), torch.fft.fftn(a, dim=(1, 2, 3)).abs()
    torch.testing.assert_close(spectrum.abs(), amplitude, rtol=1e-9, atol=1e-9)
    phase = torch.fft.fftn(b, dim=(1, 2, 3))
    turned = spectrum * phase.conj()
    torch.testing.assert_close(turned.real, amplitude * phase.abs(), rtol=1e-9, atol=1e-7)


def test_identities_of_the_recombination() -> None:
    a, b = images(0), images(1)
    torch.testing.assert_close(recombine(a, a), a, rtol=0, atol=1e-13)
    torch.testing.assert_close(recombine(3 * a, a), 3 * a, rtol=0, atol=1e-13)
    mixed = recombine(a, b)
    torch.testing.assert_close(
        recombine(a.roll((5, 9), (2, 3)), b), mixed, rtol=0, atol=1e-12
    )  # amplitudes have no place
    torch.testing.assert_close(recombine(a, 0.2 * b), mixed, rtol=0, atol=1e-12)  # no contrast in phases
    torch.testing.assert_close(recombine(a, b.roll(4, 3)), mixed.roll(4, 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(recombine(a, b.roll(1, 1)), mixed.roll(1, 1), rtol=0, atol=1e-12)  # over channels, too


def test_each_image_lends_its_amplitudes_once() -> None:
    """At frequency zero the amplitude is the sum of an image."""
    x = images()
    (found,) = views(make(p=1), x)
    sums = x.sum((1, 2, 3))
    torch.testing.assert_close(found.sum((1, 2, 3)).sort().values, sums.sort().values, rtol=1e-12, atol=1e-9)
    assert not torch.allclose(found.sum((1, 2, 3)), sums)


def test_the_coin_is_one_for_the_batch() -> None:
    x, heads = images(size=8), 0
    for step in range(400):
        (view,) = views(make(), x, Rng(0, step))
        same = (view == x).flatten(1).all(dim=1)
        fixed = torch.arange(B) == Rng(0, step).draw("permutation", torch.randperm, B)
        heads += int(not same.all())
        assert same.all() or not same[~fixed].any()
    assert 0.53 < heads / 400 < 0.67  # 0.6, within three deviations


def test_without_its_coin_the_image_counts_twice(net: nn.Module) -> None:
    x = images()
    assert make(p=0).loss(net, x, Y, Rng(0), {}).item() == pytest.approx(2 * cross_entropy(net, x), rel=1e-12)
    assert make(p=0, lam=0.5).loss(net, x, Y, Rng(0), {}).item() == pytest.approx(
        1.5 * cross_entropy(net, x), rel=1e-12
    )


# APR-S.


@pytest.mark.parametrize("overflow", ["wrap", "clip"])
def test_apr_s_is_the_reference(overflow: str, net: nn.Module) -> None:
    """But where the reference is a whole number to the last digits: there a byte more or less is round-off."""
    x = images()
    ops = sample_mix(B, torch.Generator().manual_seed(3), ops=NINE, severity=10, width=1, depth=2)
    coins = torch.tensor([[0.1, 0.49, 0.2, 0.51, 0.3, 0.4], [0.2, 0.6, 0.7, 0.1, 0.49, 0.51]])
    (found,) = views(make(form="S", overflow=overflow), x, Given(draws={"operations": ops, "single": coins}))
    wrapped = 0
    wanted = torch.empty_like(x)
    for i in range(B):
        slots = [(part[i : i + 1, 0, j]) for j in (0, 1) for part in (ops.op, ops.level, ops.sign)]
        u = apply_op((x[i : i + 1] * 255).round().to(torch.uint8), *slots[:3])
        v = apply_op(u, *slots[3:])
        bytes_u, bytes_v = (z[0].permute(1, 2, 0).numpy().astype(float) for z in (u, v))  # H, W, C
        if coins[0, i] >= 0.5:
            wanted[i] = u[0].double() / 255
            continue
        value = reference(bytes_v, bytes_u) if coins[1, i] < 0.5 else reference(bytes_u, bytes_v)
        cut = np.trunc(value).astype(np.int64)
        wrapped += int(((cut < 0) | (cut > 255)).sum())
        cut = cut % 256 if overflow == "wrap" else np.clip(cut, 0, 255)
        mine = (found[i] * 255).round().permute(1, 2, 0).numpy()
        close = np.abs(value - np.round(value)) < 1e-9
        assert (np.isin(np.abs(mine - cut), (0, 1, 255)) | ~close).all()
        wanted[i] = torch.tensor(np.where(close, mine, cut) / 255).permute(2, 0, 1)
    assert wrapped > 100, "no byte leaves its range: wrap and clip are not told apart"
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    loss = make(form="S", overflow=overflow).loss(net, x, Y, Given(draws={"operations": ops, "single": coins}), {})
    assert loss.item() == pytest.approx(cross_entropy(net, wanted), rel=1e-9)


def test_bytes_are_cut_and_wrapped_or_clipped() -> None:
    value = torch.tensor([-257.5, -1.2, -0.9, 0.9, 255.9, 256.0, 300.7], dtype=torch.float64)
    assert to_bytes(value, "wrap").tolist() == [255, 255, 0, 0, 255, 0, 44]
    assert to_bytes(value, "clip").tolist() == [0, 0, 0, 0, 255, 255, 255]


def test_the_first_operation_is_always_applied_and_the_second_by_chance() -> None:
    x = images(dtype=torch.float32)
    ops = Rng(0).draw("operations", sample_mix, B, ops=NINE, severity=3.0, width=1, depth=2)
    first = [part[:, 0, 0] for part in (ops.op, ops.level, ops.sign)]
    once = apply_op((x * 255).round().to(torch.uint8), *first).float() / 255
    never, always = (views(make(form="S", p_single=chance), x)[0] for chance in (0, 1))
    assert torch.equal(never, once)
    assert (always != once).flatten(1).any(dim=1).sum() >= 4
    stronger = views(make(form="S", p_single=0, severity=10), x)[0]
    assert not torch.equal(stronger, never)


def test_sp_recombines_what_s_makes(net: nn.Module) -> None:
    x, order = images(), torch.tensor([3, 0, 5, 1, 4, 2])
    ops = Rng(0).draw("operations", sample_mix, B, ops=NINE, severity=3.0, width=1, depth=2)
    single = Rng(0).draw("single", torch.rand, (2, B))
    rng = Given(draws={"operations": ops, "single": single, "permutation": order, "pair": torch.tensor([0.0])})
    (u,) = views(make(form="S"), x, rng)
    pair, own = views(make(form="SP"), x, rng)
    assert torch.equal(own, u)
    wanted = torch.tensor(np.stack([reference(u[order[i]].numpy(), u[i].numpy()) for i in range(B)]))
    torch.testing.assert_close(pair, wanted, rtol=0, atol=1e-12)
    loss = make(form="SP").loss(net, x, Y, rng, {}).item()
    assert loss == pytest.approx(cross_entropy(net, u) + cross_entropy(net, wanted), rel=1e-12)


# The step.


@pytest.mark.parametrize(
    ("settings", "batches"), [({}, 1), ({"bn_batching": "separate"}, 2), ({"form": "SP"}, 1), ({"form": "S"}, 1)]
)
def test_batch_norm_sees_both_halves_as_one_batch(settings: dict[str, Any], batches: int) -> None:
    norm, trunk = nn.BatchNorm2d(4, momentum=None), nn.Sequential()
    trunk.extend([norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    net = Classifier(nn.Conv2d(3, 4, 3), trunk, nn.Linear(4, 4), 0.5, 0.5)
    seen: list[int] = []
    hook = norm.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    make(**settings).loss(net, images(dtype=torch.float32), Y, Rng(0), {}).backward()
    hook.remove()
    assert norm.num_batches_tracked == len(seen) == batches
    assert sum(seen) == (B if settings.get("form") == "S" else 2 * B)


def test_operations_are_those_that_move_pixels() -> None:
    assert make().operations() == ()
    assert make(form="S").operations() == make(form="SP").operations() == NINE
