"""make perf: SADA's training step on the digits network beside the same step written as its released code runs it.

As released: a pass nobody reads, three attacks one after another, four passes for the loss, rows of pixels in memory;
only the views are given to both. The attacks do all their steps (a large tau), as on a network that has learnt.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.attacks.spectrum import AmplitudeAttack, Draws, attack_spectrum, sample_draws
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from tests.perf.turns import take_turns

BATCH, LAM = 32, 0.025
CONFIG = AmplitudeAttack(tau=100)


def plain_network(net: nn.Module) -> nn.Module:
    """The digits ConvNet with the same weights, layer by layer as its authors list them."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3200, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10),
    )  # fmt: skip
    layers.load_state_dict(dict(zip(layers.state_dict(), net.state_dict().values(), strict=True)))
    return nn.Sequential(Scale(), layers)


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.5


def released_attack(net: nn.Module, x: Tensor, y: Tensor, init: Tensor, brightness: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad():
        net(x)
    spectrum = torch.fft.fft2(x)
    amplitude, phase = spectrum.abs(), spectrum.angle()
    amplitude[..., 0, 0] *= 1 + 4 * init

    def recon(a: Tensor) -> Tensor:
        image = torch.fft.ifft2(a * torch.exp(1j * phase)).abs()
        normalised: Tensor = image / image.max()
        return normalised.clamp(0, 1)

    for _ in range(CONFIG.num_steps):
        amplitude.requires_grad_()
        gradient: Tensor = torch.autograd.grad(F.cross_entropy(net(recon(amplitude)), y), amplitude)[0]
        amplitude = (amplitude + CONFIG.step_size * gradient.sign() * amplitude).clamp(min=0).detach()
    net.train()
    return (recon(amplitude) * brightness).clamp(0, 1)


def test_training_step(request: pytest.FixtureRequest) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 3, 32, 32, generator=generator)
    y = torch.randint(10, (BATCH,), generator=generator)
    views = torch.rand(3, *x.shape, generator=generator)
    draws = sample_draws(views.shape, generator, CONFIG)
    assert draws.init is not None
    assert draws.brightness is not None
    init, brightness = draws.init, draws.brightness
    last = networks.build("digits_convnet", 10, 0).to(memory_format=torch.channels_last)
    net = plain_network(last)
    seen = x.contiguous(memory_format=torch.channels_last)

    def ours() -> Tensor:
        last.zero_grad(set_to_none=True)
        attacked = attack_spectrum(last, views, y, Draws(init, brightness), CONFIG)
        logits = forward_views(last, [seen, *attacked], joint=False)
        loss = F.cross_entropy(logits[0], y) + LAM * jensen_shannon(*logits)
        loss.backward()
        return loss.detach()

    def released() -> Tensor:
        net.zero_grad(set_to_none=True)
        attacked = [released_attack(net, *given) for given in zip(views, [y] * 3, init, brightness, strict=True)]
        logits = [net(image) for image in (x, *attacked)]
        loss: Tensor = F.cross_entropy(logits[0], y) + LAM * jensen_shannon(*logits)
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(ours(), released(), rtol=1e-4, atol=0)
    take_turns(
        request,
        f"SADA training steps on {BATCH} images, digits network, {torch.get_num_threads()} threads",
        {"ours": (1, ours), "as released": (1, released)},
        targets={"as released": 2.0},
        rounds=5,
    )
