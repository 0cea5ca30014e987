"""The plugins behind docs/findings: SADA's loader before another training, and in parts; BatchNorm's statistics."""

from typing import Any

import pytest
import torch

from benchmark import networks, registry
from benchmark.method import Rng
from benchmark.ops.batch_transforms import jitter_log, sample_jitter_log
from tests import toy
from tests.conftest import ROOT

RNG = Rng(0, 3, 0.5)
NAMES = ("sada_loader", "loader_parts", "clean_statistics")


@pytest.fixture(autouse=True)
def plugins() -> None:
    registry.load_plugins([ROOT / "docs" / "findings" / f"{name}.py" for name in NAMES])


def make(**settings: Any) -> Any:
    return registry.make("method", "sada_loader", settings)


def parts(**settings: Any) -> Any:
    return registry.make("method", "loader_parts", settings)


@pytest.fixture(scope="module")
def batch() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (8, 1, 32, 32), generator=generator) / 255
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    return net, grey.repeat(1, 3, 1, 1), torch.randint(0, 10, (8,), generator=generator)


@pytest.mark.parametrize(
    ("trains", "method", "settings"),
    [
        ("erm", "erm", {}),
        ("augmix", "augmix", {}),
        ("sada", "sada", {"weight_map": "none"}),
        ("views", "sada", {"weight_map": "none", "warmup": 1.0}),
    ],
)
def test_it_trains_what_it_says_on_what_the_loader_gives(
    batch: Any, trains: str, method: str, settings: dict[str, Any]
) -> None:
    net, x, y = batch
    loaded = jitter_log(x, RNG.draw("loader", sample_jitter_log, len(x)))
    expected = registry.make("method", method, settings).loss(net, loaded, y, RNG, {})
    assert torch.equal(make(trains=trains).loss(net, x, y, RNG, {}), expected)
    assert not torch.equal(loaded, x)


def test_each_half_can_be_off(batch: Any) -> None:
    _, x, _ = batch
    bare = make(jitter=False, inverted=False).loaded(x, RNG)
    torch.testing.assert_close(bare, x, rtol=0, atol=1e-6)
    draws = RNG.draw("loader", sample_jitter_log, len(x))
    jittered, inverted = (make(**{part: False}).loaded(x, RNG) for part in ("inverted", "jitter"))
    assert 0 < draws.filtered.sum() < len(x)
    assert [bool((a != b).any()) for a, b in zip(inverted, bare, strict=True)] == draws.filtered.tolist()
    assert all((a != b).any() for a, b in zip(jittered, bare, strict=True))
    assert torch.equal(make().loaded(x, RNG)[~draws.filtered], jittered[~draws.filtered])


def test_all_parts_are_the_loader(batch: Any) -> None:
    net, x, y = batch
    for whole, one in [
        (make(), parts()),
        (make(inverted=False), parts(inverts="none")),
        (make(jitter=False), parts(brightness=False, contrast=False)),
    ]:
        assert torch.equal(whole.loss(net, x, y, RNG, {}), one.loss(net, x, y, RNG, {}))


def test_each_part_touches_its_own_images(batch: Any) -> None:
    net, x, y = batch
    bare = {"brightness": False, "contrast": False}
    (filtered,) = parts(**bare).views(net, x, y, RNG, {})
    (negative,) = parts(**bare, inverts="negative").views(net, x, y, RNG, {})
    inverted = (filtered != x).flatten(1).any(1)
    assert 0 < inverted.sum() < len(x)
    torch.testing.assert_close(negative[inverted], 1 - x[inverted], rtol=0, atol=1 / 255)
    assert torch.equal(negative[~inverted], x[~inverted])
    for jitters, jittered in (("inverted", inverted), ("others", ~inverted)):
        (view,) = parts(jitters=jitters).views(net, x, y, RNG, {})
        assert torch.equal((view != filtered).flatten(1).any(1), jittered)
    one, other = (parts(**{part: False}, inverts="none").views(net, x, y, RNG, {})[0] for part in bare)
    assert (one != other).flatten(1).any(1).all()
    dimmed = parts(contrast=False, inverts="none").drawn(len(x), torch.Generator().manual_seed(0))
    assert (dimmed.contrast == 1).all()
    assert (dimmed.brightness != 1).all()


def with_batch_norm(name: str) -> torch.nn.Module:
    """A network with BatchNorm after three steps of a method."""
    method, net = registry.make("method", name, {}), networks.build("timm:test_resnet", 4, 0).train()
    optimizer, images = torch.optim.SGD(net.parameters(), 0.1), toy.images(16, 0)
    for step in range(3):
        optimizer.zero_grad()
        method.loss(net, images.unit(), images.y, Rng(0, step), {}).backward()
        optimizer.step()
    return net


def test_weights_are_randconv_s_and_statistics_those_of_source_images() -> None:
    theirs, ours = with_batch_norm("randconv"), with_batch_norm("clean_statistics")
    for (name, weight), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert torch.equal(weight, other), name
    pairs = zip(theirs.modules(), ours.modules(), strict=True)
    norms = [(a, b) for a, b in pairs if isinstance(a, torch.nn.BatchNorm2d) and isinstance(b, torch.nn.BatchNorm2d)]
    assert norms
    for a, b in norms:
        assert a.momentum == b.momentum
        assert a.running_mean is not None
        assert b.running_mean is not None
        assert not torch.equal(a.running_mean, b.running_mean)
    seen: list[torch.Tensor] = []
    norms[0][1].register_forward_hook(lambda module, given, made: seen.append(given[0].mean(dim=(0, 2, 3))))
    ours.eval()(toy.images(16, 0).unit())
    views, source = (norm.get_buffer("running_mean") / (1 - 0.9**n) for norm, n in zip(norms[0], (9, 3), strict=True))
    assert (source - seen[0]).norm() < (views - seen[0]).norm() / 3
