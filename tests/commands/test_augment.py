"""Augmentations outside the referee: the same images as inside, and the manners of torchvision's transforms."""

import copy
import multiprocessing
import pickle
import re
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmark import augment, augmentation, networks, registry, samples
from benchmark.core.errors import UsageError
from benchmark.core.rng import Rng
from tests import toy
from tests.conftest import ROOT

CLASSES = {name: registry.find("method", name) for name in registry.names("method")}
ALONE = {name for name, cls in CLASSES.items() if cls.alone is not None}
ATTACKERS = {name for name, cls in CLASSES.items() if cls.attacks}
USABLE = pytest.mark.parametrize("name", sorted(ALONE))
FREE = pytest.mark.parametrize("name", sorted(ALONE - ATTACKERS))
BATCH = toy.images(8, 0)
ELSEWHERE = mock.Mock(spec=torch.Generator, device=torch.device("cuda"))
NET = networks.build("mini_convnet", 4, 0)
SHORT: dict[str, dict[str, Any]] = {
    "sada": {"num_steps": 2}, "gud": {"adv_steps": 2, "eta": 500}, "me_ada": {"adv_steps": 2, "eta": 500},
}  # fmt: skip
"""Fewer steps; and for gud and me_ada larger ones, since on an untrained network its own are less than a byte."""


def make(name: str, net: nn.Module | None = None, **settings: Any) -> Any:
    cls = CLASSES[name]
    if cls.attacks:
        settings["net"] = net or networks.build("mini_convnet", 4, 0)
    return augmentation(name, generator=torch.Generator().manual_seed(0), **{**SHORT.get(name, {}), **settings})


def augmented(name: str, x: Tensor, **settings: Any) -> Tensor:
    out: Tensor = make(name, **settings)(x, BATCH.y[: len(x)])[0]
    return out


@USABLE
def test_the_images_are_those_that_the_method_trains_on(name: str) -> None:
    net = networks.build("mini_convnet", 4, 0)
    cls = CLASSES[name]
    method = registry.make("method", name, {**(cls.uncoupled or {}), **SHORT.get(name, {}), **(cls.alone or {})})
    seed = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(0)))
    views = method.views(net, BATCH.unit(), BATCH.y, Rng(seed), {})
    assert torch.equal(augmented(name, BATCH.unit(), net=net), views[0])


@USABLE
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
def test_shape_and_type_stay_and_images_change(name: str, dtype: torch.dtype) -> None:
    x = BATCH.x if dtype == torch.uint8 else BATCH.unit().to(dtype)
    before = x.clone()
    out = augmented(name, x)
    assert (out.shape, out.dtype, out.requires_grad) == (x.shape, dtype, False)
    assert torch.equal(x, before)
    assert (out != x).flatten(1).any(dim=1).sum() >= 6  # AugMix may leave an image as it is
    assert out.isfinite().all()


@FREE
@pytest.mark.parametrize("size", [(7, 5), (33, 64), (224, 160)])
def test_any_height_and_width(name: str, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert augmented(name, x).shape == x.shape


@pytest.mark.parametrize("name", ["augmax", "gud", "sada"])
def test_attacks_take_any_size_that_the_network_takes(name: str) -> None:
    net = networks.build("wrn_16_4", 4, 0)
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert augmented(name, x, net=net).shape == x.shape


def test_bytes_are_the_rounded_float_images() -> None:
    """Float randconv leaves [0,1]; bytes are cut there."""
    floats, out = augmented("randconv", BATCH.unit()), augmented("randconv", BATCH.x)
    assert floats.min() < 0 or floats.max() > 1
    assert torch.equal(out, (floats.clamp(0, 1) * 255).round().to(torch.uint8))


@FREE
def test_one_image_is_a_batch_of_one(name: str) -> None:
    assert torch.equal(make(name)(BATCH.x[0]), make(name)(BATCH.x[:1])[0])


def test_one_image_can_be_attacked_with_one_label() -> None:
    out, label = make("augmax")(BATCH.x[0], 0)
    assert out.shape == BATCH.x[0].shape
    assert label == 0


@pytest.mark.parametrize("name", ["afa", "apr", "augmax", "augmix", "randconv", "sada"])
def test_every_image_has_its_own_draws(name: str) -> None:
    """Eight times the same image: all come out different, except for AugMix's rare mixtures of nothing."""
    x = BATCH.unit()[:1].expand(8, 3, 32, 32)
    out = make(name)(x, torch.zeros(8, dtype=torch.int64))[0]
    assert len({image.numpy().tobytes() for image in out}) >= 7


@USABLE
def test_no_image_depends_on_its_neighbours(name: str) -> None:
    other = BATCH.x.clone()
    other[1:] //= 2
    first, second = (augmented(name, x) for x in (BATCH.x, other))
    assert (first[0].int() - second[0].int()).abs().max() <= 1
    assert not torch.equal(first[1:], second[1:])


@FREE
def test_draws_follow_the_given_generator_or_the_global_one(name: str) -> None:
    given = make(name)
    first, second = given(BATCH.x), given(BATCH.x)
    assert not torch.equal(first, second)
    again = make(name)
    assert torch.equal(again(BATCH.x), first)
    assert torch.equal(again(BATCH.x), second)
    with torch.random.fork_rng():
        free = augmentation(name)
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(free(BATCH.x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@USABLE
def test_evaluation_mode_is_the_identity(name: str) -> None:
    module = make(name).eval()
    assert module(BATCH.x) is BATCH.x
    assert module(BATCH.x, BATCH.y) == (BATCH.x, BATCH.y)


def test_the_network_stays_its_owners() -> None:
    net = networks.build("mini_convnet", 4, 0)
    module = make("sada", net)
    assert list(module.parameters()) == []
    module.eval()
    assert all(part.training for part in net.modules())
    module.train()
    net.eval()
    module(BATCH.x, BATCH.y)
    assert not any(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["augmax", "sada", "gud"])
def test_attacks_follow_the_network_as_it_trains(name: str) -> None:
    net = networks.build("mini_convnet", 4, 0)
    module, again = make(name, net), make(name, net)
    before = module(BATCH.unit(), BATCH.y)[0]
    with torch.no_grad():
        net.head.weight.neg_()
    assert not torch.equal(again(BATCH.unit(), BATCH.y)[0], before)


@FREE
def test_it_stands_in_a_pipeline_of_torchvision(name: str) -> None:
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    pipeline = v2.Compose([v2.ToImage(), v2.RandomCrop(24), augmentation(name), *last])
    for x in (v2.functional.to_pil_image(BATCH.x[0]), tv_tensors.Image(BATCH.x)):
        out = pipeline(x)
        assert isinstance(out, tv_tensors.Image)
        assert out.shape[-3:] == (3, 24, 24)
        assert out.dtype == torch.float32
        assert -1 <= out.min() < out.max() <= 1
    out, label = pipeline(BATCH.x, BATCH.y)
    assert out.shape == (8, 3, 24, 24)
    assert label is BATCH.y


def test_an_attack_stands_in_a_pipeline_with_labels() -> None:
    net = networks.build("mini_convnet", 4, 0)
    pipeline = v2.Compose([v2.RandomHorizontalFlip(), make("augmax", net), v2.ToDtype(torch.float32, scale=True)])
    out, label = pipeline(BATCH.x, BATCH.y)
    assert out.dtype == torch.float32
    assert torch.equal(label, BATCH.y)


@FREE
def test_a_copy_draws_on_from_where_the_first_stood(name: str) -> None:
    module = make(name)
    module(BATCH.x)
    copies = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    wanted = module(BATCH.x)
    for other in copies:
        assert torch.equal(other(BATCH.x), wanted)


class Odd(nn.Module):
    """A network that gives what it is told to."""

    def __init__(self, give: str = "logits") -> None:
        super().__init__()
        self.conv, self.head, self.give = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), give

    def forward(self, x: Tensor, features: bool = False) -> Any:
        z = self.conv(x).mean((2, 3))
        logits = self.head(z)
        given = {"dict": {"logits": logits}, "tuple": (logits, z, z), "map": z[:, :, None, None], "classes": logits[0]}
        given["bytes"] = logits.byte()
        return given.get(self.give, (logits, z) if features else logits)


class NoFeatures(Odd):
    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x)


ATTACKS = pytest.mark.parametrize("name", [n for n, cls in CLASSES.items() if cls.alone is not None and cls.attacks])


@ATTACKS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_of_another_precision_is_attacked_in_it(name: str, dtype: torch.dtype) -> None:
    net = Odd().to(dtype)
    out = augmented(name, BATCH.unit().to(dtype), net=net)
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert augmented(name, BATCH.x, net=net).dtype == torch.uint8


@ATTACKS
@pytest.mark.parametrize("give", ["dict", "tuple", "map", "classes", "bytes"])
def test_a_network_that_gives_no_logits_is_named(name: str, give: str) -> None:
    with pytest.raises(UsageError, match=r"net\(x.* has to give .*logits \[B,K\].*wrap the network"):
        augmented(name, BATCH.unit(), net=Odd(give))


def test_gud_needs_a_network_with_features() -> None:
    with pytest.raises(UsageError, match=r"net\(x, features=True\) has to give .*, and raises TypeError"):
        augmented("gud", BATCH.unit(), net=NoFeatures())


@ATTACKS
def test_labels_without_a_class_are_named(name: str) -> None:
    for label in (4, 9):
        with pytest.raises(UsageError, match=rf"label {label} is none of the network's classes, 0\.\.3"):
            make(name, Odd())(BATCH.x, torch.full_like(BATCH.y, label))
    with pytest.raises(UsageError, match="label -1 is not a class"):
        make(name, Odd())(BATCH.x, torch.full_like(BATCH.y, -1))
    with pytest.raises(UsageError, match="labels must be int64"):
        make(name, Odd())(BATCH.x, ["a"] * 8)


@ATTACKS
def test_what_is_no_network_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=r"net must be a torch\.nn\.Module, not function"):
        augmentation(name, net=lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no parameters"):
        make(name, nn.Identity())(BATCH.x, BATCH.y)
    with torch.inference_mode():
        net = Odd()
    with pytest.raises(UsageError, match=r"made under torch\.inference_mode"):
        make(name, net)(BATCH.x, BATCH.y)


@USABLE
def test_neither_inference_mode_nor_autocast_changes_an_image(name: str) -> None:
    plain, outside = augmented(name, BATCH.unit()), BATCH.unit()
    first, second = make(name), make(name)
    with torch.inference_mode():
        assert torch.equal(first(outside, BATCH.y)[0], plain)
        assert torch.equal(second(outside.clone(), BATCH.y.clone())[0], plain)
    with torch.autocast("cpu", torch.bfloat16):
        under = augmented(name, BATCH.unit())
        assert under.dtype == plain.dtype
        assert torch.equal(under, plain) or CLASSES[name].attacks  # a network under attack does what autocast says
        assert augmented(name, BATCH.x).dtype == torch.uint8


@ATTACKS
def test_labels_of_inference_mode_that_lie_on_a_gpu_can_be_attacked_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, aug = augmented(name, BATCH.unit()), make(name)
    monkeypatch.setattr(samples, "on_gpu", lambda x: True)
    with torch.inference_mode():
        assert torch.equal(aug(BATCH.unit().clone(), BATCH.y.clone())[0], plain)


@USABLE
def test_a_default_device_changes_no_image(name: str) -> None:
    plain, net = augmented(name, BATCH.unit()), networks.build("mini_convnet", 4, 0)
    with torch.device("meta"):
        assert torch.equal(make(name, net if CLASSES[name].attacks else None)(BATCH.unit(), BATCH.y)[0], plain)
        free = augmentation("randconv")
        assert free(BATCH.unit()).device.type == "cpu"


@USABLE
def test_no_images_come_back_as_no_images(name: str) -> None:
    for x in (BATCH.x[:0], BATCH.unit()[:0]):
        out, labels = make(name)(x, BATCH.y[:0])
        assert (out.shape, out.dtype, len(labels)) == (x.shape, x.dtype, 0)
    assert make(name)(BATCH.x[:0], [])[0].shape == (0, 3, 32, 32)
    with pytest.raises(UsageError, match=r"images with pixels, not \[8, 3, 0, 32\]"):
        make(name)(BATCH.x[:, :, :0], BATCH.y)


@USABLE
def test_torch_compile_leaves_it_as_it_is(name: str) -> None:
    torch._dynamo.reset()
    wanted = augmented(name, BATCH.x)
    compiled: Any = torch.compile(make(name), backend="eager")
    assert torch.equal(compiled(BATCH.x, BATCH.y)[0], wanted)
    if not CLASSES[name].attacks:
        within = torch.compile(nn.Sequential(make(name), nn.Flatten()), backend="eager")
        assert torch.equal(within(BATCH.x), wanted.flatten(1))
    torch._dynamo.reset()


def _in_a_fork(module: Any, pipe: Any) -> None:
    pipe.send(module(BATCH.x, BATCH.y)[0].numpy())


@pytest.mark.parametrize("name", ["augmix", "augmax", "randconv"])
def test_a_forked_process_augments_as_its_parent(name: str) -> None:
    """torch's threads and ours stay behind in the parent; whoever waits for them waits for ever."""
    threads, module = torch.get_num_threads(), make(name)
    torch.set_num_threads(2)
    try:
        module(BATCH.x, BATCH.y)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=_in_a_fork, args=(module, there))
        process.start()
        assert here.poll(60), "it hangs"
        assert torch.equal(torch.from_numpy(here.recv()), module(BATCH.x, BATCH.y)[0])
        process.join()
    finally:
        torch.set_num_threads(threads)


def test_it_shows_its_settings() -> None:
    assert re.match(
        r"Augmentation\(augmix, severity=2\.0, width=3, .*jsd=False", repr(augmentation("augmix", severity=2))
    )


@pytest.mark.parametrize(
    ("make_or_call", "says"),
    [
        (lambda: augmentation("augmixx"), "unknown method 'augmixx': did you mean 'augmix'"),
        (lambda: augmentation("augmix", severety=3), "no setting 'severety': did you mean 'severity'"),
        (lambda: augmentation("augmix", severity=99), "augmix.severity=99"),
        (lambda: augmentation("augmix", severity="heavy"), "augmix.severity=heavy"),
        (lambda: augmentation("augmix", jsd=True), "jsd is fixed at False"),
        (lambda: augmentation("augmix", net=nn.Identity()), "attacks no network; leave net out"),
        (lambda: augmentation("augmix", generator=0), "generator=0: give a CPU generator"),  # type: ignore[arg-type]
        (lambda: augmentation("augmix", generator=ELSEWHERE), "give a CPU generator"),
        (lambda: augmentation("erm"), f"these can: {', '.join(sorted(ALONE))}"),
        (lambda: augmentation("mada"), "mada cannot be used alone"),
        (lambda: augmentation("sada"), r"augmentation('sada', net=net)"),
        (lambda: augmentation("sada"), f"without a network: {', '.join(sorted(ALONE - ATTACKERS))}"),
        (lambda: augmentation("sada", net=nn.Identity(), weight_map="erm"), "weight_map is fixed at 'none'"),
        (lambda: make("sada")(BATCH.x), "call it as aug(x, y)"),
        (lambda: make("sada")(BATCH.x, BATCH.y[:3]), "labels must be int64 [8], not torch.int64 [3]"),
        (lambda: make("sada")(BATCH.x, BATCH.y.float()), "labels must be int64 [8], not torch.float32 [8]"),
        (lambda: make("augmix")(BATCH.unit() * 2 - 1), "normalise after it, not before"),
        (lambda: make("augmix")(BATCH.unit() / 0), "float images in [0,1]"),
        (lambda: make("augmix")(BATCH.x[:, :2]), "with C of 3 or 1, not torch.uint8 [8, 2, 32, 32]"),
        (lambda: make("augmix")(BATCH.x.long()), "not torch.int64 [8, 3, 32, 32]"),
        (lambda: make("augmix")([1, 2]), "takes tensors and PIL images, alone or in a dict, list or tuple, not int"),
    ],
)  # fmt: skip
def test_bad_input_is_named(make_or_call: Any, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        make_or_call()


def test_the_documented_example_runs_and_learns() -> None:
    text = (ROOT / "docs" / "augmentation.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
            exec(block, names)
    losses = names["losses"]
    assert sum(losses[-10:]) / 10 < 0.5 * losses[0]
    assert names["hard"].shape == (32, 3, 24, 32)
    assert torch.equal(names["labels"], names["y"][:32])
    assert names["net"].training


@pytest.mark.parametrize("name", sorted(name for name in ALONE if CLASSES[name].uncoupled))
def test_what_would_couple_the_images_may_be_set_back(name: str) -> None:
    released = CLASSES[name]().settings()
    for key, alone in (CLASSES[name].uncoupled or {}).items():
        assert make(name).method.settings()[key] == alone != released[key]
        assert make(name, **{key: released[key]}).method.settings()[key] == released[key]


def test_what_resampling_leaves_outside_by_rounding_is_put_back() -> None:
    x = BATCH.unit().clone()
    x[0, 0, 0, :2] = torch.tensor([1.0000001, -1e-7])
    torch.testing.assert_close(augmented("augmix", x), augmented("augmix", x.clamp(0, 1)), rtol=0, atol=0)


def test_on_a_gpu_rounding_is_put_back_and_what_is_no_rounding_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for there, so normalised images are not refused; they are not cut either."""
    monkeypatch.setattr(samples, "on_gpu", lambda device: True)
    x = BATCH.unit().clone()
    x[0, 0, 0, :4] = torch.tensor([1.00001, -1e-5, 1.5, -0.5])
    found = samples.batch(x, "augmix")
    torch.testing.assert_close(found[0, 0, 0, :4], torch.tensor([1.0, 0.0, 1.5, -0.5]), rtol=0, atol=0)


def test_views_are_made_while_the_images_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton runs on the current GPU, wherever its tensors are."""
    method, current = augmentation("augmix"), mock.MagicMock()
    views, seen = type(method.method).views, list[bool]()

    def watched(*args: Any) -> Any:
        seen.append(current.__enter__.called and not current.__exit__.called)
        return views(*args)

    monkeypatch.setattr(augment, "on_gpu", lambda device: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: current)
    monkeypatch.setattr(type(method.method), "views", watched)
    method(BATCH.unit())
    assert seen == [True]


@pytest.mark.parametrize("name", sorted(ALONE))
def test_the_callers_default_type_changes_no_image(name: str) -> None:
    own = {"net": NET} if name in ATTACKERS else {}
    plain = augmented(name, BATCH.unit(), **own)
    torch.set_default_dtype(torch.float64)
    try:
        other = augmented(name, BATCH.unit().float(), **own)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(other, plain, rtol=0, atol=0)


def test_views_that_are_no_list_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    aug = make("randconv")
    monkeypatch.setattr(CLASSES["randconv"], "views", lambda self, net, x, *_: x)
    with pytest.raises(UsageError, match="randconv: its `views` has to return a list of images"):
        aug(BATCH.unit())


def test_threads_take_turns_at_a_network() -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = networks.build("mini_convnet", 4, 0)

        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.01)  # long enough for the other thread to come in between
            logits: Tensor = self.net(x)
            return logits

    net = Slow().train()
    attack = augmentation("augmax", net=net, steps=2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: attack(BATCH.x, BATCH.y), range(6)))
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_worker_s_copy_draws_as_the_original() -> None:
    """The generator travels by its state: as an object it cannot be sent to a process that is spawned."""
    augment = make("augmix")
    augment(BATCH.x)
    assert isinstance(augment.__getstate__()["generator"], bytes)
    sent = pickle.loads(ForkingPickler.dumps(augment))
    assert torch.equal(sent(BATCH.x), augment(BATCH.x))
    assert sent.generator is not augment.generator
