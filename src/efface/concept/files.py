"""The one way to read a file that a pack names: a regular one, of a size that fits, in an encoding that it tells itself."""

import io
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from efface.concept.find import packs_folder
from efface.errors import ConceptError

MOST_BYTES, MOST_OF_MANIFEST = 2**31, 2**24
HEAD = 4096
#: a byte that is not UTF-8, as Python keeps it
ESCAPED = re.compile("[\udc80-\udcff]")


def within(folder: Path, name: str) -> Path:
    """A file of a pack, which lies in its folder; ``builtin:general/retain.jsonl`` is one that ships with efface.

    Raises ConceptError for one that lies elsewhere, a link that leads elsewhere among them.
    """
    shipped = name.removeprefix("builtin:")
    root = folder if shipped == name else packs_folder()
    path, inner = root / shipped, os.path.normpath(shipped)
    try:
        outside = os.path.isabs(inner) or inner.split(os.sep)[0] == os.pardir
        if not root.is_relative_to(packs_folder()):  # what ships with efface may be linked into place
            outside = outside or not any(path.resolve().is_relative_to(of) for of in _homes(root.resolve()))
    except (OSError, RuntimeError, ValueError):  # links in a circle, a byte that no name holds
        outside = False  # what is wrong with it is said when it is opened
    if outside:
        raise ConceptError(f"{path}: outside the pack; expected a file in {root}, or {{file: …}} for one that lies elsewhere")
    return path


def _homes(root: Path) -> list[Path]:
    """Where a pack's files may lie: its folder, or what the links of a snapshot in the hub's cache lead to."""
    return [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]


def open_file(path: Path, most: int = MOST_BYTES) -> BinaryIO:
    """A regular file of at most so many bytes, open. Raises ConceptError in one line for anything else; never waits."""
    try:
        _require_regular(path, os.stat(path), most)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            _require_regular(path, os.fstat(descriptor), most)
        except ConceptError:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, ConceptError):
            raise
        raise ConceptError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _require_regular(path: Path, about: os.stat_result, most: int) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise ConceptError(f"{path}: a folder; expected a file")
    if not stat.S_ISREG(about.st_mode):
        raise ConceptError(f"{path}: a device or pipe; expected a regular file")
    if about.st_size > most:
        raise ConceptError(f"{path}: {about.st_size:,} bytes; expected at most {most:,}")


def head(path: Path) -> bytes:
    """How a file begins."""
    with open_file(path) as file:
        return file.read(HEAD)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The whole text of a file. Raises ConceptError."""
    return "".join(line for _, line in read_lines(path, most))


def read_lines(path: Path, most: int = MOST_BYTES) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises ConceptError where it is none of these.
    """
    encoding = json.detect_encoding(head(path))
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    with open_file(path, most) as file, io.TextIOWrapper(io.BufferedReader(_Limited(file, path, most)), encoding, errors) as text:
        for number, line in enumerate(text, start=1):
            if not line.isascii() and ESCAPED.search(line):
                raise ConceptError(f"{path}:{number}: not UTF-8, UTF-16 or UTF-32; expected one of them")
            yield number, line


class _Limited(io.RawIOBase):
    """So many bytes of a file: some tell no size and have no end."""

    def __init__(self, file: BinaryIO, path: Path, most: int) -> None:
        self.file, self.path, self.left = file, path, most

    def readable(self) -> bool:
        """Nothing else can be done with it."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises ConceptError for one byte too many."""
        try:
            read = self.file.read(len(buffer)) or b""
        except OSError as error:
            raise ConceptError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        self.left -= len(read)
        if self.left < 0:
            raise ConceptError(f"{self.path}: larger than expected; a file of a pack has an end")
        buffer[: len(read)] = read
        return len(read)
