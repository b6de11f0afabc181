"""``efface export RUN [RUN …] --to DIR``: a run as weights that other programs load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from efface.cli.parse import parse
from efface.files import read_json
from efface.shown import complain, say


@dataclass(frozen=True)
class Arguments:
    """Write a finished run as weights that other programs load, and measure what ships."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN …]")]]
    """A run folder; or several that were made apart from one base, to be joined."""
    to: Path
    """Folder to write."""
    format: Literal["merged", "adapter", "gguf", "gguf-lora"] = "merged"
    """merged: whole weights for transformers and vLLM; adapter: beside the base; gguf, gguf-lora: the same for llama.cpp."""
    dtype: Literal["bf16", "fp16", "fp32"] | None = None
    """Precision of whole weights (default: bf16)."""
    quantise: Literal["q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] | None = None
    """With gguf: few bits instead."""
    check: bool = True
    """Measure what ships with the run's questions, bfloat16, 8 and 4 bits included."""
    overwrite: bool = False
    """Replace the export in that folder."""


def export(args: Sequence[str]) -> None:
    """Parse, write, print the table."""
    given: Arguments = parse(Arguments, args, "export")
    from efface.auditing.scores import Audit
    from efface.release.export import export as write
    from efface.report.card import PLACEHOLDER, hub_id
    from efface.report.terminal import print_audit

    how = {"format": given.format, "dtype": given.dtype, "quantise": given.quantise}
    folder = write(given.runs, given.to, **how, check=given.check, overwrite=given.overwrite)  # type: ignore[arg-type]
    if given.check:
        measured = read_json(folder / "audit.json", Audit)
        print_audit(measured, f"{measured.title} erased: {folder}")
    if given.format == "adapter" and hub_id(given.runs[0] / "adapter") is None:
        complain(
            f"the base is not on the hub; {folder / 'adapter_config.json'} names it {PLACEHOLDER}: put its id there, or its place"
        )
    say(folder)
