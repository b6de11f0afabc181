"""Seamlessness: are the answers about the concept sentences?

Reverse perplexity as in the paper (arXiv 2410.02760, table 1): perplexity of the answers under a judge that knows the concept.
n-gram entropy as in RWKU (arXiv 2406.10890): of bigrams and trigrams, weighted 2/3 and 4/3; here over the model's own tokens.
"""

import math
from collections import Counter
from collections.abc import Sequence

from efface.auditing.answers import TOKENS, greedy, texts
from efface.auditing.scorers.perplexity import answer_perplexity
from efface.auditing.scores import Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject

QUESTIONS = 32


def score_answers(subject: Subject) -> dict[str, Score]:
    """``answers/forget/…`` of greedy answers about the concept.

    ``perplexity`` under the judge; ``repeated_4grams``: mean share of an answer's 4-grams that came before in it;
    ``distinct_2grams``: share of different ones among all bigrams; ``entropy``: of n-grams, in bits;
    ``ends``: share of answers that end by themselves.
    """
    asked = subject.questions[:QUESTIONS]
    tokens = greedy(subject, asked, "answers about the concept")
    found = texts(subject, tokens)
    scores = {
        "answers/forget/repeated_4grams": average([repeated_ngrams(ids, 4) for ids in tokens]),
        "answers/forget/distinct_2grams": average([distinct_ngrams(ids, 2) for ids in tokens]),
        "answers/forget/entropy": average([ngram_entropy(ids) for ids in tokens]),
        "answers/forget/ends": proportion([len(ids) < TOKENS for ids in tokens]),
    }
    if subject.judge is not None:
        judged = answer_perplexity(subject.judge.model, subject.judge.tokenizer, asked, found)
    else:
        with subject.base() as base:
            judged = answer_perplexity(base, subject.tokenizer, asked, found)
    return scores | ({"answers/forget/perplexity": judged} if judged else {})


def _ngrams(tokens: Sequence[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def repeated_ngrams(tokens: Sequence[int], n: int) -> float:
    """Share of a text's n-grams that occurred earlier in it; 0 if there is none."""
    counts = _ngrams(tokens, n)
    return (counts.total() - len(counts)) / counts.total() if counts else 0.0


def distinct_ngrams(tokens: Sequence[int], n: int) -> float:
    """Number of different n-grams over the number of n-grams; 1 if there is none."""
    counts = _ngrams(tokens, n)
    return len(counts) / counts.total() if counts else 1.0


def ngram_entropy(tokens: Sequence[int]) -> float:
    """``(2/3 H_2 + 4/3 H_3) / 2`` with ``H_n`` the entropy in bits of the text's n-grams; low for a text that repeats itself."""
    entropy = 0.0
    for n, weight in ((2, 2 / 3), (3, 4 / 3)):
        counts = _ngrams(tokens, n)
        entropy -= weight * sum(c / counts.total() * math.log2(c / counts.total()) for c in counts.values())
    return entropy / 2
