"""What becomes of a run's record, and how many runs share the machine."""

from collections import deque
from pathlib import Path
from unittest import mock

import pytest
import torch

from benchmark import registry, run
from benchmark.runs import plan
from benchmark.runs.engines import workers
from benchmark.runs.store import Store
from tests.faults.harness import call, plugin, words

ERM = ["--methods", "erm", "--steps", "4", "--seeds"]


@pytest.mark.parametrize("more", [["--timeout", "300"], []])  # in a worker, and here
def test_a_run_that_fails_the_second_time_leaves_its_record(tmp_path: Path, more: list[str]) -> None:
    """--save-weights has it run again."""
    fails = plugin(tmp_path, "fails", f"if os.path.exists({str(tmp_path / 'now')!r}): raise OSError('no network')")
    given = words(tmp_path, tmp_path / "out", "--methods", "fails", "--seeds", "0", "--steps", "4", plugins=[fails])
    assert call(given).code == 0
    (before,) = Store(tmp_path / "out").read_all()
    (tmp_path / "now").touch()
    ended = call([*given, "--save-weights", *more])
    assert ended.code == 1
    assert "again for --save-weights, it failed: OSError: no network; its earlier record is kept" in " ".join(
        ended.out.split()
    )
    assert "1 of 1 runs were to be run again for --save-weights and failed" in " ".join(ended.out.split())
    assert Store(tmp_path / "out").read_all() == [before]
    assert not list((tmp_path / "out" / "runs").glob(".partial*"))
    (tmp_path / "now").unlink()
    assert call([*given, "--save-weights"]).code == 0
    (after,) = Store(tmp_path / "out").read_all()
    assert (after.weights is not None, after.accuracy) == (True, before.accuracy)


def test_a_worker_that_is_ended_once_its_run_is_stored_failed_nothing(tmp_path: Path) -> None:
    given = words(tmp_path, tmp_path / "out", *ERM, "0")
    assert call(given).code == 0
    (before,) = Store(tmp_path / "out").read_all()
    with registry.plugins([tmp_path / "toyset.py"]):
        (job,) = plan.plan(run.parse(given))
        assert workers._failed(job, "it took too long") == before
    assert Store(tmp_path / "out").read_all() == [before]


def test_a_run_that_is_left_alone_shares_the_machine_with_none(tmp_path: Path) -> None:
    assert call(words(tmp_path, tmp_path / "out", *ERM, "0")).code == 0
    assert call(words(tmp_path, tmp_path / "out", *ERM, "0", "1", "--jobs", "2")).code == 0
    assert call(words(tmp_path, tmp_path / "two", *ERM, "0", "1", "--jobs", "2")).code == 0
    alone, both = (
        [made.ran.machine.get("sharing", 1) for made in Store(tmp_path / name).read_all()] for name in ("out", "two")
    )
    assert (alone, both) == ([1, 1], [2, 2])


@pytest.mark.parametrize(("given", "count", "each"), [(4, 1, 4), (4, 2, 2), (1, 2, 1)])
def test_workers_share_the_threads_that_this_process_may_use(given: int, count: int, each: int) -> None:
    """OMP_NUM_THREADS and the cores that a scheduler allots are in torch's number, and not in the machine's."""
    before = torch.get_num_threads()
    torch.set_num_threads(given)
    try:
        with mock.patch.object(workers.Crew, "hire"):
            crew = workers.Crew(deque([mock.Mock()] * 2), count, mock.Mock(), None)
    finally:
        torch.set_num_threads(before)
    assert crew.threads == each
