"""A run becomes a folder that other programs load; what is in it is measured before it gets its name.

While it is made the folder is called ``NAME.exporting``. One that was left behind by a killed export is dropped, and made again.
"""

import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel

from efface.auditing.scores import Audit
from efface.concept.pack import Concept
from efface.errors import InputError, RunError
from efface.files import behind_links, checksums, make_folder, write_json, writing
from efface.lm.adapters import ADAPTER, name_base
from efface.processes import require_one_process
from efface.recipe.record import RunRecord
from efface.release.check import measured
from efface.release.gguf import KINDS, require_writable, write_gguf, write_lora
from efface.release.merged import write_merged
from efface.release.parts import Parts
from efface.release.readback import require_same, require_same_lora
from efface.release.weights import Base, Merged, Update, base_files
from efface.report.card import PLACEHOLDER, Shipped, base_name, hub_id, license_in, placeless, portable
from efface.report.page import write_report
from efface.runs.folder import alone, is_run, swap
from efface.runs.run import Run

Format = Literal["merged", "adapter", "gguf", "gguf-lora"]
Precision = Literal["bf16", "fp16", "fp32"]
Quantisation = Literal["q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
TORCH = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
RECORD, MODEL, LORA = "export.json", "model.gguf", "adapter.gguf"
SPARE = 2**24  # bytes for tokenizer, card and figures


class Export(BaseModel, frozen=True, extra="forbid"):
    """What an export is and where it came from; of the run's record no path of the machine it was made on.

    base: id on the hub, or the last part of a path. files: SHA-256 of every file. measured: whether what ships was measured.
    parts: of several erasures, recipe and hashes of each in order; then recipe and hashes are those of the last.
    """

    format: Format
    dtype: Precision | None
    quantise: Quantisation | None
    base: str
    hashes: dict[str, str]
    versions: dict[str, str]
    measured: bool
    recipe: dict[str, Any]
    parts: tuple[dict[str, Any], ...] = ()
    files: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """What an export is to be. Raises InputError for what does not go together."""

    format: Format = "merged"
    dtype: Precision | None = None
    quantise: Quantisation | None = None

    def __post_init__(self) -> None:
        for name, of in (("format", Format), ("dtype", Precision), ("quantise", Quantisation)):
            said = getattr(self, name)
            if said not in get_args(of) and not (said is None and name != "format"):
                raise InputError(f"export: {name}: expected one of {', '.join(get_args(of))}, got {said!r}")
        if self.quantise and self.format != "gguf":
            raise InputError(f"export: --quantise goes with --format gguf, not with {self.format}")
        if self.dtype and (self.quantise or self.format not in ("merged", "gguf")):
            other = "--quantise; say one of them" if self.quantise else f"--format {self.format}, which stays as it was trained"
            raise InputError(f"export: --dtype does nothing with {other}")

    @property
    def precision(self) -> Precision:
        """Of the weights."""
        return self.dtype or "bf16"

    @property
    def kind(self) -> str:
        """Of most tensors, as GGUF names it."""
        return self.quantise.upper() if self.quantise else KINDS[self.precision]


def export(
    run: str | Path | Sequence[str | Path],
    to: str | Path,
    *,
    format: Format = "merged",  # noqa: A002
    dtype: Precision | None = None,
    quantise: Quantisation | None = None,
    check: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write a finished run as weights that other programs load: whole (``merged``, ``gguf``) or beside the base.

    run: several are joined, if they were made apart from the same base; what a run stands on is part of it.
    check: measure what ships with the run's questions, bfloat16, 8 and 4 bits included, into ``audit.json``. Returns the folder.
    Raises an EffaceError in one line; then nothing is left of it.
    """
    require_one_process("export")
    wanted = Wanted(format, dtype, quantise)
    runs = [Path(of) for of in ([run] if isinstance(run, str | Path) else run)]
    for of in runs:
        if not is_run(of):
            raise RunError(f"{of} is no finished run folder; expected one with a run.json")
    folder = _place(Path(to), overwrite)
    partial = folder.with_name(f"{folder.name}.exporting")
    job = _Job(Parts.of(runs), wanted, partial)
    job.look_ahead(check)
    make_folder(folder.parent)
    with alone(partial), _begun(partial), base_files(job.record.recipe, folder.parent) as base:
        job.parts.require_base(base)
        job.write(base)
        job.describe(base, measured(job.run, job.record.recipe, job.concept, partial, job.rounded) if check else None)
        with writing(folder):
            swap(partial, folder)
    return folder


def _place(to: Path, overwrite: bool) -> Path:
    """The folder to write. Only an export is ever replaced, and only when asked. Raises RunError."""
    folder = behind_links(to)
    if folder.name in ("", ".."):
        raise RunError(f"--to {to}: expected the name of a new folder")
    if (folder / RECORD).is_file():
        if not overwrite:
            raise RunError(f"{to} already holds an export; name another folder with --to, or replace it with --overwrite")
    elif folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"{to} is there and is no export; name another folder with --to")
    return folder


@contextmanager
def _begun(partial: Path) -> Iterator[None]:
    """An empty folder, which is gone again unless it got its name."""
    try:
        with writing(partial):
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir()
        yield
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class _Job:
    """Runs on their way into a folder."""

    parts: Parts
    wanted: Wanted
    partial: Path

    @property
    def run(self) -> Run:
        """The last of them, as which the whole is measured."""
        return self.parts.all[-1]

    @cached_property
    def record(self) -> RunRecord:
        return self.parts.record

    @cached_property
    def concept(self) -> Concept:
        return Concept.load(self.record.recipe.concept, self.record.recipe.data.min_chars)

    @cached_property
    def hub(self) -> str | None:
        """The base's id on the hub."""
        return hub_id(self.parts.all[0].folder / "adapter")

    @property
    def whole(self) -> bool:
        """Whether the weights are written with the adapter in them."""
        return self.wanted.format in ("merged", "gguf")

    @property
    def rounded(self) -> bool:
        """Whether what ships is rounded as far as it gets: then its figures are those of that rounding."""
        return self.wanted.quantise is not None

    @cached_property
    def changes(self) -> dict[str, Update]:
        return self.parts.changes

    def look_ahead(self, check: bool) -> None:
        """What can be wrong before anything is written."""
        if len(self.parts.all) > 1 and not self.whole:
            raise InputError(
                f"export: --format {self.wanted.format} is one adapter on its base; several erasures go into merged, gguf"
            )
        self.parts.require_whole()
        if check or self.wanted.format == "gguf":
            _ = self.concept

    def write(self, base: Base) -> None:
        """The weights, and what their readers need beside them."""
        if self.wanted.format.startswith("gguf"):
            require_writable(base)
        if self.whole:
            self._write_whole(Merged(base, self.changes))
        elif self.wanted.format == "gguf-lora":
            write_lora(base, self.changes, self.partial / LORA)
            require_same_lora(base, self.changes, self.partial / LORA)
        else:
            with writing(self.partial):
                for name in (ADAPTER, "adapter_config.json"):
                    shutil.copyfile(self.run.folder / "adapter" / name, self.partial / name)
                name_base(self.partial, self.hub or PLACEHOLDER)

    def _write_whole(self, merged: Merged) -> None:
        dtype = TORCH[self.wanted.precision]
        self._require_disk(sum(merged.bytes(name, dtype) for name in merged.names) + SPARE)
        if self.wanted.format == "merged":
            write_merged(merged, self.partial, dtype)
            return
        write_gguf(merged, self.partial / MODEL, self.wanted.kind)
        require_same(merged, self.record.recipe, self.concept, self.partial / MODEL, self.wanted.kind)

    def _require_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.partial).free
        if free < needed:
            raise RunError(f"the disk of {self.partial.parent} has {free / 1e9:.1f} GB free; expected {needed / 1e9:.1f} GB")

    def describe(self, base: Base, audit: Audit | None) -> None:
        """Figures, page, card, and the record of the export."""
        base_is, record = base_name(self.record, self.hub), placeless(self.record, self.hub)
        figures = audit or self.run.audit
        figures = figures.model_copy(update={"models": {**figures.models, "base": base_is}})
        if audit is not None:
            write_json(self.partial / "audit.json", figures)
        shipped = Shipped(
            format=self.wanted.format,
            precision=self.wanted.quantise or (self.wanted.precision if self.whole else None),
            measured=audit is not None,
            hub=self.hub,
            license=license_in(base.card),
            recipes=self.parts.recipes,
            apart=self.parts.apart,
        )
        write_report(self.partial, figures, record, shipped)
        write_json(
            self.partial / RECORD,
            Export(
                format=self.wanted.format,
                dtype=None if self.wanted.quantise or not self.whole else self.wanted.precision,
                quantise=self.wanted.quantise,
                base=base_is,
                hashes=self.record.hashes,
                versions={
                    "python": platform.python_version(),
                    **{name: version(name) for name in ("efface", "torch", "transformers", "gguf")},
                },
                measured=audit is not None,
                recipe=portable(self.record, self.hub),
                parts=self.parts.told,
                files=checksums(self.partial, self.partial.rglob("*")),
            ),
        )
