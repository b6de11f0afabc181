"""Where a run is made: in the place that was named, volume, link or new folder; killed at any moment it is whole or goes on."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from efface.errors import RunError
from efface.runs import folder, pipeline
from efface.runs.folder import alone, find_place
from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.runs.conftest import FILES


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def again(run: Run, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The job, whose adapter and figures are taken from the run that is there."""

    def trained(*given: Any) -> Any:
        shutil.copytree(run.folder / "adapter", given[6])
        return run.record.losses

    monkeypatch.setattr(pipeline, "train", trained)
    monkeypatch.setattr(pipeline, "audit_pair", lambda *_, **__: run.audit)
    return job


def busy(monkeypatch: pytest.MonkeyPatch, volume: Path) -> None:
    """As where a disk is mounted: the folder itself cannot be renamed."""
    for owner, name in ((Path, "rename"), (Path, "replace"), (os, "rename"), (os, "replace")):
        original = getattr(owner, name)

        def rename(path: Any, to: Any, original: Any = original) -> Any:
            if volume in (Path(path), Path(to)):
                raise OSError(errno.EXDEV if Path(to).parent == volume else errno.EBUSY, "Device or resource busy")
            return original(path, to)

        monkeypatch.setattr(owner, name, rename)


def test_a_volume_is_written_inside(again: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    volume = again["to"]
    (volume / "lost+found").mkdir(parents=True)
    busy(monkeypatch, volume)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(**again)
    assert [path.name for path in volume.parent.iterdir()] == [volume.name], "all of it on the disk that was named"
    assert erase(**again).record.losses
    assert {path.name for path in volume.iterdir()} == {*FILES, "lost+found"}
    with pytest.raises(RunError, match="already holds a run"):
        erase(**again)
    assert erase(**{**again, "seed": 1, "overwrite": True}).record.recipe.seed == 1
    assert {path.name for path in volume.iterdir()} == {*FILES, "lost+found"}


@pytest.mark.parametrize("there", [True, False])
def test_behind_a_link_the_run_lies_where_it_leads(there: bool, again: dict[str, Any], tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", again["to"]
    disk.mkdir()
    link.parent.mkdir()
    link.symlink_to(disk / "run")
    if there:
        (disk / "run").mkdir()
    for seed in (0, 1):
        assert erase(**{**again, "seed": seed, "overwrite": seed == 1}).folder == link
        assert link.is_symlink()
        assert {path.name for path in (disk / "run").iterdir()} == FILES
        assert {path.name for path in disk.iterdir()} == {"run"}
        assert list(link.parent.iterdir()) == [link]
    assert Run(link).record.recipe.seed == 1


def test_a_link_that_leads_nowhere_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "unmounted").symlink_to(tmp_path / "volume" / "run")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "file").touch()
    (tmp_path / "to a file").symlink_to(tmp_path / "file")
    (tmp_path / "root").symlink_to("/")
    for name, says in (
        ("unmounted", "is its disk mounted"),
        ("round", "is its disk mounted"),
        ("to a file", "is no run"),
        ("root", "expected the name of a new folder"),
    ):
        with pytest.raises(RunError, match=says) as caught:
            find_place(tmp_path / name, overwrite=True)
        assert str(tmp_path / name) in str(caught.value)


STEPS = [(Path, "unlink"), (Path, "replace"), (Path, "rename"), (Path, "rmdir"), (shutil, "rmtree")]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_a_kill_at_any_step_of_the_end_leaves_a_run_or_one_that_goes_on(
    inside: bool, overwrite: bool, run: Run, again: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    to, again = again["to"], {**again, "overwrite": overwrite}
    monkeypatch.setattr(folder, "_fixed", lambda _: inside)
    for step in range(40):
        shutil.rmtree(to.parent, ignore_errors=True)
        if overwrite:
            shutil.copytree(run.folder, to)
        elif inside:
            to.mkdir(parents=True)
        place = find_place(to, overwrite)
        shutil.copytree(run.folder, place.partial)
        record = run.record
        folder.write_json(place.partial / "started.json", folder.started(record.recipe, record.hashes, 1))
        for name in ("training.json", "seconds.json"):
            (place.partial / name).write_text("{}")
        (place.partial / "checkpoints" / "checkpoint-4").mkdir(parents=True)
        left = step
        with monkeypatch.context() as patch:
            for owner, name in STEPS:
                done = getattr(owner, name)

                def counted(*given: Any, original: Any = done, **more: Any) -> Any:
                    nonlocal left
                    if not left:
                        raise KeyboardInterrupt
                    left -= 1
                    return original(*given, **more)

                patch.setattr(owner, name, counted)
            try:
                folder.finish(place)
            except KeyboardInterrupt:
                pass
            else:
                break
        if not place.partial.is_dir() or not any(place.partial.iterdir()):  # it has its place
            assert {path.name for path in to.iterdir()} - {".partial"} == FILES
            assert Run(to).audit == run.audit
            find_place(to, overwrite=True)
            assert {path.name for path in to.iterdir()} == FILES, "the next command tidies"
            continue
        place = find_place(to, overwrite)
        folder.begin(place, record.recipe, record.hashes, overwrite=False)
        assert {path.name for path in place.partial.iterdir()} >= FILES, "nothing of it is made again"
        folder.finish(place)
        assert {path.name for path in to.iterdir()} == FILES
        assert Run(to).audit == run.audit
    assert step > 4


def test_between_the_last_steps_another_audit_is_made_of_the_same_training(
    run: Run, again: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.folder, again["to"].with_name("run.partial"))  # all that only the work needed is gone
    monkeypatch.setattr(pipeline, "train", None)
    record = erase(**{**again, "audit": {"samples": 1}}).record
    assert (record.losses, record.tokens, record.files) == (run.record.losses, run.record.tokens, run.record.files)
    assert {path.name for path in again["to"].iterdir()} == FILES


def test_the_lock_lies_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = tmp_path / "runs" / "run.partial"
    with alone(partial):
        monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "another"))  # as on another machine
        with pytest.raises(RunError, match="another command is working in"), alone(partial):
            pass
        with alone(tmp_path / "runs" / "other.partial"):
            pass
        assert [path.name for path in partial.parent.iterdir()] == [".run.partial.lock"]
    assert list(partial.parent.iterdir()) == []


def test_a_disk_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder.FileLock, "acquire", none)
    with alone(tmp_path / "run.partial"):
        assert "has no locks; see that no other command works there" in capsys.readouterr().err


def test_a_run_that_another_command_finished_meanwhile_stays(
    run: Run, again: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = pipeline.load_model

    def slow(recipe: Any) -> Any:
        shutil.copytree(run.folder, again["to"])
        return load(recipe)

    monkeypatch.setattr(pipeline, "load_model", slow)
    before = json.loads((run.folder / "run.json").read_text())
    with pytest.raises(RunError, match="already holds a run"):
        erase(**{**again, "seed": 1})
    assert json.loads((again["to"] / "run.json").read_text()) == before
