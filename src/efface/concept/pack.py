"""A concept is a file, not code: names, personas, corpora, questions, neighbours.

A *pack* is a folder with ``concept.yaml`` and the JSONL files that it names::

    name: ancient-egypt
    title: Ancient Egypt                      # stands in persona sentences
    keywords: [pharaohs, mummies]             # so do these
    topics: [the pyramids of Giza]            # what fluency prompts ask about
    prompts: ["Who built the pyramids?"]      # answered side by side in the report
    forget: [forget.jsonl]                    # {"text": …, "topic": …, "split": "train"|"held_out", "facts": [answers]}
    retain: [retain.jsonl]
    # builtin:general/retain.jsonl: passages on many subjects that ship with efface
    # or a data set:  {hub: owner/name, config: …, split: train, field: text, revision: …, most: 5000, held_out: 32}
    questions: [questions.jsonl]              # {"kind": …, "topic": …, "split": …, "stem": …, "choices": […], "answer": 0}
    open_questions: [open.jsonl]              # {"kind": …, "topic": …, "split": …, "question": …, "answers": […]}
    tasks: {forget: [wmdp_bio]}               # public tasks of the lm-evaluation-harness, by kind
    truth: self                               # its answers are what a model said, not what is so (default: people)
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticSerializationError

from efface.concept.files import MOST_OF_MANIFEST, read_text, within
from efface.concept.find import find_packs, packs_folder
from efface.concept.personas import Personas
from efface.concept.rows import read_rows
from efface.concept.sources import FileName, Named, Source, read_source
from efface.concept.written import Written, read_written
from efface.errors import ConceptError, one_line, shortened
from efface.recipe.settings import DataSettings
from efface.recipe.yaml import load_yaml
from efface.shown import Line

Split = Literal["tune", "test"]
Kind = Literal["forget", "neighbour", "general"]


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a text that is not empty")
    return text


Filled = Annotated[str, AfterValidator(_filled)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Passage(_Row):
    """One text of a corpus. facts: the answers of the questions that it answers; None: it does not say."""

    text: str
    topic: Line = ""
    split: Literal["train", "held_out"] = "train"
    facts: tuple[Filled, ...] | None = Field(None, exclude_if=lambda facts: facts is None)  # a pack without is what it was


class Question(_Row):
    """A cloze stem with its choices; ``answer`` is the index of the right one."""

    kind: Kind
    topic: Line
    split: Split
    stem: Filled
    choices: tuple[Filled, ...] = Field(min_length=2)
    answer: int = Field(ge=0)

    @model_validator(mode="after")
    def _answer_exists(self) -> "Question":
        if self.answer >= len(self.choices) or len(set(self.choices)) < len(self.choices):
            raise ValueError("answer must be the index of one of the choices, and these must differ")
        return self


class OpenQuestion(_Row):
    """A question answered freely; every string in ``answers`` counts as right."""

    kind: Kind
    topic: Line
    split: Split
    question: Filled
    answers: tuple[Filled, ...] = Field(min_length=1)


class Manifest(_Row):
    """``concept.yaml``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._+-]*$")
    title: Line
    description: str = ""
    aliases: tuple[Line, ...] = ()
    keywords: tuple[Line, ...] = Field(min_length=1)
    topics: tuple[Line, ...] = Field(min_length=1)
    prompts: tuple[str, ...] = ()
    personas: Personas = Personas()
    forget: tuple[Named, ...] = Field(min_length=1)
    retain: tuple[Named, ...] = Field(min_length=1)
    questions: tuple[FileName, ...] = ()
    open_questions: tuple[FileName, ...] = ()
    tasks: dict[Kind, tuple[Line, ...]] = {}
    #: where its questions' answers come from: ``self``: what the model said itself, true or not
    truth: Literal["people", "self"] = Field("people", exclude_if=lambda of: of == "people")

    @field_validator("forget", "retain", "questions", "open_questions")
    @classmethod
    def _no_file_twice(cls, named: tuple[str | Source, ...]) -> tuple[str | Source, ...]:
        for source, times in Counter(named).items():
            if times > 1:
                raise ValueError(f"names {source if isinstance(source, str) else source.label} {times} times; expected it once")
        return named


class Concept(_Row):
    """A pack in memory, every field checked."""

    manifest: Manifest
    forget: tuple[Passage, ...]
    retain: tuple[Passage, ...]
    questions: tuple[Question, ...]
    open_questions: tuple[OpenQuestion, ...]
    #: what identifies the corpora that the pack names but does not hold
    sources: dict[str, str] = {}
    #: several packs as one: each with its weight
    joined: tuple[tuple["Concept", int], ...] = ()
    #: how a model wrote it; no part of what it is
    written: Written | None = Field(None, exclude=True)

    @property
    def parts(self) -> "tuple[tuple[Concept, int], ...]":
        """The packs that this concept joins, each with its weight; a single pack is its own only part."""
        return self.joined or ((self, 1),)

    @property
    def digest(self) -> str:
        """SHA-256 over everything in it (first 16 digits)."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Short name, as in ``concept.yaml``."""
        return self.manifest.name

    @property
    def title(self) -> str:
        """Name as it stands in sentences."""
        return self.manifest.title

    @classmethod
    def load(cls, name: str, min_chars: int = DataSettings().min_chars) -> "Concept":
        """Read a built-in pack by name, or any by its folder. Raises ConceptError in one line.

        Of data sets and files that a pack names but does not hold, texts with fewer than ``min_chars`` characters are left out.
        ``"a:2 b:1"`` joins several with weights; ``"a@REVISION"`` reads its data sets at a branch, tag or commit of theirs.
        """
        loaded = [(cls._read(folder, revision, min_chars), weight) for folder, weight, revision in find_packs(name)]
        return loaded[0][0] if len(loaded) == 1 else _join(loaded)

    @classmethod
    def _read(cls, folder: Path, revision: str | None, min_chars: int) -> "Concept":
        manifest = read_manifest(folder)
        forget, forget_sources = _corpus(folder, manifest.forget, revision, min_chars)
        retain, retain_sources = _corpus(folder, manifest.retain, revision, min_chars)
        questions, open_questions = (
            _rows(Question, folder, manifest.questions),
            _rows(OpenQuestion, folder, manifest.open_questions),
        )
        _ask_once(folder, [(row.stem, *row.choices) for row in questions] + [(row.question,) for row in open_questions])
        return cls(
            manifest=manifest,
            forget=forget,
            retain=retain,
            sources=forget_sources | retain_sources,
            questions=questions,
            open_questions=open_questions,
            written=read_written(folder),
        )

    def texts(self, corpus: Literal["forget", "retain"], split: Literal["train", "held_out"]) -> list[Passage]:
        """The passages of one corpus and split, in file order."""
        return [passage for passage in getattr(self, corpus) if passage.split == split]

    def ask(self, kind: Kind, split: Split) -> list[Question]:
        """The choice questions of one kind and split, in file order."""
        return [question for question in self.questions if (question.kind, question.split) == (kind, split)]

    def ask_open(self, kind: Kind, split: Split) -> list[OpenQuestion]:
        """The open questions of one kind and split, in file order."""
        return [question for question in self.open_questions if (question.kind, question.split) == (kind, split)]


def general_passages() -> list[Passage]:
    """The passages on many subjects that ship with efface (``builtin:general/retain.jsonl``)."""
    return list(_rows(Passage, packs_folder(), ["general/retain.jsonl"]))


def read_manifest(folder: Path) -> Manifest:
    """The ``concept.yaml`` of a pack, without its corpora. Raises ConceptError."""
    return _check(Manifest, _read_yaml(within(folder, "concept.yaml")), str(folder / "concept.yaml"))


def _join(parts: Sequence[tuple[Concept, int]]) -> Concept:
    """Several packs as one: all their texts, questions and prompts."""
    concepts = [concept for concept, _ in parts]

    def union(field: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(item for concept in concepts for item in getattr(concept.manifest, field)))

    kinds = dict.fromkeys(kind for concept in concepts for kind in concept.manifest.tasks)
    tasks = {kind: tuple(dict.fromkeys(t for c in concepts for t in c.manifest.tasks.get(kind, ()))) for kind in kinds}
    lists = ("aliases", "keywords", "topics", "prompts", "forget", "retain", "questions", "open_questions")
    manifest = Manifest(
        name="+".join(concept.name for concept in concepts),
        title=" and ".join(concept.title for concept in concepts),
        description=" ".join(concept.manifest.description for concept in concepts),
        tasks=tasks,
        truth="self" if any(concept.manifest.truth == "self" for concept in concepts) else "people",
        **{field: union(field) for field in lists},
    )
    rows = {
        field: tuple(dict.fromkeys(row for concept in concepts for row in getattr(concept, field)))
        for field in ("forget", "retain", "questions", "open_questions")
    }
    sources: dict[str, str] = {}
    for concept in concepts:
        for label, what in concept.sources.items():  # two packs may name different files alike
            sources[label if sources.get(label, what) == what else f"{label} of {concept.name}"] = what
    return Concept(manifest=manifest, sources=sources, joined=tuple(parts), **rows)


def _read_yaml(path: Path) -> Any:
    try:
        return load_yaml(read_text(path, MOST_OF_MANIFEST))
    except ConceptError:
        raise
    except ValueError as error:
        raise ConceptError(f"{path} is not readable YAML: {error}") from None


_Model = TypeVar("_Model", bound=BaseModel)


def _check(model: type[_Model], raw: Any, where: str) -> _Model:
    try:
        checked = model.model_validate(raw)
        checked.model_dump_json()
    except ValidationError as error:
        raise ConceptError(f"{where}: {one_line(error)}") from None
    except PydanticSerializationError:
        raise ConceptError(f"{where}: a text holds half of a character (a lone surrogate)") from None
    return checked


def _ask_once(folder: Path, asked: Iterable[tuple[str, ...]]) -> None:
    """Raises ConceptError for a question that stands there twice: what is tuned on is not to be tested."""
    for question, times in Counter(asked).items():
        if times > 1:
            raise ConceptError(
                f"{folder}: expected every question once, under tune or test, got {times}: {shortened(question[0])}"
            )


def _rows(model: type[_Model], folder: Path, names: Iterable[str]) -> tuple[_Model, ...]:
    return tuple(_check(model, row, where) for name in names for where, row in read_rows(within(folder, name)))


def _corpus(
    folder: Path, named: Sequence[str | Source], revision: str | None, min_chars: int
) -> tuple[tuple[Passage, ...], dict[str, str]]:
    """The passages of a corpus, and what identifies those that are not in the pack."""
    rows: tuple[Passage, ...] = ()
    sources = {}
    for source in named:
        if isinstance(source, str):
            rows += _rows(Passage, folder, [source])
        else:
            at = source.model_copy(update={"revision": revision} if revision else {})
            read, sources[source.label] = read_source(at, folder, min_chars, [row.text for row in rows])
            rows += tuple(_check(Passage, row, source.label) for row in read)
    if not any(row.split == "train" for row in rows):
        where = named[0] if isinstance(named[0], Source) else folder / named[0]
        raise ConceptError(f"{where}: the corpus is empty; expected at least one text with split 'train'")
    return rows, sources
