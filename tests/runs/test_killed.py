"""Kill -9 at twenty random moments of preparing and erasing: what is left never looks finished, and ends in the same adapter."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from efface.data.store import folder as store_folder
from efface.runs.pipeline import erase
from tests.runs.conftest import SMALL

KILLS = 20

pytestmark = pytest.mark.slow


def weights(run: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(run / "adapter" / "adapter_model.safetensors").items()}


def quietly(job: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    erase(**job)


def test_killed_at_random_moments(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {**SMALL["train"], "steps": 12, "checkpoint_steps": 3}
    job = {"model": str(model_folders["llama"]), "concept": str(pack_folder), **SMALL, "train": train}
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "undisturbed"))
    start = time.monotonic()
    expected = weights(erase(**job, to=tmp_path / "one").folder)
    whole = time.monotonic() - start

    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "disturbed"))
    fork, rng, to = multiprocessing.get_context("fork"), random.Random(0), tmp_path / "two"
    finished = 0
    for _ in range(KILLS):
        child = fork.Process(target=quietly, args=({**job, "to": to},))
        child.start()
        child.join(rng.uniform(0, 0.7 * whole))
        if child.is_alive():
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        if to.exists():
            assert weights(to) == expected
            finished += 1
            shutil.rmtree(to)
            if finished % 2:
                shutil.rmtree(store_folder())
    assert weights(erase(**job, to=to).folder) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "undisturbed", "disturbed"}
