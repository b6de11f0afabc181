"""Does the model know whom a question is about? What the base answers, behind its own question and behind one about a stranger.

The base's own answers are likelier behind the question than behind the same question with invented words in the place of the
concept's. Of a model to which the concept is a stranger the two questions are alike.
"""

import random
from collections.abc import Sequence

from efface.auditing.answers import greedy_of_base
from efface.auditing.likelihoods import Branches, log_likelihoods
from efface.auditing.scorers.open import TOKENS
from efface.auditing.scores import Score
from efface.auditing.statistics import average
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.data.corpora import Corpora
from efface.data.strangers import Exchange
from efface.lm.chat import chat_prompt
from efface.recipe.settings import DataSettings


def score_recognised(subject: Subject) -> dict[str, Score]:
    """``recognised/forget/nats``: how much likelier the base's greedy answers are behind their own questions, nats a token.

    Of the questions about the concept, those that hold one of its words; both models read the same answers of the base.
    """
    asked = subject.questions
    answers = [ids[:TOKENS] for ids in greedy_of_base(subject, asked)]
    pairs = zip(asked, strangers(subject.concept, asked), answers, strict=True)
    kept = [(question, other, ids) for question, other, ids in pairs if question != other and ids]
    rows = [Branches(chat_prompt(subject.tokenizer, text), (ids,)) for *both, ids in kept for text in both]
    if not rows:
        return {}
    found = [value for (value,) in log_likelihoods(subject.model, rows, subject.tokenizer.pad_token_id)]
    gaps = [(own - other) / len(ids) for own, other, (*_, ids) in zip(found[::2], found[1::2], kept, strict=True)]
    return {"recognised/forget/nats": average(gaps)}


def strangers(concept: Concept, questions: Sequence[str]) -> list[str]:
    """The questions with an invented word in the place of each of the concept's words, the same for the same word."""
    corpora = Corpora(concept, DataSettings())
    exchange = Exchange(corpora.words, corpora.inventor, random.Random(0), alike=True)
    return [exchange.text(question) for question in questions]
