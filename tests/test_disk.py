"""What cannot be written is one line that says where, why and what helps; and the work goes on where it was."""

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from efface import files, training
from efface.auditing.scores import Measured
from efface.data.store import Store, folder
from efface.errors import EffaceError, InputError, RunError, WriteError
from efface.files import (
    changed,
    damaged,
    make_folder,
    read_or_drop,
    require_writable,
    seal,
    why,
    write_json,
    write_text,
    writing,
)
from efface.runs.pipeline import erase
from tests.runs.conftest import SMALL
from tests.runs.conftest import job as job

GO_ON = "and give the same command again to go on"
LARGE = torch.zeros(100_000)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """As under ``ulimit -f``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda place: write_text(place / "one.txt", "x" * 400_000),
        lambda place: save_file({"x": LARGE}, place / "one.safetensors"),
        lambda place: torch.save({"x": LARGE}, place / "one.pt"),
    ],
)
def test_a_limit_of_size_is_no_full_disk(write: Any, tmp_path: Path) -> None:
    with at_most(50_000), pytest.raises(WriteError) as caught, writing(tmp_path):
        write(tmp_path)
    assert re.fullmatch(
        rf"a file in {tmp_path}\S* would be larger than the system allows; raise the limit .* {GO_ON}", str(caught.value)
    )


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), f"the disk of {{}} is full; free some space {GO_ON}"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), f"the quota on the disk of {{}} is used up; free some space {GO_ON}"),
        (OSError(errno.ESTALE, "Stale file handle"), f"the disk of {{}} is away (a stale handle); mount it again {GO_ON}"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot write {}: Read-only file system"),
        (SafetensorError("I/O error: Disk quota exceeded (os error 122)"), "the quota on the disk of {} is used up; free"),
        (SafetensorError("Error while serializing: I/O error: Stale file handle (os error 116)"), "the disk of {} is away"),
        (SafetensorError("Error while serializing: I/O error: Input/output error (os error 5)"), "cannot write {}: Input/output"),
        (
            RuntimeError("[enforce fail at inline_container.cc:858] . failed writing\nframe #0"),
            "cannot write {}: [enforce fail at",
        ),
        (RuntimeError(""), "cannot write {}: RuntimeError"),
    ],
)
def test_whatever_a_library_says_is_one_line(error: Exception, says: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError) as caught, writing(tmp_path / "not" / "there"):
        raise error
    assert str(caught.value).startswith(says.format(tmp_path / "not" / "there"))
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_full_is_known_without_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4096}))
    assert why(tmp_path / "a", RuntimeError("unexpected pos 64 vs 0")).startswith(f"the disk of {tmp_path}/a is full")


@pytest.mark.parametrize("error", [BrokenPipeError(), torch.OutOfMemoryError("CUDA out of memory"), InputError("no"), KeyError()])
def test_what_has_nothing_to_do_with_writing_passes(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "far")
    for place in (tmp_path / "file", tmp_path / "file" / "in", tmp_path / "link"):
        with pytest.raises(RunError) as caught:
            make_folder(place)
        assert str(place) in str(caught.value)


def test_what_a_disk_does_not_give_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is dropped that may be whole."""
    file = tmp_path / "in" / "one.json"
    make_folder(file.parent)
    write_json(file, Measured(scores={}, answers=[]))
    seal(file.parent)

    def away(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "open", away)
    monkeypatch.setattr(Path, "read_bytes", away)
    for read in (
        lambda: damaged(file.parent),
        lambda: read_or_drop(file, Measured),
        lambda: changed(file.parent, {"one.json": ""}),
    ):
        with pytest.raises(RunError, match=r"cannot be read: Stale file handle; is its disk mounted\?"):
            read()
    assert file.exists()


def test_a_place_that_cannot_be_written_is_known_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    require_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    with pytest.raises(WriteError, match="is no folder"):
        require_writable(tmp_path / "file" / "in")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WriteError, match="is read-only for this user"):
        require_writable(tmp_path / "new")


def test_the_store_goes_without_what_it_cannot_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path))
    with at_most(50_000):
        (entry,) = Store({"model": "a"}).entries("erase", ["x"], lambda _: {"x": LARGE})
    assert torch.equal(entry["x"], LARGE)
    assert "would be larger than the system allows" in capsys.readouterr().err
    assert list(folder().iterdir()) == []


@pytest.mark.parametrize("what", ["checkpoint", "adapter"])
def test_a_training_that_cannot_be_written_goes_on(what: str, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    train = {"train": {**SMALL["train"], "steps": 6}}
    save = training.EraseTrainer.save_model

    def limited(self: Any, output_dir: str, **more: Any) -> None:
        last = "checkpoint-4" in output_dir if what == "checkpoint" else output_dir.endswith("adapter")
        if last:
            raise SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)")
        save(self, output_dir, **more)

    monkeypatch.setattr(training.EraseTrainer, "save_model", limited)
    with pytest.raises(
        EffaceError, match="the quota on the disk of .* is used up; free some space and give the same command again"
    ):
        erase(**{**job, **train})
    kept = {path.name for path in (job["to"].with_name("run.partial") / "checkpoints").iterdir()}
    assert kept >= {"checkpoint-2" if what == "checkpoint" else "checkpoint-6"}
    monkeypatch.undo()
    assert len(erase(**{**job, **train}).record.losses) == 6
