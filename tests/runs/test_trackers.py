"""Trackers get every point and result of the runs that end, and can break nothing."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from benchmark.core.record import Record
from benchmark.runs.keywords import checked
from benchmark.runs.store import Store
from benchmark.runs.trackers import label, trackers
from tests.faults.harness import plugin, six_steps
from tests.handmade import record


class FakeWandb(types.ModuleType):
    """Notes what it is told; fails in the call named `broken`."""

    def __init__(self, broken: str = ""):
        super().__init__("wandb")
        self.broken = broken
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def _note(self, call: str, **said: Any) -> None:
        self.calls.append((call, said))
        if call == self.broken:
            raise ConnectionError("no network on purpose")

    def init(self, **said: Any) -> None:
        self._note("init", **said)

    def log(self, values: dict[str, float], step: int) -> None:
        self._note("log", values=values, step=step)

    def finish(self) -> None:
        self._note("finish")

    def runs(self) -> list[list[dict[str, Any]]]:
        """What was logged, run by run."""
        found: list[list[dict[str, Any]]] = []
        for call, said in self.calls:
            if call == "init":
                found.append([])
            elif call == "log":
                found[-1].append(said)
        return found


def curve(out: Path, record: Record) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "runs" / record.run_id / "curve.jsonl").read_text().splitlines()]


def test_wandb_gets_the_curve_and_the_results_of_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert six_steps(tmp_path, "--methods", "erm", "--seeds", "0", "1", "--track", "wandb") == 0
    assert [name for name, _ in fake.calls] == 2 * ["init", "log", "log", "log", "log", "finish"]
    records = {record.run_id: record for record in Store(tmp_path).read_all()}
    starts = [said for name, said in fake.calls if name == "init"]
    for start, said in zip(starts, fake.runs(), strict=True):
        record = records.pop(start["config"]["run_id"])
        assert start["project"] == "dg-referee"
        assert start["name"] == f"minidigits-uci-erm-seed{record.asked.seed}-{record.run_id}"
        assert start["config"]["recipe"]["network"] == "mini_convnet"
        *points, final = said
        for point, expected in zip(points, curve(tmp_path, record), strict=True):
            test = {f"test/{domain}": value for domain, value in expected.pop("test").items()}
            found = expected.pop("calibration")
            test |= {f"val_{name}": found["source_val"][name] for name in ("ece", "nll")}
            for domain, numbers in found["domains"].items():
                test |= {f"test_{name}/{domain}": numbers[name] for name in ("ece", "nll")}
            assert (point["step"], point["values"]) == (expected.pop("step"), expected | test)
        assert record.accuracy is not None
        assert record.throughput is not None
        blend = record.accuracy.domains["blend"].accuracy
        assert blend is not None
        assert final["step"] == 6
        assert final["values"]["selected/blend"] == blend["source-val"]
        assert final["values"]["selected/val"] == record.accuracy.source_val["source-val"]
        assert final["values"]["images_per_second"] == record.throughput.images_per_second
    assert not records


def test_tensorboard_reads_back_what_was_recorded(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the second, forced by --save-weights, hides the first
        extra = ["--save-weights"] if (tmp_path / "out").exists() else []
        track = f"tensorboard:{tmp_path / 'events'}"
        assert six_steps(tmp_path / "out", "--methods", "erm", "--track", track, *extra) == 0
    (record,) = Store(tmp_path / "out").read_all()
    (folder,) = (tmp_path / "events").iterdir()
    assert folder.name == f"minidigits-uci-erm-seed0-{record.run_id}"
    events = EventAccumulator(str(folder))
    events.Reload()
    points = curve(tmp_path / "out", record)
    for tag, values in {
        "val": [point["val"] for point in points],
        "loss": [point["loss"] for point in points],
        "test/noise": [point["test"]["noise"] for point in points],
        "val_ece": [point["calibration"]["source_val"]["ece"] for point in points],
        "test_nll/noise": [point["calibration"]["domains"]["noise"]["nll"] for point in points],
    }.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [2, 4, 6]
        assert [event.value for event in found] == pytest.approx(values)
    assert record.accuracy is not None
    assert events.Scalars("selected/val")[-1].value == pytest.approx(record.accuracy.source_val["source-val"])


def test_tensorboard_lies_beside_the_tables_by_default(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert six_steps(tmp_path, "--methods", "erm", "--track", "tensorboard") == 0
    assert len(list((tmp_path / "tensorboard").glob("*/events.out.tfevents.*"))) == 1


def test_each_folder_that_is_named_has_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("HOME", str(tmp_path))
    given = checked({"track": ["tensorboard:~/a", f"tensorboard:{tmp_path}/b"]}, {}, "compare")
    found = trackers(given["track"], tmp_path / "out")
    for track in found.values():
        track(record("erm", 0), [])
    assert all(len([*(tmp_path / name).glob("*/events.out.tfevents.*")]) == 1 for name in "ab")


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_tracker_that_fails_costs_a_warning_and_no_run(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeWandb(broken)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert six_steps(tmp_path, "--methods", "erm", "--track", "wandb") == 0
    shown = " ".join(capsys.readouterr().out.split())
    (record,) = Store(tmp_path).read_all()
    assert record.status == "done"
    assert f"warning: --track wandb: run {record.run_id} is stored but not tracked" in shown
    assert "ConnectionError: no network on purpose" in shown
    if broken == "log":
        assert fake.calls[-1][0] == "finish"  # the tracker's run is closed all the same


def test_a_failed_run_is_tracked_as_far_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    failing = plugin(tmp_path, "failing", "if rng.step == 3: raise RuntimeError('broken on purpose')")
    words = ["--methods", "failing", "--plugin", str(failing), "--track", "wandb"]
    assert six_steps(tmp_path / "out", *words) == 1
    assert fake.calls[0][1]["config"]["status"] == "failed"
    assert [said["step"] for said in fake.runs()[0]] == [2]
    assert fake.calls[-1][0] == "finish"


def test_runs_that_are_done_are_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert six_steps(tmp_path, "--methods", "erm") == 0
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert six_steps(tmp_path, "--methods", "erm", "--track", "wandb") == 0
    assert fake.calls == []


@pytest.mark.parametrize(
    ("words", "absent", "says"),
    [
        ("wandb", "wandb", "pip install wandb"),
        ("tensorboard", "torch.utils.tensorboard", "pip install tensorboard"),
        ("wandbb", "", "--track wandbb: did you mean 'wandb'"),
        ("tensorboard:", "", "--track tensorboard:"),
        ("wandb:team", "", "--track wandb:team"),
    ],
)
def test_an_unknown_or_absent_tracker_stops_before_any_run(
    words: str,
    absent: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if absent:
        monkeypatch.setitem(sys.modules, absent, None)
    assert six_steps(tmp_path / "out", "--methods", "erm", "--track", words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rows_of_one_method_are_told_apart_by_their_label() -> None:
    told = label(record("augmix", 0, variant="jsd=false", source="a/b"))
    assert told.startswith("minidigits-a-b-augmix-jsd-false--seed0-")
