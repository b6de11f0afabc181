"""Where concept packs are: the built-in ones by name, any other by its folder, several in one word."""

import os
import re
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
    found = []
    for word in split_names(names) or [names]:
        name, weight, revision = _parts(word)
        if not weight.isdecimal() or int(weight) < 1:
            raise ConceptError(f"concept {word!r}: expected NAME or NAME:WEIGHT with a whole number from 1 on")
        found.append((find_pack(name), int(weight), revision or None))
    if len({folder for folder, *_ in found}) < len(found):
        raise ConceptError(f"concept {names!r} names a pack twice")
    return found


def split_names(names: str) -> list[str]:
    """The single packs in ``"wmdp-bio:2 my packs/zorn:1"``: where a folder's name holds spaces, the longest that is there."""
    words, found = re.split(r"(\s+)", names.strip()), []  # and the spaces between them
    while words:
        ends = range(len(words), 1, -2)
        end = next((end for end in ends if _is_folder("".join(words[:end]))), 1)
        found.append("".join(words[:end]))
        words = words[end + 1 :]
    return [name for name in found if name]


def _parts(word: str) -> tuple[str, str, str]:
    """Name, weight and revision of NAME:WEIGHT or NAME@REVISION:WEIGHT; a folder's name may hold colons."""
    if os.path.isdir(word):
        return word, "1", ""
    name, colon, weight = word.rpartition(":")
    if not colon:
        name, weight = word, "1"
    name, _, revision = (name, "", "") if os.path.isdir(name) else name.partition("@")
    return name, weight, revision


def _is_folder(word: str) -> bool:
    name, weight, revision = _parts(word)
    return os.path.isdir(name) and not re.search(r"\s", weight + revision)


def concept_names(concept: str) -> str:
    """One or more packs as part of a file name."""
    return "+".join(Path(name).name.replace(":", "-") for name in split_names(concept))


def language(concept: str) -> str | None:
    """Code of the language in which packs are written; None unless all of them ship with efface: a pack does not say."""
    try:
        found = [folder for folder, *_ in find_packs(concept)]
    except ConceptError:
        return None
    return "en" if set(found) <= set(builtin_packs().values()) else None


def packs_folder() -> Path:
    """Where the built-in packs are."""
    return Path(str(files("efface") / "packs"))
