"""A run folder while it is made: begun as ``NAME.partial``, named in one step, kept or dropped when something fails.

A folder that is there already (an empty one, a mounted volume) stays where it is: the work is done in ``NAME/.partial``, and the
record moves last. So a run is finished when its record has its place, and nothing is left to do after that.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from efface.errors import EffaceError, RunError, UnfinishedRunError, WriteError
from efface.files import HELPS, behind_links, make_folder, read_json, read_object, why, write_json, writing
from efface.processes import is_main, processes
from efface.recipe.recipe import Recipe
from efface.recipe.record import RunRecord
from efface.shown import complain

RECORD, TRAINED, CLOCK, STARTED = "run.json", "training.json", "seconds.json", "started.json"
LAST_WRITTEN = "README.md"  # of what a run holds
HELD = ("adapter", "audit.json", "report.html", LAST_WRITTEN, RECORD)
WORK = ("checkpoints", CLOCK, TRAINED, STARTED)  # the last of them is removed last
INSIDE = ".partial"
OF_THE_DISK = "lost+found"  # in an empty volume
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@dataclass(frozen=True)
class Place:
    """Where a run is made (``partial``), and what it will be (``folder``)."""

    folder: Path
    partial: Path

    @property
    def inside(self) -> bool:
        """Whether the folder is there and stays."""
        return self.partial.parent == self.folder


def find_place(named: Path, overwrite: bool) -> Place:
    """Where to make the run that is to be called so. Only a run is ever replaced, and only when asked. Raises RunError."""
    folder = behind_links(named)
    if folder.name in ("", ".."):
        raise RunError(f"--to {named}: expected the name of a new folder")
    inside, beside = folder / INSIDE, folder.with_name(folder.name + ".partial")
    if is_run(folder):
        with suppress(OSError):
            inside.rmdir()  # killed when all that was left to do was this
        if not overwrite:
            raise RunError(f"{named} already holds a run; name another folder with --to, or replace it with --overwrite")
        stays = _fixed(folder)
    else:
        if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= _ours(inside)):
            raise RunError(f"{named} is there and is no run; name another folder with --to")
        stays = folder.is_dir() and not beside.is_dir()
    return Place(folder, inside if inside.is_dir() or stays else beside)


def _ours(inside: Path) -> set[str]:
    """What may lie in a folder that a run is made in."""
    return {OF_THE_DISK, INSIDE, _lock(inside).name, *(HELD if inside.is_dir() else ())}


def _fixed(folder: Path) -> bool:
    """Whether a folder cannot get another name: something is mounted there, or its own folder cannot be written."""
    try:
        os.rename(folder, folder / "itself")  # never possible; the reason tells a mount from a plain folder
    except OSError as error:
        return error.errno == errno.EXDEV or not os.access(folder.parent, os.W_OK)
    raise AssertionError


def started(recipe: Recipe, hashes: Mapping[str, str], count: int) -> dict[str, Any]:
    """What identifies a run's work: another audit goes on with the same training."""
    inputs = {name: of for name, of in hashes.items() if name != "adapter"}
    return {"recipe": recipe.model_dump(mode="json", exclude={"audit"}), "hashes": inputs, "processes": count}


def begin(place: Place, recipe: Recipe, hashes: Mapping[str, str], overwrite: bool) -> None:
    """Start in an empty folder, or go on in one that the same recipe, model and pack have started."""
    partial, now = place.partial, started(recipe, hashes, processes())
    if partial.is_dir() and any(path.name != f"{STARTED}.part" for path in partial.iterdir()):
        before = _before(partial)
        if before != now and not overwrite:
            other = (
                f"whose {STARTED} is missing or damaged" if before is None else "of another recipe, model, pack or method file"
            )
            raise UnfinishedRunError(
                f"{partial} holds an unfinished run {other}; name another folder with --to, or drop it with --overwrite"
            )
        if before != now:
            with writing(partial):
                shutil.rmtree(partial)
        elif place.inside and not (partial / STARTED).exists():  # killed while it moved
            for name in HELD:
                if not (partial / name).exists() and (place.folder / name).exists():
                    (place.folder / name).rename(partial / name)
    make_folder(partial)
    write_json(partial / STARTED, now)


def _before(partial: Path) -> dict[str, Any] | None:
    """What the work there was begun from: its marker says so, or the record of a run that lacks nothing but its place."""
    with suppress(RunError):
        return read_object(partial / STARTED)
    with suppress(RunError):
        record = read_json(partial / RECORD, RunRecord)
        return started(record.recipe, record.hashes, record.processes)
    return None


def finish(place: Place) -> None:
    """Drop what only the work needed, then give the run its place in one step."""
    partial, folder = place.partial, place.folder
    for leftover in WORK:
        path = partial / leftover
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if place.inside:
        (folder / RECORD).unlink(missing_ok=True)
        for name in HELD:  # the record is the last
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            (partial / name).replace(folder / name)
        partial.rmdir()
        return
    swap(partial, folder)


def swap(partial: Path, folder: Path) -> None:
    """Give a folder its name in one step, in the place of what has it now."""
    old = folder.with_name(f".{folder.name}.replaced")
    if folder.exists():  # removed bit by bit, it would look like no run
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _lock(partial: Path) -> Path:
    return partial.with_name(f".{partial.name.lstrip('.')}.lock")


@contextmanager
def alone(partial: Path, lies: Path | None = None) -> Iterator[None]:
    """Only one job works in a folder, from whatever machine. Raises RunError while another does.

    lies: the lock (default: beside the folder, so that every machine that sees the one sees the other).
    """
    if not is_main():
        yield
        return
    path = lies or _lock(partial)
    lock = FileLock(path, blocking=False)
    try:
        make_folder(path.parent)
        lock.acquire()
    except Timeout:
        raise RunError(f"another command is working in {partial}; wait for it, or name another folder with --to") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise WriteError(why(partial, error)) from None
        complain(f"the disk of {partial} has no locks; see that no other command works there")
    try:
        yield
    finally:
        if lock.is_locked:
            path.unlink(missing_ok=True)  # who waits for the file that is gone makes a new one
            lock.release()


@contextmanager
def tidy(partial: Path) -> Iterator[None]:
    """What fails removes only what this call began; from what was there, or a training on its way, the same command goes on."""
    there = partial.is_dir()
    try:
        yield
    except (UnfinishedRunError, BrokenPipeError):  # the latter: nobody reads what is printed
        raise
    except EffaceError:
        begun = (partial / TRAINED).is_file() or any((partial / "checkpoints").glob("checkpoint-*"))
        if is_main() and not there and not begun:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:  # of a library that writes somewhere of its own
        place = Path(error.filename or partial)
        raise RunError(why(place, error) if error.errno in HELPS else f"{place}: {error.strerror or error}") from None


def is_run(folder: str | Path) -> bool:
    """Whether this is the folder of a finished run."""
    return (Path(folder) / RECORD).is_file()
