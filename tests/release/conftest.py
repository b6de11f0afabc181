"""Tiny runs on models of several architectures, and what an export of one leaves."""

from pathlib import Path
from typing import Any

import pytest

from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.runs.conftest import SMALL

LIGHT: dict[str, Any] = {**SMALL, "audit": {"depth": False, "samples": 0}}


@pytest.fixture(scope="session")
def light_run(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A low-rank run on a llama whose update is large enough to be seen through any rounding."""
    settings = {**LIGHT, "train": {**SMALL["train"], "lr": 0.05}}
    return erase(str(model_folders["llama"]), str(pack_folder), to=tmp_path_factory.mktemp("light") / "run", **settings)


@pytest.fixture(scope="session")
def whole_run(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that trained modules as a whole."""
    settings = {**LIGHT, "lora": {"layers": "1-2", "rank": 0}}
    return erase(str(model_folders["llama"]), str(pack_folder), to=tmp_path_factory.mktemp("whole") / "run", **settings)
