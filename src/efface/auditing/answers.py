"""Answers in the model's chat format, in batches: what the scorers of free text share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from efface.auditing.batches import in_batches
from efface.auditing.subject import Subject
from efface.data.sample import plain_generation, sample
from efface.lm.chat import chat_prompt

BATCH = 64
TOKENS = 64  # of a greedy answer


def replies(subject: Subject, questions: Sequence[str], tokens: int, what: str, **options: Any) -> list[list[int]]:
    """Token ids of answers of at most ``tokens`` tokens in the model's chat format; the rest as :func:`continuations`."""
    prompts = [chat_prompt(subject.tokenizer, question) for question in questions]
    return continuations(subject, prompts, tokens, what, **options)


def continuations(subject: Subject, prompts: Sequence[list[int]], tokens: int, what: str, **options: Any) -> list[list[int]]:
    """Token ids of at most ``tokens`` tokens behind each prompt, in their order; greedy if no options say otherwise.

    A text that has fewer tokens ended by itself. What a model's own generation config asks for (a temperature, a penalty for
    repetition) is left aside, so that every model is sampled alike.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    options = {"max_new_tokens": tokens, "do_sample": False, **options}

    def go_on(rows: Sequence[int]) -> list[list[int]]:
        return sample(subject.model, subject.tokenizer, [prompts[i] for i in rows], **options)  # type: ignore[arg-type]

    with plain_generation(subject.model):
        found = dict(zip(order, in_batches(order, BATCH, what, go_on), strict=True))
    return [found[i] for i in range(len(prompts))]


def greedy(subject: Subject, questions: Sequence[str], what: str) -> list[list[int]]:
    """Greedy answers of at most :data:`TOKENS` tokens; what was asked before is not asked again."""
    said = subject.base_said if subject.of_base else subject.said
    if new := [question for question in dict.fromkeys(questions) if question not in said]:
        said.update(zip(new, replies(subject, new, TOKENS, what), strict=True))
    return [said[question] for question in questions]


def greedy_of_base(subject: Subject, questions: Sequence[str]) -> list[list[int]]:
    """The base's greedy answers, as :func:`greedy`."""
    with subject.base() as base:
        return greedy(replace(subject, model=base, other_base=base), questions, "answers of the base")


def texts(subject: Subject, tokens: Sequence[Sequence[int]]) -> list[str]:
    """The same answers as text."""
    return [str(subject.tokenizer.decode(list(ids), skip_special_tokens=True)).strip() for ids in tokens]
