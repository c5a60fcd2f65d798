"""Each notebook is stored without outputs and runs from top to bottom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.simulator import Fleet, Simulator
from tests.conftest import NIGHTLY

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Any:
    import nbformat  # two seconds, which only the worker that needs it spends

    return nbformat.read(path, as_version=4)


def execute(notebook: Any, folder: Path) -> None:
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("name", ["00_quickstart", "04_explorer"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_runs_on_a_server(
    name: str, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over https, with the name and password of the environment; what it got stays in an archive."""
    (tmp_path / "notebooks").mkdir()
    with Simulator(fleet, tls=True) as server:
        monkeypatch.setenv("CDPANALYTICS_USERNAME", "demo")
        monkeypatch.setenv("CDPANALYTICS_PASSWORD", "demo")
        monkeypatch.setenv("CDPANALYTICS_CA_BUNDLE", str(server.ca_bundle))
        notebook = read(FOLDER / f"{name}.ipynb")
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += f"\nsource = {server.url!r}\nperiod = 'all'\n"
        execute(notebook, tmp_path / "notebooks")
    assert len(Archive(tmp_path / "data" / "archive").sessions()) > 100
    assert "demo" not in "".join(str(cell.get("outputs", "")) for cell in notebook.cells)


@pytest.mark.parametrize(
    ("path", "window"),
    [*((path, "") for path in NOTEBOOKS),
     *((path, "since, until = '2026-10-06', '2026-10-20'") for path in NOTEBOOKS
       if path.stem in ("01_rpo_adherence", "report") and NIGHTLY)],
    ids=lambda given: given.stem if isinstance(given, Path) else given and "a window",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_runs_on_the_sample(path: Path, window: str) -> None:
    """With no credentials, and nothing but what a checkout holds; its outputs have alternatives."""
    notebook = read(path)
    (given,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    given.source += f"\n{window}"
    execute(notebook, FOLDER)
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    wrong = [out for cell in outputs for out in cell
             if out.output_type == "error" or out.get("name") == "stderr"]  # fmt: skip
    assert not wrong
    assert sum(bool(cell) for cell in outputs) >= 3
    pages = [out.data.get("text/html", "") for cell in outputs for out in cell if "data" in out]
    assert [page for page in pages if "<img alt=" in page or 'class="heat"' in page]
    assert not [page for page in pages if "&lt;Figure" in page]
