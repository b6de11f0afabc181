"""The store of targets: what the frozen teacher says about a text is computed once and kept on disk.

An entry is one safetensors file whose name is the hash of everything that decides its content. It is written under another
name and renamed, so a reader sees a whole entry or none; two processes that build the same one put the same content there. A
damaged entry, or one that stands under another's name, is found by its checksum, removed and built again. The least recently
used entries go when the store outgrows its limit.
"""

import hashlib
import json
import math
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from efface.cpu.memory import give_back
from efface.errors import InputError, WriteError
from efface.files import writing
from efface.lm.bundled import cache_dir
from efface.processes import wait
from efface.progress import Bar
from efface.shown import complain

FORMAT = 2  # raise it when the meaning of an entry changes
SUFFIX, PART = ".safetensors", ".part"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """One file of the store."""

    path: Path
    kind: str
    model: str
    bytes: int
    used: float


@dataclass(frozen=True)
class Store:
    """Entries about one model. ``context`` is what identifies it: weights, configuration, precision, device.

    share: (rank, number of processes) of a job of several processes; each builds its own part of the entries, waits for
    the others and reads theirs.
    """

    context: Mapping[str, str]
    share: tuple[int, int] = (0, 1)
    asked: set[str] = field(default_factory=set, compare=False)

    def entries(self, kind: str, parts: Sequence[Any], build: Callable[[int], Tensors]) -> list[Tensors]:
        """The entry of each of ``parts`` (anything that JSON can hold), in order; ``build(i)`` makes a missing one."""
        names = [self._name(kind, part) for part in parts]
        self.asked.update(names)
        rank, processes = self.share
        found: dict[int, Tensors] = {}
        with Bar(f"{kind} targets" if kind != "fluency" else "fluency texts", len(parts)) as bar:
            for mine in (True, False):
                for i in (i for i in range(len(parts)) if (i % processes == rank) == mine):
                    path = folder() / names[i]
                    tensors = read(path)
                    if tensors is None:
                        built = build(i)
                        write(path, built, {"kind": kind, **self.context})
                        tensors = read(path) or built  # what is on disk is what every process uses
                    found[i] = tensors
                    bar.step()
                wait()  # the others' entries are there now
        give_back()
        return [found[i] for i in sorted(found)]

    def lacks(self, kind: str, parts: Sequence[Any]) -> bool:
        """Whether any of these entries would have to be built; every process of a job gets the same answer."""
        missing = any(read(folder() / self._name(kind, part)) is None for part in parts)
        wait()  # all have looked before one of them writes
        return missing

    def lost(self) -> int:
        """How many of the entries that were asked for are not there now."""
        return sum(not (folder() / name).is_file() for name in self.asked)

    def _name(self, kind: str, part: Any) -> str:
        key = json.dumps([FORMAT, kind, dict(self.context), part], sort_keys=True)
        return f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"


def folder() -> Path:
    """Where the entries are: ``targets`` in efface's cache folder."""
    return cache_dir() / "targets"


def limit() -> int:
    """Most bytes the store may take: ``$EFFACE_STORE_GB`` gigabytes, 20 if it is not set. Raises InputError for no number."""
    return as_bytes(os.environ.get("EFFACE_STORE_GB", "20"), "EFFACE_STORE_GB")


def require_writable() -> None:
    """Raises InputError if no entry can be written: for work that is nothing but entries."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder()):
            pass
    except OSError as error:
        raise InputError(f"the store {folder()} cannot be written ({error.strerror}); try another EFFACE_CACHE") from None


def as_bytes(gigabytes: str | float, name: str) -> int:
    """Gigabytes that a user gave, in bytes. Raises InputError."""
    try:
        value = float(gigabytes) * 1e9
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{name}: expected a number of gigabytes, 0 or more, got {gigabytes!r}")
    return int(value)


def read(path: Path) -> Tensors | None:
    """The tensors of an entry, memory-mapped; None if it is not there, and a damaged one is removed."""
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError):
        tensors, expected = {}, None
    if tensors and checksum(tensors, path.stem) == expected:
        with suppress(OSError):
            os.utime(path)
        return tensors
    complain(f"{path.name} is damaged or another's; it is built again")
    with suppress(OSError):
        path.unlink()
    return None


def write(path: Path, tensors: Tensors, about: Mapping[str, str]) -> None:
    """Write an entry. A store that cannot be written costs time, not the run."""
    most = limit()
    try:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{PART}")  # of no other process, on no other machine
            try:
                save_file(tensors, part, {**about, "sha256": checksum(tensors, path.stem)})
                _publish(part, path)
            finally:
                part.unlink(missing_ok=True)
            shrink(most, keep=path)
    except WriteError as error:
        complain(f"cannot keep {path.name}: {error}")


def _publish(part: Path, path: Path) -> None:
    """Give a whole file its name; if another process was faster, its entry stays."""
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(part, path)


def checksum(tensors: Tensors, name: str) -> str:
    """SHA-256 over an entry's name, and names, shapes and contents of its tensors."""
    digest = hashlib.sha256(name.encode())
    for tensor_name, tensor in sorted(tensors.items()):
        digest.update(f"{tensor_name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def catalogue() -> list[Entry]:
    """All entries, the least recently used first."""
    entries = []
    for path in folder().glob("*" + SUFFIX):
        with suppress(OSError):
            about: dict[str, str] = {}
            with suppress(SafetensorError), safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
            stat = path.stat()
            entries.append(Entry(path, about.get("kind", "damaged"), about.get("model", "?"), stat.st_size, stat.st_mtime))
    return sorted(entries, key=lambda entry: entry.used)


def shrink(most: int, keep: Path | None = None) -> int:
    """Remove the least recently used entries until ``most`` bytes are left; returns the number of bytes removed.

    What a killed process left half-written goes too, an hour after.
    """
    for path in folder().glob(f".*{PART}"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - 3600:
                path.unlink()
    files = []
    for path in folder().glob("*" + SUFFIX):
        with suppress(OSError):
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total, removed = sum(size for _, size, _ in files), 0
    for _, size, path in sorted(files):
        if total - removed <= most:
            break
        if path != keep:
            path.unlink(missing_ok=True)
            removed += size
    return removed
