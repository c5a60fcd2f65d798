"""Each notebook is stored without outputs and runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_runs_as_it_is_on_the_sample(path: Path) -> None:
    """With no credentials, and nothing but what a checkout holds; its outputs have alternatives."""
    notebook = nbformat.read(path, as_version=4)
    assert [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    wrong = [out for cell in outputs for out in cell
             if out.output_type == "error" or out.get("name") == "stderr"]  # fmt: skip
    assert not wrong
    assert sum(bool(cell) for cell in outputs) >= 3
    pages = [out.data.get("text/html", "") for cell in outputs for out in cell if "data" in out]
    assert [page for page in pages if "<img alt=" in page or 'class="heat"' in page]
    assert not [page for page in pages if "&lt;Figure" in page]
