"""``efface cache list|clear``: what the store of targets holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from efface.cli.parse import Nothing, parse
from efface.shown import say


@dataclass(frozen=True)
class ClearArguments:
    """Remove stored targets, the least recently used first. Whatever is removed is computed again when it is needed."""

    keep_gb: float = 0.0
    """Leave so many gigabytes."""


def list_entries(args: Sequence[str]) -> None:
    """Print what the store of targets holds: entries and bytes by model and kind."""
    parse(Nothing, args, "cache list", description=list_entries.__doc__)

    from efface.data.store import catalogue, folder, limit

    entries, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for entry in catalogue():
        entries[entry.model, entry.kind] += 1
        sizes[entry.model, entry.kind] += entry.bytes
    for model, kind in sorted(entries):
        say(f"{model}  {kind:8} {entries[model, kind]:6} entries {sizes[model, kind] / 1e6:10.1f} MB")
    say(f"{folder()}: {sizes.total() / 1e9:.2f} GB of at most {limit() / 1e9:g} GB")


def clear(args: Sequence[str]) -> None:
    """Remove entries; print how much went."""
    given = parse(ClearArguments, args, "cache clear")

    from efface.data.store import as_bytes, shrink

    say(f"{shrink(as_bytes(given.keep_gb, '--keep-gb')) / 1e6:.1f} MB removed")
