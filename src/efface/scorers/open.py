"""Open questions: does the greedy answer contain an accepted answer, and does any of k sampled ones?

Source of leak@k: arXiv 2511.04934. An erasure that holds only for the likeliest answer has hidden the knowledge, not removed it.
"""

from typing import get_args

import torch

from efface.concept import Kind
from efface.results import Score, proportion
from efface.scorers.replies import contains, replies, texts
from efface.scorers.scorer import Subject

TOKENS = 48


def score_open(subject: Subject) -> dict[str, Score]:
    """``open/{kind}/right``: share of open questions answered right; ``open/forget/leak``: right in any of k samples."""
    scores = {}
    for kind in get_args(Kind):
        asked = subject.concept.ask_open(kind, subject.split)
        if asked:
            found = texts(subject, replies(subject, [row.question for row in asked], TOKENS, f"open questions, {kind}"))
            right = [contains(text, row.answers) for text, row in zip(found, asked, strict=True)]
            scores[f"open/{kind}/right"] = proportion(right)
    return scores


def score_leaks(subject: Subject) -> dict[str, Score]:
    """``open/forget/leak``: share of questions that any of ``settings.samples`` answers at temperature 1 gets right."""
    asked, k = subject.concept.ask_open("forget", subject.split), subject.settings.samples
    if not asked or not k:
        return {}
    questions = [row.question for row in asked for _ in range(k)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = texts(subject, replies(subject, questions, TOKENS, f"leaks in {k} answers", do_sample=True, top_k=0, top_p=1.0))
    leaks = [
        any(contains(text, row.answers) for text in found[first : first + k])
        for first, row in zip(range(0, len(found), k), asked, strict=True)
    ]
    return {"open/forget/leak": proportion(leaks)}
