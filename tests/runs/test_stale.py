"""Which runs of a plan are done already, by the record that lies there."""

from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.runs.job import Job
from benchmark.runs.stale import finished, lacking
from tests.handmade import failed, fill, record


def job(made: Record, out: Path, *, save_weights: bool = False) -> Job:
    return Job(
        asked=made.asked, command="", session="", out=out, data_dir=None, save_weights=save_weights
    )  # of today's code, and the records are not


def test_a_record_of_other_code_is_done_again_kept_or_refused(tmp_path: Path) -> None:
    made = record("erm", 0)
    store = fill(tmp_path, [made])
    assert not finished(job(made, tmp_path), store, "rerun")
    assert finished(job(made, tmp_path), store, "keep")
    with pytest.raises(
        UsageError, match=f"run {made.run_id} was made by other code or versions .*--stale rerun or keep"
    ):
        finished(job(made, tmp_path), store, "fail")


def test_a_run_that_kept_no_network_is_done_again_for_its_sake(tmp_path: Path) -> None:
    made = record("erm", 0)
    store = fill(tmp_path, [made])
    assert not finished(job(made, tmp_path, save_weights=True), store, "keep")
    assert lacking(job(made, tmp_path, save_weights=True), store) == "--save-weights"
    assert lacking(job(made, tmp_path), store) == ""


@pytest.mark.parametrize("stale", ["rerun", "keep", "fail"])
def test_a_run_that_failed_or_is_not_there_is_not_done_and_lacks_nothing(stale: str, tmp_path: Path) -> None:
    store = fill(tmp_path, [failed("erm", 0)])
    for made in (failed("erm", 0), record("augmix", 0)):
        assert not finished(job(made, tmp_path, save_weights=True), store, stale)
        assert lacking(job(made, tmp_path, save_weights=True), store) == ""
