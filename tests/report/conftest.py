"""The page that several files of tests read."""

import pytest

from benchmark.runs.store import Store
from tests.report.pages import written


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Made once: no test writes to it."""
    return written(tmp_path_factory.mktemp("page"))
