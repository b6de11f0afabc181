"""Runs that stand on each other, and runs that were made apart; fixtures for whoever imports them."""

from pathlib import Path
from typing import Any

import pytest

from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.conftest import write_pack
from tests.runs.conftest import SMALL

LIGHT: dict[str, Any] = {
    **SMALL,
    "train": {**SMALL["train"], "lr": 0.05},
    "audit": {"depth": False, "samples": 0},
}


@pytest.fixture(scope="session")
def snake_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second pack."""
    folder = tmp_path_factory.mktemp("packs") / "snakes"
    folder.mkdir()
    write_pack(folder, name="snakes", title="the snakes", keywords=["snakes", "honey"])
    return folder


@pytest.fixture(scope="session")
def first(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    to = tmp_path_factory.mktemp("first") / "first"
    return erase(str(model_folders["llama"]), str(pack_folder), to=to, **{**LIGHT, "lora": {"layers": "0-1", "rank": 4}})


@pytest.fixture(scope="session")
def second(first: Run, snake_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return erase(str(first.folder), str(snake_folder), to=tmp_path_factory.mktemp("second") / "second", **LIGHT)


@pytest.fixture(scope="session")
def apart(model_folders: dict[str, Path], snake_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The second pack, erased from the base of the first run."""
    return erase(str(model_folders["llama"]), str(snake_folder), to=tmp_path_factory.mktemp("apart") / "apart", **LIGHT)
