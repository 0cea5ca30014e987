"""The common suite lets through what the contract allows, and each of its tests finds what it is there for."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark import registry
from tests.methods import test_methods as suite

HEAD = '''"""A method for a test."""

import torch
from torch.nn import functional as F

from benchmark import method
from benchmark.core.timing import span


@method.frozen()
class Method(method.Method):
'''
LOSS = """
    def loss(self, net, x, y, rng, state):
        {}
"""
MIXSTYLE = '''
    """Statistics of features are exchanged within the batch, behind a hook; there is no setting that makes it ERM."""

    replayable = True

    def loss(self, net, x, y, rng, state):
        order, share = rng.draw("order", torch.randperm, len(x)), rng.draw("share", torch.rand, (len(x), 1, 1, 1))

        def mix(part, given, z):
            mean, std = z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True) + 1e-6
            mixed_mean, mixed_std = (share * own + (1 - share) * own[order] for own in (mean, std))
            return (z - mean) / std * mixed_std + mixed_mean

        hook = net.stem.register_forward_hook(mix)
        try:
            return F.cross_entropy(net(x), y)
        finally:
            hook.remove()
'''
MIXUP = '''
    """Images and labels of two are mixed, so a view is never made of one image alone."""

    uncoupled = None

    def drawn(self, x, rng):
        return rng.draw("order", torch.randperm, len(x)), rng.draw("share", torch.rand, (len(x), 1, 1, 1))

    def views(self, net, x, y, rng, state):
        order, share = self.drawn(x, rng)
        with span("augment"):
            return [share * x + (1 - share) * x[order]]

    def loss(self, net, x, y, rng, state):
        order, share = self.drawn(x, rng)
        logits, share = net(self.views(net, x, y, rng, state)[0]), share.flatten()
        one, two = (F.cross_entropy(logits, labels, reduction="none") for labels in (y, y[order]))
        return (share * one + (1 - share) * two).mean()
'''
WRAPPED = '''
    """A parameter that the loss needs is added to the network before the optimiser is built."""

    def wrap(self, net):
        net.temperature = torch.nn.Parameter(torch.ones(()))
        return net

    def setup(self, net, source, rng):
        return {"start": net.temperature.detach().clone()}

    def loss(self, net, x, y, rng, state):
        return F.cross_entropy(net(x) / net.temperature, y)
'''


def plugin(folder: Path, body: str) -> str:
    path = folder / "made.py"
    path.write_text(HEAD + body)
    registry.load_plugins([path])
    return path.stem


def views(how: str) -> str:
    return f"""
    def views(self, net, x, y, rng, state):
        {how}
""" + LOSS.format("return F.cross_entropy(net(self.views(net, x, y, rng, state)[0]), y)")


@pytest.mark.parametrize("body", [MIXSTYLE, MIXUP, WRAPPED], ids=["features", "coupled", "wrapped"])
def test_what_the_contract_allows_passes(body: str, tmp_path: Path) -> None:
    name = plugin(tmp_path, body)
    suite.test_learns_the_toy_problem_with_finite_losses(name, tmp_path)
    suite.test_equal_seeds_give_equal_bits_and_other_seeds_do_not(name, tmp_path)
    for network in ("mini_convnet", "timm:test_resnet"):
        suite.test_the_loss_is_a_finite_scalar_with_a_gradient(name, network)
    for training in (True, False):
        suite.test_leaves_everything_as_found(name, training)
    suite.test_draws_from_rng_alone(name)
    suite.test_labels_follow_their_images(name)
    suite.test_state_survives_a_checkpoint(name, tmp_path)
    for test in (
        suite.test_reduces_to_erm_at_its_degenerate_settings,
        suite.test_a_view_depends_on_its_own_image_alone,
    ):
        with pytest.raises(pytest.skip.Exception, match=r"erm_at = None|uncoupled = None|makes no views"):
            test(name)


def test_a_hook_on_the_features_is_replayed_and_counted(tmp_path: Path) -> None:
    suite.test_a_replayed_run_is_the_launched_one_bit_for_bit(plugin(tmp_path, MIXSTYLE), "cpu", tmp_path)
    run = suite.run(plugin(tmp_path, MIXSTYLE), tmp_path, steps=3)
    assert run.meter.passes() == 3 * 16


def test_views_that_mix_a_batch_are_charged_to_the_augmentation(tmp_path: Path) -> None:
    suite.test_the_making_of_views_is_not_charged_to_the_network(plugin(tmp_path, MIXUP))


ERM = LOSS.format("return F.cross_entropy(net(x), y)")
BROKEN: dict[str, tuple[str, Callable[[str, Path], Any], str]] = {
    "learns nothing": (
        LOSS.format("return 0 * F.cross_entropy(net(x), y)"),
        suite.test_learns_the_toy_problem_with_finite_losses,
        "assert 0.0 < 0.0",
    ),
    "another number each time": (
        LOSS.format("return F.cross_entropy(net(x + torch.rand(())), y)"),
        suite.test_equal_seeds_give_equal_bits_and_other_seeds_do_not,
        "equal",
    ),
    "a vector": (
        LOSS.format("return net(x).sum(dim=1)"),
        lambda name, _: suite.test_the_loss_is_a_finite_scalar_with_a_gradient(name, "mini_convnet"),
        "torch.Size\\(\\[16\\]\\) == \\(\\)",
    ),
    "no gradient": (
        LOSS.format("return 0 * F.cross_entropy(net(x), y)"),
        lambda name, _: suite.test_the_loss_is_a_finite_scalar_with_a_gradient(name, "mini_convnet"),
        "no weight has a gradient",
    ),
    "leaves eval mode": (
        LOSS.format("net.eval(); return F.cross_entropy(net(x), y)"),
        lambda name, _: suite.test_leaves_everything_as_found(name, True),
        "the network's mode",
    ),
    "leaves a hook": (
        LOSS.format("net.stem.register_forward_hook(lambda *_: None); return F.cross_entropy(net(x), y)"),
        lambda name, _: suite.test_leaves_everything_as_found(name, True),
        "its hooks",
    ),
    "freezes": (
        LOSS.format("net.head.bias.requires_grad_(False); return F.cross_entropy(net(x), y)"),
        lambda name, _: suite.test_leaves_everything_as_found(name, True),
        "requires_grad",
    ),
    "writes into the batch": (
        LOSS.format("x.mul_(0.5); return F.cross_entropy(net(x), y)"),
        lambda name, _: suite.test_leaves_everything_as_found(name, True),
        "the batch",
    ),
    "writes into the source": (
        "    def setup(self, net, source, rng):\n        source.images.x.zero_()\n        return {}\n" + ERM,
        lambda name, _: suite.test_leaves_everything_as_found(name, True),
        "the source",
    ),
    "trains by itself": (
        "    def setup(self, net, source, rng):\n        source.fit_erm(net, rng)\n        return {}\n" + ERM,
        lambda name, _: suite.test_leaves_everything_as_found(name, True),
        "its weights",
    ),
    "draws from torch's own generator": (
        LOSS.format("return F.cross_entropy(net(x), y) + 0 * torch.rand(())"),
        lambda name, _: suite.test_draws_from_rng_alone(name),
        "a generator that everybody shares",
    ),
    "labels the wrong images": (
        LOSS.format("return F.cross_entropy(net(x), (y - 1) % 4)"),
        lambda name, _: suite.test_labels_follow_their_images(name),
        "wrong labels cost no more",
    ),
    "a view of another image": (
        views("return [x.roll(1, 0)]"),
        lambda name, _: suite.test_a_view_depends_on_its_own_image_alone(name),
        "made of others",
    ),
    "a view of another size": (
        views("return [x[:, :, ::2, ::2]]"),
        lambda name, _: suite.test_a_view_depends_on_its_own_image_alone(name),
        "torch.Size",
    ),
    "views without a span": (
        views("return [x.flip(3)]"),
        lambda name, _: suite.test_the_making_of_views_is_not_charged_to_the_network(name),
        "make views within span",
    ),
    "no ERM where it says so": (
        "    erm_at = {}\n" + LOSS.format("return 2 * F.cross_entropy(net(x), y)"),
        lambda name, _: suite.test_reduces_to_erm_at_its_degenerate_settings(name),
        "Scalars are not close",
    ),
    "a state that no checkpoint holds": (
        "    def setup(self, net, source, rng):\n        return {'erased': slice(3)}\n" + ERM,
        suite.test_state_survives_a_checkpoint,
        "Weights only load failed",
    ),
    "replayed, it forgets the step": (
        "    replayable = True\n" + LOSS.format("return F.cross_entropy(net(x), y) * (1 + rng.step)"),
        lambda name, folder: suite.test_a_replayed_run_is_the_launched_one_bit_for_bit(name, "cpu", folder),
        "reads rng.step",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_the_contract_is_found(case: str, tmp_path: Path) -> None:
    body, test, found = BROKEN[case]
    name = plugin(tmp_path, body)
    with pytest.raises((AssertionError, pickle.UnpicklingError), match=found):
        test(name, tmp_path)
