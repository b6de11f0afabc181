"""Open questions: does the greedy answer contain an accepted answer?"""

import re
from collections.abc import Sequence
from typing import get_args

from efface.concept import Kind
from efface.guidance import sample
from efface.models import chat_prompt
from efface.progress import track
from efface.results import Score, proportion
from efface.scorers.scorer import Subject

BATCH = 32
TOKENS = 48


def score_open(subject: Subject) -> dict[str, Score]:
    """``open/{kind}/right``: share of open questions answered right, in the model's chat format."""
    scores = {}
    for kind in get_args(Kind):
        asked = subject.concept.ask_open(kind, subject.split)
        if asked:
            texts = answers(subject, [question.question for question in asked], TOKENS, f"open questions, {kind}")
            right = [contains(text, question.answers) for text, question in zip(texts, asked, strict=True)]
            scores[f"open/{kind}/right"] = proportion(right)
    return scores


def answers(subject: Subject, questions: Sequence[str], tokens: int, what: str) -> list[str]:
    """Greedy answers of at most ``tokens`` tokens, in batches, in the order of the questions."""
    prompts = [chat_prompt(subject.tokenizer, question) for question in questions]
    texts: list[str] = []
    for first in track(range(0, len(prompts), BATCH), what):
        new = sample(subject.model, subject.tokenizer, prompts[first : first + BATCH], max_new_tokens=tokens, do_sample=False)
        texts += [str(subject.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in new]
    return texts


def contains(text: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted answers stands in the text as whole words, whatever the case."""
    return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) for answer in accepted)
