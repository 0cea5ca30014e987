"""AugMix: its loss against the released code's numbers and by hand, its settings, and its views."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import Rng
from benchmark.networks.classifiers import build
from benchmark.ops.augmix import NINE, OPS, augmix_view, sample_mix
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from tests.conftest import Golden
from tests.making import made

make = partial(made, "augmix")


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (6, 3, 32, 32), generator=generator).float() / 255
    return x, torch.tensor([0, 1, 2, 3, 0, 1])


class Recorder(nn.Module):
    """Answers with given logits, whatever it is shown, and keeps what it was shown."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)  # [views, B, K]
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        start = sum(len(batch) for batch in self.shown)
        self.shown.append(x)
        return self.logits.flatten(0, 1)[start : start + len(x)]


class WithBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head((self.norm(x) ** 2).mean(dim=(2, 3)))
        return logits


def test_loss_parity(golden: Callable[[str], Golden]) -> None:
    """Value and gradient of the method's own loss on the recorded logits of clean, first and second view."""
    arrays = golden("augmix_ops")
    cases = sorted({key.split("/")[1] for key in arrays if key.startswith("jsd/")})
    assert cases
    for case in cases:
        part = {key.rpartition("/")[2]: value for key, value in arrays.items() if key.startswith(f"jsd/{case}/")}
        logits, y = torch.from_numpy(part["logits"]), torch.from_numpy(part["targets"]).long()
        net = Recorder(logits)
        total = make().loss(net, torch.rand(len(y), 3, 8, 8), y, Rng(0), {})
        torch.testing.assert_close(total.item(), float(part["total_loss"]), rtol=1e-6, atol=1e-6)
        total.backward()
        clean = torch.from_numpy(part["logits"])[0].requires_grad_()
        F.cross_entropy(clean, y).backward()
        assert net.logits.grad is not None
        assert clean.grad is not None
        consistency = net.logits.grad.clone()
        consistency[0] -= clean.grad
        torch.testing.assert_close(consistency, torch.from_numpy(part["grad_x12"]), rtol=1e-5, atol=1e-6)
        again = torch.from_numpy(part["logits"]).double().requires_grad_()  # in float32 processors differ by 1e-7
        term = 12 * jensen_shannon(*again)
        term.backward()
        torch.testing.assert_close(term.item(), float(part["consistency_x12"]), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(again.grad, torch.from_numpy(part["grad_x12"]).double(), rtol=1e-5, atol=1e-7)


def test_loss_by_hand(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, method, rng = build("mini_convnet", 4, 0), make(lam=5.0), Rng(3, 7)
    views = method.views(net, x, y, rng, {})
    p = torch.stack([net(images).double().softmax(dim=1) for images in (x, *views)])
    mean = p.mean(dim=0)
    divergence = sum((q * (q / mean).log()).sum(dim=1).mean() for q in p) / 3
    want = -p[0, torch.arange(len(y)), y].log().mean() + 5 * divergence
    torch.testing.assert_close(method.loss(net, x, y, rng, {}).double(), want, rtol=1e-5, atol=1e-6)


def test_no_jsd_is_cross_entropy_on_one_view(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, rng = build("mini_convnet", 4, 0), Rng(3, 7)
    (view,) = make(jsd=False).views(net, x, y, rng, {})
    assert not torch.equal(view, x)
    assert torch.equal(make(jsd=False).loss(net, x, y, rng, {}), F.cross_entropy(net(view), y))
    assert torch.equal(view, make().views(net, x, y, rng, {})[0])


def test_weight_0_is_erm(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, want = Recorder(torch.randn(3, len(y), 4)), build("mini_convnet", 4, 0)
    assert torch.equal(make(lam=0.0).loss(net, x, y, Rng(0), {}), F.cross_entropy(net.logits[0], y))
    loss = make(lam=0.0).loss(want, x, y, Rng(0), {})
    torch.testing.assert_close(loss, F.cross_entropy(want(x), y), rtol=1e-6, atol=0)


def test_joint_is_one_pass_and_shares_batch_statistics(batch: tuple[Tensor, Tensor]) -> None:
    """Released: BatchNorm moves once, by the statistics of 3B images. Separate: three times, clean first."""
    x, y = batch
    rng, joint, separate = Rng(0, 5), WithBatchNorm(), WithBatchNorm()
    separate.load_state_dict(joint.state_dict())
    v1, v2 = make().views(joint, x, y, rng, {})
    first = make().loss(joint, x, y, rng, {})
    second = make(bn_batching="separate").loss(separate, x, y, rng, {})
    assert not torch.isclose(first, second, rtol=1e-4)
    assert joint.norm.num_batches_tracked == torch.tensor(1)
    assert separate.norm.num_batches_tracked == torch.tensor(3)
    assert joint.norm.running_mean is not None
    assert separate.norm.running_mean is not None
    torch.testing.assert_close(joint.norm.running_mean, 0.1 * torch.cat([x, v1, v2]).mean(dim=(0, 2, 3)))
    moved = torch.zeros(3)
    for images in (x, v1, v2):
        moved = 0.9 * moved + 0.1 * images.mean(dim=(0, 2, 3))
    torch.testing.assert_close(separate.norm.running_mean, moved)


def test_without_batch_norm_joint_and_separate_agree(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net = build("mini_convnet", 4, 0)
    losses = [make(bn_batching=how).loss(net, x, y, Rng(0), {}) for how in ("joint", "separate")]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


def test_network_sees_clean_images_then_the_views(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, rng = Recorder(torch.randn(3, len(y), 4)), Rng(1, 2)
    make().loss(net, x, y, rng, {})
    (shown,) = net.shown
    assert torch.equal(shown, torch.cat([x, *make().views(net, x, y, rng, {})]))
    assert len(shown) == make().passes * len(x)


def test_views_are_independent_and_use_the_settings(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, rng = build("mini_convnet", 4, 0), Rng(1, 2)
    options: dict[str, Any] = {"severity": 7.0, "width": 2, "depth": 4, "alpha": 0.5}
    first, second = make(ops="all", **options).views(net, x, y, rng, {})
    assert not torch.equal(first, second)
    want = augmix_view(x, sample_mix(len(x), rng.generator("augmix/0"), ops=OPS, **options))
    assert torch.equal(first, want)
    for view in (first, second):
        assert view.shape == x.shape
        assert 0 <= float(view.min()) <= float(view.max()) <= 1 + 1e-6


def test_a_view_depends_on_its_own_image_alone(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, rng, changed = build("mini_convnet", 4, 0), Rng(1, 2), x.clone()
    changed[1:] = changed[1:].flip(0) * 0.5
    for view, other in zip(*(make(ops="all").views(net, images, y, rng, {}) for images in (x, changed)), strict=True):
        assert torch.equal(view[0], other[0])
        assert not torch.equal(view[1:], other[1:])


def test_permuting_the_labels_changes_the_loss_of_a_trained_answer(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    sure = 9 * F.one_hot(y, 4).float().expand(3, -1, -1)
    right, wrong = (make().loss(Recorder(sure), x, labels, Rng(0), {}) for labels in (y, (y + 1) % 4))
    assert right < 0.01
    assert wrong > 8


@pytest.mark.parametrize(("ops", "names"), [("nine", NINE), ("all", OPS), (("rotate", "color"), ("rotate", "color"))])
def test_operations_by_name(ops: Any, names: tuple[str, ...], batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    net, rng = build("mini_convnet", 4, 0), Rng(0)
    drawn = sample_mix(len(x), rng.generator("augmix/0"), ops=names)
    assert torch.equal(make(ops=ops).views(net, x, y, rng, {})[0], augmix_view(x, drawn))
