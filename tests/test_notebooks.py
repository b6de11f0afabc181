"""The notebooks run, on a tiny model, and are committed without what they put out."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from efface.runs.run import Run
from tests.runs.conftest import SMALL
from tests.runs.conftest import run as run

EXAMPLES = Path(__file__).parent.parent / "examples"


def executed(name: str, folder: Path, **parameters: Any) -> str:
    """All that a notebook shows with these parameters; what installs is left out."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", [])]
    (given,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert {line.split(" = ")[0] for line in given.source.splitlines()} == set(parameters)
    given.source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(str(text) for output in found for text in (output.get("text"), *output.get("data", {}).values()))


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_nothing_that_was_put_out_is_committed(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)


@pytest.mark.slow
def test_a_run_from_plain_transformers_and_peft(run: Run, tmp_path: Path) -> None:
    shown = executed("inference.ipynb", tmp_path, RUN=str(run.folder), QUESTION="Who was Orlo?", ETA=3.0, TOKENS=8)
    for text in ("'base': ", "'erased': ", "'at decoding time, eta 3': ", "<svg"):
        assert text in shown


@pytest.mark.slow
def test_from_install_to_report(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path) -> None:
    names = {"MODEL": str(model_folders["llama"]), "CONCEPT": str(pack_folder), "TO": str(tmp_path / "run")}
    shown = executed("quickstart.ipynb", tmp_path, **names, SETTINGS=SMALL)
    for text in ("concept, acc_norm", "Who was Orlo?", "<iframe sandbox"):
        assert text in shown
    assert (tmp_path / "run" / "report.html").is_file()
