"""Expected calibration error and negative log likelihood: by hand, against torchmetrics, and of a trained network."""

from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark import registry
from benchmark.core.outcome import Calibrated
from benchmark.training.evaluate import BINS, CHUNK, accuracy, calibration_of_logits, scores
from benchmark.training.loop import train
from benchmark.training.measurements import calibration_of
from benchmark.training.progress import begin
from tests import toy

INF, NAN = float("inf"), float("nan")


def calibrated(rows: list[list[float]], labels: list[int]) -> tuple[float, float]:
    """ECE in percent and NLL in nats of these logits."""
    found = calibration_of_logits(torch.tensor(rows), torch.tensor(labels))
    assert found.ece is not None
    assert found.nll is not None
    return found.ece, found.nll


def logits(*probabilities: float) -> list[float]:
    return [log(p) for p in probabilities]


def test_four_images_by_hand() -> None:
    """Confidences 0.90 and 0.92 share a bin, (13/15, 14/15]; 0.50 and 0.58 have one each."""
    rows = [logits(0.9, 0.06, 0.04), logits(0.92, 0.03, 0.05), logits(0.3, 0.5, 0.2), logits(0.12, 0.3, 0.58)]
    ece, nll = calibrated(rows, [0, 2, 1, 1])  # right, wrong, right, wrong
    assert ece == pytest.approx(100 * (abs(1 - 0.9 - 0.92) + 0.5 + 0.58) / 4, abs=1e-5)
    assert nll == pytest.approx(-(log(0.9) + log(0.05) + log(0.5) + log(0.3)) / 4, abs=1e-6)


@pytest.mark.parametrize(("other", "together"), [(0.3, True), (0.38, False)])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(other: float, together: bool) -> None:
    """Three equal logits have a confidence of 1/3 = 5/15."""
    third, rest = [0.0, 0.0, 0.0, -INF], (1 - other) / 3
    ece, _ = calibrated([third, logits(other, rest, rest, rest)], [1, 0])
    gaps = -1 / 3, 1 - other
    assert ece == pytest.approx(50 * (abs(sum(gaps)) if together else abs(gaps[0]) + gaps[1]), abs=1e-5)


def test_a_confidence_of_exactly_1_belongs_to_the_last_bin() -> None:
    ece, nll = calibrated([[1000.0, 0.0], logits(0.95, 0.05)], [1, 0])
    assert ece == pytest.approx(100 * (1 - 0.05) / 2, abs=1e-5)  # of two bins it would be (1 + 0.05) / 2
    assert nll == pytest.approx((1000 - log(0.95)) / 2)


def test_one_image_and_one_class() -> None:
    assert calibrated([logits(0.25, 0.75)], [1]) == pytest.approx((25, -log(0.75)), abs=1e-5)
    assert calibrated([[3.0], [-2.0]], [0, 0]) == (0, 0)


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_outputs_that_are_not_finite_have_neither_number(odd: float) -> None:
    assert calibration_of_logits(torch.tensor([[odd, 1.0], [0.0, 1.0]]), torch.tensor([0, 1])) == Calibrated()


def test_the_largest_float32_is_finite() -> None:
    assert calibrated([[3e38, -3e38]], [1]) == pytest.approx((100, 6e38))


@pytest.mark.parametrize(("n", "classes", "scale"), [(1, 2, 1.0), (500, 2, 1.0), (2000, 10, 2.0), (300, 100, 3.0)])
def test_the_calibration_error_is_that_of_torchmetrics(n: int, classes: int, scale: float) -> None:
    metrics = pytest.importorskip("torchmetrics.classification", reason="no torchmetrics; pip install torchmetrics")
    generator = torch.Generator().manual_seed(n)
    z = scale * torch.randn(n, classes, generator=generator)
    y = torch.randint(classes, (n,), generator=generator)
    theirs = metrics.MulticlassCalibrationError(num_classes=classes, n_bins=BINS, norm="l1")(z.double().softmax(1), y)
    assert calibration_of_logits(z, y).ece == pytest.approx(100 * float(theirs), abs=1e-4)


def test_with_few_images_a_perfectly_calibrated_network_has_an_error_all_the_same() -> None:
    """The numbers of docs/calibration.md."""
    generator = torch.Generator().manual_seed(0)
    for n, said in {100: 12, 500: 5.5, 10_000: 1.2}.items():
        found = []
        for _ in range(40):
            z = 1.7 * torch.randn(n, 10, generator=generator)
            y = torch.multinomial(z.softmax(1), 1, generator=generator)[:, 0]
            found.append(calibration_of_logits(z, y).ece or 0.0)
        assert sum(found) / len(found) == pytest.approx(said, rel=0.08)


class Reads(TorchDispatchMode):
    """Counts how often the host reads a number of a tensor, for which a GPU would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)
        return func(*args, **kwargs or {})


def test_one_pass_over_batches_is_the_definition_and_reads_nothing_between_them() -> None:
    images = toy.images(3 * CHUNK + 7, 1)
    net = begin(toy.asked(), registry.make("method", "erm", {}), toy.loaded()).net.train()
    with Reads() as reads:  # type: ignore[no-untyped-call]
        found = scores(net, images)
    assert reads.count == 0
    assert net.training
    assert found.accuracy == accuracy(net, images)
    with torch.inference_mode():
        whole = calibration_of_logits(net.eval()(images.unit()), images.y)
    assert (found.calibrated.ece, found.calibrated.nll) == pytest.approx((whole.ece, whole.nll))


def test_it_is_that_of_the_network_which_the_rule_chose(tmp_path: Path) -> None:
    data, method, asked = toy.loaded(), registry.make("method", "erm", {}), toy.asked(steps=12, evaluations=12)
    run = begin(asked, method, data)
    train(run, asked, method, data, tmp_path)
    run.curve[4]["val"] = 101.0  # so that no later point is chosen
    assert calibration_of(run).model_dump() == run.curve[4]["calibration"]
    last = calibration_of(run, "last")
    assert last != calibration_of(run)
    assert last.source_val == scores(run.net, data.val).calibrated
    assert last.domains == {name: scores(run.net, images).calibrated for name, images in data.test.items()}
    assert run.notes == []


class Broken(nn.Module):
    """Gives NaN for bright images, and answers the others."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + torch.where(x.mean(dim=(1, 2, 3)) > 0.9, NAN, 0.0)[:, None]


def test_a_domain_where_the_network_is_broken_is_named_and_the_others_have_numbers() -> None:
    run = begin(toy.asked(), registry.make("method", "erm", {}), toy.loaded())
    dark, bright = toy.images(8, 0), toy.images(8, 0)
    bright.x[3] = 255
    found = {name: scores(Broken(), images).calibrated for name, images in {"dark": dark, "bright": bright}.items()}
    assert scores(Broken(), bright).accuracy == accuracy(Broken(), bright)
    assert found["bright"] == Calibrated()
    assert found["dark"].nll == pytest.approx(log(sum(exp(i) for i in range(4))) - 1.5, abs=1e-6)  # labels 0 to 3
    kept = {
        "source_val": found["dark"].model_dump(),
        "domains": {name: one.model_dump() for name, one in found.items()},
    }
    run.curve.append({"step": 1, "val": 25.0, "test": {}, "calibration": kept})
    assert calibration_of(run).domains == found
    assert run.notes == ["no calibration where the network's outputs are not all finite: bright"]


def normed() -> nn.Module:
    """A network whose statistics are not those of any batch, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 4))
        for _ in range(3):
            net(torch.rand(8, 3, 32, 32))
    return net.train()


def test_a_network_is_scored_in_evaluation_mode_and_left_as_it_was() -> None:
    net, images = normed(), toy.images(150, 0)  # more than a chunk
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found, plain = scores(net, images), accuracy(net, images)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    said = net.eval()(images.unit())
    assert found.accuracy == plain == pytest.approx(100 * (said.argmax(dim=1) == images.y).double().mean().item())
    assert found.calibrated.nll == pytest.approx(nn.functional.cross_entropy(said, images.y).item(), rel=1e-5)
