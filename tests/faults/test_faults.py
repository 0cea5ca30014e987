"""The short form of `make soak`, and the faults that a process alone cannot show."""

import datetime
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import tables
from benchmark.runs import perform, plan, programs
from benchmark.runs.store import Store
from tests.faults.damage import damaged
from tests.faults.harness import call, plugin, results, start, state, words
from tests.faults.inputs import inputs
from tests.faults.kills import kills
from tests.faults.oddities import odd_files
from tests.faults.outside import names, numbers, repeated
from tests.faults.plugins import odd_methods
from tests.handmade import fill, record
from tests.runs.test_integrity import seal

ERM = ["--methods", "erm", "--seeds", "0", "--steps", "4"]


def test_a_grid_that_is_killed_at_random_moments_ends_with_the_undisturbed_tables(tmp_path: Path) -> None:
    count = kills(tmp_path, 3)
    assert (count.tried, count.wrong) == (3, [])


def test_damage_is_named_or_got_over(tmp_path: Path) -> None:
    count = damaged(tmp_path, 8)
    assert (count.tried, count.wrong) == (8, [])


def test_odd_methods_cost_their_own_runs_only(tmp_path: Path) -> None:
    names = ["exits", "cancels", "surrogates", "later_nan", "out_of_gpu_memory", "garbage", "writes_data"]
    count = odd_methods(tmp_path, [*names, "warns_in_halves"])
    assert (count.tried, count.wrong) == (8, [])


def test_what_a_method_sets_in_torch_is_set_for_its_own_run_only(tmp_path: Path) -> None:
    count = odd_methods(tmp_path, ["sets_the_type", "sets_the_device", "casts_for_ever", "wants_no_gradients"])
    assert (count.tried, count.wrong) == (4, [])


def test_memory_that_a_run_leaks_is_not_the_next_run_s(tmp_path: Path) -> None:
    """The method fills its process up to a limit of its own making, a little each step; --timeout asks for a worker."""
    leak = "sys.leaked = [*getattr(sys, 'leaked', []), torch.ones(2**25)]"  # 128 MiB
    size = "resource.getpagesize() * int(open('/proc/self/statm').read().split()[0])"
    limit = f"resource.setrlimit(resource.RLIMIT_AS, ({size} + 2**30,) * 2)"
    leaks = plugin(tmp_path, "leaks", f"{leak}\n        if rng.step == 0: {limit}")
    more = ["--methods", "leaks", "erm", "--seeds", "0", "--steps", "30", "--timeout", "300"]
    assert call(words(tmp_path, tmp_path / "out", *more, plugins=[leaks])).code == 1
    found = {read.asked.method: read for read in Store(tmp_path / "out").read_all()}
    assert found["leaks"].status == "failed"
    assert "memory" in str(found["leaks"].error)
    assert found["erm"].status == "done"


@pytest.mark.parametrize("answer", ["sleep 60", "exit 1"])
def test_git_that_does_not_answer_costs_no_run(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\ncase "$*" in *status*) {answer};; *) echo 0123abc;; esac\n')
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(programs, "SECONDS", 0.3)
    assert call(words(tmp_path, tmp_path / "out", *ERM)).code == 0
    (made,) = Store(tmp_path / "out").read_all()
    assert made.ran.git_dirty is None  # not False: nobody knows


def test_generated_input_gives_no_traceback_and_changes_nothing(tmp_path: Path) -> None:
    count = inputs(tmp_path, 25)
    assert count.tried >= 25
    assert count.wrong == []


def test_names_flags_and_numbers_from_outside_give_no_traceback(tmp_path: Path) -> None:
    for part, tries in ((names, 4), (odd_files, 6), (repeated, 3), (numbers, 20)):
        count = part(tmp_path / part.__name__, tries)
        assert (count.tried, count.wrong) == (tries, [])


def test_two_runners_on_one_folder_share_the_work_and_agree_on_the_tables(tmp_path: Path) -> None:
    command = ["--methods", "erm", "--seeds", "0", "1", "2", "--steps", "6"]
    assert call(words(tmp_path, tmp_path / "one", *command)).code == 0
    both = [start(words(tmp_path, tmp_path / "two", *command), tmp_path / f"log{i}") for i in range(2)]
    for process in both:
        process.join()
    assert {process.exitcode for process in both} <= {0, 1}  # 1: the last run was still being done by the other
    assert 0 in {process.exitcode for process in both}
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert not list((tmp_path / "two" / "runs").glob(".*"))
    assert call(["--out", str(tmp_path / "two"), "--check"], "tables").code == 0


def test_what_killed_processes_left_is_cleared_up_and_nothing_whole_is_lost(tmp_path: Path) -> None:
    first, second, third = record("erm", 0), record("erm", 1), record("erm", 2)
    store = fill(tmp_path, [first, second])
    (store.runs / first.run_id).rename(store.runs / f".partial-{first.run_id}")  # killed before the last rename
    (store.runs / second.run_id).rename(store.runs / f".old-{second.run_id}")  # killed between the two renames
    kept = store.runs / f".partial-{third.run_id}"
    kept.mkdir()
    for name in ("checkpoint.pt", "pool-3.pt", ".checkpoint.pt.123", "sensitivity.npy"):
        (kept / name).write_bytes(b"x")
    for name in ("aaa", third.run_id):
        (store.runs / f".lock-{name}").touch()
    (store.runs / ".partial-empty").mkdir()
    store.prepare()
    assert store.read_all() == Store(tmp_path).read_all()
    assert {found.run_id for found in store.read_all()} == {first.run_id, second.run_id}
    assert [path.name for path in store.runs.glob(".*")] == [kept.name]
    assert {path.name for path in kept.iterdir()} == {"checkpoint.pt", "pool-3.pt"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    assert call(words(tmp_path, small_disk / "out", *ERM)).code == 0
    before = {name: content for name, content in state(small_disk).items() if "runs/" in name}
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize - 4096))
    more = [*ERM[:2], "--seeds", "0", "1", "--steps", "4", "--checkpoint-seconds", "0"]
    ended = call(words(tmp_path, small_disk / "out", *more))
    assert ended.wrong(2) == ""
    assert "No space left on device" in ended.err
    assert before.items() <= state(small_disk).items()
    filler.unlink()
    assert call(words(tmp_path, small_disk / "out", *more)).code == 0
    assert len(Store(small_disk / "out").read_all()) == 2


def test_a_clock_that_jumps_back_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping(datetime.datetime):
        days = 20000

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Jumping":
            cls.days -= 7000
            return cls.fromtimestamp(86400 * cls.days, tz)

    assert call(words(tmp_path, tmp_path / "one", *ERM)).code == 0
    for module in (perform, plan):
        monkeypatch.setattr(module, "datetime", Jumping)
    assert call(words(tmp_path, tmp_path / "two", *ERM)).code == 0
    assert results(tmp_path / "two") == results(tmp_path / "one")
    (record,) = Store(tmp_path / "two").read_all()
    assert record.ran.ended < record.ran.session
    assert record.ran.seconds > 0


def test_a_record_made_with_other_versions_is_stale(tmp_path: Path) -> None:
    assert call(words(tmp_path, tmp_path / "out", *ERM)).code == 0
    (path,) = (tmp_path / "out").glob("runs/*/record.json")
    found = json.loads(path.read_text())
    found["ran"]["machine"]["packages"]["torch"] = "1.0.0"
    path.write_text(json.dumps(found))
    seal(path.parent)
    ended = call(words(tmp_path, tmp_path / "out", *ERM, "--stale", "fail"))
    assert ended.wrong(2) == ""
    assert "torch 1.0.0, now" in ended.err
    assert "1 of 1 runs are done" in call(words(tmp_path, tmp_path / "out", *ERM, "--stale", "keep")).out
    assert "[1/1]" in call(words(tmp_path, tmp_path / "out", *ERM)).out


def test_names_in_a_record_are_no_paths(tmp_path: Path) -> None:
    store = fill(tmp_path / "out", [record("../../escaped", 0, dataset="../../escaped", protocol="/tmp/../escaped")])
    before = state(tmp_path)
    assert tables.main(["--out", str(store.out)]) == 0  # with its figures, whose names hold them
    assert {name for name in state(tmp_path) if name not in before and not name.startswith("out/")} == set()
