"""ME-ADA: its ascent against the formula in NumPy, its identity with GUD, its fields, and the ids of older GUD runs."""

import importlib
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.method import Rng
from benchmark.ops.attacks.pixel import Anchor, ascend_pixels, attack_pixels
from benchmark.protocols import recipe_for
from benchmark.registry import make
from tests.methods.test_gud import Linear, blank, source_of, toy_images, toy_net

gud: Any = importlib.import_module("benchmark.methods.gud")
me_ada: Any = importlib.import_module("benchmark.methods.me_ada")


def reference(net: Linear, x: Tensor, y: Tensor, method: Any) -> Any:
    """The algorithm box for logits W x and features U x, in NumPy. With p the softmax and H = -sum p log p:
    dCE/dlogits = p - onehot, dH/dlogit_k = -p_k (log p_k + H)."""
    w, u, start = net.W.detach().numpy(), net.U.detach().numpy(), x.flatten(1).numpy()
    flat, hot = start.copy(), np.eye(len(w))[y.numpy()]
    for _ in range(method.adv_steps):
        logits = flat @ w.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        h = -(p * np.log(p)).sum(1, keepdims=True)
        slope = (p - hot - method.entropy * p * (np.log(p) + h)) @ w
        slope -= method.gamma * 2 / len(u) * (flat - start) @ u.T @ u
        flat = flat + method.eta / (method.batch if method.batch_mean == "reference" else 1) * slope
        flat = flat.clip(0, 1) if method.clip == "step" else flat
    return flat.clip(0, 1) if method.clip == "end" else flat


@pytest.mark.parametrize("clip", ["never", "end", "step"])
@pytest.mark.parametrize("batch_mean", ["reference", "per_image"])
def test_fifteen_steps_are_the_formulas(clip: str, batch_mean: str) -> None:
    """Largest deviation: 5.8e-14 in float64, of moves of 0.7 to 3.8."""
    net, generator = Linear(27), torch.Generator().manual_seed(5)
    x = torch.rand(6, 3, 3, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (6,), generator=generator)
    method = me_ada.Method(clip=clip, batch_mean=batch_mean, batch=6, eta=0.5)
    ours = ascend_pixels(Anchor.at(net, x, y), x, method.ascent).flatten(1).numpy()
    expected = reference(net, x, y, method)
    assert np.abs(expected - x.flatten(1).numpy()).max() > 0.3
    assert np.abs(ours - expected).max() < 1e-12
    assert (np.abs(ours - 0.5).max() <= 0.5) == (clip != "never")


def test_without_its_term_it_is_gud_bit_for_bit() -> None:
    net, images = toy_net(), toy_images(16)
    plain = me_ada.Method(entropy=0, clip="never", phases=6)
    assert plain.ascent == gud.Method().ascent
    theirs, ours = (attack_pixels(net, images, method.ascent).x for method in (gud.Method(), plain))
    assert torch.equal(theirs, ours)
    as_gud = gud.Method(entropy=10, clip="end", phases=3)
    assert as_gud.ascent == me_ada.Method().ascent


def test_entropy_makes_the_network_less_sure_and_the_end_is_inside_the_range() -> None:
    net, images = toy_net(), toy_images(16)
    x, y = images.unit(), images.y

    def entropy(weight: float) -> float:
        moved = me_ada.Method(entropy=weight, eta=30.0).views(net, x, y, Rng(0), {})[0]
        assert moved.min() >= 0
        assert moved.max() <= 1
        with torch.no_grad():
            return float(Anchor.at(net, x, y).terms(moved).entropy.mean())

    assert entropy(0.0) < entropy(10.0)


@pytest.mark.parametrize(("images", "skip_last", "attacked"), [(96, True, 64), (96, False, 96), (100, True, 96)])
def test_bookkeeping_of_its_phases(
    images: int, skip_last: bool, attacked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three phases of interval 10: before steps 9, 19, 29, of the first N0 positions; the last full batch is left out
    where B divides N0."""
    seen: list[list[int]] = []

    def mark(net: Any, part: Images, by: Any) -> Images:
        seen.append(part.y.tolist())
        return Images(part.unit() + 1, part.y)

    monkeypatch.setattr(me_ada, "attack_pixels", mark)
    method, source, net, at = me_ada.Method(interval=10, skip_last=skip_last), source_of(blank(images)), toy_net(), []
    for step in range(60):
        extra = method.expand(net, source, Rng(0, step), step, {})
        if extra is not None:
            at.append(step)
            source = source.with_pool(source.images + extra)
    assert at == [9, 19, 29]
    assert seen == [list(range(attacked))] * 3
    assert len(source.images) == images + 3 * attacked
    assert method.work(60, images).attacked == pytest.approx(3 * attacked * (15 + 1 / 3))


def test_a_source_without_a_batch_to_attack_is_refused() -> None:
    with pytest.raises(UsageError, match=r"of 32, less the last .*, and the source has 32 images: lower me_ada\.batch"):
        me_ada.Method().setup(toy_net(), source_of(toy_images(32)), Rng(0))
    assert me_ada.Method(skip_last=False).setup(toy_net(), source_of(toy_images(32)), Rng(0)) == {}


@pytest.mark.parametrize("dataset", ["cifar10c", "cifar100c"])
def test_on_cifar_it_has_the_two_released_phases(dataset: str) -> None:
    assert recipe_for("common", "me_ada", dataset)[1] == {"phases": 2}


# --- GUD's own records ------------------------------------------------------------------------------------------------


def test_what_is_stored_of_gud_is_what_it_was_before_these_fields() -> None:
    """A run's id is a hash of it: that of results/published/runs/d0ce3751aa8a."""
    before = {"gamma": 1.0, "eta": 1.0, "adv_steps": 15, "phases": 6, "interval": 100, "batch": 32}
    assert gud.Method().settings() == before | {"batch_mean": "reference", "clip": False}
    assert gud.Method(clip=True).settings()["clip"] is True


@pytest.mark.parametrize("name", ["gud", "me_ada"])
@pytest.mark.parametrize("clip", ["never", "end", "step"])
@pytest.mark.parametrize("entropy", [0.0, 10.0])
def test_settings_come_back_from_a_record(name: str, clip: str, entropy: float) -> None:
    made = make("method", name, {"clip": clip, "entropy": entropy})
    assert make("method", name, json.loads(json.dumps(made.settings()))) == made


@pytest.mark.parametrize(("text", "means"), [("true", "step"), ("false", "never"), ("end", "end"), ("step", "step")])
def test_older_spellings_of_clip_are_read(text: str, means: str) -> None:
    method: Any = make("method", "gud", {"clip": text})
    assert method.clip == means
