"""The notebook's cells, in order, with fewer steps; and its outputs are those of its cells."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import ROOT

PATH = ROOT / "docs" / "notebooks" / "compare.ipynb"


def code() -> list[dict[str, Any]]:
    cells = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def text(cell: dict[str, Any]) -> str:
    """A cell's code, without the lines that are for IPython alone."""
    return "".join(line for line in cell["source"] if not line.startswith("%"))


def test_its_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [text(cell) for cell in code()]
    assert "steps=60" in sources[0]
    sources[0] = sources[0].replace("steps=60", "steps=3, sensitivity_images=5").replace("seeds=[0, 1]", "seeds=[0]")
    names: dict[str, Any] = {}
    for at, source in enumerate(sources):
        exec(compile(source, f"{PATH.name}, cell {at}", "exec"), names)
    results = names["results"]
    assert results.runs["status"].tolist() == ["done"] * 3
    assert isinstance(results.accuracy, pd.DataFrame)
    assert (tmp_path / "results" / "notebook" / "index.html").is_file()


def test_it_is_kept_with_its_outputs_and_small() -> None:
    cells = code()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert kinds == ["execute_result"], text(cell)
    assert sum("image/png" in cell["outputs"][0]["data"] for cell in cells) == 2
    assert PATH.stat().st_size < 300 * 1024
    assert str(Path.home()) not in PATH.read_text(encoding="utf-8")
