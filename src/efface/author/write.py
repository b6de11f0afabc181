"""``efface concept write``: from a name to a pack of plain files, which a person can read and mend."""

import json
import random
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from efface.author.known import Known, knows
from efface.author.name import Name
from efface.author.near import find_near, write_about
from efface.author.opens import ask_open
from efface.author.passages import Dropped, filtered, likely, split, write_passages
from efface.author.questions import ask, gaps, ordinary
from efface.author.steps import Steps
from efface.author.words import Words, find_words, often_named, single
from efface.author.writer import Writer
from efface.concept.pack import Concept, Manifest, Passage, Question, general_passages
from efface.concept.written import HOW
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.strangers import Exchange
from efface.errors import ConceptError, RunError
from efface.files import make_folder, read_object, require_writable, write_json, write_text, writing
from efface.lm.load import Loaded
from efface.recipe.settings import DataSettings
from efface.shown import complain
from efface.writing import folded

#: passages about the concept and about its neighbours, by size
SIZES = {"small": (96, 64), "full": (240, 160)}
#: what the page and the card show beside the concept's own: other things, which must stay
ALSO = ("What is photosynthesis?", "How do I bake bread?", "What is the capital of France?")
#: topics and names that open questions ask about
ASKED_ABOUT = 20
#: fewer passages teach and measure nothing
FEWEST = 24


@dataclass(frozen=True)
class Order:
    """What is to be written. force: also where the model does not know the name."""

    name: Name
    size: Literal["small", "full"] = "small"
    seed: int = 0
    force: bool = False
    #: real texts in the place of those that the writer would write
    articles: tuple[str, ...] = ()


def write_pack(loaded: Loaded, store: Store, writer: Writer, order: Order, folder: Path) -> Concept:
    """Write the pack into a new folder, which is there when all of it is. loaded: the model that is to forget.

    The same on every run of the same machine; killed, it goes on with what is in the store. Raises ConceptError where the model
    does not know the name, or too few of its texts are about it.
    """
    require_new(folder)
    steps = Steps(order.name.name)
    steps.begin("does the model know it")
    known = knows(loaded, writer, order.name, order.seed)
    require_known(known, order, loaded.source)
    dropped = {part: Dropped() for part in ("forget", "neighbours", "questions", "neighbour questions", "open questions")}
    steps.begin("what belongs to it and what is like it")
    words = find_words(writer, order.name, order.seed, known.of_invented)
    steps.begin("texts about it")
    forget = _about(loaded, store, writer, order, words, dropped["forget"])
    steps.begin("texts about its neighbours")
    near, names = find_near(loaded, order.name, words), [order.name.bare, *words.aliases, *words.topics]
    retain = write_about(writer, near, names, SIZES[order.size][1], order.seed, dropped["neighbours"])
    near = [neighbour for neighbour in near if any(passage.topic == neighbour for passage in retain)]
    manifest = _manifest(order.name, words, near)
    others = (*retain, *general_passages())
    concept = Concept(manifest=manifest, forget=tuple(forget), retain=others, questions=(), open_questions=())
    steps.begin("choice questions")
    asked = _questions(loaded, concept, retain, known, words.said, order.seed, dropped)
    steps.begin("open questions")
    about = list(dict.fromkeys([*manifest.topics, *often_named(forget)]))[:ASKED_ABOUT]
    opened = ask_open(writer, about, "forget", known, order.seed, dropped["open questions"])
    opened += ask_open(writer, near, "neighbour", known, order.seed, dropped["open questions"])
    how = {
        "name": order.name.name,
        "description": order.name.description,
        "writer": writer.name,
        "model": loaded.source,
        "size": order.size,
        "seed": order.seed,
        "known": {"nats": known.gain, "bar": known.bar, "invented": list(known.invented), "said": list(known.said)},
        "dropped": {part: dict(of.counts) for part, of in dropped.items()},
        "kept": {
            "forget": len(forget),
            "neighbours": len(retain),
            "questions": sum(question.kind == "forget" for question in asked),
            "neighbour questions": sum(question.kind == "neighbour" for question in asked),
            "open questions": len(opened),
        },
    }
    _save(folder, manifest, {"forget": forget, "retain": retain, "questions": asked, "open": opened}, how)
    return Concept.load(str(folder))


def require_new(folder: Path) -> None:
    """Raises ConceptError for a folder that is there already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConceptError(f"{folder} is there already; name another folder with --to, or use it: efface erase MODEL {folder}")
    require_writable(folder)


def require_known(known: Known, order: Order, model: str) -> None:
    """Raises ConceptError for a name that tells the model nothing, with what was asked and answered, and what to type."""
    if known.enough or order.force:
        return
    said = " / ".join(" ".join(text.split())[:80] for text in known.said[:2])
    write = f"efface concept write {shlex.quote(model)}"
    raise ConceptError(
        f"the model does not know {order.name.name!r}: its answers are {known.gain:.2f} nats a token likelier behind the name "
        f"than behind invented ones, expected more than {known.bar:.2f}. Asked what it is it says: {said}. "
        f"Say in a few words what it is: {write} {shlex.quote(f'{order.name.name}: …')}, "
        f"or have the pack written all the same: {write} {shlex.quote(order.name.name)} --force"
    )


def _about(loaded: Loaded, store: Store, writer: Writer, order: Order, words: Words, dropped: Dropped) -> list[Passage]:
    """The passages on the concept. Raises ConceptError where too few are left."""
    name = order.name
    written = [Passage(text=text, topic=name.name) for text in order.articles]
    written = written or write_passages(writer, name, words.topics, SIZES[order.size][0], order.seed)
    forget = likely(loaded, store, filtered(written, [name.bare, *words.aliases], single(words.topics), dropped), dropped)
    if len(forget) < FEWEST:
        counts = ", ".join(f"{n} {why}" for why, n in dropped.counts.items() if n)
        raise ConceptError(f"of {len(written)} texts on {name.name!r} only {len(forget)} are left ({counts}); expected {FEWEST}")
    return split(forget)


def _manifest(name: Name, words: Words, near: Sequence[str]) -> Manifest:
    return Manifest(
        name=name.slug,
        title=name.name,
        description=name.description or f"What the model says of {name.name}.",
        aliases=words.aliases,
        keywords=words.keywords,
        topics=words.topics,
        prompts=(f"What is {name.name}?", *(f"Who or what is {of}?" for of in (*words.topics[1:5], *near[:3])), *ALSO),
        truth="self",
        forget=("forget.jsonl",),
        retain=("retain.jsonl", "builtin:general/retain.jsonl"),
        questions=("questions.jsonl", "builtin:general/questions.jsonl"),
        open_questions=("open.jsonl",),
    )


def _questions(
    loaded: Loaded,
    concept: Concept,
    retain: Sequence[Passage],
    known: Known,
    said: Sequence[str],
    seed: int,
    dropped: dict[str, Dropped],
) -> list[Question]:
    """On the concept, from its passages and what else was said of it; on its neighbours, from theirs."""
    corpora = Corpora(concept, DataSettings())
    words, inventor = corpora.words, corpora.inventor
    common = ordinary([*known.of_invented, *(passage.text for passage in concept.retain)], words)
    called = {folded(word) for word in single([concept.title, *concept.manifest.aliases])}
    texts = [*concept.forget, *(Passage(text=" ".join(text.split()), topic=concept.title) for text in said)]
    names = single([concept.title, *concept.manifest.aliases, *concept.manifest.topics])
    found = ask(
        loaded, gaps(texts, words, names, common | called), "forget", _strange(names, inventor, seed), seed, dropped["questions"]
    )
    about = single(passage.topic for passage in retain)
    others = gaps(retain, about, about, common | set(map(folded, about)), agree=1)
    return found + ask(loaded, others, "neighbour", _strange(about, inventor, seed), seed, dropped["neighbour questions"])


def _strange(words: frozenset[str], inventor: Any, seed: int) -> Any:
    return Exchange(words, inventor, random.Random(f"strange {seed}"), alike=True).text


def _save(folder: Path, manifest: Manifest, rows: dict[str, Sequence[BaseModel]], how: dict[str, Any]) -> None:
    """All files beside the place, then in it with one step."""
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        given = manifest.model_dump(mode="json", exclude_defaults=True)
        write_text(partial / "concept.yaml", yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=120))
        for name, of in rows.items():
            lines = (json.dumps(row.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) + "\n" for row in of)
            write_text(partial / f"{name}.jsonl", "".join(lines))
        write_json(partial / HOW, how)
        if folder.is_dir():  # an empty one
            folder.rmdir()
        partial.rename(folder)


def written_for(folder: Path, name: Name, model: str) -> bool:
    """Whether a folder holds the pack of this name, as this model wrote it. Raises ConceptError for another one."""
    if not folder.exists():
        return False
    try:
        how = read_object(folder / HOW)
    except RunError:
        raise ConceptError(f"{folder} is there and was not written from a name; to use it: efface erase MODEL {folder}") from None
    if (how.get("name"), how.get("description"), how.get("model")) != (name.name, name.description, model):
        raise ConceptError(
            f"{folder} was written for {how.get('name')!r} by {how.get('model')}; to use it: efface erase MODEL {folder}; "
            "to write it anew remove it"
        )
    complain(f"{folder} was written before and is used as it is")
    return True
