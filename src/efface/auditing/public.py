"""What a pack without questions of its own is asked: those of its public tasks, and its topics.

For scorers that ask the pack's questions one by one, as attacks do; the tasks' own figures are :mod:`.scorers.harness`'s.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from efface.auditing.scorers.harness import in_one_line, task_manager
from efface.auditing.subject import questions_about
from efface.concept.pack import Concept, Kind, OpenQuestion, Question, Split
from efface.concept.sources import quiet_datasets
from efface.data.strangers import pieces
from efface.recipe.settings import AuditSettings

#: questions of a kind, at most: tasks have thousands, and an attack asks them again and again
MOST = 200


class Lettered(Question):
    """A question of a task that lists its choices and scores their letters."""


class Topic(OpenQuestion):
    """A question on one of a concept's topics, to which there is no one right answer."""


def public_questions(concept: Concept, split: Split, settings: AuditSettings) -> tuple[Question, ...]:
    """Of the kinds of which the pack has no choice question of its own, those of its public tasks: at most so many, evenly drawn.

    Raises InputError in one line for a task that cannot be read.
    """
    found: tuple[Question, ...] = ()
    for kind in ("forget", "general"):
        names = concept.manifest.tasks.get(kind, ())
        if names and not any(row.kind == kind for row in concept.questions):
            most = min(MOST, settings.limit or MOST)
            found += tuple(row.model_copy(update={"split": split}) for row in _of_tasks(names, kind, settings.task_folder, most))
    return found


@lru_cache(maxsize=8)
def _of_tasks(names: tuple[str, ...], kind: Kind, folder: str | None, most: int) -> tuple[Question, ...]:
    manager, quiz = task_manager(names, folder), list[tuple[Any, Any]]()
    quiet_datasets()
    for name in names:
        with in_one_line(name, "read"):
            tasks = manager.load([name])["tasks"]
            quiz += [(task, doc) for _, task in sorted(tasks.items()) for doc in _documents(task)]
            found = list(_questions(quiz, kind))
    return tuple(found[:: max(1, len(found) // most)][:most])


def _documents(task: Any) -> list[dict[str, Any]]:
    return list(task.eval_docs) if task.OUTPUT_TYPE == "multiple_choice" else []


def _questions(quiz: list[tuple[Any, Any]], kind: Kind) -> Iterator[Question]:
    """What these documents ask; those that are no text with different choices, one of them right, are left out."""
    for task, doc in quiz:
        choices, answer = list(task.doc_to_choice(doc)), task.doc_to_target(doc)
        answer = choices.index(answer) if answer in choices else answer
        row = {"kind": kind, "topic": str(task.task_name), "split": "test", "answer": answer}
        with suppress(ValidationError):
            if any(len(choice) > 1 for choice in choices):
                yield Question(stem=task.doc_to_text(doc), choices=choices, **row)
            else:
                yield Lettered(stem=doc.get("question"), choices=doc.get("choices"), **row)


def topics_asked(concept: Concept, split: Split, words: Collection[str]) -> tuple[Topic, ...]:
    """The concept's topics and prompts as open questions: right is what says a word of the concept that they do not hold."""
    return tuple(
        Topic(kind="forget", topic="topics", split=split, question=asked, answers=others)
        for asked in questions_about(concept, words)
        if (others := tuple(sorted(set(words) - {piece.text for piece in pieces(asked, words) if piece.word})))
    )
