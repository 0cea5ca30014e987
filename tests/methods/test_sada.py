"""SADA: when the loss attacks and when it does not, its map, and its settings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import sensitivity
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.core.timing import Meter
from benchmark.method import Rng, Source
from benchmark.networks.classifiers import build
from benchmark.ops.attacks.spectrum import (
    Draws,
    attack_spectrum,
)
from benchmark.ops.augmix import OPS, augmix_view, sample_mix
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from tests.methods.sada_cases import batch_norm_net, dense, make, sada


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
    recorder = Recorder(attack_spectrum)
    monkeypatch.setattr(sada, "attack_spectrum", recorder)
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
        (_, start, labels_given, draws, config, weight), _ = attacks.calls[0]
        assert torch.equal(start, torch.stack(plain))
        assert torch.equal(labels_given, y)
        assert config is UNWEIGHTED
        assert weight is None
        views = [attack_spectrum(net, plain[v], y, Draws(draws.init[v], draws.brightness[v]), make()) for v in range(3)]
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
    assert attacks.calls[0][0][-1] is state["w"]


def test_the_map_is_of_the_held_out_images() -> None:
    """A helper that says 3 of every image errs on none of those that are held out."""

    def fit_erm(helper: nn.Module, rng: Rng) -> None:
        helper.load_state_dict({name: torch.zeros_like(value) for name, value in helper.state_dict().items()})
        with torch.no_grad():
            helper.get_parameter("head.bias")[3] = 1

    net = build(MINI, 10, 0)
    source = small_source(net, fit_erm)
    source = replace(source, val=Images(source.val.x, torch.full_like(source.val.y, 3)))
    assert torch.equal(sada.Method().setup(net, source, Rng(0))["w"], torch.ones(32, 32))


def test_setup_without_a_map_does_nothing() -> None:
    net, fit_erm = build(MINI, 10, 0), Recorder(lambda helper, rng: None)
    assert UNWEIGHTED.setup(net, small_source(net, fit_erm), Rng(0)) == {}
    assert not fit_erm.calls


def test_alpha_weighs_the_chains_of_the_augmented_view() -> None:
    x, y = batch()
    net = build(MINI, 10, 0)
    even, single = (sada.Method(weight_map="none", alpha=a).views(net, x, y, Rng(0), {})[0] for a in (1.0, 0.01))
    assert not torch.equal(even, single)


@pytest.mark.parametrize("setting", [{"severity": 5.0}, {"ops": ("rotate", "color")}, {"depth": 1}, {"width": 2}])
def test_each_setting_of_the_chains_changes_the_views(setting: dict[str, Any]) -> None:
    (x, y), net = batch(), build(MINI, 10, 0)
    first, other = (sada.Method(weight_map="none", **given).views(net, x, y, Rng(0), {})[0] for given in ({}, setting))
    assert not torch.equal(first, other)


def test_views_of_the_warm_up_mix_all_operations_at_severity_two() -> None:
    x, y = batch()
    views = UNWEIGHTED.views(build(MINI, 10, 0), x, y, Rng(3), {})
    draws = Rng(3).draw("augmix", sample_mix, 12, ops=OPS, severity=2.0)
    assert torch.equal(torch.cat(views), augmix_view(x.repeat(3, 1, 1, 1), draws))


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


def test_the_warm_up_is_of_plain_augmix_views_whatever_is_attacked_later() -> None:
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    net = build("mini_convnet", 10, 0)
    views = [sada.Method(weight_map="none", base=b).views(net, x, y, Rng(3), {}) for b in ("augmix", "clean")]
    assert all(torch.equal(a, b) for a, b in zip(*views, strict=True))
    assert not torch.equal(views[1][0], x)
