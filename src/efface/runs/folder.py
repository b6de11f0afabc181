"""A run folder while it is made: begun as ``NAME.partial``, named in one step, kept or dropped when something fails."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from efface.errors import EffaceError, RunError, UnfinishedRunError
from efface.files import read_object, write_json
from efface.lm.bundled import cache_dir
from efface.processes import is_main

TRAINED, LAST_WRITTEN = "training.json", "README.md"  # written after training, and at the very end
CLOCK = "seconds.json"
FULL_DISK = ("No space left", "PytorchStreamWriter", "inline_container")  # as safetensors and torch put it


def check_folder(folder: Path, overwrite: bool) -> None:
    """Only a run is ever replaced, and only when asked."""
    if folder.name in ("", ".."):
        raise RunError(f"--to {folder}: expected the name of a new folder")
    if is_run(folder):
        if not overwrite:
            raise RunError(f"{folder} already holds a run; name another folder with --to, or replace it with --overwrite")
    elif folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"{folder} is there and is no run; name another folder with --to")


def begin(partial: Path, started: dict[str, Any], overwrite: bool) -> None:
    """Start in an empty folder, or go on in one that the same recipe, model and pack have started."""
    marker = partial / "started.json"
    if partial.is_dir() and any(path.name != "started.json.part" for path in partial.iterdir()):
        what = "an unfinished run of another recipe, model, pack or method file"
        try:
            same = read_object(marker) == started
        except RunError:
            same, what = False, f"an unfinished run whose {marker.name} is missing or damaged"
        if not same and not overwrite:
            raise UnfinishedRunError(f"{partial} holds {what}; name another folder with --to, or drop it with --overwrite")
        if not same:
            shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(marker, started)


def finish(partial: Path, folder: Path) -> None:
    """Drop what only the work needed, then give the folder its name in one step."""
    for leftover in ("checkpoints", TRAINED, CLOCK):
        path = partial / leftover
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    old = folder.with_name(f".{folder.name}.replaced")
    if folder.exists():  # removed bit by bit, it would look like no run
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    (folder / "started.json").unlink()


@contextmanager
def alone(partial: Path) -> Iterator[None]:
    """Only one job works in a folder. Raises RunError while another does."""
    if not is_main():
        yield
        return
    name = sha256(str(partial.resolve()).encode()).hexdigest()[:24]
    locks = cache_dir() / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{name}.lock", blocking=False)
        lock.acquire()
    except Timeout:
        raise RunError(f"another command is working in {partial}; wait for it, or name another folder with --to") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def tidy(partial: Path) -> Iterator[None]:
    """What fails removes only what this call began; from what was there, or a training on its way, the same command goes on."""
    there = partial.is_dir()
    try:
        yield
    except UnfinishedRunError:
        raise
    except EffaceError:
        begun = (partial / TRAINED).is_file() or any((partial / "checkpoints").glob("checkpoint-*"))
        if is_main() and not there and not begun:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    except Exception as error:  # a full disk surfaces as different exceptions of different libraries
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(sign in str(error) for sign in FULL_DISK) or _is_full(partial):
            raise RunError(f"the disk of {partial} is full; free some space and give the same command again to go on") from None
        if isinstance(error, OSError):
            raise RunError(f"cannot write {partial}: {error.strerror or error}") from None
        raise


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**20


def is_run(folder: str | Path) -> bool:
    """Whether this is the folder of a finished run."""
    return (Path(folder) / "run.json").is_file()
