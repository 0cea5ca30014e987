"""M-ADA's autoencoder: its losses, its updates, its weights."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.images import Images
from benchmark.ops import autoencoder as wae
from tests.conftest import Golden
from tests.methods.mada_cases import SMALL, golden_critic, golden_wae, mada, toy_images


def test_parity_log_density(golden: Callable[[str], Golden]) -> None:
    """The goldens also hold other variances v: log N(z; 0, vI) = log N(z/sqrt(v); 0, I) - d/2 log v."""
    arrays = golden("mada")
    cases = [key.removesuffix("/log_density") for key in arrays if key.endswith("/log_density")]
    assert cases
    for case in cases:
        z, v = torch.tensor(arrays[f"{case}/z"]), float(arrays[f"{case}/z_var"])
        ours = wae.log_density(z / math.sqrt(v)) - z.shape[1] / 2 * math.log(v)
        assert torch.allclose(ours, torch.tensor(arrays[f"{case}/log_density"]), rtol=1e-5, atol=0)


def test_parity_autoencoder_losses(golden: Callable[[str], Golden]) -> None:
    """The four terms of the first batch, with the released prior density in both logits."""
    arrays = golden("mada")
    autoencoder, critic = golden_wae(arrays), golden_critic(arrays)
    x, z = torch.tensor(arrays["wae_train/images"]).float() / 255, torch.tensor(arrays["wae_train/z"])
    with torch.no_grad():
        lp, code = wae.log_density(z), autoencoder.encoder(x)
        terms = {
            "D_real": wae.adversarial_loss(critic, z, lp, 1.0),
            "D_fake": wae.adversarial_loss(critic, code, lp, 0.0),
            "recon_bce_sum": wae.reconstruction_loss(autoencoder(x), x),
            "Q": wae.adversarial_loss(critic, code, lp, 1.0),
        }
    for name, theirs in zip(arrays["wae_train/term_names"], arrays["wae_train/terms"], strict=True):
        torch.testing.assert_close(float(terms[str(name)]), float(theirs), rtol=1e-5, atol=0, msg=str(name))


@pytest.mark.parametrize("prior", ["both", "sampled"])
@pytest.mark.parametrize("grad", ["standard", "literal"])
def test_one_update_follows_the_losses(grad: str, prior: str) -> None:
    """With plain gradient descent of rate 1 the change of each weight is minus its gradient: literal adds those of L_D
    and L_E at the same D; standard trains D first, on detached codes, and the encoder against the new D."""
    fields = mada.Method(
        batch=6, wae_hidden=4, wae_code=2, wae_critic=3, wae_weight=0.7, wae_grad=grad, wae_prior=prior
    )
    generator = torch.Generator().manual_seed(2)
    autoencoder, critic = (
        wae.Wae(12, 4, 2).double(),
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double(),
    )
    for module in (autoencoder, critic):
        wae.initialise(module, generator)
    x, z = torch.rand(6, 3, 2, 2, generator=generator).double(), torch.randn(6, 2, generator=generator).double()
    inner, outer = list(critic.parameters()), list(autoencoder.parameters())
    before, before_critic = ([p.detach().clone() for p in params] for params in (outer, inner))
    lp = -0.5 * z.square().sum(dim=1) - math.log(2 * math.pi)
    shift = lp if prior == "both" else torch.zeros(6)

    def losses() -> tuple[Tensor, Tensor]:
        code = autoencoder.encoder(x)
        real, fake = critic(z)[:, 0] + lp, critic(code)[:, 0] + shift
        l_d = 0.7 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        recon = F.binary_cross_entropy(autoencoder(x), x, reduction="sum")
        return l_d, recon + 0.7 * F.softplus(-fake).mean()

    l_d, l_e = losses()
    of_critic = torch.autograd.grad(l_d, inner, retain_graph=True)
    if grad == "literal":
        expected = torch.autograd.grad(l_d + l_e, outer)
    else:
        for p, g in zip(inner, of_critic, strict=True):
            p.data -= g
        expected = torch.autograd.grad(losses()[1], outer)
        for p, old in zip(inner, before_critic, strict=True):
            p.data.copy_(old)
    sgd = torch.optim.SGD(outer, 1.0), torch.optim.SGD(inner, 1.0)
    wae.update((autoencoder, critic), sgd, x, z, fields)
    for trained, start, slopes in ((outer, before, expected), (inner, before_critic, of_critic)):
        for p, was, g in zip(trained, start, slopes, strict=True):
            assert torch.allclose(was - p.detach(), g, rtol=0, atol=1e-12)


def test_it_learns_to_reconstruct() -> None:
    """Images of two patterns in noise: trained reconstructions are near the patterns, untrained ones are not."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.rand(2, 3, 8, 8, generator=generator)
    which = torch.randint(0, 2, (64,), generator=generator)
    x = (patterns[which] + 0.05 * torch.randn(64, 3, 8, 8, generator=generator)).clamp(0, 1)
    errors = []
    for epochs in (1, 60):
        fields = mada.Method(batch=16, wae_epochs=epochs, wae_hidden=16, wae_code=4, wae_critic=8, wae_lr=0.01)
        weights = wae.train(Images(x, which), fields, torch.Generator().manual_seed(0))
        errors.append(float((wae.restore(weights)(x) - x).square().mean()))
    assert errors[1] < errors[0] / 4
    assert errors[1] < 0.02


def test_training_is_keyed_and_takes_its_size_from_the_images() -> None:
    images, fields = toy_images(20, size=6), mada.Method(**SMALL)
    first, second, other = (wae.train(images, fields, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.1.weight"], other["encoder.1.weight"])
    assert first["encoder.1.weight"].shape == (6, 108)
    assert wae.restore(first)(images.unit()).shape == images.x.shape
    with pytest.raises(ValueError, match="full batch of 8 images, not 7"):
        wae.train(images[:7], fields, torch.Generator())


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What each update of `train` is given; none is done."""
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(wae, "update", lambda *given: seen.append(given))
    return seen


def test_both_networks_have_the_widths_and_the_rate_that_are_set(updates: list[tuple[Any, ...]]) -> None:
    fields = mada.Method(**SMALL | {"wae_hidden": 7, "wae_code": 3, "wae_critic": 5, "wae_lr": 0.03})
    wae.train(toy_images(8, size=6), fields, torch.Generator().manual_seed(0))
    (autoencoder, critic), optimizers, *_ = updates[0]
    assert [tuple(p.shape) for p in critic.parameters()] == [(5, 3), (5,), (1, 5), (1,)]
    assert [tuple(p.shape) for p in autoencoder.encoder.parameters()] == [(7, 108), (7,), (3, 7), (3,)]
    for optimizer, net in zip(optimizers, (autoencoder, critic), strict=True):
        (group,) = optimizer.param_groups
        assert group["lr"] == 0.03
        assert all(a is b for a, b in zip(group["params"], net.parameters(), strict=True))


def test_each_epoch_has_an_order_and_prior_codes_of_its_own(updates: list[tuple[Any, ...]]) -> None:
    fields = mada.Method(**SMALL | {"wae_epochs": 3})
    wae.train(toy_images(20, size=6), fields, torch.Generator().manual_seed(0))
    assert len(updates) == 3 * 2  # two full batches of 8
    images = [torch.cat([updates[at][2], updates[at + 1][2]]) for at in (0, 2, 4)]
    codes = [torch.cat([updates[at][3], updates[at + 1][3]]) for at in (0, 2, 4)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(images[i], images[j])
        assert not torch.equal(codes[i], codes[j])


def test_epochs_are_full_batches_of_a_permutation() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = wae.sample_epoch(70, mada.Method(batch=32, wae_code=5), generator)
    assert draws.order.shape == (2, 32)
    assert len(set(draws.order.flatten().tolist())) == 64
    assert draws.z.shape == (2, 32, 5)
    assert float(draws.z.std()) == pytest.approx(1, abs=0.15)


def test_weights_start_as_torchs_own_linear_layers() -> None:
    layers = nn.Linear(400, 50), nn.Linear(50, 7)
    wae.initialise(nn.Sequential(*layers), torch.Generator().manual_seed(0))
    for layer, bound in zip(layers, (400**-0.5, 50**-0.5), strict=True):
        assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert float(layer.bias.detach().abs().max()) <= bound


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 8))
def test_reconstruction_loss_is_cross_entropy_on_unit_targets(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    logits = (
        (spread * torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)).clamp(-20, 20).requires_grad_()
    )
    ours = wae.reconstruction_loss(logits.sigmoid(), x)
    theirs = F.binary_cross_entropy(logits.sigmoid(), x, reduction="sum")
    assert torch.allclose(ours, theirs, rtol=1e-12)
    slope, expected = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert torch.allclose(slope, expected, rtol=1e-9, atol=1e-12)


def test_unclipped_targets_are_continued_and_bounded() -> None:
    """Later autoencoders are trained on images outside [0,1]: the formula as it stands, finite even when saturated."""
    p = torch.tensor([0.3, 0.9], requires_grad=True)
    x = torch.tensor([1.5, -0.4])
    loss = wae.reconstruction_loss(p, x)
    expected = -(x * p.detach().log() + (1 - x) * (1 - p.detach()).log()).sum()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    logits = torch.tensor([40.0, -200.0], requires_grad=True)
    saturated = wae.reconstruction_loss(logits.sigmoid(), x)
    assert torch.isfinite(saturated)
    assert torch.equal(torch.autograd.grad(saturated, logits)[0], torch.zeros(2))
