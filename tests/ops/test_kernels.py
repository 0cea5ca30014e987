"""Every kernel, in every form, against a third party in float64: Pillow, scipy or numpy.

Without a CUDA device Triton's kernels run in its interpreter, on the same tests. Memory that a kernel asks for is
filled with NaN, or the largest integer, before the kernel sees it, so that what it fails to write shows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal, special
from torch import Tensor

from benchmark.ops.augmix import OPS, magnitudes, sample_mix
from benchmark.ops.kernels import augment_mix, jensen_shannon, random_convolution, spectrum_step
from benchmark.ops.kernels.augment_mix import to_uint8
from benchmark.ops.kernels.dispatch import triton_form
from benchmark.ops.random_conv import sample_random_conv
from tests.ops.pillow_peer import by_pillow, from_pillow, to_pillow

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Array = np.ndarray[Any, Any]


def views_inputs(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> list[Any]:
    x = torch.rand(shape, generator=generator, dtype=dtype)
    x.flatten()[::7] = 1.0
    width = 5 if len(x) else 2
    draws = sample_mix(len(x), generator, ops=OPS, severity=10.0, width=width)
    if len(x):  # every operation comes up
        slots = torch.arange(draws.op.numel()).view_as(draws.op)
        draws.op.copy_(torch.where(draws.op >= 0, (slots * 5) % len(OPS), -1))
        draws.op[0, 0] = -1
    return [
        x,
        draws.op,
        magnitudes(draws.op, draws.level, draws.sign, *shape[2:]),
        draws.w.to(dtype),
        draws.m.to(dtype),
    ]


def chains_inputs(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> list[Any]:
    x, op, magnitude, *_ = views_inputs(shape, torch.float32, generator)
    return [to_uint8(x), op, magnitude]


def pillow_chains(x: Array, op: Array, magnitude: Array) -> Array:
    out = np.empty((*op.shape[:2], *x.shape[1:]), np.uint8)
    maximum = {"posterize": 4, "rotate": 30, "solarize": 256, "shear_x": 0.3, "shear_y": 0.3}
    for b, chain in np.ndindex(*op.shape[:2]):
        image = to_pillow(torch.from_numpy(x[b]))
        for o, value in zip(op[b, chain], magnitude[b, chain], strict=True):
            if o >= 0:  # the level that has this magnitude, a little above where it is cut to a whole number
                name, side = OPS[o], x.shape[3] if OPS[o] == "translate_x" else x.shape[2]
                most = side / 3 if name.startswith("translate") else maximum.get(name, 1.8)
                exact = name not in ("posterize", "rotate", "solarize", "translate_x", "translate_y")
                level = abs(value) / most * 10 if exact else (abs(value) + 1e-6) / most * 10
                image = by_pillow(image, name, level, -1 if value < 0 else 1)
        out[b, chain] = from_pillow(image).numpy()
    return out


def pillow_views(x: Array, op: Array, magnitude: Array, w: Array, m: Array) -> Array:
    there = pillow_chains((x.clip(0, 1).astype(np.float32) * np.float32(255)).astype(np.uint8), op, magnitude) / 255
    mixture = (w[:, :, None, None, None] * there).sum(axis=1)
    return np.asarray((1 - m[:, None, None, None]) * x + m[:, None, None, None] * mixture)


def logits(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> list[Any]:
    return [12 * torch.randn(shape, generator=generator, dtype=dtype)]  # so spread that the clamp is at work


def scipy_divergence(z: Array) -> Array:
    p = special.softmax(z, axis=2)
    return np.asarray((p * (special.log_softmax(z, axis=2) - np.log(p.mean(axis=0).clip(1e-7, 1)))).sum(2).mean())


def convolution_inputs(clamp: str, per_image: bool, largest: int = 7) -> Callable[..., list[Any]]:
    def inputs(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> list[Any]:
        groups = shape[0] if per_image else 1
        draws = sample_random_conv(
            groups, generator, kernel_sizes=range(1, largest + 1, 2), bias=clamp == "true", identity_prob=0.3
        )
        x, bias = torch.rand(shape, generator=generator, dtype=dtype), draws.bias
        parts = (draws.size, draws.weight.to(dtype), draws.alpha, draws.identity)
        return [x, *parts, bias if bias is None else 5 * bias, clamp]

    return inputs


def scipy_convolution(
    x: Array, size: Array, weight: Array, alpha: Array, identity: Array, bias: Array | None, clamp: str
) -> Array:
    out = np.empty(x.shape)
    for b in range(len(x)):
        g = b % len(weight)
        if identity[g]:
            out[b] = x[b]
            continue
        for o in range(3):
            parts = [signal.correlate2d(x[b, c] - 0.5, weight[g, o, c], mode="same") for c in range(3)]
            found: Array = np.sum(parts, axis=0) + (0 if bias is None else bias[g, o] / 2)
            found = found.clip(-0.5, 0.5) if clamp == "clamp" else found
            found = alpha[g] * found + (1 - alpha[g]) * (x[b, o] - 0.5)
            out[b, o] = 0.5 + (found if clamp == "off" else found.clip(-0.5, 0.5))
    return out


def ascend_inputs(full: bool) -> Callable[..., list[Any]]:
    def inputs(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> list[Any]:
        def rand(*size: int) -> Tensor:
            return torch.rand(size, generator=generator, dtype=dtype)

        a, turn = 9 * rand(*shape), 6.28 * rand(*shape)
        gradient = torch.complex(rand(*shape) - 0.5, rand(*shape) - 0.5)
        gradient.flatten()[::5] = 0
        moving = rand(*shape[:-3]) < 0.6
        rest = (1 + rand(*shape[-2:]), moving, 0.3, (a * 0.9, a * 1.1)) if full else (None, moving, -1.2, None)
        return [a, torch.polar(torch.ones_like(turn), turn), gradient, *rest]

    return inputs


def numpy_ascend(
    a: Array, phasor: Array, gradient: Array, weight: Array | None, moving: Array, step: float, bounds: Any
) -> tuple[Array, Array]:
    slope = gradient.real * phasor.real + gradient.imag * phasor.imag
    change = step * np.sign(slope) * a * (1 if weight is None else weight) * moving[..., None, None, None]
    after = (a + change).clip(0)
    after = after.clip(*bounds) if bounds else after
    return after, after * phasor


def image_inputs(norm: str, magnitude: str, bright: bool = False) -> Callable[..., list[Any]]:
    def inputs(shape: Any, dtype: torch.dtype, generator: torch.Generator) -> list[Any]:
        parts = torch.randn(2, *shape, generator=generator, dtype=dtype)
        brightness = 1 + torch.rand(*shape[:-4], 1, generator=generator, dtype=dtype) if bright else None
        return [torch.complex(*parts.unbind()), norm, magnitude, brightness]

    return inputs


def numpy_image(z: Array, norm: str, magnitude: str, brightness: Array | None) -> Array:
    image = np.abs(z) if magnitude == "abs" else z.real
    if norm != "none":
        image = image / image.max(axis=(-4, -3, -2, -1)[0 if norm == "batch_max" else 1 :], keepdims=True).clip(1e-12)
    image = image.clip(0, 1)
    return image if brightness is None else (brightness[..., None, None, None] * image).clip(0, 1)


@dataclass(frozen=True)
class Kernel:
    module: ModuleType
    name: str
    """The operation's; its forms are name_torch and name_triton."""
    inputs: Callable[..., list[Any]]
    want: Callable[..., Any]
    tolerance: float = 2e-6
    gradient: bool = False
    """Whether it is differentiable in its first input."""
    cases: Any = None

    def chosen(self, given: list[Any]) -> Any:
        """The form that is chosen for these inputs."""
        if self.module is spectrum_step:  # for two operations at once, by the images
            ascend, to_image = spectrum_step.forms(given[0].real)
            return {"ascend": ascend, "to_image": to_image}[self.name]
        return getattr(self.module, self.name)

    def shapes(self) -> list[Any]:
        return list(self.cases or self.module.CASES)


SMALL = [(2, 3, 13, 21), (0, 3, 8, 8), (1, 3, 1, 1)]
"""The interpreter takes a second for some twenty operations; the first has two tiles of pixels."""
if DEVICE.type == "cuda":  # every size is compiled for itself: an odd one is there already
    SMALL += augment_mix.CASES[:2]
KERNELS = {
    "chains": Kernel(augment_mix, "chains", chains_inputs, pillow_chains, 0, cases=SMALL[:1] + SMALL[3:]),
    "views": Kernel(augment_mix, "views", views_inputs, pillow_views, cases=SMALL),
    "divergence": Kernel(jensen_shannon, "divergence", logits, scipy_divergence, 1e-5, gradient=True),
    "ascend": Kernel(spectrum_step, "ascend", ascend_inputs(False), numpy_ascend),
    "ascend, weighted and bounded": Kernel(spectrum_step, "ascend", ascend_inputs(True), numpy_ascend),
    "to_image, bright": Kernel(spectrum_step, "to_image", image_inputs("batch_max", "abs", True), numpy_image),
    **{
        f"to_image, {norm}, {magnitude}": Kernel(
            spectrum_step, "to_image", image_inputs(norm, magnitude), numpy_image, gradient=True
        )
        for norm, magnitude in [("batch_max", "abs"), ("image_max", "abs"), ("none", "abs"), ("batch_max", "real")]
    },
    **{
        f"random_convolution, {clamp}, {'one each' if per_image else 'one'}, up to {largest}": Kernel(
            random_convolution,
            "random_convolution",
            convolution_inputs(clamp, per_image, largest),
            scipy_convolution,
            4e-6,
        )
        for clamp, per_image, largest in [("off", True, 7), ("true", False, 7), ("clamp", True, 5), ("off", False, 1)]
    },
}
FORMS = ["torch", "triton"]


@contextmanager
def poisoned() -> Iterator[None]:
    """What torch.empty and its like return is NaN, or the largest integer."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def scattered(value: Any) -> Any:
    """The same numbers, every other element of a larger tensor, where the value is one."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    wide = value.new_full((*value.shape, 2), True) if value.dtype == torch.bool else value.new_zeros(*value.shape, 2)
    wide[..., 0] = value
    return wide[..., 0]


def turned(value: Any) -> Any:
    """The same numbers, with the channels of images beside each other in memory."""
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def moved(values: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    return [tuple(map(change, v)) if isinstance(v, tuple) else change(v) for v in values]


def to_device(value: Any) -> Any:
    return value.to(DEVICE) if isinstance(value, Tensor) else value


def to_numpy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    return value.detach().cpu().to(wide.get(value.dtype, value.dtype)).numpy()


@pytest.mark.parametrize("layout", [None, scattered, turned], ids=["plain", "scattered", "channels last"])
@pytest.mark.parametrize(
    ("form", "dtype"), [("torch", torch.float32), ("torch", torch.float64), ("triton", torch.float32)]
)
@pytest.mark.parametrize("name", KERNELS)
def test_value_equals_a_third_party(
    name: str, form: str, dtype: torch.dtype, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = KERNELS[name]
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    for case in kernel.shapes()[: None if layout is None else 1]:
        given = kernel.inputs(case, dtype, torch.Generator().manual_seed(sum(case)))
        want = kernel.want(*moved(given, to_numpy))
        seen = moved(moved(given, to_device), layout or (lambda value: value))
        function = getattr(kernel.module, f"{kernel.name}_{form}")
        if form == "torch":
            found = function(*seen)
        else:
            with poisoned():
                found = function(*seen)
        for got, wanted in zip(*((v if isinstance(v, tuple) else (v,)) for v in (found, want)), strict=True):
            assert got.shape == wanted.shape
            tolerance = kernel.tolerance * max(1.0, float(np.abs(wanted).max(initial=0)))
            np.testing.assert_allclose(to_numpy(got), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if kernel.gradient])
def test_gradient_equals_finite_differences_of_a_third_party(name: str, form: str) -> None:
    kernel = KERNELS[name]
    for case in kernel.shapes():
        generator = torch.Generator().manual_seed(sum(case))
        first, *rest = moved(kernel.inputs(case, torch.float32, generator), to_device)
        first.requires_grad_()
        with poisoned():
            found = getattr(kernel.module, f"{kernel.name}_{form}")(first, *rest)
            up = torch.rand(found.shape, generator=generator).to(DEVICE)
            (got,) = torch.autograd.grad(found, first, up)
        x, others, weight, h = to_numpy(first), moved(rest, to_numpy), to_numpy(up), 1e-6
        want = np.zeros_like(x)[..., :3]  # three of each row are enough
        for place in np.ndindex(*want.shape):
            for way in (1, 1j) if np.iscomplexobj(x) else (1,):
                away = np.zeros_like(x)
                away[place] = h * way
                rise = kernel.want(x + away, *others) - kernel.want(x - away, *others)
                want[place] += way * float((weight * rise).sum()) / (2 * h)
        scale = max(1e-3, float(np.abs(want).max()))
        np.testing.assert_allclose(to_numpy(got)[..., :3], want, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("value", [0, 0.7 - 0.2j])
def test_no_gradient_where_all_values_are_the_largest(value: complex) -> None:
    """A flat image stays flat however bright it is, and of a black one nothing is infinite."""
    z = torch.full((1, 2, 1, 2, 3), value, dtype=torch.complex64, device=DEVICE, requires_grad=True)
    found = spectrum_step.to_image_triton(z, "image_max", "abs")
    up = torch.rand(z.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    (got,) = torch.autograd.grad(found, z, up)
    assert torch.equal(found, torch.full_like(found, float(value != 0)))
    assert torch.equal(got, torch.zeros_like(z))


def test_views_of_one_image_are_drawn_from_the_image_where_it_lies() -> None:
    """Three views of each of two images: the same as of a batch in which the images are repeated."""
    x, *draws = views_inputs((6, 3, 13, 21), torch.float32, torch.Generator().manual_seed(0))
    want = augment_mix.views_torch(x[:2].repeat(3, 1, 1, 1), *draws)
    for form in (augment_mix.views, augment_mix.views_triton):
        found = form(x[:2].to(DEVICE), *(value.to(DEVICE) for value in draws))
        assert torch.equal(found.cpu(), want)


@pytest.mark.parametrize(
    ("settings", "layout"),
    [
        ({}, torch.contiguous_format),
        ({}, torch.channels_last),
        ({"split": True}, torch.contiguous_format),
        ({"split": True}, torch.channels_last),
        ({"held": 0}, torch.contiguous_format),
        ({"held": 0, "pixels": 128, "scratch": 20_000}, torch.channels_last),
    ],
    ids=[
        "held",
        "held, channels last",
        "a program a chain",
        "a program a chain, channels last",
        "one tile",
        "tiles and parts, channels last",
    ],
)
def test_every_form_of_augment_mix_has_the_bits_of_the_definition(settings: Any, layout: torch.memory_format) -> None:
    """Two views of each of two images, an odd size of several tiles; then chains of an image of one pixel."""
    x, *draws = views_inputs((4, 3, 13, 21), torch.float32, torch.Generator().manual_seed(0))
    x, seen = x[:2].contiguous(memory_format=layout), moved(draws, to_device)
    want = augment_mix.views_torch(x.repeat(2, 1, 1, 1), *draws)
    triton = triton_form("augment_triton")
    with poisoned():
        found = torch.empty_like(want, device=DEVICE, memory_format=layout)
        triton.launch(x.to(DEVICE), *seen, found, **settings)
    assert torch.equal(found.cpu(), want)
    byte, *draws = chains_inputs((1, 3, 1, 1), torch.uint8, torch.Generator().manual_seed(0))
    rows = torch.empty(1, draws[0].shape[1], 3, 1, 1, dtype=torch.uint8, device=DEVICE)
    triton.launch(byte.to(DEVICE), *moved(draws, to_device), None, None, rows, **settings)
    assert torch.equal(rows.cpu(), augment_mix.chains_torch(byte, *draws))


def test_a_byte_becomes_the_fraction_that_a_division_gives() -> None:
    level = torch.arange(256, dtype=torch.int32, device=DEVICE)
    one, found = torch.ones(1, 1, device=DEVICE), torch.empty(1, 3, 16, 16, device=DEVICE)
    grey = (level * 0x010101).view(1, 1, 256)
    triton_form("augment_triton_mix").launch(torch.zeros_like(found), grey, one, one[0], found)
    assert torch.equal(found.flatten(2).cpu(), (level.cpu().float() / 255).expand(1, 3, 256))


def test_images_too_large_for_the_kernels_counts_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment_mix, "on_triton", lambda x: True)
    monkeypatch.setattr(augment_mix, "views_triton", lambda *_: "triton")
    monkeypatch.setattr(augment_mix, "chains_triton", lambda *_: "triton")
    monkeypatch.setattr(augment_mix, "views_torch", lambda *_: "torch")
    monkeypatch.setattr(augment_mix, "views_cpu", lambda *_: "torch")
    monkeypatch.setattr(augment_mix, "chains_torch", lambda *_: "torch")
    monkeypatch.setattr(augment_mix, "chains_cpu", lambda *_: "torch")
    for side, form in ((1448, "triton"), (1449, "torch")):
        x, draws = torch.zeros(1).expand(1, 3, side, side), torch.zeros(1, 1, 1, dtype=torch.int64)
        given: Any = draws, draws.double(), torch.ones(1, 1), torch.ones(1)
        assert augment_mix.views(x, *given) == form
        assert augment_mix.chains(x.byte(), *given[:2]) == form


@pytest.mark.parametrize("name", KERNELS)
def test_dispatch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU Triton's form runs, where Triton is there; elsewhere the definition, or Numba's."""
    kernel = KERNELS[name]
    forms = [form for form in ("torch", "triton", "cpu") if hasattr(kernel.module, f"{kernel.name}_{form}")]
    ran: list[str] = []
    for form in forms:
        monkeypatch.setattr(kernel.module, f"{kernel.name}_{form}", lambda *_, form=form: ran.append(form))
    given = moved(kernel.inputs(kernel.shapes()[0], torch.float32, torch.Generator().manual_seed(0)), to_device)
    kernel.chosen(given)(*given)
    assert ran == ["triton" if DEVICE.type == "cuda" else "cpu" if "cpu" in forms else "torch"]
    if DEVICE.type == "cpu":
        monkeypatch.setattr(kernel.module, "on_triton", lambda x: True)
        kernel.chosen(given)(*given)
        assert ran[1:] == ["triton"]


def test_what_triton_does_not_do_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Double precision everywhere; the stretched random convolution; views and convolutions with a gradient."""
    monkeypatch.setattr(augment_mix, "chains_triton", augment_mix.chains_torch)  # a GPU's takes no tensor of the CPU
    for name, kernel in KERNELS.items():
        if name == "chains":
            continue
        monkeypatch.setattr(kernel.module, "on_triton", lambda x: True)
        monkeypatch.setattr(kernel.module, f"{kernel.name}_triton", lambda *_: pytest.fail("not for Triton"))
        given = kernel.inputs(kernel.shapes()[0], torch.float64, torch.Generator().manual_seed(0))
        kernel.chosen(given)(*given)
    generator = torch.Generator().manual_seed(0)
    x, *draws = views_inputs((2, 3, 4, 4), torch.float32, generator)
    assert augment_mix.views(x.requires_grad_(), *draws).requires_grad
    convolve: Any = random_convolution.random_convolution
    x, *parts = convolution_inputs("norm", per_image=True)((2, 3, 4, 4), torch.float32, generator)
    convolve(x, *parts)
    assert convolve(x.requires_grad_(), *parts[:-1], "off").requires_grad
