"""A damaged file of an unfinished run is dropped and said; of a finished one it is refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from efface.cli import main
from efface.errors import RunError
from efface.runs import pipeline
from efface.runs.audit import audit
from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.runs.conftest import FILES, SMALL


def flip(file: Path) -> None:
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def more_alpha(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 1600}))


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "flipped": flip,
}


@pytest.fixture(scope="module")
def unnamed(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed just before it got its name."""
    to = tmp_path_factory.mktemp("unnamed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(str(model_folders["llama"]), str(pack_folder), to=to, **SMALL)
    return to.with_name("run.partial")


@pytest.mark.parametrize(
    ("damage", "name", "again"),
    [
        ("flipped", "adapter/adapter_model.safetensors", {"train", "audit_pair", "write_report"}),
        ("gone", "adapter/adapter_config.json", {"train", "audit_pair", "write_report"}),
        ("empty", "training.json", set()),
        ("cut", "audit.json", {"audit_pair", "write_report"}),
        ("flipped", "run.json", {"write_report"}),
        ("flipped", "seconds.json", set()),
    ],
)
def test_a_damaged_file_of_an_unfinished_run_is_made_again(
    damage: str,
    name: str,
    again: set[str],
    unnamed: Path,
    run: Run,
    job: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    partial, done = shutil.copytree(unnamed, job["to"].with_name("run.partial")), set[str]()
    DAMAGE[damage](partial / name)
    for stage in ("train", "audit_pair", "write_report"):
        original = getattr(pipeline, stage)
        spied = lambda *given, original=original, stage=stage, **more: done.add(stage) or original(*given, **more)  # noqa: E731
        monkeypatch.setattr(pipeline, stage, spied)
    finished = erase(**job)
    assert done == again
    assert str(partial / name) in capsys.readouterr().err
    assert finished.record.hashes == run.record.hashes
    assert finished.audit == run.audit
    assert {path.name for path in finished.folder.iterdir()} == FILES


def test_whose_work_it_is_that_nothing_tells_is_asked(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(**job)
    flip(job["to"].with_name("run.partial") / "started.json")
    with pytest.raises(RunError, match="an unfinished run whose started.json is missing or damaged; name another folder"):
        erase(**job)
    assert erase(**{**job, "overwrite": True}).record.losses


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("run.json", "flipped"),
        ("audit.json", "flipped"),
        ("adapter/adapter_config.json", "flipped"),
        ("adapter/adapter_config.json", "more"),
        ("adapter/adapter_model.safetensors", "flipped"),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_one_line(
    name: str, damage: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    ({**DAMAGE, "more": more_alpha})[damage](folder / name)
    commands = (
        [["gate", "--max-forget", "1"], ["report"], ["compare"]] if name == "audit.json" else [["audit"], ["generate", "Hi"]]
    )
    for verb, *rest in commands:
        capsys.readouterr()
        assert main([verb, str(folder), *rest, *(["--to", str(tmp_path / "out")] if verb == "compare" else [])]) == 2, verb
        said = capsys.readouterr().err
        assert Path(name).name in said
        assert said.rstrip("\n").count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_another_audit_of_a_run_is_as_safe(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "run")
    audit(folder, to=folder)
    assert Run(folder).audit.erased.scores == run.audit.erased.scores
    flip(folder / "audit.json")
    with pytest.raises(RunError, match="audit.json"):
        _ = Run(folder).audit
    assert load_file(folder / "adapter" / "adapter_model.safetensors")
