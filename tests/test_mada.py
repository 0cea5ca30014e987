"""M-ADA against the numbers of the original code, its bookkeeping, its meta step and its autoencoder."""

import importlib
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks, wae
from benchmark.errors import UsageError
from benchmark.method import Rng, Source, State
from benchmark.pixel_ascent import Anchor, Ascent, ascend
from benchmark.spec import Images
from benchmark.timing import Meter
from tests.conftest import Golden, golden_net

erm: Any = importlib.import_module("benchmark.methods.erm")
gud: Any = importlib.import_module("benchmark.methods.gud")
mada: Any = importlib.import_module("benchmark.methods.mada")
SMALL = {"adv_steps": 2, "interval": 2, "batch": 8, "wae_epochs": 1, "wae_hidden": 6, "wae_code": 3, "wae_critic": 4}


def toy_images(n: int, size: int = 32) -> Images:
    generator = torch.Generator().manual_seed(n)
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    return Images(x, torch.randint(0, 10, (n,), generator=generator))


def source_of(images: Images, batch_size: int = 8) -> Source:
    return Source(images, images[:0], len(images), batch_size, lambda net, rng: None)


def small_net() -> networks.Classifier:
    return networks.build("mini_convnet", 10, seed=0)


class Perceptron(nn.Module):
    """A smooth network in float64 for finite differences."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.hidden, self.head = nn.Linear(12, 4), nn.Linear(4, 3)
        for parameter in self.double().parameters():
            parameter.data.normal_(generator=generator)

    def forward(self, x: Tensor, features: bool = False) -> Any:
        z = torch.tanh(self.hidden(x.flatten(1)))
        return (self.head(z), z) if features else self.head(z)


def golden_wae(arrays: Golden) -> wae.Wae:
    """The goldens' narrow autoencoder in our class, which takes its sizes from the weights."""
    names = {"fc1": "encoder.1", "fc2": "encoder.3", "fc3": "decoder.0", "fc4": "decoder.2"}
    return wae.restore(
        {
            f"{ours}.{kind}": torch.tensor(arrays[f"wae.{theirs}.{kind}"])
            for theirs, ours in names.items()
            for kind in ("weight", "bias")
        }
    )


def golden_critic(arrays: Golden) -> nn.Sequential:
    weight = {name: torch.tensor(arrays[f"adv.{name}"]) for name in ("net.0.weight", "net.2.weight")}
    hidden, code = weight["net.0.weight"].shape
    critic = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    critic.load_state_dict(
        {f"{i}.{kind}": torch.tensor(arrays[f"adv.net.{i}.{kind}"]) for i in (0, 2) for kind in ("weight", "bias")}
    )
    return critic


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
    anchor, by = Anchor.at(net, x0, y, autoencoder), Ascent(1, eta, gamma, beta, batch=len(x0), clip=False)
    rows: dict[str, list[Tensor]] = {}
    x = x0
    for _ in range(int(steps)):
        probe = x.clone().requires_grad_()
        terms = anchor.terms(probe)
        ce, relaxation, constraint = (term.mean() for term in (terms.ce, terms.relaxation, terms.constraint))
        adv_loss = gamma * constraint - ce - beta * relaxation
        slope = torch.autograd.grad(adv_loss, probe)[0]
        x = ascend(anchor, x, by)
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
                scale, deviation = float(theirs.norm()), float((mine - theirs).norm())
                rounding = max(float((other[name][row] - mine).norm()) for other in others)
                assert deviation <= min(max(1e-4 * scale, 4 * rounding), 2e-2 * scale), (case, name, row)


def test_parity_features_of_the_clean_images(golden: Callable[[str], Golden]) -> None:
    arrays = golden("mada")
    x, y = torch.tensor(arrays["images"]).float() / 255, torch.tensor(arrays["labels"]).long()
    ours, theirs = Anchor.at(golden_net(arrays), x, y).features, torch.tensor(arrays["feat_clean"])
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_parity_log_density(golden: Callable[[str], Golden]) -> None:
    """The goldens also hold other variances v: log N(z; 0, vI) = log N(z/sqrt(v); 0, I) - d/2 log v."""
    arrays = golden("mada")
    cases = [key.removesuffix("/log_density") for key in arrays if key.endswith("/log_density")]
    assert cases
    for case in cases:
        z, v = torch.tensor(arrays[f"{case}/z"]), float(arrays[f"{case}/z_var"])
        ours = wae.log_density(z / math.sqrt(v)) - z.shape[1] / 2 * math.log(v)
        assert torch.allclose(ours, torch.tensor(arrays[f"{case}/log_density"]), rtol=1e-5, atol=0)


def test_parity_autoencoder_losses(golden: Callable[[str], Golden]) -> None:
    """The four terms of the first batch, with the released prior density in both logits."""
    arrays = golden("mada")
    autoencoder, critic = golden_wae(arrays), golden_critic(arrays)
    x, z = torch.tensor(arrays["wae_train/images"]).float() / 255, torch.tensor(arrays["wae_train/z"])
    with torch.no_grad():
        lp, code = wae.log_density(z), autoencoder.encoder(x)
        terms = {
            "D_real": wae.adversarial_loss(critic, z, lp, 1.0),
            "D_fake": wae.adversarial_loss(critic, code, lp, 0.0),
            "recon_bce_sum": wae.reconstruction_loss(autoencoder(x), x),
            "Q": wae.adversarial_loss(critic, code, lp, 1.0),
        }
    for name, theirs in zip(arrays["wae_train/term_names"], arrays["wae_train/terms"], strict=True):
        assert float(terms[str(name)]) == pytest.approx(float(theirs), rel=1e-5), name


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


def test_parity_bookkeeping_of_the_released_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 images and the defaults: what is attacked and when, how the pool grows, what each autoencoder sees.

    The ascent is replaced by x + 1, so that an image's value tells its generation and its label its origin.
    """
    attacked: list[Images] = []
    taught: list[Images] = []
    step = -1

    def mark(net: nn.Module, images: Images, by: Ascent, autoencoder: nn.Module) -> Images:
        assert (by.steps, by.eta, by.gamma, by.beta, by.batch, by.clip) == (25, 1.0, 1.0, 2000.0, 32, False)
        attacked.append(images)
        return Images(images.unit() + 1, images.y)

    def teach(images: Images, settings: wae.WaeSettings, generator: torch.Generator) -> dict[str, Tensor]:
        taught.append(images)
        return {"trained at": torch.tensor(step)}

    monkeypatch.setattr(mada, "attack", mark)
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


# --- the meta step ----------------------------------------------------------------------------------------------------


def meta_state() -> tuple[Perceptron, Tensor, Tensor, State]:
    """A smooth network, a source batch, and a pool whose batch for step 7 is [4, 1, 2]."""
    generator = torch.Generator().manual_seed(9)
    x, pool = (torch.rand(n, 3, 2, 2, generator=generator, dtype=torch.float64) for n in (4, 6))
    y, pool_y = torch.tensor([0, 1, 2, 1]), torch.tensor([2, 1, 0, 0, 1, 2])
    order = torch.tensor([[0, 3, 5], [4, 1, 2]])
    state = {"phase": 1, "x": pool, "y": pool_y, "wae": {}, "since": 6, "order": order, "at": order[1].clone()}
    return Perceptron(), x, y, state


def test_parity_meta_gradient_against_finite_differences() -> None:
    """Gradient of (L1 + L2)/2 through theta' = theta - inner_lr dL1/dtheta, central differences, float64."""
    net, x, y, state = meta_state()
    method, batch = mada.Method(inner_lr=0.5), torch.tensor([4, 1, 2])
    method.loss(net, x, y, Rng(0, 7), state).backward()
    ours = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    def value(theta: Tensor) -> float:
        other = Perceptron()
        nn.utils.vector_to_parameters(theta, other.parameters())
        first = F.cross_entropy(other(x), y)
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(first, list(other.parameters()))])
        nn.utils.vector_to_parameters(theta - 0.5 * slope, other.parameters())
        return float((first + F.cross_entropy(other(state["x"][batch]), state["y"][batch])).detach() / 2)

    theta = nn.utils.parameters_to_vector(net.parameters()).detach()
    basis = torch.eye(len(theta), dtype=torch.float64) * 1e-5
    expected = torch.tensor([(value(theta + e) - value(theta - e)) / 2e-5 for e in basis])
    assert float(method.loss(net, x, y, Rng(0, 7), state).detach()) == pytest.approx(value(theta), abs=1e-12)
    assert torch.allclose(ours, expected.to(ours), rtol=0, atol=1e-6)

    first = F.cross_entropy(net(x), y)  # the same without the second-order term is clearly something else
    slope = torch.autograd.grad(first, list(net.parameters()))
    inner = {n: (p - 0.5 * g).detach() for (n, p), g in zip(net.named_parameters(), slope, strict=True)}
    inner = {n: p.requires_grad_() for n, p in inner.items()}
    second = F.cross_entropy(torch.func.functional_call(net, inner, state["x"][batch]), state["y"][batch])
    of_second = torch.autograd.grad(second, list(inner.values()))
    crude = torch.cat([((a + b) / 2).flatten() for a, b in zip(slope, of_second, strict=True)])
    assert (ours - crude).abs().max() > 1e-3


def test_each_step_has_its_own_pool_batch() -> None:
    net, x, y, state = meta_state()
    state["x"] = state["x"].float()
    place, method = state["at"], mada.Method(phases=1)

    def loss(step: int) -> float:
        method.expand(net, source_of(toy_images(4), batch_size=3), Rng(0, step), step, state)
        return float(method.loss(net, x, y, Rng(0, step), state).detach())

    losses = [loss(step) for step in (6, 7)]
    state["order"] = state["order"].flip(0)
    assert losses == [loss(step) for step in (7, 6)]
    assert losses[0] != losses[1]
    assert state["at"] is place  # where a captured step reads it


def test_frozen_and_unused_parameters_take_no_part() -> None:
    net, x, y, state = meta_state()
    net.hidden.requires_grad_(False)
    net.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    mada.Method().loss(net, x, y, Rng(0, 7), state).backward()
    assert net.hidden.weight.grad is None
    assert net.unused.grad is None or not net.unused.grad.any()
    assert net.head.weight.grad is not None


def test_without_a_phase_it_is_erm() -> None:
    """Before the first phase, or with none, loss and gradients are ERM's own bits."""
    images = toy_images(32)

    def trained(method: Any) -> tuple[Tensor, list[Tensor | None]]:
        net = small_net()
        state = method.setup(net, source_of(images), Rng(0))
        for step in range(10):
            assert method.expand(net, source_of(images), Rng(0, step), step, state) is None
        loss = method.loss(net, images.unit(), images.y, Rng(0, 9), state)
        loss.backward()
        return loss.detach(), [p.grad for p in net.parameters()]

    plain, slopes = trained(erm.Method())
    for options in ({"interval": 11}, {"phases": 0}):
        loss, ours = trained(mada.Method(**SMALL | options))
        assert torch.equal(loss, plain)
        assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(ours, slopes, strict=True))


def test_cost_of_a_step_is_two_forwards_and_three_backwards() -> None:
    images, net, meter = toy_images(40), small_net(), Meter(torch.device("cpu"))
    method, source = mada.Method(**SMALL), source_of(images)
    with meter.running(net):
        state = method.setup(net, source, Rng(0))
        assert (meter.forwards, meter.backwards) == (0, 0)
        method.expand(net, source, Rng(0, 1), 1, state)
        assert (meter.forwards, meter.backwards) == (32 * 3, 32 * 2)  # clean features once, then T_adv of both
        assert set(meter.read()) == {"attack"}
        method.loss(net, images.unit()[:8], images.y[:8], Rng(0, 1), state).backward()
    assert (meter.forwards, meter.backwards) == (32 * 3 + 8 * 2, 32 * 2 + 8 * 3)


def test_a_run_taken_up_from_a_saved_state_goes_on_with_the_same_bits() -> None:
    images, net, method = toy_images(40), small_net(), mada.Method(**SMALL)
    source = source_of(images)
    state = method.setup(net, source, Rng(0))
    for step in range(3):
        method.expand(net, source, Rng(0, step), step, state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=True)
    for step in range(3, 12):
        losses = []
        for each in (state, again):
            method.expand(net, source, Rng(0, step), step, each)
            losses.append(method.loss(net, images.unit()[:8], images.y[:8], Rng(0, step), each).detach())
        assert torch.equal(*losses)
    assert state["phase"] == again["phase"] == 3
    assert all(torch.equal(state["wae"][name], again["wae"][name]) for name in state["wae"])


# --- the autoencoder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["both", "sampled"])
@pytest.mark.parametrize("grad", ["standard", "literal"])
def test_one_update_follows_the_losses(grad: str, prior: str) -> None:
    """With plain gradient descent of rate 1 the change of each weight is minus its gradient: literal adds those of L_D
    and L_E at the same D; standard trains D first, on detached codes, and the encoder against the new D."""
    fields = mada.Method(
        batch=6, wae_hidden=4, wae_code=2, wae_critic=3, wae_weight=0.7, wae_grad=grad, wae_prior=prior
    )
    generator = torch.Generator().manual_seed(2)
    autoencoder, critic = (
        wae.Wae(12, 4, 2).double(),
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double(),
    )
    for module in (autoencoder, critic):
        wae.initialise(module, generator)
    x, z = torch.rand(6, 3, 2, 2, generator=generator).double(), torch.randn(6, 2, generator=generator).double()
    inner, outer = list(critic.parameters()), list(autoencoder.parameters())
    before, before_critic = ([p.detach().clone() for p in params] for params in (outer, inner))
    lp = -0.5 * z.square().sum(dim=1) - math.log(2 * math.pi)
    shift = lp if prior == "both" else torch.zeros(6)

    def losses() -> tuple[Tensor, Tensor]:
        code = autoencoder.encoder(x)
        real, fake = critic(z)[:, 0] + lp, critic(code)[:, 0] + shift
        l_d = 0.7 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        recon = F.binary_cross_entropy(autoencoder(x), x, reduction="sum")
        return l_d, recon + 0.7 * F.softplus(-fake).mean()

    l_d, l_e = losses()
    of_critic = torch.autograd.grad(l_d, inner, retain_graph=True)
    if grad == "literal":
        expected = torch.autograd.grad(l_d + l_e, outer)
    else:
        for p, g in zip(inner, of_critic, strict=True):
            p.data -= g
        expected = torch.autograd.grad(losses()[1], outer)
        for p, old in zip(inner, before_critic, strict=True):
            p.data.copy_(old)
    sgd = torch.optim.SGD(outer, 1.0), torch.optim.SGD(inner, 1.0)
    wae.update((autoencoder, critic), sgd, x, z, fields)
    for trained, start, slopes in ((outer, before, expected), (inner, before_critic, of_critic)):
        for p, was, g in zip(trained, start, slopes, strict=True):
            assert torch.allclose(was - p.detach(), g, rtol=0, atol=1e-12)


def test_it_learns_to_reconstruct() -> None:
    """Images of two patterns in noise: trained reconstructions are near the patterns, untrained ones are not."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.rand(2, 3, 8, 8, generator=generator)
    which = torch.randint(0, 2, (64,), generator=generator)
    x = (patterns[which] + 0.05 * torch.randn(64, 3, 8, 8, generator=generator)).clamp(0, 1)
    errors = []
    for epochs in (1, 60):
        fields = mada.Method(batch=16, wae_epochs=epochs, wae_hidden=16, wae_code=4, wae_critic=8, wae_lr=0.01)
        weights = wae.train(Images(x, which), fields, torch.Generator().manual_seed(0))
        errors.append(float((wae.restore(weights)(x) - x).square().mean()))
    assert errors[1] < errors[0] / 4
    assert errors[1] < 0.02


def test_training_is_keyed_and_takes_its_size_from_the_images() -> None:
    images, fields = toy_images(20, size=6), mada.Method(**SMALL)
    first, second, other = (wae.train(images, fields, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.1.weight"], other["encoder.1.weight"])
    assert first["encoder.1.weight"].shape == (6, 108)
    assert wae.restore(first)(images.unit()).shape == images.x.shape
    with pytest.raises(ValueError, match="full batch of 8 images, not 7"):
        wae.train(images[:7], fields, torch.Generator())


def test_epochs_are_full_batches_of_a_permutation() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = wae.sample_epoch(70, mada.Method(batch=32, wae_code=5), generator)
    assert draws.order.shape == (2, 32)
    assert len(set(draws.order.flatten().tolist())) == 64
    assert draws.z.shape == (2, 32, 5)
    assert float(draws.z.std()) == pytest.approx(1, abs=0.15)


def test_weights_start_as_torchs_own_linear_layers() -> None:
    layers = nn.Linear(400, 50), nn.Linear(50, 7)
    wae.initialise(nn.Sequential(*layers), torch.Generator().manual_seed(0))
    for layer, bound in zip(layers, (400**-0.5, 50**-0.5), strict=True):
        assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert float(layer.bias.detach().abs().max()) <= bound


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 8))
def test_reconstruction_loss_is_cross_entropy_on_unit_targets(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    logits = (
        (spread * torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)).clamp(-20, 20).requires_grad_()
    )
    ours = wae.reconstruction_loss(logits.sigmoid(), x)
    theirs = F.binary_cross_entropy(logits.sigmoid(), x, reduction="sum")
    assert torch.allclose(ours, theirs, rtol=1e-12)
    slope, expected = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert torch.allclose(slope, expected, rtol=1e-9, atol=1e-12)


def test_unclipped_targets_are_continued_and_bounded() -> None:
    """Later autoencoders are trained on images outside [0,1]: the formula as it stands, finite even when saturated."""
    p = torch.tensor([0.3, 0.9], requires_grad=True)
    x = torch.tensor([1.5, -0.4])
    loss = wae.reconstruction_loss(p, x)
    expected = -(x * p.detach().log() + (1 - x) * (1 - p.detach()).log()).sum()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    logits = torch.tensor([40.0, -200.0], requires_grad=True)
    saturated = wae.reconstruction_loss(logits.sigmoid(), x)
    assert torch.isfinite(saturated)
    assert torch.equal(torch.autograd.grad(saturated, logits)[0], torch.zeros(2))


def test_restored_autoencoder_is_frozen_and_shares_its_weights(
    ready: tuple[networks.Classifier, Images, State],
) -> None:
    weights = ready[2]["wae"]
    autoencoder = wae.restore(weights)
    assert not any(p.requires_grad for p in autoencoder.parameters())
    assert all(autoencoder.state_dict()[name].data_ptr() == weights[name].data_ptr() for name in weights)
