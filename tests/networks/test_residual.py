"""The residual networks, the timm networks, and that building one draws from its seed alone."""

import math
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.core.errors import UsageError
from benchmark.networks.classifiers import NETWORKS, Classifier, build
from benchmark.networks.residual import BasicBlock, PreActBlock

RESIDUAL = {"wrn_40_2": 40, "wrn_16_4": 16, "resnet18_cifar": 18}
pytestmark = pytest.mark.usefixtures("seeded")


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def wide_resnet_parameters(depth: int, widen: int, classes: int) -> int:
    """Counted by hand: 3x3 convolutions, 1x1 shortcuts where the width changes, two norms a block, one at the end."""
    widths = [16, 16 * widen, 32 * widen, 64 * widen]
    total = 3 * 9 * 16 + 2 * widths[-1] + (widths[-1] + 1) * classes
    for inputs, outputs in pairwise(widths):
        first = 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2 + inputs * outputs
        total += first + ((depth - 4) // 6 - 1) * (4 * outputs + 18 * outputs**2)
    return total


@pytest.mark.parametrize("classes", [10, 7])
def test_parameter_counts(classes: int) -> None:
    assert parameters(build("wrn_40_2", classes, 0)) == wide_resnet_parameters(40, 2, classes)
    assert parameters(build("wrn_16_4", classes, 0)) == wide_resnet_parameters(16, 4, classes)
    # Known from the literature, independent of the derivation above.
    assert wide_resnet_parameters(40, 2, 10) == 2_243_546
    assert parameters(build("resnet18_cifar", classes, 0)) == 11_173_962 + 513 * (classes - 10)


@pytest.mark.parametrize("name", RESIDUAL)
def test_shapes_cut_and_depth(name: str) -> None:
    net: Any = build(name, 7, 0).eval()
    x, p = torch.rand(2, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        logits, z = net(x, features=True)
        assert logits.shape == (2, 7)
        assert z.shape == (2, net.head.in_features)
        torch.testing.assert_close(net(x), logits, rtol=0, atol=0)
        cut = net.embed(x) + net.stem(p / net.std)
        torch.testing.assert_close(net.head(net.trunk(cut)), net(x + p), rtol=1e-4, atol=1e-5)
        sizes = [
            stage(net.embed(x)).shape[2]
            for stage in [nn.Identity(), net.trunk[: list(net.trunk._modules).index("pool")]]
        ]
    assert sizes == [32, 8 if name.startswith("wrn") else 4]
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    if name.startswith("wrn"):  # a WRN's depth counts its shortcuts and not its head, a ResNet's the other way round
        assert len(convolutions) == RESIDUAL[name]
    else:
        assert sum(conv.kernel_size == (3, 3) for conv in convolutions) + 1 == RESIDUAL[name]
    assert all(conv.bias is None for conv in net.modules() if isinstance(conv, nn.Conv2d))


def test_the_trunk_leaves_its_input_alone() -> None:
    for name in RESIDUAL:
        net = build(name, 10, 0)
        embedded = net.embed(torch.rand(2, 3, 32, 32)).detach()
        before = embedded.clone()
        net.trunk(embedded)
        assert torch.equal(embedded, before), name


def test_wide_resnet_initialisation() -> None:
    net = build("wrn_40_2", 10, 0)
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        expected = math.sqrt(2 / (conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels))
        margin = 5 / math.sqrt(2 * conv.weight.numel())  # five standard errors of a standard deviation
        assert conv.weight.std().item() == pytest.approx(expected, rel=margin)
        assert abs(conv.weight.mean().item()) < 5 * expected / math.sqrt(conv.weight.numel())
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.weight is not None
        assert bool((norm.weight == 1).all() and (norm.bias == 0).all())
    assert bool((net.head.bias == 0).all())


def test_preactivation_blocks_share_the_activation_only_where_the_width_changes() -> None:
    """With the residual branch silenced, a block is its shortcut: of the activated input, or of the input itself."""
    net: Any = build("wrn_16_4", 10, 0).eval()
    stage = net.trunk.layer1
    x = torch.randn(2, 16, 8, 8)
    for block in stage:
        nn.init.zeros_(block.conv2.weight)
    with torch.no_grad():
        projected = stage[0].shortcut(stage[0].bn1(x).relu())
        torch.testing.assert_close(stage[0](x), projected, rtol=0, atol=0)
        assert stage[1].shortcut is None
        torch.testing.assert_close(stage[1](projected), projected, rtol=0, atol=0)


@pytest.mark.parametrize("name", [*NETWORKS, "timm:resnet18"])
def test_weights_come_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = build(name, 5, 1), build(name, 5, 1), build(name, 5, 2)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_timm_networks_give_logits_and_penultimate_features() -> None:
    """mobilenetv3 has a layer between pooling and head, so its features are wider than its feature map."""
    for name, width in {"timm:resnet18": 512, "timm:mobilenetv3_small_050": 1024}.items():
        net = build(name, 7, 0).eval()
        x = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            logits, z = net(x, features=True)
            torch.testing.assert_close(net.head(z), logits, rtol=0, atol=0)
            torch.testing.assert_close(net.trunk((x - net.mean) / net.std), z, rtol=0, atol=0)
        assert logits.shape == (2, 7)
        assert z.shape == (2, width)
        torch.testing.assert_close(net.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
        torch.testing.assert_close(net.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrn_40", "unknown network 'wrn_40': did you mean 'wrn_40_2'"),
        ("tim:resnet18", "unknown network 'tim:resnet18'.*timm:NAME"),
        ("timm:resnt18", "unknown timm network 'resnt18': did you mean 'resnet18'"),
        ("timm:resnet18.a1_in2k", "did you mean 'resnet18.a1_in1k'"),
        ("timm:", "unknown timm network ''"),
        ("timm:qqqqqqqqqqqq", "list_models"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(name, 10, 0)


def test_normalisation_is_per_channel() -> None:
    parts = nn.Identity(), nn.Flatten(), nn.Linear(12, 2)
    one = Classifier(*parts, mean=0.5, std=0.25)
    each = Classifier(*parts, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    x = torch.rand(1, 3, 2, 2)
    torch.testing.assert_close(one.embed(x), (x - 0.5) / 0.25, rtol=0, atol=0)
    torch.testing.assert_close(each.embed(x)[0, 2], (x[0, 2] - 0.3) / 4)
    assert one.mean.shape == each.std.shape == (3, 1, 1)


def test_networks_are_imported_without_timm(subprocess_modules: list[str]) -> None:
    assert "benchmark.networks" in subprocess_modules
    assert "timm" not in subprocess_modules


@pytest.fixture
def subprocess_modules() -> list[str]:
    import subprocess

    code = "import sys, benchmark.networks; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("name", "mean"),
    [("digits_convnet", 0.5), ("digits_convnet_01", 0.0), ("digits_convnet_tf", 0.0), ("mini_convnet", 0.5),
     ("wrn_40_2", 0.5), ("wrn_40_2_01", 0.0), ("wrn_16_4", 0.5), ("resnet18_cifar", 0.5)],
)  # fmt: skip
def test_inputs_are_scaled_or_left(name: str, mean: float) -> None:
    net = build(name, 4, 0)
    assert net.mean.flatten().tolist() == [mean] * 3
    assert net.std.flatten().tolist() == [1 - mean] * 3


def test_every_network_has_its_scaling_in_a_test() -> None:
    (marks,) = test_inputs_are_scaled_or_left.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks.args[1]} == set(NETWORKS)


def test_blocks_are_their_formulas() -> None:
    relu, x = nn.functional.relu, torch.randn(3, 4, 8, 8)
    basic = BasicBlock(4, 4, 1).eval()
    want = relu(basic.bn2(basic.conv2(relu(basic.bn1(basic.conv1(x))))) + x)
    torch.testing.assert_close(basic(x), want)
    wider = BasicBlock(4, 6, 2).eval()
    assert wider.shortcut is not None
    want = relu(wider.bn2(wider.conv2(relu(wider.bn1(wider.conv1(x))))) + wider.shortcut(x))
    torch.testing.assert_close(wider(x), want)
    before = PreActBlock(4, 4, 1).eval()
    want = x + before.conv2(relu(before.bn2(before.conv1(relu(before.bn1(x))))))
    torch.testing.assert_close(before(x.clone()), want)


@pytest.mark.parametrize(
    ("name", "sizes"), [("wrn_40_2", [32, 16, 8]), ("wrn_16_4", [32, 16, 8]), ("resnet18_cifar", [32, 16, 8, 4])]
)
def test_a_stage_halves_the_image_in_its_first_convolution(name: str, sizes: list[int]) -> None:
    net: Any = build(name, 10, 0).eval()
    seen: list[int] = []
    for stage in range(1, len(sizes) + 1):
        first = getattr(net.trunk, f"layer{stage}")[0].conv1
        first.register_forward_hook(lambda module, args, output: seen.append(output.shape[2]))
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
    assert seen == sizes
