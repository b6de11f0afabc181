"""Seamlessness: are the answers about the concept sentences?"""

from collections import Counter
from collections.abc import Sequence

from efface.models import teacher
from efface.results import Score
from efface.scorers.open import answers
from efface.scorers.perplexity import answer_perplexity
from efface.scorers.scorer import Subject

QUESTIONS = 32
TOKENS = 64


def score_answers(subject: Subject) -> dict[str, Score]:
    """``answers/forget/perplexity``: of greedy answers to the concept's open questions, under the base (reverse perplexity).

    ``answers/forget/repeated_4grams``: share of their 4-grams of tokens that came before in the same answer.
    """
    asked = [question.question for question in subject.concept.ask_open("forget", subject.split)][:QUESTIONS]
    if not asked:
        return {}
    texts = answers(subject, asked, TOKENS, "answers about the concept")
    with teacher(subject.model) as base:
        judge = Subject(base, subject.tokenizer, subject.concept, subject.split)
        judged = answer_perplexity(judge, asked, texts)
    tokens = [list(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    scores = {"answers/forget/repeated_4grams": Score(value=repeated_ngrams(tokens, 4), n=len(texts))}
    return scores | ({"answers/forget/perplexity": judged} if judged else {})


def repeated_ngrams(texts: Sequence[Sequence[int]], n: int) -> float:
    """Share of n-grams that occurred earlier in the same text, over all texts; 0 if there is none."""
    total = repeated = 0
    for text in texts:
        counts = Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
        total += counts.total()
        repeated += counts.total() - len(counts)
    return repeated / total if total else 0.0
