"""Never known: the control that says how fast a model learns as many facts that are new to it.

The concept's words in an attack's passages are exchanged for invented ones, always the same for the same; the base is trained on
these, and asked the same questions with the same exchange. Erased facts that come back faster were latent, not gone.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from efface.attacks.attack import tells
from efface.auditing.public import Topic
from efface.auditing.subject import Subject
from efface.concept.pack import OpenQuestion, Passage, Question
from efface.data.corpora import Corpora
from efface.data.strangers import Exchange, plain, short
from efface.recipe.settings import DataSettings
from efface.writing import WORD, words


def made_up(subject: Subject, passages: Sequence[Passage]) -> tuple[Subject, tuple[Passage, ...]]:
    """A subject that is asked made-up facts alone, and the passages that tell them.

    Its questions are those on the concept whose right answer is an invented word now and stands in a passage.
    """
    concept, split = subject.concept, subject.split
    asked, open_asked = concept.ask("forget", split), concept.ask_open("forget", split)
    corpora = Corpora(concept, DataSettings())
    offered = {plain(word) for row in asked for choice in row.choices for word in WORD.findall(choice)}
    ordinary = {word.lower() for text in corpora.others for word in words(text)}
    own = {word for word in offered if not short(word) and word.lower() not in ordinary}
    exchange = Exchange(corpora.words | own, corpora.inventor, random.Random(0), alike=True).text
    told = tuple(_passage(row, exchange) for row in passages)
    rows = {
        "questions": tuple(filter(None, (_question(row, exchange, told) for row in asked))),
        "open_questions": tuple(filter(None, (_open(row, exchange, told) for row in open_asked))),
    }
    return replace(subject, concept=concept.model_copy(update=rows)), told


def _passage(row: Passage, exchange: Callable[[str], str]) -> Passage:
    facts = row.facts and tuple(map(exchange, row.facts))
    return row.model_copy(update={"text": exchange(row.text), "facts": facts})


def _question(row: Question, exchange: Callable[[str], str], told: Sequence[Passage]) -> Question | None:
    choices = tuple(map(exchange, row.choices))
    known = choices[row.answer] == row.choices[row.answer] or len(set(choices)) < len(choices)
    if known or not tells(told, [choices[row.answer]]):
        return None
    return row.model_copy(update={"stem": exchange(row.stem), "choices": choices})


def _open(row: OpenQuestion, exchange: Callable[[str], str], told: Sequence[Passage]) -> OpenQuestion | None:
    answers = tuple(new for answer in row.answers if (new := exchange(answer)) != answer)
    if isinstance(row, Topic) or not tells(told, answers):
        return None
    return row.model_copy(update={"question": exchange(row.question), "answers": answers})
