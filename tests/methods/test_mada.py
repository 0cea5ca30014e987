"""M-ADA: its attack against the numbers of the original code, and the bookkeeping of its phases."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark import networks
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.method import Rng, State
from benchmark.ops import autoencoder as wae
from benchmark.ops.attacks.pixel import Anchor, PixelAttack, ascend_pixels
from tests.conftest import Golden, golden_net
from tests.methods.mada_cases import SMALL, golden_wae, gud, mada, small_net, source_of, toy_images


def replay(arrays: Golden, case: str, dtype: torch.dtype = torch.float32, shake: int = 0) -> dict[str, Tensor]:
    """The stored quantities of one case from our ascent, one row for each step (or one in all). shake: if not 0, the
    seed of a random change of every weight by one part in 2^23, the last bit of float32."""
    net, autoencoder = golden_net(arrays).to(dtype).eval(), golden_wae(arrays).to(dtype)
    if shake:
        generator = torch.Generator().manual_seed(shake)
        for weight in [*net.parameters(), *autoencoder.parameters()]:
            weight.data *= 1 + torch.randint(-1, 2, weight.shape, generator=generator) * 2.0**-23
    x0, y = (torch.tensor(arrays["images"]).float() / 255).to(dtype), torch.tensor(arrays["labels"]).long()
    steps, beta, gamma, eta = (float(value) for value in arrays[f"{case}/config_T_beta_gamma_lr"])
    anchor, by = Anchor.at(net, x0, y, autoencoder), PixelAttack(1, eta, gamma, beta, batch=len(x0), clip=False)
    rows: dict[str, list[Tensor]] = {}
    x = x0
    for _ in range(int(steps)):
        probe = x.clone().requires_grad_()
        terms = anchor.terms(probe)
        ce, relaxation, constraint = (term.mean() for term in (terms.ce, terms.relaxation, terms.constraint))
        adv_loss = gamma * constraint - ce - beta * relaxation
        slope = torch.autograd.grad(adv_loss, probe)[0]
        x = ascend_pixels(anchor, x, by)
        now = {"ce": ce, "constraint": constraint, "relaxation": relaxation, "adv_loss": adv_loss, "slope": slope}
        now |= {"grad_l2": slope.flatten(1).norm(dim=1), "delta_l2": (x - x0).flatten(1).norm(dim=1), "delta": x - x0}
        for name, value in now.items():
            rows.setdefault(name, []).append(value.detach().double())
    done = {name: torch.stack(values) for name, values in rows.items()}
    delta, slopes = done.pop("delta"), done.pop("slope")
    stored, channels = arrays[f"{case}/x_delta_sample0"].shape[:2]
    done["x_delta_sample0"] = delta[-stored:, 0, :channels]
    done["grad_second_sample0"] = slopes[1:2, 0, : len(arrays[f"{case}/grad_second_sample0"])]
    if f"{case}/x_final_sample1_ch0" in arrays:
        done["x_final_sample1_ch0"] = x[1:2, 0].double()
    return done


# --- parity with the original code ------------------------------------------------------------------------------------


def test_parity_ascent(golden: Callable[[str], Golden]) -> None:
    """Every stored quantity, row by row: 1e-4 of the row's norm.

    Features and reconstructions of x and x' differ by little, so their differences carry the rounding of the machine
    (other matrix kernels, other last bits). How far that reaches is measured: our own ascent in float64, and with the
    last bits of the weights changed at random. Where that moves a row by more than a quarter of 1e-4, four times the
    largest such move is allowed, and 2 % at the very most, the goldens' own figure for the most delicate case.
    """
    arrays = golden("mada")
    for case in arrays["case_names"]:
        ours = replay(arrays, case)
        others = [replay(arrays, case, torch.float64), *(replay(arrays, case, shake=seed) for seed in range(1, 5))]
        for name, rows in ours.items():
            stored = torch.tensor(arrays[f"{case}/{name}"]).double().reshape(rows.shape)
            for row, (mine, theirs) in enumerate(zip(rows, stored, strict=True)):
                norm = float(theirs.norm())
                scale = norm or 1.0
                deviation = float((mine - theirs).norm()) / scale
                rounding = max(float((other[name][row] - mine).norm()) for other in others) / scale
                allowed = min(max(1e-4, 4 * rounding), 2e-2) if norm else 0.0
                torch.testing.assert_close(
                    deviation, 0.0, rtol=0, atol=allowed, msg=f"{case} {name} {row}: {deviation}"
                )


def test_parity_features_of_the_clean_images(golden: Callable[[str], Golden]) -> None:
    arrays = golden("mada")
    x, y = torch.tensor(arrays["images"]).float() / 255, torch.tensor(arrays["labels"]).long()
    ours, theirs = Anchor.at(golden_net(arrays), x, y).features, torch.tensor(arrays["feat_clean"])
    torch.testing.assert_close(float((ours - theirs).norm() / theirs.norm()), 0.0, rtol=0, atol=1e-6)


# --- the phases -------------------------------------------------------------------------------------------------------


def test_parity_batches_of_the_released_phases() -> None:
    """S = (32, 16, 10) source images and (0, 16, 22) earlier ones in (311, 155, 103) batches of 10,000 images."""
    pool, shapes = 0, []
    for c in range(3):
        draws = mada.sample_phase(c, 10_000, pool, 32, torch.Generator().manual_seed(c))
        shapes.append((tuple(draws.source.shape), tuple(draws.pool.shape)))
        pool += draws.source.numel() + draws.pool.numel()
    assert shapes == [((311, 32), (311, 0)), ((155, 16), (155, 16)), ((103, 10), (103, 22))]
    assert pool == 9_952 + 4_960 + 3_296


@settings(max_examples=60, deadline=None)
@given(batch=st.integers(1, 40), full=st.integers(2, 12), rest=st.integers(0, 39), seed=st.integers(0, 2**31))
def test_phases_draw_without_repetition_and_never_run_dry(batch: int, full: int, rest: int, seed: int) -> None:
    source, pool, generator = full * batch + rest % batch, 0, torch.Generator().manual_seed(seed)
    for c in range(full - 1):
        draws = mada.sample_phase(c, source, pool, batch, generator)
        batches, share = (full - 1) // (c + 1), batch // (c + 1)
        assert batches >= 1
        assert draws.source.shape == (batches, share)
        assert draws.pool.shape == (batches, batch - share)
        for part, size in ((draws.source, source), (draws.pool, pool)):
            assert len(set(part.flatten().tolist())) == part.numel()
            assert bool(((part >= 0) & (part < size)).all())
        pool += batches * batch


def test_a_phase_takes_first_what_training_has_not_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released phase goes on with the iterator of the training pool; fresh draws follow where it has run out."""
    seen: list[Images] = []

    def mark(net: nn.Module, images: Images, by: PixelAttack, autoencoder: None) -> Images:
        seen.append(images)
        return images

    monkeypatch.setattr(mada, "attack_pixels", mark)
    images = Images(torch.zeros(64, 3, 1, 1, dtype=torch.uint8), torch.arange(64))
    for interval, left in ((3, 4), (7, 0)):  # the pool of the first phase has 7 batches: 4 are left, or none
        seen.clear()
        method, source, net = mada.Method(batch=8, interval=interval, beta=0.0), source_of(images, 8), nn.Identity()
        state = method.setup(net, source, Rng(0))
        trained: list[int] = []
        for step in range(2 * interval):
            method.expand(net, source, Rng(0, step), step, state)
            if len(state["x"]) == 56:
                trained += state["y"][state["at"]].tolist()
        assert len(trained) == 8 * interval
        drawn = seen[1].y[len(seen[1]) // 2 :].tolist()  # 3 batches of 4 source and 4 earlier images
        assert len(drawn) == 12
        assert len(set(drawn)) == 12
        assert set(drawn).isdisjoint(trained) == bool(left)


def test_parity_bookkeeping_of_the_released_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 images and the defaults: what is attacked and when, how the pool grows, what each autoencoder sees.

    The ascent is replaced by x + 1, so that an image's value tells its generation and its label its origin.
    """
    attacked: list[Images] = []
    taught: list[Images] = []
    step = -1

    def mark(net: nn.Module, images: Images, by: PixelAttack, autoencoder: nn.Module) -> Images:
        assert (by.steps, by.eta, by.gamma, by.beta, by.batch, by.clip) == (25, 1.0, 1.0, 2000.0, 32, False)
        attacked.append(images)
        return Images(images.unit() + 1, images.y)

    def teach(images: Images, settings: wae.WaeSettings, generator: torch.Generator) -> dict[str, Tensor]:
        taught.append(images)
        return {"trained at": torch.tensor(step)}

    monkeypatch.setattr(mada, "attack_pixels", mark)
    monkeypatch.setattr(wae, "train", teach)
    monkeypatch.setattr(wae, "restore", lambda weights: weights)
    images = Images(torch.zeros(10_000, 3, 1, 1, dtype=torch.uint8), torch.arange(10_000))
    method, source, net = mada.Method(), source_of(images, 32), nn.Identity()
    state = method.setup(net, source, Rng(0))
    assert torch.equal(taught[0].y, images.y)
    phases, sizes = [], []
    for step in range(1001):
        seen = len(attacked)
        assert method.expand(net, source, Rng(0, step), step, state) is None
        if len(attacked) > seen:
            phases.append(step)
            sizes.append(len(state["x"]))
            assert int(state["wae"]["trained at"]) == (step if step < 299 else 199)  # none after the last phase
    assert phases == [99, 199, 299]
    assert sizes == [9_952, 14_912, 18_208]
    pool: list[tuple[int, int]] = []
    for c, (phase, own) in enumerate(zip(attacked, (9_952, 2_480, 1_030), strict=True)):
        given = [(int(y), round(float(x))) for x, y in zip(phase.unit()[:, 0, 0, 0], phase.y, strict=True)]
        assert [generation for _, generation in given[:own]] == [0] * own
        assert len(set(given[:own])) == own
        assert min((generation for _, generation in given[own:]), default=1) >= 1
        assert set(given[own:]) <= set(pool)
        pool += [(origin, generation + 1) for origin, generation in given]
        if c:
            assert torch.equal(taught[c].y, attacked[c - 1].y)  # the newest images alone
    assert len(taught) == 3
    assert {generation for _, generation in pool} == {1, 2, 3}
    assert torch.equal(state["y"], torch.tensor([origin for origin, _ in pool]))


def test_pool_batches_come_in_full_shuffled_rounds() -> None:
    """One batch a step, each image at most once a round, the incomplete last batch dropped, a new order each round."""
    method, source = mada.Method(phases=1, **SMALL), source_of(toy_images(45), batch_size=7)
    net = small_net()
    state = method.setup(net, source, Rng(0))
    rounds: list[Tensor] = []
    begun = []
    for step in range(1, 20):
        method.expand(net, source, Rng(0, step), step, state)
        if step == state["since"]:
            begun.append(step)
            rounds.append(state["order"])
    pool = (45 // 8 - 1) * 8
    assert len(state["x"]) == pool
    assert begun == list(range(1, 20, pool // 7))  # from the phase on, pool // 7 steps each
    for order in rounds:
        assert order.shape == (pool // 7, 7)
        assert len(set(order.flatten().tolist())) == order.numel()
    assert not torch.equal(rounds[0], rounds[1])


def test_the_autoencoder_its_discriminator_and_their_optimisers_are_the_released_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On 32x32 images: 3072-400-20 and back, 20-128-1, and Adam at 0.001 for each."""
    given: list[Any] = []
    monkeypatch.setattr(wae, "update", lambda *arguments: given.append(arguments))
    wae.train(toy_images(32), mada.Method(), torch.Generator().manual_seed(0))
    assert len(given) == 20  # an epoch is one batch here
    (autoencoder, critic), optimizers, x, z, _ = given[0]

    def layers(module: nn.Module) -> list[tuple[type[nn.Module], ...] | tuple[int, int]]:
        linear = [(part.in_features, part.out_features) for part in module.modules() if isinstance(part, nn.Linear)]
        return [tuple(type(part) for part in module.children()), *linear]

    pixels = x[0].numel()
    assert layers(autoencoder.encoder) == [(nn.Flatten, nn.Linear, nn.ReLU, nn.Linear), (pixels, 400), (400, 20)]
    assert layers(autoencoder.decoder) == [(nn.Linear, nn.ReLU, nn.Linear, nn.Sigmoid), (20, 400), (400, pixels)]
    assert layers(critic) == [(nn.Linear, nn.ReLU, nn.Linear), (20, 128), (128, 1)]
    assert z.shape == (32, 20)
    for optimizer, module in zip(optimizers, (autoencoder, critic), strict=True):
        (group,) = optimizer.param_groups
        assert type(optimizer) is torch.optim.Adam
        assert {id(each) for each in group["params"]} == {id(each) for each in module.parameters()}
        assert [group[name] for name in ("lr", "betas", "eps", "weight_decay", "amsgrad")] == [
            1e-3, (0.9, 0.999), 1e-8, 0, False,
        ]  # fmt: skip


def test_too_few_images_for_every_phase_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 4 full batches of 8, not 31 images"):
        mada.Method(**SMALL).setup(small_net(), source_of(toy_images(31)), Rng(0))
    method, source, net = mada.Method(**SMALL), source_of(toy_images(32)), small_net()
    state = method.setup(net, source, Rng(0))
    for step in range(6):
        method.expand(net, source, Rng(0, step), step, state)
    assert len(state["x"]) == 24 + 8 + 8


# --- the attack -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ready() -> tuple[networks.Classifier, Images, State]:
    """A network, a batch, and a state with a small autoencoder."""
    net, images = small_net(), toy_images(32)
    return net, images, mada.Method(**SMALL).setup(net, source_of(images), Rng(0))


def test_views_show_what_a_phase_adds(ready: tuple[networks.Classifier, Images, State]) -> None:
    net, images, _ = ready
    method, source = mada.Method(**SMALL), source_of(images)
    state = method.setup(net, source, Rng(0))
    before = dict(state)
    assert method.expand(net, source, Rng(0, 1), 1, state) is None
    drawn = mada.sample_phase(0, 32, 0, 8, Rng(0, 1).generator("phase")).source.flatten()
    views = method.views(net, images.unit()[drawn], images.y[drawn], Rng(0), before)
    assert len(views) == 1
    assert torch.equal(views[0], state["x"])
    assert torch.equal(images.y[drawn], state["y"])


def test_beta_pushes_reconstructions_apart(ready: tuple[networks.Classifier, Images, State]) -> None:
    net, images, state = ready
    x, y = images.unit(), images.y
    autoencoder = wae.restore(state["wae"])

    def moved(beta: float) -> float:
        method = mada.Method(**SMALL | {"adv_steps": 10}, beta=beta, gamma=0.0, eta=20.0)
        return float((autoencoder(method.views(net, x, y, Rng(0), state)[0]) - autoencoder(x)).square().mean())

    assert moved(1e6) > 100 * moved(0.0)


def test_without_beta_the_attack_is_guds(ready: tuple[networks.Classifier, Images, State]) -> None:
    net, images, _ = ready
    method = mada.Method(**SMALL, beta=0.0, gamma=3.0)
    state = method.setup(net, source_of(images), Rng(0))
    assert state["wae"] == {}
    same = gud.Method(adv_steps=2, batch=8, gamma=3.0)
    views = (m.views(net, images.unit(), images.y, Rng(0), state)[0] for m in (method, same))
    assert torch.equal(*views)


def test_clip_and_step_options(ready: tuple[networks.Classifier, Images, State]) -> None:
    net, images, state = ready
    x, y = images.unit(), images.y

    def views(n: int = 32, **options: Any) -> Tensor:
        view: Tensor = mada.Method(**SMALL | options).views(net, x[:n], y[:n], Rng(0), state)[0]
        return view

    free, kept = views(eta=1000.0), views(eta=1000.0, clip=True)
    assert free.min() < 0
    assert free.max() > 1
    assert kept.min() >= 0
    assert kept.max() <= 1
    one: dict[str, Any] = {"adv_steps": 1, "eta": 100.0}
    assert torch.allclose(views(**one) - x, 2 * (views(**one, batch=16) - x), atol=1e-5)  # the released coupling
    each: dict[str, Any] = {"batch_mean": "per_image", "eta": 0.1}
    assert torch.equal(views(**each), views(**each, batch=16))
    assert torch.allclose(views(1, **each), views(**each)[:1], rtol=0, atol=1e-6)


def test_network_inputs_and_global_generator_are_left_as_they_were() -> None:
    net, images = small_net().train(), toy_images(40)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    pixels, drawn = images.x.clone(), torch.get_rng_state()
    method, source = mada.Method(**SMALL), source_of(images)
    state = method.setup(net, source, Rng(0))
    for step in range(5):
        method.expand(net, source, Rng(0, step), step, state)
    method.views(net, images.unit(), images.y, Rng(0, 5), state)
    method.loss(net, images.unit()[:8], images.y[:8], Rng(0, 4), state)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert torch.equal(images.x, pixels)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_restored_autoencoder_is_frozen_and_shares_its_weights(
    ready: tuple[networks.Classifier, Images, State],
) -> None:
    weights = ready[2]["wae"]
    autoencoder = wae.restore(weights)
    assert not any(p.requires_grad for p in autoencoder.parameters())
    assert all(autoencoder.state_dict()[name].data_ptr() == weights[name].data_ptr() for name in weights)
