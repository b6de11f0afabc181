"""A judge behind an OpenAI-compatible endpoint: how well do the answers read, from 1 to 10? Asked for only by the user."""

import re
from typing import Any

from efface.auditing.answers import greedy, texts
from efface.auditing.scores import Score
from efface.auditing.statistics import average
from efface.auditing.subject import Subject
from efface.errors import InputError
from efface.lm.endpoint import Endpoint
from efface.progress import track
from efface.recipe.settings import AuditSettings
from efface.shown import complain

QUESTIONS = 16
HOW: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
PROMPT = """Rate how well the answer below is written: grammatical, coherent, fluent, free of repetition.
Whether it is true does not matter.
Reply with one whole number from 1 (gibberish) to 10 (excellent) and nothing else.

Question: {question}

Answer: {answer}"""


def score_judged(subject: Subject) -> dict[str, Score]:
    """``judge/forget/fluency``: mean score, 1 to 10, of greedy answers about the concept."""
    judge = endpoint(subject.settings)
    if judge is None:
        return {}
    asked = subject.questions[:QUESTIONS]
    found = texts(subject, greedy(subject, asked, "answers for the judge"))
    marks = []
    for question, answer in track(list(zip(asked, found, strict=True)), "judge"):
        try:
            said = judge.ask(PROMPT.format(question=question, answer=answer), **HOW)
        except InputError as error:  # what else was measured stays
            complain(f"judge/forget/fluency is left out: {error}")
            return {}
        if mark := re.search(r"\b(10|[1-9])\b", said):
            marks.append(float(mark[1]))
    paired = len(marks) == len(asked)
    score = average(marks) if marks else None
    return {"judge/forget/fluency": score if paired else score.model_copy(update={"items": None})} if score else {}


def endpoint(settings: AuditSettings) -> Endpoint | None:
    """The judge that the settings name."""
    return Endpoint(settings.endpoint, settings.endpoint_model, "audit.endpoint: the judge") if settings.endpoint else None
