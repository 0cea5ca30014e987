"""ALT: five training steps of the released loop in float64, what each setting changes, and what is kept meanwhile."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import augmentation, protocols
from benchmark.core.errors import UsageError
from benchmark.method import Rng
from benchmark.ops.learned_views import consistency
from benchmark.ops.random_conv import sample_random_conv
from benchmark.ops.transformers import sample_biases, sample_weights
from tests.making import made
from tests.methods import learned_cases as cases

TOLERANCE = 1e-12
"""Of losses, weights and statistics after five steps in float64."""
make = partial(made, "alt", round_steps=cases.ROUND, pre_rounds=cases.PRE, adv_steps=3, adv_lr=0.01)


def convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan, out in ((3, 18), (18, 18), (18, 18), (18, 18), (18, 3)):
        layers += [nn.Conv2d(fan, out, 3, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1]).double()


def renew_biases(g: nn.Sequential, rng: Rng) -> None:
    for layer, bias in zip(g[::2], rng.draw("biases", sample_biases).split([18, 18, 18, 18, 3]), strict=True):
        layer.get_parameter("bias").data.copy_(bias)


def attack(
    tv: float = 1.0,
    low: float | None = 1e-4,
    mix: bool = False,
    adam: str = "kept",
    biases: str = "kept",
    w: float = 1,
    cut: bool = True,
) -> cases.View:
    """The released attack: one g and one optimiser for the run."""
    g = convolutions()
    renew_biases(g, Rng(0))
    optimizers = [torch.optim.Adam(g.parameters(), lr=0.01)]

    def shown(z: Tensor) -> Tensor:
        out: Tensor = g(z)
        out = out if low is None else out.clamp(low, 1)
        return 0.5 * z + 0.5 * out if mix else out

    def run(net: nn.Module, z: Tensor, y: Tensor, rng: Rng) -> tuple[Tensor, Tensor | None]:
        drawn = rng.draw("transformer", sample_weights)
        for layer, weight in zip(g[::2], [drawn.first, *drawn.middle, drawn.last], strict=True):
            layer.get_parameter("weight").data.copy_(weight)
        if biases == "renewed":
            renew_biases(g, rng)
        if adam == "reset":
            optimizers[0] = torch.optim.Adam(g.parameters(), lr=0.01)
        for _ in range(3):
            image = shown(z)
            down = (image[:, :, 1:] - image[:, :, :-1]).square().sum() / image[0, :, 1:].numel()
            right = (image[..., 1:] - image[..., :-1]).square().sum() / image[0, ..., 1:].numel()
            loss = -F.cross_entropy(net(image), y) + tv * 2 * (down + right) / len(z)
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
        if not w:
            return shown(z), None
        conv = rng.draw("random convolution", sample_random_conv, 1)
        blurred = F.conv2d(z, conv.weight[0].double(), padding=3)
        mixed = conv.alpha.item() * blurred + (1 - conv.alpha.item()) * z
        return shown(z), mixed.clamp(0, 1) if cut else mixed

    return run


@pytest.fixture(scope="module")
def by_default() -> nn.Module:
    """The network that the default settings train."""
    net = cases.network()
    cases.ours(make(), net)
    return net


@pytest.mark.parametrize(
    ("fields", "loop", "attacked"),
    [
        ({}, {}, {}),
        ({"stays_eval": False}, {"stays_eval": False}, {}),
        ({"adam": "reset"}, {}, {"adam": "reset"}),
        ({"biases": "renewed"}, {}, {"biases": "renewed"}),
        ({"clamp": "full", "tv": 3.0}, {}, {"low": -1.0, "tv": 3.0}),
        ({"clamp": "off", "mix": True}, {}, {"low": None, "mix": True}),
        ({"w": 0.0, "lam": 0.4}, {"w": 0.0, "lam": 0.4}, {"w": 0.0}),
        ({"w": 1.5}, {"w": 1.5}, {}),
        ({"clamp_random": "off"}, {}, {"cut": False}),
    ],
)
def test_five_steps_are_those_of_the_released_loop(
    fields: dict[str, Any],
    loop: dict[str, Any],
    attacked: dict[str, Any],
    by_default: nn.Module,
) -> None:
    one, two = cases.network(), cases.network()
    losses, _ = cases.ours(make(**fields), one)
    expected = cases.released(two, attack(**attacked), **loop)
    largest = max(cases.deviation(one, two), *(abs(a - b) for a, b in zip(losses, expected, strict=True)))
    assert largest < TOLERANCE, f"largest deviation: {largest}"
    if fields:  # and the setting is not without effect
        assert cases.deviation(one, by_default) > 1e-5


def test_law_of_the_network() -> None:
    """Weights N(0, 2 / fan in), biases as torch begins a convolution: U(-1,1) / sqrt(fan in)."""
    drawn = [sample_weights(torch.Generator().manual_seed(seed)) for seed in range(10)]
    for i, fan in enumerate((27, 162, 162, 162, 162)):
        layer = torch.stack([weights.layers()[i] for weights in drawn])
        assert layer.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.05)
        assert abs(layer.mean().item()) < 0.05 * math.sqrt(2 / fan)
    rows = torch.stack([sample_biases(torch.Generator().manual_seed(seed)) for seed in range(100)])
    for part, fan in zip(rows.split([18, 18, 18, 18, 3], dim=1), (27, 162, 162, 162, 162), strict=True):
        assert part.max().item() == pytest.approx(fan**-0.5, rel=0.03)
        assert part.min().item() == pytest.approx(-(fan**-0.5), rel=0.03)
        assert part.std().item() == pytest.approx((3 * fan) ** -0.5, rel=0.1)


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0])
def test_consistency_cuts_the_mean_where_all_are_sure(w: float) -> None:
    rows = [[30.0, 0, 1], [2.0, 0, 1]], [[20.0, 1, 0], [0.0, 1, 3]]
    logits = [torch.tensor(part, dtype=torch.float64) for part in rows]
    clean, learned = (F.softmax(part, 1) for part in logits)
    random = learned.flip(0)
    p_m = ((clean + w * random + (2 - w) * learned) / 3).clamp(1e-4, 1).log()
    kl = [F.kl_div(p_m, p, reduction="batchmean") for p in (clean, random, learned)]
    others = [logits[1], logits[1].flip(0)] if w else [logits[1]]
    expected = (kl[0] + w * kl[1] + (2 - w) * kl[2]) / 3
    torch.testing.assert_close(consistency(logits[0], others, w), expected, rtol=1e-12, atol=0)


def test_released_settings_are_the_defaults() -> None:
    plain = made("alt").settings()
    assert plain == {
        "lam": 0.75, "w": 1.0, "adv_steps": 10, "adv_lr": 5e-6, "round_steps": 250, "pre_rounds": 5, "stays_eval": True,
        "adam": "kept", "clamp": "positive", "mix": False, "tv": 1.0, "biases": "kept", "clamp_random": "positive",
    }  # fmt: skip


def test_what_is_kept_moves_once_a_step() -> None:
    """Two losses of a step are one step of the state; views are none."""
    method, net = make(), cases.Scaled(cases.network())
    state = cases.state_of(method)
    (step, x, y), rng = next(iter(cases.batches())), Rng(0, 4)
    assert step == 0
    for _ in range(2):
        method.views(net, x, y, rng, state)
    assert state["next"]["step"] == 0
    for _ in range(2):
        method.loss(net, x, y, rng, state)
    assert (state["now"]["step"], state["next"]["step"]) == (0, 3)
    assert not torch.equal(state["now"]["bias"][0], state["next"]["bias"][0])
    places = [part.data_ptr() for part in state["now"]["m"]]
    method.expand(net, None, rng, 5, state)  # type: ignore[arg-type]
    assert state["now"]["step"] == 3
    assert [part.data_ptr() for part in state["now"]["m"]] == places


def test_views_lie_in_the_bright_half_and_are_none_in_the_first_rounds() -> None:
    net, (_, x, y) = cases.Scaled(cases.network()), next(iter(cases.batches()))
    method = make()
    state = cases.state_of(method)
    assert method.views(net, x, y, Rng(0, 1), state) == []
    for view in method.views(net, x, y, Rng(0, 2), state):
        assert view.min() >= 0.5
        assert view.max() <= 1
    _, uncut = make(clamp_random="off").views(net, x, y, Rng(0, 2), state)
    assert uncut.min() < 0.5
    assert len(make(w=0.0).views(net, x, y, Rng(0, 2), state)) == 1


def test_kinds_and_cost_follow_the_rounds() -> None:
    assert [make().kind(Rng(0, step)) for step in range(5)] == ["plain", "plain", "first", "later", "first"]
    assert [make(stays_eval=False).kind(Rng(0, step)) for step in range(1, 4)] == ["plain", "later", "later"]
    released = made("alt")
    assert released.work(10_000, 10_000).per_image == released.passes == 11.5
    assert make(lam=0.0).work(100, 100).per_image == 1


def test_its_settings_by_dataset_and_its_own_recipe() -> None:
    recipe, settings, _ = protocols.recipe_for("strict", "alt", "pacs")
    assert (recipe.optimizer, recipe.lr, recipe.steps, recipe.loader) == ("sgd", 0.004, 2000, "crop_flip")
    assert (recipe.network, recipe.weights) == ("timm:resnet18", "timm:resnet18.tv_in1k")
    assert settings == {"round_steps": 100, "pre_rounds": 4, "adv_lr": 5e-5}
    assert protocols.recipe_for("common", "alt", "folder")[1] == settings
    assert protocols.recipe_for("common", "alt", "pacs")[1] == settings
    assert protocols.recipe_for("common", "alt", "minidigits")[1] == {"round_steps": 4}
    with pytest.raises(UsageError, match="no recipe for alt on digits"):
        protocols.recipe_for("strict", "alt", "digits")


def test_it_is_no_augmentation_of_its_own() -> None:
    with pytest.raises(UsageError, match="alt cannot be used alone"):
        augmentation("alt")
