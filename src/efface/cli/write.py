"""``efface concept write MODEL NAME`` and ``efface concept new NAME``: a pack that is not there yet."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from efface.author.name import Name, is_name, pack_of, parse_name
from efface.author.skeleton import write_skeleton
from efface.cli.parse import parse
from efface.concept.find import find_packs
from efface.errors import ConceptError
from efface.recipe.recipe import Recipe
from efface.shown import complain, say

#: where packs go that nobody gave a place
PACKS = Path("packs")
#: a name, and how often its texts come up beside those of others
WEIGHT = re.compile(r"(.*?)(:\d+)?", re.DOTALL)


@dataclass(frozen=True)
class Arguments:
    """Let a model write a pack about a name: texts, neighbours, questions, from what it says itself."""

    model: tyro.conf.Positional[str]
    """The model that is to forget: hub id, folder, GGUF file or alias."""
    name: tyro.conf.Positional[str]
    """The name, as 'The Beatles', or with what it is: 'Queen: the rock band'."""
    to: Path | None = None
    """Folder to write (default: packs/NAME)."""
    writer: str | None = None
    """Who writes in the model's place: another model, or the URL of an OpenAI-compatible server (its key: $EFFACE_JUDGE_KEY)."""
    writer_model: str = "default"
    """Name of the model at that server."""
    articles: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE …")] = ()
    """Real texts about it (text, Markdown, HTML, PDF, JSONL, CSV, Parquet, or a folder of them), in the place of written ones."""
    size: Literal["small", "full"] = "small"
    """How much is written."""
    seed: int = 0
    """Of what is sampled."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""
    force: bool = False
    """Go on where the model does not seem to know the name."""


@dataclass(frozen=True)
class Skeleton:
    """Write a commented pack to fill in by hand."""

    name: tyro.conf.Positional[str]
    """The name of the concept."""
    to: Path | None = None
    """Folder to write (default: packs/NAME)."""


def write(args: Sequence[str]) -> None:
    """Parse, write, say what is there."""
    given: Arguments = parse(Arguments, args, "concept write")
    name = parse_name(given.name)
    folder = given.to or PACKS / name.slug
    note_pack(name)

    from efface.author.articles import read_articles
    from efface.author.write import Order, require_new, write_pack
    from efface.lm.load import load

    require_new(folder)
    articles = tuple(read_articles(given.articles)) if given.articles else ()
    order = Order(name, given.size, given.seed, given.force, articles)
    options: dict[str, Any] = {"dtype": given.dtype, "trust_remote_code": given.trust_remote_code}
    loaded = load(given.model, **options)
    writer, store = _writer(given, loaded, options)
    write_pack(loaded, store, writer, order, folder)
    say(f"{folder}: read it, mend it (efface concept check {folder}), then: efface erase {given.model} {folder}")


def _writer(given: Arguments, loaded: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    from efface.author.writer import Local, Remote
    from efface.lm.endpoint import Endpoint
    from efface.lm.load import load, weights_hash
    from efface.runs.inputs import target_store

    store = target_store(loaded, weights_hash(loaded.model))
    if given.writer is None:
        return Local(loaded, store), store
    if given.writer.startswith(("http://", "https://")):
        server = Endpoint(given.writer, given.writer_model, "--writer: the model")
        server.ask("Say 1.", patient=False, max_tokens=8)
        return Remote(server, store), store
    other = load(given.writer, **options)
    return Local(other, target_store(other, weights_hash(other.model))), store


def new(args: Sequence[str]) -> None:
    """Parse, write the skeleton."""
    given: Skeleton = parse(Skeleton, args, "concept new")
    name = parse_name(given.name)
    folder = given.to or PACKS / name.slug
    write_skeleton(name, folder)
    say(f"{folder}: fill it in, then: efface concept check {folder}")


def as_packs(concepts: Sequence[str]) -> tuple[str, dict[Path, Name]]:
    """Packs as they are named, and with them the folders of those that names stand for. Raises ConceptError."""
    joined = " ".join(concepts)
    try:
        find_packs(joined)
    except ConceptError as error:
        words, names = list[str](), dict[Path, Name]()
        for concept in concepts:
            try:
                find_packs(concept)
            except ConceptError:
                if concept.strip() and not is_name(concept):
                    hint = f"; or to write a pack from a name: efface concept write MODEL {concept!r}"
                    raise ConceptError(f"{error}{hint}") from None
                named, weight = WEIGHT.fullmatch(concept).groups("")  # type: ignore[union-attr]
                if weight and int(weight[1:]) < 1:
                    raise ConceptError(
                        f"concept {concept!r}: expected NAME or NAME:WEIGHT with a whole number from 1 on"
                    ) from None
                name = parse_name(named)
                folder = PACKS / name.slug
                if folder in names:
                    raise ConceptError(f"{names[folder].name!r} and {name.name!r} are one name; expected each once") from None
                names[folder] = name
                concept = f"{folder}{weight}"
            words.append(concept)
        return " ".join(words), names
    return joined, {}


def write_missing(recipe: Recipe, names: Mapping[Path, Name]) -> None:
    """Let the model write the packs that names stand for, where they are not there yet."""
    if not names:
        return
    from efface.author.write import Order, write_pack, written_for
    from efface.author.writer import Local
    from efface.lm.load import weights_hash
    from efface.processes import require_one_process
    from efface.runs.inputs import load_model, target_store

    loaded = None
    for folder, name in names.items():
        if written_for(folder, name, recipe.model):
            continue
        require_one_process("a pack from a name")
        note_pack(name)
        loaded = loaded or load_model(recipe)
        store = target_store(loaded, weights_hash(loaded.model))
        complain(f"no pack on {name.name} is there; the model writes one into {folder}")
        write_pack(loaded, store, Local(loaded, store), Order(name), folder)


def note_pack(name: Name) -> None:
    """Say which built-in pack is on the same thing."""
    if pack := pack_of(name):
        complain(f"there is a built-in pack on {name.name}, written by people: {pack}")
