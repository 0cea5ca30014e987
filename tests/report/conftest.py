"""What several files of tests look at: one page, and the figures that a test draws."""

import pytest
from matplotlib.figure import Figure

from benchmark.report.figures import palette
from benchmark.runs.store import Store
from tests.report.pages import written


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Made once: no test writes to it."""
    return written(tmp_path_factory.mktemp("page"))


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were drawn, in place of their files."""
    found: list[Figure] = []
    monkeypatch.setattr(palette, "save", lambda figure, path: found.append(figure))
    return found
