"""One run on two processes: its gradients, its weights and its record are those of one process."""

import os
import struct
from multiprocessing import Pipe
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmark import networks, registry, run
from benchmark.core.errors import UsageError
from benchmark.method import Rng, Source
from benchmark.networks.classifiers import Classifier
from benchmark.runs.engines import distributed, spawn
from benchmark.runs.job import Job
from benchmark.runs.perform import Outcome
from benchmark.runs.store import Store
from benchmark.training import data_parallel
from benchmark.training.optimise import fit_erm
from tests import toy
from tests.faults.harness import forkserver, light, plugin
from tests.handmade import record

CASES = [(name, False) for name in ("erm", "augmix", "augmax", "gud", "mada", "randconv", "sada")]
CASES += [(name, True) for name in ("erm", "augmix", "augmax", "mada")]
"""Methods, each on a network with BatchNorm or without."""
ROWS = 11
"""Images of a batch: 6 for the first process and 5 for the second."""


def normed() -> Classifier:
    """A small network with BatchNorm."""
    trunk = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 16))
    return Classifier(nn.Conv2d(3, 8, 5, stride=2), trunk, nn.Linear(16, 4), mean=0.5, std=0.5)


def gradients(name: str, norm: bool) -> dict[str, Tensor]:
    """Of one step of a method that has grown its pool: its loss, its gradients, and BatchNorm's statistics, in float64.

    Images of a pool are float32, so what GUD and M-ADA add to theirs is made in float32.
    """
    plugin = registry.make("method", name, registry.find("method", name).toy)
    torch.manual_seed(0)
    net = plugin.wrap(normed() if norm else networks.build("mini_convnet", 4, 0))
    pool, val = toy.images(64, 0), toy.images(32, 1)
    source = Source(pool, val, 64, ROWS, lambda other, rng: fit_erm(other, pool, toy.RECIPE, 2, rng))
    with data_parallel.split(net):
        state = plugin.setup(net, source, Rng(0))
        grown = None
        for step in range(8):
            grown = plugin.expand(net, source, Rng(0, step, 0.5), step, state)
        x, y = (pool if grown is None else grown)[:ROWS].unit().double(), pool.y[:ROWS]
        net.double()
        loss = plugin.loss(net, x, y, Rng(0, 8, 0.5), state)
        loss.backward()
    found = {f"gradient of {key}": p.grad for key, p in net.named_parameters() if p.grad is not None}
    return found | dict(net.named_buffers()) | {"loss": loss.detach()}


def member(rank: int, folder: str) -> None:
    """One of two processes: all gradients into a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {(name, norm): gradients(name, norm) for name, norm in CASES}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two processes find, together."""
    folder = tmp_path_factory.mktemp("split")
    processes = [forkserver().Process(target=member, args=(i, str(folder))) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_gradients_of_two_processes_are_those_of_one(split: list[Any], name: str, norm: bool) -> None:
    """To 1e-12 of the largest in float64; to 1e-6 where pixels were attacked in float32 before."""
    one, (two, other) = gradients(name, norm), (found[name, norm] for found in split)
    assert one.keys() == two.keys() == other.keys()
    assert all(torch.equal(two[key], other[key]) for key in two), "the processes must not drift apart"
    bound = 1e-6 if name in ("gud", "mada") else 1e-12
    for kind in ("gradient", ""):
        largest = max(float(value.abs().max()) for key, value in one.items() if key.startswith(kind))
        for key in (key for key in one if key.startswith("gradient") == bool(kind)):
            assert float((one[key] - two[key]).abs().max()) <= bound * largest, key


def test_a_network_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    net = normed()
    before = [type(module) for module in net.modules()]
    with data_parallel.split(net):
        assert [type(module) for module in net.modules()] != before
        assert type(net.trunk[0]) is data_parallel.WholeBatchNorm2d  # type: ignore[index]
    assert [type(module) for module in net.modules()] == before


def test_a_layer_that_cannot_be_split_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(UsageError, match=r"layer 1 \(BatchNorm1d\) cannot be split"), data_parallel.split(net):
        pass
    assert type(net) is nn.Sequential


SMALL = ["--seeds", "0", "--steps", "6", "--evaluations", "2", "--sensitivity-images", "4", "--device", "cpu"]


def test_a_run_on_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies are those of one process to an image in a hundred, and the loss to 1e-4."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for nproc in ("1", "2"):
        words = ["--methods", "augmix", *SMALL, "--out", str(tmp_path / nproc), "--nproc", nproc]
        with light():
            assert run.main(words) == 0
    stores = [Store(tmp_path / nproc) for nproc in ("1", "2")]
    (one,), (two,) = (store.read_all() for store in stores)
    assert (one.run_id, one.steps, one.status) == (two.run_id, two.steps, two.status)
    assert [record.ran.machine["processes"] for record in (one, two)] == [1, 2]
    assert one.throughput is not None
    assert two.throughput is not None
    assert two.throughput.passes_per_image == pytest.approx(one.throughput.passes_per_image)
    for a, b in zip(stores[0].curve(one), stores[1].curve(two), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["test"] == pytest.approx(a["test"], abs=1)


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (["died: process 1 of 2 (exit code -9)", "done"], "done"),
        (["died: process 1 of 2 (exit code -9)", "died: process 0 of 2 (exit code -11)"], "failed"),
        (["ValueError: broken"], "failed"),
        (["done"], "done"),
    ],
)
def test_a_run_whose_process_died_is_begun_once_more(
    ends: list[str], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that failed otherwise is not."""
    whole = Outcome(record("erm", 0), [], {})
    job = Job(asked=whole.record.asked, command="", session="", out=tmp_path, data_dir=None, nproc=2)
    tries, notes = iter([whole if each == "done" else each for each in ends]), list[tuple[str, ...]]()

    def attempt(job: Job, *_: Any) -> Outcome | str:
        notes.append(job.notes)
        return next(tries)

    monkeypatch.setattr(distributed, "_attempt", attempt)
    found = distributed.perform_split(job, tmp_path, Mock()).record
    assert found.status == status
    assert found == whole.record or found.error == ends[-1]
    assert list(tries) == []
    assert notes[0] == ()
    assert [note.partition(";")[0] for tried in notes[1:] for note in tried] == ends[:-1]  # the record says so


@pytest.mark.parametrize(
    ("status", "other", "told"),
    [
        ("failed", "died", "died: process 1 of 2 (exit code -9)"),  # the first one fails of it
        ("failed", "died speaking", "died: process 1 of 2 (exit code -9)"),
        ("done", "died", "done"),
        ("failed", "ValueError: broken", "failed"),  # it has its own words for that
        ("failed", "trains", "failed"),
        (None, "died", "died: process 1 of 2 (exit code -9)"),
        (None, "ValueError: broken", "ValueError: broken"),
    ],
)
def test_what_the_processes_of_a_run_say_is_one_answer(
    status: Any, other: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record("erm", 0).model_copy(update={"status": status})
    monkeypatch.setattr(distributed, "GRACE", 0.3)
    pipes, theirs = zip(*(Pipe() for _ in range(2)), strict=True)
    theirs[0].send(("training", 0.5))
    if status:
        theirs[0].send(Outcome(made, [], {}))
    if other == "died speaking":
        os.write(theirs[1].fileno(), struct.pack("!i", 1000) + b"the beginning")
    if other.startswith("died"):
        theirs[1].close()
    elif other != "trains":
        theirs[1].send(other)
    report = Mock()
    found = distributed._hear([(pipe, Mock(exitcode=-9)) for pipe in pipes], report)
    assert (found if isinstance(found, str) else found.record.status) == told
    report.assert_called_with("training", 0.5)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_cannot_meet_the_others_says_why(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("standard_streams", "signal", "wait"):
        monkeypatch.setattr(distributed, name, Mock())
    monkeypatch.setattr(spawn, "die_with_parent", Mock())
    monkeypatch.setattr(distributed, "_meet", Mock(side_effect=RuntimeError("no such interface")))
    job = Job(asked=record("erm", 0).asked, command="", session="", out=tmp_path, data_dir=None, nproc=2)
    here, theirs = Pipe()
    distributed._main(rank, job, tmp_path, "", theirs)
    assert "no such interface" in here.recv()


def test_a_method_that_raises_in_two_processes_is_one_failed_record(tmp_path: Path) -> None:
    path = plugin(tmp_path, "raising", "if rng.step == 3: raise RuntimeError('broken on purpose')")
    words = ["--methods", "raising", "--plugin", str(path), *SMALL, "--out", str(tmp_path / "out"), "--nproc", "2"]
    with light():
        assert run.main(words) == 1
    (record,) = Store(tmp_path / "out").read_all()
    assert record.status == "failed"
    assert "broken on purpose" in str(record.error)
