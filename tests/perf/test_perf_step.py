"""make perf, on a GPU: whole training steps captured beside launched ones; what a step's augmentation, and the
arithmetic around an attack, cost beside bare passes, all captured."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method, networks, registry
from benchmark.core import capture
from benchmark.core.capture import Loop
from benchmark.method import Rng, State
from benchmark.networks.attacked import attack_mode
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.attacks.spectrum import AmplitudeAttack, attack_spectrum, sample_draws
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from tests.perf.race import REPEATS, cuda, repeated
from tests.perf.steps import pool, steps
from tests.perf.turns import take_turns

CASES = pytest.mark.parametrize(("name", "batch"), [("digits_convnet", 32), ("wrn_40_2", 128)])
ROUNDS = 7
GOALS = {"erm": 3.5, "augmix": 2.8, "randconv": 2.8, "augmax": 3.8, "sada": 2.6}


def raced(
    request: pytest.FixtureRequest, title: str, forms: dict[str, Callable[[int], None]], targets: dict[str, float]
) -> None:
    """Forms of a step take turns, once each has been captured where it is to be."""
    for form, take in forms.items():
        take(12)
        why = take.steps.why if hasattr(take, "steps") else ""
        assert not why or form == "launched", why
    many = {form: (REPEATS, partial(take, REPEATS)) for form, take in forms.items()}
    take_turns(request, title, many, targets=targets, rounds=ROUNDS, cuda=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*GOALS, "gud", "mada"])
def test_captured_steps_beside_launched_ones(request: pytest.FixtureRequest, name: str) -> None:
    """SADA without its map, after the warm-up; GUD and M-ADA before their first phase."""
    subject = registry.make("method", name, {"weight_map": "none"} if name == "sada" else {})
    images = pool()
    with capture.capturing(cuda()):
        forms = {
            form: steps(
                subject, images, "digits_convnet", 32, launched=form == "launched", progress=0.5, state={"phase": 0}
            )
            for form in ("captured", "launched")
        }
        targets = {"launched": GOALS[name]} if name in GOALS else {}
        raced(request, f"step of {name}, digits_convnet, 32 images", forms, targets)


@method.frozen()
class Identity(method.Method):
    """AugMix's loss on three times the same images."""

    replayable = True

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        logits = forward_views(net, [x, x, x], joint=True)
        return F.cross_entropy(logits[0], y) + 12 * jensen_shannon(*logits)


@pytest.mark.gpu
@CASES
def test_augmix_beside_identity_views(request: pytest.FixtureRequest, name: str, batch: int) -> None:
    images = pool()
    with capture.capturing(cuda()):
        forms = {
            form: steps(subject, images, name, batch, launched=False, progress=0.5)
            for form, subject in (("AugMix", registry.make("method", "augmix", {})), ("identity views", Identity()))
        }
        title = f"captured step of AugMix with JSD, {name}, {batch} images"
        raced(request, title, forms, {"identity views": 1 / 1.10})


@pytest.mark.gpu
@CASES
def test_sada_attack_beside_its_passes(request: pytest.FixtureRequest, name: str, batch: int) -> None:
    device = cuda()
    net = networks.build(name, 10, 0).to(device)
    net.to(memory_format=networks.layout(net))
    x = torch.rand(batch, 3, 32, 32, device=device)
    y = torch.arange(batch, device=device) % 10
    config = AmplitudeAttack(tau=100)  # all steps, as on a network that has learnt
    views, labels = torch.stack([x, x, x]), y.repeat(3)
    draws = Rng(0, on=device).draw("attack", sample_draws, views.shape, config=config)

    def attacked() -> None:
        attack_spectrum(net, views, y, draws, config)

    def passes() -> None:
        with attack_mode(net):
            for _ in range(config.num_steps):
                image = views.flatten(0, 1).requires_grad_()
                torch.autograd.grad(F.cross_entropy(net(image), labels), image)

    with capture.capturing(device):
        forms = {"attack": Loop(attacked), "its bare passes": Loop(passes)}
        for form in forms.values():
            repeated(form)()
            assert callable(form.replay), form.replay
        take_turns(
            request,
            f"captured: SADA's attack on three views, {name}, {batch} images",
            {title: (REPEATS, repeated(form)) for title, form in forms.items()},
            targets={"its bare passes": 1 / 1.15},
            rounds=ROUNDS,
            cuda=True,
        )
