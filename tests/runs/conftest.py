"""A tiny run, and the job that makes one."""

from pathlib import Path
from typing import Any

import pytest

from efface.runs.pipeline import erase
from efface.runs.run import Run

SMALL: dict[str, Any] = {
    "dtype": "float32",
    "data": {"max_tokens": 24, "kept": 6, "neighbours": 4},
    "erase": {"target": "mixed"},  # so that both kinds of target are made
    "fluency": {"texts": 4, "tokens": 8},
    "lora": {"layers": "1-2", "rank": 2},
    "train": {"steps": 4, "batch_size": 2, "checkpoint_steps": 2},
}
FILES = {"adapter", "run.json", "audit.json", "report.html", "README.md"}


@pytest.fixture(scope="module")
def run(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    to = tmp_path_factory.mktemp("runs") / "run"
    return erase(str(model_folders["llama"]), str(pack_folder), to=to, **SMALL)


@pytest.fixture
def job(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"model": str(model_folders["llama"]), "concept": str(pack_folder), "to": tmp_path / "runs" / "run", **SMALL}
