"""Precision: bf16 stays near fp32 in loss and gradients for every method, and no run's name or numbers change by it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks, run
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.core.recipe import Precision, Recipe
from benchmark.core.record import Asked
from benchmark.method import Rng, Source
from benchmark.networks import precision
from benchmark.networks.classifiers import Classifier
from benchmark.networks.stem import Stem
from benchmark.report.people.summaries import summarise
from benchmark.report.tidy.groups import group_of
from benchmark.runs import records
from benchmark.runs.args import Args
from benchmark.runs.execute import execute
from benchmark.runs.plan import plan
from benchmark.runs.store import Store
from benchmark.training import floors
from benchmark.training.evaluate import accuracy
from benchmark.training.optimise import fit_erm
from benchmark.training.progress import begin
from tests import toy
from tests.conftest import ROOT
from tests.handmade import record
from tests.methods.test_methods import METHODS, make

CPU = torch.device("cpu")


@pytest.fixture
def switches() -> Iterator[None]:
    """The libraries' switches, restored."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@cache
def half_fitted_weights() -> dict[str, Tensor]:
    net = networks.build("mini_convnet", 4, 0)
    fit_erm(net, toy.images(64, 0), toy.RECIPE, 10, Rng(0))
    return net.state_dict()


def half_fitted() -> Classifier:
    """A network with a loss and gradients that are not yet small."""
    net = networks.build("mini_convnet", 4, 0)
    net.load_state_dict(half_fitted_weights())
    return net


def step(name: str, net: Classifier, batch: Images, progress: float, kind: Precision) -> tuple[Tensor, Tensor]:
    """The loss of one step, and its gradient with respect to all parameters."""
    method, pool = make(name), toy.images(64, 0)
    wrapped = method.wrap(net)
    source = Source(pool, toy.images(32, 1), len(pool), 16, lambda helper, rng: None)
    state = method.setup(wrapped, source, Rng(0))
    net.precision = kind
    for at in range(4):  # one phase of M-ADA's
        method.expand(wrapped, source, Rng(0, at), at, state)
    loss = method.loss(wrapped, batch.unit(), batch.y, Rng(0, 4, progress), state)
    assert loss.dtype == torch.float32
    return loss.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(wrapped.parameters()))])


@METHODS
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_bf16_agrees_over_a_training_step(name: str, progress: float) -> None:
    """Eight bits of mantissa: the loss within 1 %, the gradient within 3 % of its norm; and it is not float32."""
    batch = toy.images(32, 5)
    (loss, gradient), (low_loss, low_gradient) = (
        step(name, half_fitted(), batch, progress, kind) for kind in ("fp32", "bf16")
    )
    assert 0 < abs(low_loss - loss) <= 0.01 * abs(loss)
    assert low_gradient.dtype == torch.float32
    assert 0 < (low_gradient - gradient).norm() <= 0.03 * gradient.norm()


@pytest.mark.parametrize("name", ["erm", "augmax"])  # augmax: DuBIN instead of BatchNorm
def test_bf16_agrees_with_batch_norm(name: str) -> None:
    """A network with BatchNorm that has learnt nothing: here a gradient's direction may differ too."""
    batch, results = toy.images(16, 5), []
    for kind in ("fp32", "bf16"):
        net = make(name).wrap(networks.build("timm:test_resnet", 4, 0))
        assert isinstance(net, Classifier)
        net.precision = kind
        loss = make(name).loss(net, batch.unit(), batch.y, Rng(0, 4, 0.5), {})
        results.append(
            (loss.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*net.parameters()])]))
        )
    (loss, gradient), (low_loss, low_gradient) = results
    assert 0 < abs(low_loss - loss) <= 0.02 * loss
    assert F.cosine_similarity(gradient, low_gradient, dim=0) > 0.9


def test_only_the_inside_of_the_network_is_bfloat16() -> None:
    net, x = networks.build("digits_convnet", 4, 0), toy.images(4, 0).unit().requires_grad_()
    net.precision = "bf16"
    seen: dict[str, torch.dtype] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out.dtype}))
    logits, features = net(x, features=True)
    assert set(seen.values()) == {torch.bfloat16}
    assert len(seen) == 5
    assert logits.dtype == features.dtype == torch.float32
    logits.sum().backward()
    assert x.grad is not None
    assert {x.grad.dtype} | {p.grad.dtype for p in net.parameters() if p.grad is not None} == {torch.float32}
    assert isinstance(net.stem, Stem)


def test_accuracy_is_taken_in_float32() -> None:
    net = half_fitted()
    expected = accuracy(net, toy.images(32, 1))
    with torch.inference_mode():
        logits = net(toy.images(32, 1).unit())
        net.precision = "bf16"
        assert torch.equal(net(toy.images(32, 1).unit()), logits)
    assert accuracy(net, toy.images(32, 1)) == expected
    assert not torch.equal(net(toy.images(32, 1).unit()), logits)


def test_a_run_gets_the_networks_precision_from_its_recipe() -> None:
    net = begin(toy.asked(precision="bf16"), make("erm"), toy.loaded()).net
    assert isinstance(net, Classifier)
    assert net.precision == "bf16"


def test_names_of_runs_in_fp32_are_those_of_before() -> None:
    published = records.Records(ROOT / "results" / "published")
    for made in published.read_all():  # raises where an id is not that of what was asked
        assert made.asked.recipe.precision in ("fp32", "bf16")
        assert ("precision" in made.asked.recipe.model_dump()) == (made.asked.recipe.precision == "bf16")
    assert "precision" not in Recipe(network="mini_convnet").model_dump()
    low = toy.asked(precision="bf16")
    assert low.recipe.model_dump()["precision"] == "bf16"
    assert Asked.model_validate_json(low.model_dump_json()) == low
    assert low.run_id != toy.asked().run_id


def test_precisions_share_no_table() -> None:
    made = [record("erm", 0), record("erm", 0, precision="bf16")]
    assert group_of(made[0]) != group_of(made[1])
    for name in ("accuracy", "throughput", "cost"):
        headings = [table.heading for table in summarise(made, {})[name]]
        assert len(headings) == 2
        assert ["mini_convnet in bf16" in heading for heading in sorted(headings, key=lambda h: "bf16" in h)] == [0, 1]


def test_a_run_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "device_rates", lambda *about: (1.0, 1.0))  # on a CPU they take seconds
    Store(tmp_path).prepare()
    args = Args(("erm",), seeds=(0,), steps=2, evaluations=1, sensitivity_images=0, device="cpu", out=tmp_path)
    (job,) = plan(replace(args, precision="bf16"))
    made = execute(job, lambda *_: None)
    assert made is not None
    assert made.status == "done"
    assert made.asked.recipe.precision == "bf16"
    assert made.ran.command.count("--precision bf16") == 1
    assert "--precision" not in plan(args)[0].command
    assert run.main(["--device", "cpu", "--out", str(tmp_path), "--precision", "tf32"]) == 2
    assert "--precision tf32: only GPUs have it" in capsys.readouterr().err


def test_tf32_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(UsageError, match=r"from compute capability 8\.0 on, and this one has 7\.5"):
        precision.check("tf32", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    precision.check("tf32", torch.device("cuda"))
    for kind in ("fp32", "bf16"):
        precision.check(kind, CPU)


@pytest.mark.usefixtures("switches")
def test_switches_of_the_libraries() -> None:
    kinds: list[Precision] = ["tf32", "fp32", "tf32", "bf16"]
    for kind in kinds:
        precision.use(kind, torch.device("cuda"))
        assert torch.backends.cuda.matmul.allow_tf32 == (kind == "tf32")
        assert torch.backends.cudnn.allow_tf32 == (kind == "tf32")
    precision.use("tf32", CPU)
    assert not torch.backends.cuda.matmul.allow_tf32


def test_the_matrix_rate_is_that_of_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision.factor("bf16", CPU, 4).dtype == torch.bfloat16
    assert precision.factor("fp32", CPU, 4).dtype == precision.factor("tf32", CPU, 4).dtype == torch.float32
    timed: list[torch.dtype] = []

    def seconds(work: Callable[[], Tensor], device: torch.device) -> float:
        timed.append(work().dtype)
        return 1.0

    monkeypatch.setattr(floors, "factor", lambda kind, device, side: precision.factor(kind, device, 4))
    monkeypatch.setattr(floors, "_seconds", seconds)
    kinds: list[Precision] = ["bf16", "fp32"]
    for kind in kinds:
        floors.device_rates.__wrapped__(CPU, 1, kind)
    assert timed[::2] == [torch.bfloat16, torch.float32]  # the products; a copy follows each


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize(("kind", "low", "high"), [("fp32", 0.0, 1e-5), ("tf32", 1e-5, 1e-2), ("bf16", 1e-4, 5e-2)])
def test_errors_of_a_pass_on_a_gpu(kind: Precision, low: float, high: float) -> None:
    """The logits' relative error against double precision: that of the mantissa's 24, 11 and 8 bits."""
    device = torch.device("cuda")
    net, x = networks.build("digits_convnet", 10, 0), torch.rand(64, 3, 32, 32)
    exact = net.double()(x.double()).detach()
    precision.use(kind, device)
    net = net.float().to(device)
    net.precision = kind
    error = (net(x.to(device)).cpu().double() - exact).norm() / exact.norm()
    assert low <= error <= high
