"""AugMax: the attack on the mixing parameters against the original's numbers, its stopping rules, and the step."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import Rng
from benchmark.networks.classifiers import build
from benchmark.networks.dual_norm import DualBatchNorm2d, DuBIN, route
from benchmark.ops.attacks.mix import AscentDraws, AttackedMix, EarlyStop, attack_mixing, sample_start
from benchmark.ops.augmix import apply_chains, sample_mix
from benchmark.ops.kernels.augment_mix import mix, to_uint8
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from tests.conftest import Golden, golden_cases, golden_net
from tests.making import made

pytestmark = pytest.mark.usefixtures("seeded")
make = partial(made, "augmax")


def images_of(arrays: Golden) -> tuple[Tensor, Tensor]:
    """Clean images [B,3,H,W] and chains [B,W,3,H,W] in [0,1]."""
    stacked = torch.from_numpy(arrays["xs_u8"]).permute(1, 0, 4, 2, 3).float() / 255
    return stacked[:, 0], stacked[:, 1:]


def replay(arrays: Golden, case: str) -> tuple[AttackedMix, nn.Module, Tensor]:
    """Our attack on a golden case with its injected draws: (what it found, network, labels)."""
    steps, step_size, tau, noise_level, targeted = arrays[f"{case}/config"].tolist()
    net, (clean, chains) = golden_net(arrays), images_of(arrays)
    y = torch.from_numpy(arrays["labels"]).long()
    noise = None
    if noise_level:
        scaled = (noise_level * torch.from_numpy(arrays[f"{case}/{name}"]) for name in ("noise_m", "noise_q"))
        noise = AscentDraws(*scaled)
    found = attack_mixing(
        net, clean, chains, y,
        AscentDraws(*(torch.from_numpy(arrays[f"{case}/{name}"]) for name in ("m_init", "q_init"))),
        steps=int(steps), step_size=round(step_size, 6), tau=None if tau < 0 else int(tau), noise=noise,
        early_stop="per_sample" if case.endswith("_fixedfreeze") else "reference",
        targets=torch.from_numpy(arrays["targets"]).long() if targeted else None,
    )  # fmt: skip
    return found, net, y


# Against the original's numbers.


def test_mixing_parity(golden: Callable[[str], Golden]) -> None:
    arrays = golden("augmax")
    clean, chains = images_of(arrays)
    weights = {
        "mix": torch.from_numpy(arrays["mix/q"]).softmax(dim=1),
        "augmix_module": torch.from_numpy(arrays["augmix_module/w"]),
    }
    for name, w in weights.items():
        ours = mix(clean, chains, w, torch.from_numpy(arrays[f"{name}/m"]))
        theirs = torch.from_numpy(arrays[f"{name}/out_mean"])
        torch.testing.assert_close(ours.mean((2, 3)), theirs, rtol=0, atol=1e-6)
        if name == "mix":
            torch.testing.assert_close(ours[2:3], torch.from_numpy(arrays["mix/out_2"]), rtol=0, atol=1e-6)
        else:
            theirs = torch.from_numpy(arrays["augmix_module/out_0_ch0"])
            torch.testing.assert_close(ours[:1, :1], theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", golden_cases("augmax"))
def test_attack_parity(golden: Callable[[str], Golden], case: str) -> None:
    arrays = golden("augmax")
    found, net, y = replay(arrays, case)
    theirs = {
        name: torch.from_numpy(np.asarray(arrays[f"{case}/{name}"]))
        for name in ("m_steps", "q_steps", "grad_m", "grad_q", "loss_steps", "misclassified", "final_ce_sum",
                     "x_final_0_ch0", "x_final_mean")
    }  # fmt: skip
    done = found.steps
    assert len(done) == len(theirs["loss_steps"])
    m = torch.stack([*(step.m for step in done), found.m])
    q = torch.stack([*(step.q for step in done), found.q])
    torch.testing.assert_close(m, theirs["m_steps"][: len(m)], rtol=0, atol=1e-5)
    torch.testing.assert_close(q, theirs["q_steps"][: len(q)], rtol=0, atol=1e-5)
    for name in ("grad_m", "grad_q"):
        ours = torch.stack([getattr(step, name) for step in done])
        torch.testing.assert_close(ours, theirs[name], rtol=1e-4, atol=1e-4)
        assert torch.equal(ours.sign(), theirs[name].sign())
    torch.testing.assert_close(torch.stack([step.loss for step in done]), theirs["loss_steps"], rtol=0, atol=1e-3)
    wrong = torch.stack([step.wrong for step in done])
    assert torch.equal(wrong, theirs["misclassified"][: len(done)].bool())
    torch.testing.assert_close(found.x[:1, :1], theirs["x_final_0_ch0"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.x.mean((2, 3)), theirs["x_final_mean"], rtol=0, atol=1e-5)
    with torch.no_grad():
        final = F.cross_entropy(net(found.x), y, reduction="sum")
    torch.testing.assert_close(final, theirs["final_ce_sum"], rtol=0, atol=1e-3)


# Stopping rules, on a network whose answer to every step is known.


class Brightness(nn.Module):
    """Two classes: the second one's logit is by how much the mean pixel exceeds a threshold. Counts its passes."""

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold, self.passes = threshold, 0
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        margin = self.scale * (x.mean((1, 2, 3)) - self.threshold)
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


def bright_chains(m: list[float], size: int = 4) -> tuple[Tensor, Tensor, Tensor, AscentDraws]:
    """Black images with white chains: the mixture's brightness is m, so class 0 is lost when m passes the threshold."""
    batch = len(m)
    start = AscentDraws(torch.tensor(m), torch.rand(batch, 3))
    return torch.zeros(batch, 3, size, size), torch.ones(batch, 3, 3, size, size), torch.zeros(batch).long(), start


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_per_sample_freezes_each_image_when_its_budget_is_spent(tau: int) -> None:
    """At step 0.1 these images are first seen misclassified at passes 0, 2 and 4, and the last never."""
    begin, flips = [0.55, 0.35, 0.15, 0.0], [0, 2, 4, None]
    found = attack_mixing(Brightness(), *bright_chains(begin), steps=5 + tau, tau=tau, early_stop="per_sample")
    m = torch.stack([*(step.m for step in found.steps), found.m])
    for i, flip in enumerate(flips[:3]):
        assert flip is not None
        assert [bool(step.wrong[i]) for step in found.steps[: flip + 1]] == [False] * flip + [True]
        stop = flip + tau - 1  # passes flip .. flip + tau - 1 spend the budget
        assert bool((m[stop:, i] == m[stop, i]).all())
        assert m[stop, i].item() == pytest.approx(begin[i] + 0.1 * stop, abs=1e-6)
        q = torch.stack([*(step.q[i] for step in found.steps), found.q[i]])
        assert bool((q[stop:] == q[stop]).all())
    assert m[-1, 3].item() == pytest.approx(min(1, 0.1 * len(found.steps)), abs=1e-6)


@pytest.mark.parametrize("tau", [1, 2])
def test_reference_moves_every_image_until_the_whole_batch_is_out_of_budget(tau: int) -> None:
    """The released freeze masks a copy, so it has no effect; only the stop of the batch is left."""
    begin = [0.55, 0.35]  # wrong from pass 0, and from pass 2
    net = Brightness()
    found = attack_mixing(net, *bright_chains(begin), steps=10, tau=tau)
    updates = 2 + tau - 1
    assert len(found.steps) == updates
    assert net.passes == updates + 1  # the pass that finds the batch spent makes no update
    torch.testing.assert_close(found.m, torch.tensor(begin) + 0.1 * updates)
    frozen = attack_mixing(Brightness(), *bright_chains(begin), steps=10, tau=tau, early_stop="per_sample")
    assert frozen.m[0] < found.m[0]
    assert frozen.m[1] == found.m[1]


def test_a_batch_that_is_wrong_from_the_start_is_not_moved() -> None:
    clean, chains, y, start = bright_chains([0.6, 0.7])
    for early_stop in get_args(EarlyStop):
        found = attack_mixing(Brightness(), clean, chains, y, start, tau=1, early_stop=early_stop)
        assert found.steps == ()
        assert torch.equal(found.x, mix(clean, chains, start.q.softmax(dim=1), start.m))


def test_pgd_takes_every_step() -> None:
    found = attack_mixing(Brightness(), *bright_chains([0.6, 0.1]), steps=4, tau=None)
    torch.testing.assert_close(found.m, torch.tensor([1.0, 0.5]))  # clamped at 1
    assert len(found.steps) == 4


def test_a_target_is_approached_while_the_budget_counts_the_label() -> None:
    clean, chains, _, start = bright_chains([0.4])
    away = torch.ones(1).long()  # moving towards class 0 darkens, whatever the label
    found = attack_mixing(Brightness(), clean, chains, away, start, steps=3, tau=None, targets=torch.zeros(1).long())
    assert found.m.item() == pytest.approx(0.1, abs=1e-6)
    assert [bool(step.wrong[0]) for step in found.steps] == [True] * 3
    assert attack_mixing(Brightness(), clean, chains, away, start, tau=1, targets=torch.zeros(1).long()).steps == ()


def test_noise_is_added_to_the_signs() -> None:
    clean, chains, y, start = bright_chains([0.2])
    noise = AscentDraws(torch.full((2, 1), 0.5), torch.full((2, 1, 3), 0.25))
    found = attack_mixing(Brightness(), clean, chains, y, start, steps=2, step_size=0.1, tau=None, noise=noise)
    assert found.m.item() == pytest.approx(0.2 + 2 * 0.1 * 1.5, abs=1e-6)
    torch.testing.assert_close(found.q, start.q + 2 * 0.1 * (found.steps[0].grad_q.sign() + 0.25))


@pytest.mark.parametrize("early_stop", ["reference", "per_sample"])
@pytest.mark.parametrize("training", [True, False])
def test_attack_leaves_everything_as_found(early_stop: Any, training: bool) -> None:
    net: Any = make().wrap(build("wrn_16_4", 4, 0)).train(training)
    net.head.weight.requires_grad_(False)
    net.trunk.layer1.train(not training)
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    x, y = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    chains, start = torch.rand(2, 3, 3, 32, 32), sample_start(2, 3, torch.Generator().manual_seed(0))
    given = [value.clone() for value in (x, chains, start.m, start.q)]
    with torch.no_grad():  # the picture sheet asks for views without gradients
        found = attack_mixing(net, x, chains, y, start, steps=2, tau=None, early_stop=early_stop)
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, buffers[name]) for name, value in net.named_buffers())
    assert all(torch.equal(a, b) for a, b in zip(given, (x, chains, start.m, start.q), strict=True))
    assert not any(value.requires_grad for value in (found.x, found.m, found.q))


@given(
    seed=st.integers(0, 999),
    batch=st.integers(1, 5),
    steps=st.integers(1, 4),
    early_stop=st.sampled_from(["pgd", "per_sample"]),
)
@settings(deadline=None, max_examples=25)
def test_images_are_attacked_independently(seed: int, batch: int, steps: int, early_stop: Any) -> None:
    """Without the batch's stop, an image's attack is the same alone, in company and in any order."""
    generator = torch.Generator().manual_seed(seed)
    net = build("mini_convnet", 4, seed)
    x, chains = torch.rand(batch, 3, 32, 32, generator=generator), torch.rand(batch, 3, 3, 32, 32, generator=generator)
    y, start = torch.randint(0, 4, (batch,), generator=generator), sample_start(batch, 3, generator)
    options: dict[str, Any] = {"tau": None} if early_stop == "pgd" else {"tau": 1, "early_stop": "per_sample"}
    together = attack_mixing(net, x, chains, y, start, steps=steps, **options)
    order = torch.randperm(batch, generator=generator)
    shuffled = AscentDraws(start.m[order], start.q[order])
    moved = attack_mixing(net, x[order], chains[order], y[order], shuffled, steps=steps, **options)
    alone = attack_mixing(net, x[:1], chains[:1], y[:1], AscentDraws(start.m[:1], start.q[:1]), steps=steps, **options)
    torch.testing.assert_close(moved.x, together.x[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.x, together.x[:1], rtol=0, atol=1e-5)
    assert bool(((together.m >= 0) & (together.m <= 1)).all())


def test_the_attack_raises_the_loss() -> None:
    net, y = build("mini_convnet", 4, 0), torch.arange(8) % 4
    x, chains = torch.rand(8, 3, 32, 32), torch.rand(8, 3, 3, 32, 32)
    found = attack_mixing(net, x, chains, y, sample_start(8, 3, torch.Generator().manual_seed(0)), tau=None)
    with torch.no_grad():
        assert F.cross_entropy(net(found.x), y, reduction="sum") > found.steps[0].loss


def test_start_draws_m_before_q_uniformly() -> None:
    start = sample_start(5000, 3, torch.Generator().manual_seed(1))
    stream = torch.Generator().manual_seed(1)
    assert torch.equal(start.m, torch.rand(5000, generator=stream))
    assert torch.equal(start.q, torch.rand(5000, 3, generator=stream))


# The method.


def reference_step(method: Any, net: nn.Module, x: Tensor, y: Tensor, rng: Rng) -> tuple[Tensor, list[Tensor]]:
    """The step, written out: two sets of chains, the attack along route A, three forwards one after another."""
    draws = sample_mix(2 * len(x), rng.generator("chains"), severity=method.severity, width=method.width)
    chains = apply_chains(to_uint8(torch.cat([x, x])), draws).float() / 255
    with route(net, "A"):
        start = sample_start(len(x), method.width, rng.generator("ascent"))
        tau = method.tau if method.attacker == "fat" else None
        x_adv = attack_mixing(
            net, x, chains[: len(x)], y, start, steps=method.steps, tau=tau, early_stop=method.early_stop
        ).x
    x_mix = mix(x, chains[len(x) :], draws.w[len(x) :], draws.m[len(x) :])
    with route(net, "A"):
        o1 = net(x_adv)
    o2 = net(x_mix)
    o0 = net(x)
    return F.cross_entropy(o0, y) + method.lam * jensen_shannon(o0, o1, o2), [x_adv, x_mix]


@pytest.mark.parametrize("name", ["mini_convnet", "wrn_16_4"])
@pytest.mark.parametrize("options", [{}, {"attacker": "pgd", "lam": 1.0}, {"early_stop": "per_sample", "steps": 2}])
def test_step_is_the_algorithm(name: str, options: dict[str, Any]) -> None:
    method = make(**options)
    net, other = method.wrap(build(name, 4, 0)), method.wrap(build(name, 4, 0))
    x, y = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2])
    loss = method.loss(net, x, y, Rng(5), {})
    expected, views = reference_step(method, other, x, y, Rng(5))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for (name_a, a), (name_b, b) in zip(net.named_buffers(), other.named_buffers(), strict=True):
        assert name_a == name_b
        assert torch.equal(a, b), name_a
    again = method.views(net if name == "mini_convnet" else build(name, 4, 0), x, y, Rng(5), {})
    torch.testing.assert_close(again[1], views[1], rtol=0, atol=0)
    if name == "mini_convnet":
        torch.testing.assert_close(again[0], views[0], rtol=0, atol=0)


def test_batch_norm_a_sees_the_attacked_images_once_and_m_the_others_twice() -> None:
    method = make(steps=1)
    net = method.wrap(build("wrn_16_4", 4, 0))
    method.loss(net, torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), Rng(0), {})
    duals = [module for module in net.modules() if isinstance(module, DualBatchNorm2d)]
    assert duals
    for dual in duals:
        assert int(dual.adversarial.num_batches_tracked or 0) == 1
        assert int(dual.main.num_batches_tracked or 0) == 2
        assert dual.route == "M"


def test_evaluation_uses_the_main_route() -> None:
    net = make().wrap(build("wrn_16_4", 4, 0)).eval()
    x = torch.rand(2, 3, 32, 32)
    before = net(x)
    for module in net.modules():
        if isinstance(module, DualBatchNorm2d):
            nn.init.constant_(module.adversarial.weight, 5.0)
    assert torch.equal(net(x), before)
    with route(net, "A"):
        assert not torch.allclose(net(x), before)


@pytest.mark.parametrize(("kind", "dubin", "dual"), [("dubin", 4, 13), ("dual_bn", 0, 13), ("plain", 0, 0)])
def test_wrap_for_networks_with_batch_norm(kind: str, dubin: int, dual: int) -> None:
    net = make(dual_norm=kind).wrap(build("wrn_16_4", 4, 0))
    assert sum(isinstance(module, DuBIN) for module in net.modules()) == dubin
    assert sum(isinstance(module, DualBatchNorm2d) for module in net.modules()) == dual


def test_wrap_leaves_a_network_without_batch_norm_as_it_is() -> None:
    net = build("mini_convnet", 4, 0)
    modules = list(net.modules())
    assert make().wrap(net) is net
    assert all(a is b for a, b in zip(net.modules(), modules, strict=True))


@pytest.mark.parametrize("name", ["mini_convnet", "wrn_16_4"])
def test_without_consistency_it_is_erm(name: str) -> None:
    x, y = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2])
    net, other, passes = build(name, 4, 0), build(name, 4, 0), []
    net.register_forward_hook(lambda module, args, output: passes.append(1))
    assert torch.equal(make(lam=0.0).loss(net, x, y, Rng(0), {}), F.cross_entropy(other(x), y))
    assert len(passes) == 1


def test_forward_passes_are_as_documented() -> None:
    """Three, and one an attack step; merged into one where nothing couples the images."""
    for name, forwards in {"mini_convnet": 5 + 1, "wrn_16_4": 5 + 3}.items():
        net, images = build(name, 4, 0), list[int]()
        net.register_forward_hook(lambda module, args, output, images=images: images.append(len(args[0])))
        make(attacker="pgd").loss(net, torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), Rng(0), {})
        assert len(images) == forwards
        assert sum(images) == 2 * make().passes


@pytest.mark.parametrize(
    "setting",
    [
        {"step_size": 0.4}, {"tau": 1}, {"severity": 6.0}, {"all_ops": True}, {"depth": 1}, {"width": 2}, {"steps": 1},
        {"attacker": "pgd"},
    ],
)  # fmt: skip
def test_each_setting_changes_the_attacked_image(setting: dict[str, Any]) -> None:
    """The network is wrong about all images from the start, so that an attack of tau 3 ends at its third sight."""
    x, net, plain = torch.rand(4, 3, 32, 32), build("mini_convnet", 4, 0), {"tau": 3}
    y = net(x).argmin(dim=1)
    first, other = (make(**plain | options).views(net, x, y, Rng(0), {})[0] for options in ({}, setting))
    assert not torch.equal(first, other)


def test_the_two_views_come_from_different_chains() -> None:
    """With m forced to one and the same weights, equal chains would give equal views."""
    x, y, net = torch.rand(4, 3, 32, 32), torch.zeros(4).long(), build("mini_convnet", 4, 0)
    method: Any = make()
    draws = sample_mix(8, Rng(0).generator("chains"))
    assert not torch.equal(draws.op[:4], draws.op[4:])
    x_adv, x_mix = method.views(net, x, y, Rng(0), {})
    assert not torch.allclose(x_adv, x_mix, atol=1e-2)
    for view in (x_adv, x_mix):
        assert view.shape == x.shape
        assert not view.requires_grad
        assert 0 <= float(view.min()) <= float(view.max()) <= 1 + 1e-6


def test_the_attack_goes_along_route_a_and_so_does_its_result() -> None:
    method: Any = make(steps=2, attacker="pgd")
    net, routes = method.wrap(build("wrn_16_4", 4, 0)), list[str]()
    dual = next(module for module in net.modules() if isinstance(module, DualBatchNorm2d))
    dual.register_forward_hook(lambda *_: routes.append(dual.route))
    method.loss(net, torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), Rng(0), {})
    assert routes == ["A", "A", "A", "M", "M"]
