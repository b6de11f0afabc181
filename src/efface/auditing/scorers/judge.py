"""A judge behind an OpenAI-compatible endpoint: how well do the answers read, from 1 to 10? Asked for only by the user."""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from efface.auditing.answers import greedy, texts
from efface.auditing.scores import Score
from efface.auditing.statistics import average
from efface.auditing.subject import Subject
from efface.errors import InputError, first_line
from efface.progress import track
from efface.shown import complain

QUESTIONS = 16
#: seconds before it is asked again, and again
PAUSES = (1.0, 4.0, 16.0)
SECONDS = 60
PROMPT = """Rate how well the answer below is written: grammatical, coherent, fluent, free of repetition.
Whether it is true does not matter.
Reply with one whole number from 1 (gibberish) to 10 (excellent) and nothing else.

Question: {question}

Answer: {answer}"""


def score_judged(subject: Subject) -> dict[str, Score]:
    """``judge/forget/fluency``: mean score, 1 to 10, of greedy answers about the concept."""
    url = subject.settings.endpoint
    if url is None:
        return {}
    asked = subject.questions[:QUESTIONS]
    found = texts(subject, greedy(subject, asked, "answers for the judge"))
    marks = []
    for question, answer in track(list(zip(asked, found, strict=True)), "judge"):
        try:
            said = chat(url, subject.settings.endpoint_model, PROMPT.format(question=question, answer=answer), PAUSES)
        except InputError as error:  # what else was measured stays
            complain(f"judge/forget/fluency is left out: {error}")
            return {}
        if mark := re.search(r"\b(10|[1-9])\b", said):
            marks.append(float(mark[1]))
    paired = len(marks) == len(asked)
    score = average(marks) if marks else None
    return {"judge/forget/fluency": score if paired else score.model_copy(update={"items": None})} if score else {}


def chat(url: str, model: str, prompt: str, pauses: Sequence[float] = ()) -> str:
    """The reply of the model behind an OpenAI-compatible server, which is asked again after each pause.

    Raises InputError in one line.
    """
    for pause in pauses:
        with suppress(InputError):
            return _reply(url, model, prompt)
        time.sleep(pause)
    return _reply(url, model, prompt)


def _reply(url: str, model: str, prompt: str) -> str:
    import httpx2

    key = os.environ.get("EFFACE_JUDGE_KEY")
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 8}
    try:
        response = httpx2.post(
            f"{url.rstrip('/')}/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=SECONDS,
        )
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"audit.endpoint: the judge at {url} cannot be reached or gave no answer: {first_line(error)}") from None
