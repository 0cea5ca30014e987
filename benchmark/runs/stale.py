"""Which runs of a plan are done already, and for whose sake a finished one is done again."""

from benchmark.core.errors import UsageError
from benchmark.runs.job import Job
from benchmark.runs.store import Store


def finished(job: Job, store: Store, stale: str) -> bool:
    """Whether the run is done, with all that is asked for now (Job.lacks).

    Raises UsageError where its record is stale and `stale` is fail.
    """
    record = store.read(job.asked.run_id)
    if record is None or record.status != "done":
        return False
    if made_by := job.outdated(record):
        if stale == "fail":
            raise UsageError(
                f"run {record.run_id} was made by other code or versions ({made_by}); --stale rerun or keep"
            )
        if stale == "rerun":
            return False
    return not job.lacks(record)


def lacking(job: Job, store: Store) -> str:
    """The flag for whose sake a finished run is done again, or an empty text."""
    record = store.read(job.asked.run_id)
    return job.lacks(record) if record is not None and record.status == "done" else ""
