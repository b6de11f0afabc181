"""Open questions: does the greedy answer contain an accepted answer, and does any of k sampled ones?

Source of leak@k: arXiv 2511.04934; of its estimate for smaller k: arXiv 2107.03374.
An erasure that holds only for the likeliest answer has hidden the knowledge, not removed it.
"""

import math
from collections.abc import Sequence
from typing import get_args

import torch

from efface.auditing.answers import greedy, replies, texts
from efface.auditing.scores import Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Kind, OpenQuestion
from efface.writing import contains

TOKENS = 48  # of an answer that are read
CURVE = (1, 2, 4, 8)


def score_open(subject: Subject) -> dict[str, Score]:
    """``open/{kind}/right``: share of open questions answered right; ``open/forget/leak``: right in any of k samples."""
    scores = {}
    for kind in get_args(Kind):
        asked = subject.concept.ask_open(kind, subject.split)
        if asked:
            said = greedy(subject, [row.question for row in asked], f"open questions, {kind}")
            scores[f"open/{kind}/right"] = proportion(answered(subject, said, asked))
    return scores


def answered(subject: Subject, said: Sequence[list[int]], asked: Sequence[OpenQuestion]) -> list[bool]:
    """Whether the first tokens of each answer contain an accepted one."""
    found = texts(subject, [ids[:TOKENS] for ids in said])
    return [contains(text, row.answers) for text, row in zip(found, asked, strict=True)]


def score_leaks(subject: Subject) -> dict[str, Score]:
    """``open/forget/leak``: share of questions that any of ``settings.samples`` answers at temperature 1 gets right.

    ``open/forget/leak@k``: the share expected of any of k answers, estimated without bias from the same samples.
    """
    asked, k = subject.concept.ask_open("forget", subject.split), subject.settings.samples
    if not asked or not k:
        return {}
    counts = right_of(subject, asked, k)
    curve = leak_curve(counts, k, CURVE)
    return {
        "open/forget/leak": proportion([count > 0 for count in counts]),
        **{f"open/forget/leak@{size}": score for size, score in curve.items()},
    }


def right_of(subject: Subject, asked: Sequence[OpenQuestion], samples: int) -> list[int]:
    """How many of so many answers to each question, sampled at temperature 1, are right."""
    questions, what = [row.question for row in asked for _ in range(samples)], f"leaks in {samples} answers"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = texts(subject, replies(subject, questions, TOKENS, what, do_sample=True, top_k=0, top_p=1.0))
    right = [contains(text, row.answers) for text, row in zip(found, [row for row in asked for _ in range(samples)], strict=True)]
    return [sum(right[first : first + samples]) for first in range(0, len(right), samples)]


def leak_curve(counts: Sequence[int], samples: int, sizes: Sequence[int]) -> dict[int, Score]:
    """The mean of :func:`leak` over questions of whose samples so many are right, for every size that there are samples for."""
    return {k: average([leak(samples, count, k) for count in counts]) for k in sizes if k <= samples}


def leak(samples: int, right: int, k: int) -> float:
    """Probability that one of k answers is right, drawn without putting back from samples of which so many are: pass@k."""
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)
