"""Dual BatchNorm and DuBIN: which statistics a route touches, where each layer goes, what conversion leaves alone."""

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from benchmark.networks.classifiers import NETWORKS, build
from benchmark.networks.dual_norm import (
    DualBatchNorm2d,
    DualNorm,
    DuBIN,
    Route,
    convert,
    forward_views,
    has_batch_norm,
    route,
)

PLACES = {  # DuBIN layers, dual BatchNorms outside them
    "wrn_40_2": (2 * 6, 6 + 3 * 6 + 1),
    "wrn_16_4": (2 * 2, 2 + 3 * 2 + 1),
    "resnet18_cifar": (3 * 2, 1 + 2 + 8 + 3),
    "timm:resnet18": (3 * 2, 1 + 2 + 8 + 3),
}
pytestmark = pytest.mark.usefixtures("seeded")


def used(layer: nn.BatchNorm2d) -> tuple[Tensor, Tensor, int]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    return layer.running_mean, layer.running_var, int(layer.num_batches_tracked)


def expected_statistics(batches: list[Tensor], momentum: float = 0.1) -> tuple[Tensor, Tensor]:
    """Running mean and unbiased variance after these batches, written out."""
    mean, var = batches[0].new_zeros(batches[0].shape[1]), batches[0].new_ones(batches[0].shape[1])
    for batch in batches:
        mean = (1 - momentum) * mean + momentum * batch.mean((0, 2, 3))
        var = (1 - momentum) * var + momentum * batch.transpose(0, 1).flatten(1).var(dim=1)
    return mean, var


def test_running_statistics_after_routes_a_m_m_parity() -> None:
    draws = torch.randn(3, 5, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    adversarial, mixed, clean = draws * 2 + 1
    for layer in (DualBatchNorm2d(nn.BatchNorm2d(4)).double(), DuBIN(nn.BatchNorm2d(8)).double()):
        dual = layer if isinstance(layer, DualBatchNorm2d) else layer.batch
        # DuBIN normalises its second half by batch statistics; give that half the same images.
        feed = [x if dual is layer else torch.cat([x.flip(0), x], dim=1) for x in (adversarial, mixed, clean)]
        with route(layer, "A"):
            layer(feed[0])
        layer(feed[1])
        layer(feed[2])
        for bn, batches in ((dual.adversarial, [adversarial]), (dual.main, [mixed, clean])):
            mean, var, count = used(bn)
            torch.testing.assert_close(mean, expected_statistics(batches)[0], rtol=0, atol=1e-7)
            torch.testing.assert_close(var, expected_statistics(batches)[1], rtol=0, atol=1e-7)
            assert count == len(batches)


def test_routes_have_their_own_affine_parameters_and_share_the_instance_norm() -> None:
    layer = DuBIN(nn.BatchNorm2d(6))
    nn.init.constant_(layer.batch.adversarial.weight, 3.0)
    x = torch.randn(4, 6, 5, 5)
    main = layer(x)
    with route(layer, "A"):
        adversarial = layer(x)
    assert torch.equal(main[:, :3], adversarial[:, :3])
    torch.testing.assert_close(adversarial[:, 3:], 3 * main[:, 3:])


@pytest.mark.parametrize("channels", [2, 7, 16])
def test_dubin_is_instance_norm_beside_batch_norm(channels: int) -> None:
    """Parameters and statistics are taken over from the BatchNorm that it replaces, half and half."""
    bn = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.3)
    for value in (bn.weight, bn.bias, bn.running_mean, bn.running_var):
        assert value is not None
        nn.init.uniform_(value, 0.5, 1.5)
    layer, half, x = DuBIN(copy.deepcopy(bn)).eval(), channels // 2, torch.randn(3, channels, 4, 4) + 1
    first = x[:, :half]
    deviation = (first.var((2, 3), unbiased=False, keepdim=True) + 1e-3).sqrt()
    instance = (first - first.mean((2, 3), keepdim=True)) / deviation * bn.weight[:half, None, None]
    torch.testing.assert_close(layer(x)[:, :half], instance + bn.bias[:half, None, None])
    torch.testing.assert_close(layer(x)[:, half:], bn.eval()(x)[:, half:])
    assert layer.batch.main.momentum == layer.batch.adversarial.momentum == 0.3


@pytest.mark.parametrize("name", PLACES)
def test_placement(name: str) -> None:
    net = convert(build(name, 10, 0), "dubin")
    dubin = {path for path, module in net.named_modules() if isinstance(module, DuBIN)}
    dual = [path for path, module in net.named_modules() if isinstance(module, DualBatchNorm2d)]
    outside = [path for path in dual if path.removesuffix(".batch") not in dubin]
    assert (len(dubin), len(outside)) == PLACES[name]
    last = 3 if name.startswith("wrn") else 4
    assert all(path.endswith(".bn1") and f"layer{last}" not in path for path in dubin)
    plain = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert plain == 2 * len(dual)  # every BatchNorm is one of a pair
    everywhere = convert(build(name, 10, 0), "dual_bn")
    assert sum(isinstance(module, DualBatchNorm2d) for module in everywhere.modules()) == sum(PLACES[name])
    assert not any(isinstance(module, DuBIN) for module in everywhere.modules())


def test_a_network_without_named_stages_gets_dual_batch_norm_everywhere() -> None:
    net = build("timm:mobilenetv3_small_050", 10, 0)
    count = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    convert(net, "dubin")
    assert sum(isinstance(module, DualBatchNorm2d) for module in net.modules()) == count > 0
    assert not any(isinstance(module, DuBIN) for module in net.modules())


@pytest.mark.parametrize("kind", ["dubin", "dual_bn", "plain"])
def test_conversion_draws_nothing_and_happens_once(kind: DualNorm) -> None:
    net = build("wrn_16_4", 10, 0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert convert(net, kind) is net
    assert torch.equal(torch.get_rng_state(), state)
    before = [path for path, _ in net.named_modules()]
    convert(net, kind)
    assert [path for path, _ in net.named_modules()] == before


@pytest.mark.parametrize("kind", ["dubin", "dual_bn", "plain"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if "convnet" in name])
def test_networks_without_batch_norm_are_left_alone(name: str, kind: DualNorm) -> None:
    net = build(name, 10, 0)
    modules, state = list(net.modules()), copy.deepcopy(net.state_dict())
    convert(net, kind)
    assert all(a is b for a, b in zip(net.modules(), modules, strict=True))
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    with route(net, "A"):
        assert not has_batch_norm(net)


def test_dual_batch_norm_starts_as_the_network_it_was() -> None:
    net, x = build("resnet18_cifar", 10, 0), torch.rand(4, 3, 32, 32)
    converted = convert(copy.deepcopy(net), "dual_bn")
    for to in get_args(Route):
        with route(converted, to):
            torch.testing.assert_close(converted(x), net(x), rtol=0, atol=0)


def test_the_route_is_restored_even_after_an_error() -> None:
    layer, seen = DualBatchNorm2d(nn.BatchNorm2d(2)), []

    def fail_on_the_way() -> None:
        seen.append(layer.route)
        with route(layer, "A"):
            seen.append(layer.route)
            with route(layer, "M"):
                seen.append(layer.route)
            seen.append(layer.route)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_on_the_way()
    assert [*seen, layer.route] == ["M", "A", "M", "A", "M"]


def test_every_parameter_gets_a_gradient_from_its_own_route_only() -> None:
    net = convert(build("wrn_16_4", 10, 0), "dubin")
    with route(net, "A"):
        net(torch.rand(2, 3, 32, 32)).sum().backward()
    silent = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    assert silent == {name for name, _ in net.named_parameters() if ".main." in name}


def test_views_are_normalised_each_by_itself_unless_joint() -> None:
    views = list(torch.rand(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    separate: Any = build("wrn_16_4", 10, 0)
    joint: Any = build("wrn_16_4", 10, 0)
    apart = forward_views(separate, views)
    together = forward_views(joint, views, joint=True)
    again = build("wrn_16_4", 10, 0)
    for view, logits in zip(views, apart, strict=True):
        torch.testing.assert_close(logits, again(view), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat(together), build("wrn_16_4", 10, 0)(torch.cat(views)), rtol=0, atol=0)
    assert not torch.allclose(apart[0], together[0], atol=1e-3)
    assert (used(separate.trunk.bn)[2], used(joint.trunk.bn)[2]) == (3, 1)


def test_without_batch_norm_one_pass_gives_the_same_numbers() -> None:
    net, passes = build("mini_convnet", 10, 0), []
    net.register_forward_hook(lambda module, args, output: passes.append(len(args[0])))
    views = list(torch.rand(3, 4, 3, 32, 32))
    one = forward_views(net, views)
    assert passes == [12]
    for view, logits in zip(views, one, strict=True):
        torch.testing.assert_close(logits, net(view), rtol=1e-5, atol=1e-6)
