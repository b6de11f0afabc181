"""A scorer of your own: efface audit RUN --scorers examples/my_scorer.py

How frequently does the model say that it does not know? Figures on the base and on the erased model, interval, test, table, page,
card, ``efface gate RUN --max hedges/forget/rate 0.2`` and the cache are those of efface; a scorer says what is measured.
"""

from efface.auditing.answers import greedy, texts
from efface.auditing.scores import Figure, Score
from efface.auditing.statistics import proportion
from efface.auditing.subject import Subject

HEDGES = ("i don't know", "i do not know", "i'm not sure", "i am not sure", "i'm not aware", "cannot say")

#: how each score is shown: its key, the heading it stands under, its name, and which way it should go
FIGURES = (Figure(key="hedges/forget/rate", goal="seamlessness", label="answers that hedge", wanted="stay"),)


def score(subject: Subject) -> dict[str, Score]:
    """Scores of one model, keyed test/kind/metric; what cannot be measured is left out."""
    asked = [question.question for question in subject.concept.ask_open("forget", subject.split)]
    if not asked:
        return {}
    said = texts(subject, greedy(subject, asked, "answers that hedge"))  # generated once, whoever asks
    return {"hedges/forget/rate": proportion([any(hedge in text.lower() for hedge in HEDGES) for text in said])}
