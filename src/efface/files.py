"""Files of one's own: whole or not there, each with a checksum of its content; what cannot be written or read is one line.

A JSON file holds its checksum itself, as its first key. A folder whose files are written by others has ``checksums.json``, which
is written last: without it the folder is not whole.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from safetensors import SafetensorError

from efface.errors import RunError, WriteError, one_line
from efface.shown import complain

SUM, SUMS = "sha256", "checksums.json"
FREE = "free some space"
#: what it is, and what helps
HELPS = {
    errno.ENOSPC: ("the disk of {} is full", FREE),
    errno.EDQUOT: ("the quota on the disk of {} is used up", FREE),
    errno.EFBIG: ("a file in {} would be larger than the system allows", "raise the limit (ulimit -f)"),
    errno.ESTALE: ("the disk of {} is away (a stale handle)", "mount it again"),
}
#: of a disk that does not answer
AWAY = (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT)
_Read = TypeVar("_Read", bound=BaseModel)


def write_json(path: Path, value: Any) -> None:
    """Write a result or a plain JSON object, atomically, with the checksum of its content."""
    of_model = isinstance(value, BaseModel)
    content = json.loads(value.model_dump_json() if of_model else json.dumps(value))
    content.pop(SUM, None)
    write_text(path, json.dumps({SUM: _checksum(content), **content}, indent=2, ensure_ascii=not of_model) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    with writing(path):
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Around everything that writes: what fails is one line that says where, why and what helps. Raises WriteError."""
    try:
        yield
    except BrokenPipeError:  # of what is printed meanwhile
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # as Python, safetensors and torch put it
        if "out of memory" in str(error).lower():
            raise
        raise WriteError(why(place, error)) from None


def why(place: Path, error: Exception) -> str:
    """One line for what failed while something was written there."""
    number = error.errno if isinstance(error, OSError) else _number(place, error)
    if number in HELPS:
        what, helps = HELPS[number]
        return f"{what.format(place)}; {helps} and give the same command again to go on"
    return f"cannot write {place}: {os.strerror(number) if number else next(iter(str(error).splitlines()), type(error).__name__)}"


def _number(place: Path, error: Exception) -> int | None:
    """The number of an error of a library that is written in another language: said in its text, else what is the case here."""
    if said := re.search(r"os error (\d+)", str(error)):
        return int(said[1])
    there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    with suppress(OSError):
        if shutil.disk_usage(there).free < 2**20:
            return errno.ENOSPC
    with suppress(ImportError):
        import resource

        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            return errno.EFBIG
    return None


def make_folder(named: Path) -> Path:
    """Make a folder, with those above it, where it is not there; returns the folder itself where a link is named."""
    folder = behind_links(named)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def require_writable(named: Path) -> None:
    """Raises WriteError where no folder of this name can be made or written into, before any work."""
    folder = behind_links(named)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise WriteError(f"cannot write {named}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise WriteError(f"cannot write {named}: {there} is read-only for this user")


def behind_links(named: Path) -> Path:
    """The folder itself where a link is named, be it there or not. Raises RunError for a link that leads nowhere."""
    if not named.is_symlink():
        return named
    folder = Path(os.path.realpath(named))
    if folder.is_symlink() or not folder.parent.is_dir():
        raise RunError(f"{named} is a link to {os.readlink(named)}, and {folder.parent} is not there; is its disk mounted?")
    return folder


def read_json(path: Path, model: type[_Read]) -> _Read:
    """Read a result. Raises RunError when the file is missing, damaged or of another shape."""
    content = read_object(path)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise RunError(f"{path}: {one_line(error)}") from None


def read_object(path: Path) -> dict[str, Any]:
    """What a file of :func:`write_json` holds. One without a checksum is believed: it is of an earlier version, or made by hand.

    Raises RunError when it is missing or damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path} is not there; expected a finished run folder") from None
    except OSError as error:
        away = error.errno in AWAY
        raise RunError(f"{path} cannot be read: {error.strerror}{'; is its disk mounted?' if away else ''}") from (
            error if away else None
        )
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: Invalid JSON ({error})") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(content).__name__}")
    if (expected := content.pop(SUM, None)) is not None and expected != _checksum(content):
        raise RunError(f"{path} is damaged: it was written with another content (if you changed it, remove its line {SUM!r})")
    return content


def read_or_drop(path: Path, model: type[_Read]) -> _Read | None:
    """The same of a file that can be made again: None where it is missing, and a damaged one is removed, which is said."""
    try:
        return read_json(path, model)
    except RunError as error:
        if isinstance(error.__cause__, OSError):
            raise  # it may be whole
        if path.exists():
            drop(path, str(error))
        return None


def drop(path: Path, why: str) -> None:
    """Remove a file that can be made again, and say so."""
    complain(f"{why}; it is made again")
    with suppress(OSError):  # a cache may be another's
        path.unlink(missing_ok=True)


def seal(folder: Path) -> None:
    """Write the checksums of everything in a folder, which makes it whole."""
    write_text(folder / SUMS, json.dumps(checksums(folder, folder.rglob("*")), indent=2) + "\n")


def damaged(folder: Path) -> str | None:
    """The first file of a sealed folder that is missing or not what it was; the checksums themselves if they cannot be read."""
    try:
        sums = RootModel[dict[str, str]].model_validate_json((folder / SUMS).read_bytes()).root
    except OSError as error:
        if error.errno in AWAY:
            raise RunError(f"{folder / SUMS} cannot be read: {error.strerror}; is its disk mounted?") from None
        return SUMS
    except ValidationError:
        return SUMS
    return changed(folder, sums) if sums else SUMS


def checksums(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files below a folder, by their path in it."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(files) if path.is_file() and path.name != SUMS}


def changed(folder: Path, sums: Mapping[str, str]) -> str | None:
    """The first file that is missing or has another checksum."""
    return next((name for name, expected in sums.items() if _sha256_or_none(folder / name) != expected), None)


def sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_or_none(file: Path) -> str | None:
    """None where it is not there or no file. Raises RunError where the disk does not answer: nothing is known of it then."""
    try:
        return sha256(file)
    except OSError as error:
        if error.errno in AWAY:
            raise RunError(f"{file} cannot be read: {error.strerror}; is its disk mounted?") from None
        return None


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
