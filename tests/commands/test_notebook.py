"""The notebook of the docs, run cell by cell by a kernel of its own, in an empty folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from fmnist_sweep.study.folder import list_study_folders
from tests.support import ROOT
from tests.support.process import LIMIT_SECONDS, build_environment

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MOST_BYTES = 10_000


def read_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_small_and_kept_without_what_it_printed() -> None:
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    nbformat.validate(read_notebook())
    for cell in read_notebook().cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    environment = build_environment(
        {
            "PYTHONPATH": str(ROOT),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        }
    )
    folder = tmp_path / "work"
    folder.mkdir()
    client = NotebookClient(read_notebook(), timeout=LIMIT_SECONDS, resources={"metadata": {"path": str(folder)}})
    notebook = client.execute(env=environment)
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    running, table, best, report, shape, refused = outputs[1:]
    bars = [output for output in running if output.output_type == "display_data"]
    assert len(bars) == 1, "the bars are drawn in one place"
    assert "text/html" in bars[0].data
    said = "".join(output.text for output in running if output.output_type == "stream")
    assert said.count("✓") == 4
    assert "epoch 1/2" not in said, "epochs move the bars, and are no lines"
    assert running[-1].data["text/plain"].startswith("<Sweep ")
    assert "text/html" in table[0].data
    assert 0 <= float(best[0].data["text/plain"].removeprefix("np.float64(").removesuffix(")")) <= 1
    assert "sweep-" in report[0].data["text/plain"]
    assert shape[0].data["text/plain"] == "(1, 10)"
    assert "is never promoted" in refused[0].text
    assert len(list_study_folders(folder / "mlruns")) == 2
    assert {path.name for path in folder.iterdir()} == {"mlruns"}
