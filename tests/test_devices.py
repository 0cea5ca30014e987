"""Devices are compared in one place, and what a run has on a GPU stays there: on a pretended one, which needs none."""

import ast
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark import registry
from benchmark.core import stream
from benchmark.core.images import Images
from benchmark.core.record import Asked
from benchmark.core.stream import Feed, chunks, resident, take
from benchmark.method import Method
from benchmark.training import floors, measurements
from benchmark.training.evaluate import accuracy, scores
from benchmark.training.loop import train
from benchmark.training.progress import Training, begin
from tests import toy
from tests.methods.test_methods import METHODS, make
from tests.pretend_gpu import CUDA, PretendGpu, pretended

ROOT = Path(__file__).resolve().parent.parent
MODULES = [path for name in ("benchmark", "methods", "datasets") for path in sorted((ROOT / name).rglob("*.py"))]
WORDS = {"cpu", "cuda", "meta", "mps", "xpu"}
INDEXLESS = torch.device("cuda")
"""As a run's record and most people write it; a tensor's own device is CUDA."""


def comparisons(source: str) -> list[str]:
    """Where a module compares devices, as "line: text".

    That is: a comparison or a match of something called `device`, of torch.device(...), of `.type` of such a thing, or
    of any `.type` with a kind of device; the same as text, by str(); and any use of is_cuda, is_cpu or get_device.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        sides: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            sides = [part for side in (node.left, *node.comparators) for part in _parts(side)]
        elif isinstance(node, ast.Match):
            sides = [node.subject]
        words = any(isinstance(side, ast.Constant) and side.value in WORDS for side in sides)
        attribute = isinstance(node, ast.Attribute) and node.attr in ("is_cuda", "is_cpu", "get_device")
        if attribute or any(_is_device(side) or (words and _is_type(side)) for side in sides):
            assert isinstance(node, ast.expr | ast.stmt)
            found.append(f"{node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return found


def _parts(side: ast.expr) -> list[ast.expr]:
    """What is compared: of a container its elements, of str() what it is given."""
    if isinstance(side, ast.Tuple | ast.List | ast.Set):
        return side.elts
    if isinstance(side, ast.Call) and isinstance(side.func, ast.Name) and side.func.id == "str":
        return side.args
    return [side]


def _is_type(side: ast.expr) -> bool:
    return isinstance(side, ast.Attribute) and side.attr == "type"


def _is_device(side: ast.expr) -> bool:
    if isinstance(side, ast.Attribute) and side.attr in ("type", "index"):
        return _is_device(side.value)
    name = side.func if isinstance(side, ast.Call) else side
    return (isinstance(name, ast.Attribute) and name.attr == "device") or (
        isinstance(name, ast.Name) and name.id == "device"
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_devices_are_compared_in_one_module_alone(path: Path) -> None:
    found = comparisons(path.read_text(encoding="utf-8"))
    if path == ROOT / "benchmark" / "core" / "devices.py":
        assert found
    else:
        assert not found, f"ask benchmark.core.devices: {path.name}:{', '.join(found)}"


@pytest.mark.parametrize(
    "line",
    [
        'images.x.device != device or (device.type == "cpu" and images.x.nbytes > RESIDENT_BYTES)',  # it failed 40 runs
        "a.device == b.device",
        "x.device is not None",
        'on.type == "cuda"',
        '"cuda" != generator.device.type',
        'x.device.type in ("cuda", "xpu")',
        'x.device in {torch.device("cpu")}',
        'on == torch.device("cuda", 0)',
        'str(x.device) == "cuda:0"',
        "x.device.index == 0",
        'asked.device == "cpu"',
        "x if x.is_cuda else y",
        "x.get_device() < 0",
        "match x.device.type:\n    case _: pass",
    ],
)
def test_a_comparison_of_devices_is_found(line: str) -> None:
    assert comparisons(line)


@pytest.mark.parametrize(
    "line",
    [
        'recipe.type == "adam"',
        "member.type == tarfile.DIRTYPE",
        "len(x.to(device)) == 3",
        'torch.zeros(3, device=x.device).sum() == torch.rand(3, device="cuda").sum()',
        "torch.autocast(x.device.type, torch.bfloat16)",
        "together(images.x, device) and not on_gpu(asked.device)",
        'name == "cuda"',
    ],
)
def test_nothing_else_is_taken_for_one(line: str) -> None:
    assert not comparisons(line)


def test_a_device_is_made_whole() -> None:
    from benchmark.core.devices import on_gpu, together, whole  # the other tests run on trees without it

    cpu = torch.device("cpu")
    assert whole("cpu") == whole(cpu) == cpu
    assert whole("cuda") == whole(torch.device("cuda")) == whole(CUDA)
    assert whole("cuda").index is not None
    assert whole("cuda:3") == torch.device("cuda", 3)
    assert together("cuda", whole("cuda"))
    assert together(torch.zeros(1), "cpu")
    assert not together("cuda:1", "cuda:2")
    assert not together(torch.zeros(1), "cuda")
    assert on_gpu("cuda")
    assert on_gpu(CUDA)
    assert not on_gpu(cpu)
    assert not on_gpu(torch.zeros(1))


class Gpu:
    """A pretended GPU, and what went to it piece by piece."""

    def __init__(self, pretended: PretendGpu):
        self.pinned, self.fetched = pretended.pinned, list[int]()

    def held_all(self) -> bool:
        """Whether nothing was streamed to it, and only the host's memory was pinned."""
        return not self.fetched and {place.type for place in self.pinned} <= {"cpu"}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    # A matrix product of the size that is right for a GPU would take a CPU a minute.
    monkeypatch.setattr(floors, "device_rates", lambda *about: (1.0, 1.0))
    fetch = stream._fetch
    with pretended(monkeypatch) as found:
        gpu = Gpu(found)

        def fetched(images: Images, *rest: Any) -> Images:
            gpu.fetched.append(len(images))
            return fetch(images, *rest)

        monkeypatch.setattr(stream, "_fetch", fetched)
        yield gpu


def there(*values: Any) -> bool:
    """Whether all tensors in the values, and there are some, lie on the GPU as a whole device."""
    tensors = list(_tensors(values))
    return bool(tensors) and all(tensor.device == CUDA for tensor in tensors)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Images):
        yield from (value.x, value.y)
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().values()
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner)


def all_there(run: Training) -> bool:
    state = run.optimizer.state_dict()["state"]
    return there(run.net, run.loss_sum, run.pool) and (not state or there(state)) and (not run.best or there(run.best))


def begun(name: str = "erm", **changes: Any) -> tuple[Training, Asked, Method]:
    asked, method = toy.asked(name, device="cuda", **changes), make(name)
    return begin(asked, method, toy.loaded()), asked, method


def test_the_pretended_gpu_refuses_what_a_gpu_does(gpu: Gpu) -> None:
    here, host = torch.rand(3, device=INDEXLESS), torch.rand(3)
    assert there(here, here * 2.0, here + torch.tensor(1.0), host.to(here), here[torch.arange(2)])
    assert not there(here.cpu())
    with pytest.raises(RuntimeError, match="same device"):
        here + host
    with pytest.raises(RuntimeError, match="cannot pin"):
        here.pin_memory()
    with pytest.raises(TypeError, match="numpy"):
        here.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, generator=torch.Generator(INDEXLESS))


DEVICES = pytest.mark.parametrize("device", [INDEXLESS, CUDA], ids=str)


@DEVICES
def test_images_on_a_gpu_are_taken_where_they_are(device: torch.device, gpu: Gpu) -> None:
    images = toy.images(24, 0)
    (placed,) = resident([images], device)
    order = torch.tensor([5, 3, 11])
    parts = [take(placed, order, device), *chunks(placed, 10, device)]
    with Feed(device) as feed:
        parts += [feed.batch(placed, order, lambda: order) for _ in range(2)]
    assert there(placed, parts)
    assert gpu.held_all()
    for part in (parts[0], *parts[-2:]):
        assert torch.equal(part.x.cpu(), images.x[order])
    assert [len(part) for part in parts[1:4]] == [10, 10, 4]


@DEVICES
def test_images_on_the_host_are_sent_to_a_gpu(device: torch.device, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RESIDENT_BYTES", 0)
    images, order = toy.images(24, 0), torch.tensor([5, 3, 11])
    (placed,) = resident([images], device)
    assert placed.x is images.x
    with Feed(device) as feed:
        parts = [feed.batch(placed, order, lambda: order), *chunks(placed, 10, device)]
    assert there(parts)
    assert gpu.fetched
    assert {place.type for place in gpu.pinned} == {"cpu"}
    assert torch.equal(parts[0].x.cpu(), images.x[order])
    assert torch.equal(torch.cat([part.x.cpu() for part in parts[1:]]), images.x)


@METHODS
def test_a_run_is_on_the_gpu_from_its_beginning_to_its_end(name: str, gpu: Gpu, tmp_path: Path) -> None:
    # Without their kernels, the augmentations of two methods are slow. The others need all steps for their phases.
    run, asked, method = begun(name, **({"steps": 2, "evaluations": 1} if name in ("augmix", "augmax") else {}))
    assert all_there(run)
    train(run, asked, method, toy.loaded(), tmp_path)
    assert all_there(run)
    assert there(run.best)
    assert gpu.held_all()
    assert all(isfinite(point["loss"]) for point in run.curve)


def test_a_pretended_gpu_gives_the_numbers_of_the_cpu(tmp_path: Path, gpu: Gpu) -> None:
    (run, asked, method), data = begun("randconv", selection="source-val-views"), toy.loaded()
    train(run, asked, method, data, tmp_path)
    asked = asked.model_copy(update={"device": "cpu"})
    plain = begin(asked, method, data)
    train(plain, asked, method, data, tmp_path)
    assert [point["step"] for point in run.curve] == [4, 8]
    for point, other in zip(run.curve, plain.curve, strict=True):
        assert point["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert there(run.best)
    assert not there(plain.best)


@pytest.mark.parametrize("grown", [None, 3])
@DEVICES
def test_a_checkpoint_is_taken_up_on_the_gpu(device: torch.device, grown: int | None, gpu: Gpu, tmp_path: Path) -> None:
    run, asked, method = begun()
    train(run, asked, method, toy.loaded(), tmp_path)
    run.state, run.grown = {"map": torch.rand(3, device=device), "more": [torch.rand(2, device=device)]}, grown
    assert there(run.dump()["state"])
    run.save(tmp_path, "code")
    again, _, _ = begun()
    assert again.resume(tmp_path, "code", device)
    assert all_there(again)
    assert there(again.state["map"], again.state["more"], again.best)
    for name, value in run.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name])
    assert accuracy(again.net, again.pool) == accuracy(run.net, run.pool)
    assert gpu.held_all()


READERS: list[Callable[[Training, Asked, Method], object]] = [
    lambda run, asked, method: accuracy(run.net, run.pool),
    lambda run, asked, method: accuracy(run.net, toy.images(32, 1).to(CUDA)),
    lambda run, asked, method: scores(run.net, toy.images(32, 1).to(CUDA)),
    lambda run, asked, method: measurements.throughput_of(run, 16, INDEXLESS),
    lambda run, asked, method: measurements.throughput_of(run, 16, CUDA),
    lambda run, asked, method: measurements.views_of(run, asked, method, toy.images(16, 0)),
    lambda run, asked, method: measurements.views_of(run, asked, method, run.pool),
    lambda run, asked, method: measurements.sensitivity_of(run, asked, toy.images(6, 0)),
    lambda run, asked, method: measurements.sensitivity_of(run, asked, run.pool),
    lambda run, asked, method: measurements.weights_of(run, asked, ("a", "b", "c", "d")),
]


def test_what_is_read_off_a_run_is_read_on_the_gpu(gpu: Gpu, tmp_path: Path) -> None:
    run, asked, method = begun(sensitivity_images=4)
    train(run, asked, method, toy.loaded(), tmp_path)
    for read in READERS:
        assert read(run, asked, method) is not None
        assert all_there(run)
    assert gpu.held_all()
    assert measurements.accuracy_of(run, toy.loaded()).source_val
    assert measurements.calibration_of(run).domains
    assert registry.make("method", "erm", {}) == method
