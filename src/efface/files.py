"""Files of one's own: whole or not there, each with a checksum of its content, read with one line for what is wrong.

A JSON file holds its checksum itself, as its first key. A folder whose files are written by others has ``checksums.json``, which
is written last: without it the folder is not whole.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from efface.errors import RunError, one_line

SUM, SUMS = "sha256", "checksums.json"
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
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


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
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
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
        if path.exists():
            drop(path, str(error))
        return None


def drop(path: Path, why: str) -> None:
    """Remove a file that can be made again, and say so."""
    print(f"{why}; it is made again", file=sys.stderr)
    with suppress(OSError):  # a cache may be another's
        path.unlink(missing_ok=True)


def seal(folder: Path) -> None:
    """Write the checksums of everything in a folder, which makes it whole."""
    write_text(folder / SUMS, json.dumps(checksums(folder, folder.rglob("*")), indent=2) + "\n")


def damaged(folder: Path) -> str | None:
    """The first file of a sealed folder that is missing or not what it was; the checksums themselves if they cannot be read."""
    try:
        sums = RootModel[dict[str, str]].model_validate_json((folder / SUMS).read_bytes()).root
    except (OSError, ValidationError):
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
    try:
        return sha256(file)
    except OSError:
        return None


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
