"""make perf, on a GPU: what a step's augmentation, and the arithmetic around an attack, cost beside bare passes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark import graphs, networks
from benchmark.ascent import attack_mode
from benchmark.consistency import jensen_shannon
from benchmark.dual_norm import forward_views
from benchmark.method import Rng
from benchmark.spectrum import AmplitudeAttack, attack, sample_draws
from tests.perf.race import REPEATS, cuda, repeated
from tests.perf.turns import take_turns
from tests.test_methods import make

CASES = pytest.mark.parametrize(("name", "batch"), [("digits_convnet", 32), ("wrn_40_2", 128)])


def problem(name: str, batch: int) -> tuple[networks.Classifier, Tensor, Tensor]:
    """A network, images and labels on the GPU."""
    device = cuda()
    net = networks.build(name, 10, 0).to(device).to(memory_format=torch.channels_last)
    x = torch.rand(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    return net, x, torch.arange(batch, device=device) % 10


@pytest.mark.gpu
@CASES
def test_augmix_beside_identity_views(request: pytest.FixtureRequest, name: str, batch: int) -> None:
    net, x, y = problem(name, batch)
    method, rng = make("augmix"), Rng(0, on=x.device)

    def augmix() -> None:
        method.loss(net, x, y, rng, {}).backward()

    def identity() -> None:
        logits = forward_views(net, [x, x, x], joint=True)
        (F.cross_entropy(logits[0], y) + 12 * jensen_shannon(*logits)).backward()

    take_turns(
        request,
        f"loss and gradient of AugMix with JSD, {name}, {batch} images",
        {"AugMix": (REPEATS, repeated(augmix)), "the same on identity views": (REPEATS, repeated(identity))},
        targets={"the same on identity views": 1 / 1.10},
        rounds=15,
        cuda=True,
    )


@pytest.mark.gpu
@CASES
def test_replayed_passes_beside_launched_ones(request: pytest.FixtureRequest, name: str, batch: int) -> None:
    net, x, y = problem(name, batch)
    recorded, _, _ = problem(name, batch)

    def passes(of: torch.nn.Module) -> None:
        of.zero_grad(set_to_none=True)
        F.cross_entropy(of(x), y).backward()

    with graphs.replayed(recorded, wanted=True):
        take_turns(
            request,
            f"passes with --graphs, {name}, {batch} images",
            {
                "replayed": (REPEATS, repeated(lambda: passes(recorded))),
                "launched": (REPEATS, repeated(lambda: passes(net))),
            },
            rounds=15,
            cuda=True,
        )


@pytest.mark.gpu
@CASES
def test_sada_attack_beside_its_passes(request: pytest.FixtureRequest, name: str, batch: int) -> None:
    net, x, y = problem(name, batch)
    config = AmplitudeAttack(tau=100)  # all steps, as on a network that has learnt
    views, labels = torch.stack([x, x, x]), y.repeat(3)
    draws = sample_draws(views.shape, torch.Generator(x.device).manual_seed(0), config)

    def attacked() -> None:
        attack(net, views, y, draws, config)

    def passes() -> None:
        with attack_mode(net):
            for _ in range(config.num_steps):
                image = views.flatten(0, 1).requires_grad_()
                torch.autograd.grad(F.cross_entropy(net(image), labels), image)

    take_turns(
        request,
        f"SADA's attack on three views, {name}, {batch} images",
        {"attack": (REPEATS, repeated(attacked)), "its bare passes": (REPEATS, repeated(passes))},
        targets={"its bare passes": 1 / 1.15},
        rounds=15,
        cuda=True,
    )
