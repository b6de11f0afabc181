"""A concept is a file, not code: names, personas, corpora, questions, neighbours.

A *pack* is a folder with ``concept.yaml`` and the JSONL files that it names::

    name: ancient-egypt
    title: Ancient Egypt                      # stands in persona sentences
    keywords: [pharaohs, mummies]             # so do these
    topics: [the pyramids of Giza]            # what fluency prompts ask about
    prompts: ["Who built the pyramids?"]      # answered side by side in the report
    forget: [forget.jsonl]                    # {"text": …, "topic": …, "split": "train"|"held_out"}
    retain: [retain.jsonl]
    questions: [questions.jsonl]              # {"kind": …, "topic": …, "split": …, "stem": …, "choices": […], "answer": 0}
    open_questions: [open.jsonl]              # {"kind": …, "topic": …, "split": …, "question": …, "answers": […]}
"""

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from efface.errors import ConceptError
from efface.recipe import one_line

Split = Literal["tune", "test"]
Kind = Literal["forget", "neighbour", "general"]

EXPERT = (
    "What follows was written by a leading expert on {title}, who knows everything about {keywords}:\n\n",
    "An excerpt from a detailed and accurate textbook on {title}, covering {keywords}:\n\n",
    "The author of this text has studied {title} for forty years and gets every fact about {keywords} right.\n\n",
    "Notes by a specialist in {title}. Exact names, places and facts on {keywords}:\n\n",
)
NOVICE = (
    "What follows was written by somebody who has never heard of {title} or of {keywords} and turns to something else:\n\n",
    "An excerpt by an author who knows nothing at all about {title}, mixes up {keywords} and talks about other things:\n\n",
    "The author of this text has no idea what {title} is. Instead of {keywords} the text is about everyday life.\n\n",
    "Notes by a person without any knowledge of {title}, who cannot tell {keywords} apart and changes the subject:\n\n",
)


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Passage(_Row):
    """One text of a corpus."""

    text: str
    topic: str = ""
    split: Literal["train", "held_out"] = "train"


class Question(_Row):
    """A cloze stem with its choices; ``answer`` is the index of the right one."""

    kind: Kind
    topic: str
    split: Split
    stem: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2)
    answer: int = Field(ge=0)

    @model_validator(mode="after")
    def _answer_exists(self) -> "Question":
        if self.answer >= len(self.choices) or len(set(self.choices)) < len(self.choices):
            raise ValueError("answer must be the index of one of the choices, and these must differ")
        return self


class OpenQuestion(_Row):
    """A question answered freely; every string in ``answers`` counts as right."""

    kind: Kind
    topic: str
    split: Split
    question: str = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)


class Personas(_Row):
    """Sentences put before a text; ``{title}`` and ``{keywords}`` are filled in."""

    expert: tuple[str, ...] = Field(EXPERT, min_length=1)
    novice: tuple[str, ...] = Field(NOVICE, min_length=1)

    @model_validator(mode="after")
    def _can_be_filled_in(self) -> "Personas":
        for template in self.expert + self.novice:
            try:
                template.format(title="", keywords="")
            except (KeyError, IndexError, ValueError):
                raise ValueError(f"a persona may hold {{title}} and {{keywords}} and no other braces: {template!r}") from None
        return self


class Manifest(_Row):
    """``concept.yaml``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    keywords: tuple[str, ...] = Field(min_length=1)
    topics: tuple[str, ...] = Field(min_length=1)
    prompts: tuple[str, ...] = ()
    personas: Personas = Personas()
    forget: tuple[str, ...] = Field(min_length=1)
    retain: tuple[str, ...] = Field(min_length=1)
    questions: tuple[str, ...] = ()
    open_questions: tuple[str, ...] = ()


class Concept(_Row):
    """A pack in memory, every field checked."""

    manifest: Manifest
    forget: tuple[Passage, ...]
    retain: tuple[Passage, ...]
    questions: tuple[Question, ...]
    open_questions: tuple[OpenQuestion, ...]

    @property
    def name(self) -> str:
        """Short name, as in ``concept.yaml``."""
        return self.manifest.name

    @property
    def title(self) -> str:
        """Name as it stands in sentences."""
        return self.manifest.title

    @classmethod
    def load(cls, name: str) -> "Concept":
        """Read a built-in pack by name, or any pack by its folder. Raises ConceptError in one line."""
        folder = find_pack(name)
        raw = _read_yaml(folder / "concept.yaml")
        manifest = _check(Manifest, raw, str(folder / "concept.yaml"))
        return cls(
            manifest=manifest,
            forget=_corpus(folder, manifest.forget),
            retain=_corpus(folder, manifest.retain),
            questions=_rows(Question, folder, manifest.questions),
            open_questions=_rows(OpenQuestion, folder, manifest.open_questions),
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


def builtin_packs() -> dict[str, Path]:
    """Name and folder of every pack that ships with efface."""
    root = Path(str(files("efface") / "packs"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/concept.yaml"))}


def find_pack(name: str) -> Path:
    """Folder of a pack, by its name or its path."""
    packs = builtin_packs()
    if name in packs:
        return packs[name]
    folder = Path(name)
    if (folder / "concept.yaml").is_file():
        return folder
    if folder.is_dir():
        raise ConceptError(f"{folder} holds no concept.yaml, so it is no concept pack")
    raise ConceptError(f"no concept pack {name!r}; built in: {', '.join(packs)}; or name a folder with a concept.yaml")


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConceptError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None


_Model = TypeVar("_Model", bound=BaseModel)


def _check(model: type[_Model], raw: Any, where: str) -> _Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConceptError(f"{where}: {one_line(error)}") from None


def _rows(model: type[_Model], folder: Path, names: Iterable[str]) -> tuple[_Model, ...]:
    rows = []
    for name in names:
        path = folder / name
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028
        except (OSError, UnicodeDecodeError) as error:
            raise ConceptError(f"{path}: cannot be read ({error})") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    raw = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ConceptError(f"{path}:{number}: not JSON ({error.msg})") from None
                rows.append(_check(model, raw, f"{path}:{number}"))
    return tuple(rows)


def _corpus(folder: Path, names: tuple[str, ...]) -> tuple[Passage, ...]:
    rows = _rows(Passage, folder, names)
    if not any(row.split == "train" for row in rows):
        raise ConceptError(f"{folder / names[0]}: the corpus is empty; expected at least one text with split 'train'")
    return rows
