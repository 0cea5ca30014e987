"""The plugin behind docs/findings: SADA's loader before another training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmark import registry
from benchmark.method import Rng
from benchmark.ops.batch_transforms import jitter_log, sample_jitter_log
from tests.conftest import ROOT

RNG = Rng(0, 3, 0.5)


@pytest.fixture
def make() -> Callable[..., Any]:
    registry.load_plugins([ROOT / "docs" / "findings" / "sada_loader.py"])
    return lambda **settings: registry.make("method", "sada_loader", settings)


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
    make: Callable[..., Any], batch: Any, trains: str, method: str, settings: dict[str, Any]
) -> None:
    net, x, y = batch
    loaded = jitter_log(x, RNG.draw("loader", sample_jitter_log, len(x)))
    expected = registry.make("method", method, settings).loss(net, loaded, y, RNG, {})
    assert torch.equal(make(trains=trains).loss(net, x, y, RNG, {}), expected)
    assert not torch.equal(loaded, x)


def test_each_half_can_be_off(make: Callable[..., Any], batch: Any) -> None:
    _, x, _ = batch
    bare = make(jitter=False, inverted=False).loaded(x, RNG)
    torch.testing.assert_close(bare, x, rtol=0, atol=1e-6)
    draws = RNG.draw("loader", sample_jitter_log, len(x))
    jittered, inverted = (make(**{part: False}).loaded(x, RNG) for part in ("inverted", "jitter"))
    assert 0 < draws.filtered.sum() < len(x)
    assert [bool((a != b).any()) for a, b in zip(inverted, bare, strict=True)] == draws.filtered.tolist()
    assert all((a != b).any() for a, b in zip(jittered, bare, strict=True))
    assert torch.equal(make().loaded(x, RNG)[~draws.filtered], jittered[~draws.filtered])
