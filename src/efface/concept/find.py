"""Where concept packs are: the built-in ones by name, any other by its folder, several in one word."""

import os
from importlib.resources import files
from pathlib import Path

from efface.errors import ConceptError


def builtin_packs() -> dict[str, Path]:
    """Name and folder of every pack that ships with efface."""
    return {path.parent.name: path.parent for path in sorted(packs_folder().glob("*/concept.yaml"))}


def find_pack(name: str) -> Path:
    """Folder of a pack, by its name or its path."""
    packs = builtin_packs()
    if name in packs:
        return packs[name]
    folder = Path(name)
    if os.path.isfile(folder / "concept.yaml"):  # unlike pathlib it takes any name
        return folder
    if os.path.isdir(folder):
        raise ConceptError(f"{folder} holds no concept.yaml, so it is no concept pack")
    raise ConceptError(f"no concept pack {name!r}; built in: {', '.join(packs)}; or name a folder with a concept.yaml")


def find_packs(names: str) -> list[tuple[Path, int, str | None]]:
    """Folder, weight and revision of each of ``"wmdp-bio:2 wmdp-cyber@1f2e3d"``. Raises ConceptError."""
    if names in builtin_packs() or os.path.isdir(names):  # a folder's name may hold spaces and colons
        return [(find_pack(names), 1, None)]
    found = []
    for word in names.split() or [names]:
        name, colon, weight = word.rpartition(":")
        if not colon:
            name, weight = word, "1"
        if not weight.isdecimal() or int(weight) < 1:
            raise ConceptError(f"concept {word!r}: expected NAME or NAME:WEIGHT with a whole number from 1 on")
        name, _, revision = (name, "", "") if os.path.isdir(name) else name.partition("@")
        found.append((find_pack(name), int(weight), revision or None))
    if len({folder for folder, *_ in found}) < len(found):
        raise ConceptError(f"concept {names!r} names a pack twice")
    return found


def concept_names(concept: str) -> str:
    """One or more packs as part of a file name."""
    return "+".join(Path(name).name.replace(":", "-") for name in concept.split())


def packs_folder() -> Path:
    """Where the built-in packs are."""
    return Path(str(files("efface") / "packs"))
