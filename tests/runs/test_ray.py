"""Runs on a real Ray cluster on this machine: a head and two worker nodes, one of which is killed in the middle."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from benchmark import registry, run
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.runs import perform
from benchmark.runs.args import Args
from benchmark.runs.engines import local, ray, ray_task
from benchmark.runs.engines.ray_task import Parcel
from benchmark.runs.job import Job
from benchmark.runs.plan import plan
from benchmark.runs.store import Store

GATED = '''"""ERM that waits in the middle until a file is there, and raises where it is told to."""
import time
from pathlib import Path
from benchmark import method
from torch.nn.functional import cross_entropy

@method.frozen()
class Method(method.Method):
    gate: str = "/"
    broken: bool = False

    def loss(self, net, x, y, rng, state):
        if self.broken and rng.step == 3:
            raise RuntimeError("broken on purpose")
        if self.gate != "/":
            time.sleep(0.1)
            limit = time.monotonic() + 300
            while rng.step == 25 and not Path(self.gate).exists():
                assert time.monotonic() < limit, "nobody opened the gate"
                time.sleep(0.1)
        return cross_entropy(net(x), y)
'''


class Heard:
    """A listener that checks the order of what it hears, and calls `then` once two gated runs are on their way."""

    def __init__(self, then: Callable[[], None] | None = None):
        self.then = then
        self.open: dict[str, float] = {}
        self.records: list[Record] = []

    def started(self, job: Job) -> None:
        assert job.asked.run_id not in self.open
        self.open[job.asked.run_id] = 0.0

    def noticed(self, job: Job, what: str) -> None:
        assert "lost" in what

    def progressed(self, job: Job, doing: str, share: float) -> None:
        self.open[job.asked.run_id] = share if job.asked.settings.get("gate", "/") != "/" else 0.0
        if self.then and sum(share > 0 for share in self.open.values()) == 2:
            self.then()
            self.then = None

    def ended(self, job: Job, record: Record | None) -> None:
        assert record is not None
        assert record.run_id == job.asked.run_id
        self.open.pop(job.asked.run_id)
        self.records.append(record)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a task has, so that sums are in the same order everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "gated.py"
    path.write_text(GATED)
    registry.load_plugins([path])
    return path


def jobs(out: Path, **changes: Any) -> list[Job]:
    """A small grid."""
    small: dict[str, Any] = {"seeds": (0,), "steps": 6, "evaluations": 2, "sensitivity_images": 4, "device": "cpu"}
    Store(out).prepare()
    return plan(Args(**small | {"out": out} | changes))


def test_without_ray_the_fix_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run.main(["--engine", "ray", "--out", str(tmp_path)]) == 2
    assert "pip install 'ray>=2.44'" in capsys.readouterr().err


def test_a_task_needs_nothing_but_what_it_is_given(tmp_path: Path, plugin: Path) -> None:
    """No output folder, no data folder, no plugin file: the outcome is that of a run beside them."""
    (job,) = jobs(tmp_path / "out", methods=("gated",), plugin=(plugin,))
    there = perform.perform(job, tmp_path, lambda *_: None)
    parcel = Parcel(job.code, tmp_path / "not here", {plugin: plugin.read_bytes()})
    plugin.unlink()
    packed = ray_task.pack(perform.inputs(job))
    here = ray_task.work(replace(job, out=tmp_path / "nor here"), parcel, packed, Mail())
    assert here.record.status == "done"
    assert (here.record.accuracy, here.record.sensitivity) == (there.record.accuracy, there.record.sensitivity)
    assert here.curve == there.curve
    assert here.files == there.files
    assert not (tmp_path / "nor here").exists()


def test_a_task_calls_a_plugin_that_is_a_package_as_the_driver_does(tmp_path: Path, plugin: Path) -> None:
    package = tmp_path / "packed" / "__init__.py"
    package.parent.mkdir()
    package.write_bytes(plugin.read_bytes())
    registry.load_plugins([package])
    (job,) = jobs(tmp_path / "out", methods=("packed",), plugin=(package,))
    parcel = Parcel(job.code, tmp_path / "not here", {package: package.read_bytes()})
    assert ray_task.work(job, parcel, ray_task.pack(perform.inputs(job)), Mail()).record.status == "done"


def test_a_task_begins_with_the_weights_that_came_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs(tmp_path / "out", methods=("erm",))
    absent = tmp_path / "first.safetensors"
    monkeypatch.setattr(ray_task, "perform", lambda job, *_: job.weights.read_bytes())
    given = replace(job, weights=absent), Parcel(job.code, tmp_path, {absent: b"weights"}), None, Mail()
    assert ray_task.work(*given) == b"weights"  # type: ignore[comparison-overlap]


def test_every_task_is_given_the_data_of_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs(tmp_path / "out", methods=("erm",))
    driver = ray._Driver.__new__(ray._Driver)
    driver.ray, driver.news, driver.share = Mock(), Mock(), 1.0
    driver.data, driver.files, driver.flights = {}, {}, {}
    driver.ray.put = lambda packed: packed
    send = driver.ray.remote.return_value.options.return_value.remote
    send.side_effect = lambda *given: len(driver.flights)
    asked: list[tuple[str, int]] = []

    def read(job: Job) -> tuple[str, int]:
        asked.append(of(job))
        return of(job)

    monkeypatch.setattr(ray, "pack", lambda found: found)
    monkeypatch.setattr(ray, "inputs", read)
    todo = [
        replace(job, asked=job.asked.model_copy(update={"source": source, "dataset_settings": {"limit": limit}}))
        for source, limit in [("uci", 1), ("digits", 1), ("uci", 2), ("uci", 1)]
    ]
    for each in todo:
        driver.submit(ray._Flight(each, tmp_path, ExitStack()))
    assert [call.args[2] for call in send.call_args_list] == [of(each) for each in todo]
    assert asked == [of(each) for each in todo[:3]]  # each is read once


def test_a_run_that_cannot_be_handed_to_ray_is_not_held_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs(tmp_path / "out", methods=("erm",))
    store = Store(job.out)
    store.prepare()
    driver = ray._Driver.__new__(ray._Driver)
    driver.ray, driver.data, driver.flights = Mock(), {}, {}
    monkeypatch.setattr(ray, "inputs", Mock(side_effect=UsageError("its images are gone")))
    with pytest.raises(UsageError, match="its images are gone"):
        driver.take(job)
    assert driver.flights == {}
    with store.working(job.asked.run_id):  # else BusyError
        pass


def of(job: Job) -> tuple[str, int]:
    return job.asked.source, job.asked.dataset_settings["limit"]


def test_a_node_with_other_code_is_refused(tmp_path: Path, plugin: Path) -> None:
    (job,) = jobs(tmp_path / "out", methods=("gated",), plugin=(plugin,))
    parcel = Parcel(job.code, tmp_path, {plugin: plugin.read_bytes() + b"another = 1\n"})
    with pytest.raises(UsageError, match="has other code"):
        ray_task.work(job, parcel, None, Mail())


def test_a_good_record_outlives_a_failed_rerun_on_a_cluster(tmp_path: Path) -> None:
    """And one that reaches other accuracies is said to be not repeatable, as on this machine."""
    (job,) = jobs(tmp_path / "out", methods=("erm",))
    store = Store(job.out)
    first = perform.perform(job, tmp_path, lambda *_: None)
    with store.working(job.asked.run_id):
        store.finish(*first)
    failed = first.record.model_copy(update={"status": "failed", "error": "lost", "accuracy": None})
    scores = dict.fromkeys(first.record.accuracy.source_val, 1.0)  # type: ignore[union-attr]
    other = first.record.accuracy.model_copy(update={"source_val": scores})  # type: ignore[union-attr]
    for record, kept in ((failed, True), (first.record.model_copy(update={"accuracy": other}), False)):
        driver = ray._Driver.__new__(ray._Driver)
        driver.ray = SimpleNamespace(exceptions=SimpleNamespace(RayTaskError=(), RayError=()))
        driver.listener = heard = Heard()
        with ExitStack() as lock:
            folder = lock.enter_context(store.working(job.asked.run_id))
            outcome = first._replace(record=record)
            driver.flights = {"reference": ray._Flight(job, folder, lock.pop_all())}
            driver.ray.get = {"reference": outcome}.__getitem__
        driver.land("reference")
        (said,) = heard.records
        assert store.read(job.asked.run_id) == said
        assert (said == first.record) is kept
        assert any("not repeatable" in warning for warning in said.warnings) is not kept


class Mail:
    """Takes what a task says, as the actor of Ray's queue does."""

    @property
    def put_nowait(self) -> Any:
        return self

    def remote(self, said: tuple[str, str, float]) -> None: ...


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores and two workers with one each, as processes of this machine."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("connected", [False, True])
def test_a_connection_of_the_caller_stays_as_it_was(tmp_path: Path, cluster: Any, connected: bool) -> None:
    import ray as real

    held = None
    if connected:
        real.init(cluster.address, log_to_driver=False)
        held = real.put("mine")
    todo = jobs(tmp_path / "out", methods=("erm",), engine="ray", ray_address=cluster.address)
    ray.run_jobs(todo, 1, heard := Heard())
    assert [record.status for record in heard.records] == ["done"]
    assert real.is_initialized() is connected
    assert held is None or real.get(held) == "mine"
    real.shutdown()


@pytest.mark.slow
def test_every_run_ends_though_a_node_is_killed(tmp_path: Path, plugin: Path, cluster: Any) -> None:
    gate = tmp_path / "gate"
    grid: dict[str, Any] = {"methods": (f"gated:gate={gate}", "erm", "gated:broken=true"), "seeds": (0, 1), "steps": 40}
    grid |= {"plugin": (plugin,), "checkpoint_seconds": 0.5}
    todo = jobs(tmp_path / "ray", engine="ray", ray_address=cluster.address, **grid)

    def kill() -> None:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        gate.touch()

    heard = Heard(kill)
    ray.run_jobs(todo, 1, heard)
    assert {record.run_id for record in heard.records} == {job.asked.run_id for job in todo}
    (lost,) = (record for record in heard.records if any("was lost" in warning for warning in record.warnings))
    assert (lost.status, lost.ran.resumed) == ("done", 1)

    store, here = Store(tmp_path / "ray"), Store(tmp_path / "local")
    local.run_jobs(jobs(tmp_path / "local", **grid), 1, Heard())
    assert store.read_all() == sorted(heard.records, key=lambda record: record.run_id)
    for one, two in zip(store.read_all(), here.read_all(), strict=True):
        assert one.status == two.status == ("failed" if "broken" in one.asked.variant else "done")
        assert (one.accuracy, one.sensitivity, one.steps) == (two.accuracy, two.sensitivity, two.steps)
        assert store.curve(one) == here.curve(two)
        assert store.map_of(one) is not None or one.status == "failed"
        assert one.status == "done" or "broken on purpose" in str(one.error)
    assert not list((tmp_path / "ray" / "runs").glob(".*"))
