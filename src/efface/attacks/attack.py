"""What an attack is: from a subject it makes attacked subjects, one after the other, and each is asked the same questions.

What is scored must not be what was taught. Of an attack that trains, the questions whose right answer stands in none of its texts
(V) tell what comes back beside them; those whose answer does stand there (T) are shown apart (arXiv 2410.08827).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from efface.auditing.answers import replies
from efface.auditing.forms import put
from efface.auditing.likelihoods import log_likelihoods
from efface.auditing.scorers.forms import encode, figures
from efface.auditing.scorers.open import TOKENS, answered
from efface.auditing.scores import Partial, Score
from efface.auditing.statistics import proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Question
from efface.errors import ScorerError, TrainingError
from efface.shown import complain
from efface.writing import contains


@dataclass(frozen=True)
class Attacked:
    """A subject after an attack.

    variant: which of the attack's ways; texts, steps: what was trained on, and for how long; shown: those texts.
    """

    subject: Subject
    variant: str
    texts: int = 0
    steps: int = 0
    shown: tuple[str, ...] = ()


#: measures a subject that an attack has made; it may be changed again afterwards
Measure = Callable[[Attacked], None]


class Attack(Protocol):
    """The extension point: makes attacked subjects, and has each measured. ``subject.of_base``: the base, for comparison."""

    def __call__(self, subject: Subject, measure: Measure) -> None:
        """Attack the subject, which must be afterwards what it was."""
        ...


@dataclass
class AttackScorer:
    """An attack as a scorer of the audit: ``attack/{name}/{variant}/{texts}x{steps}/{kind}/{metric}``.

    kind: ``forget`` (V), ``taught`` (T), ``general``; metric: ``acc_norm`` of bare stems, ``right`` of open questions in chat;
    ``cost/seconds``: since the attack began or the last figure was there. key: what else decides the figures, for the cache.
    """

    name: str
    attack: Attack
    key: str = ""
    __name__: str = field(init=False)

    def __post_init__(self) -> None:
        self.__name__ = f"attack {self.name} {self.key}".rstrip()

    def __call__(self, subject: Subject) -> dict[str, Score]:
        """Attack the subject and measure what that leaves; an attack that fails is left out, with a line that says why."""
        scores, began = dict[str, Score](), time.perf_counter()

        def measure(attacked: Attacked) -> None:
            nonlocal began
            seconds = time.perf_counter() - began
            where = f"attack/{self.name}/{attacked.variant.replace('/', ' ')}/{attacked.texts}x{attacked.steps}"
            scores.update({f"{where}/{key}": score for key, score in ask(attacked).items()})
            scores[f"{where}/cost/seconds"] = Score(value=seconds, n=1)
            began = time.perf_counter()

        try:
            self.attack(subject, measure)
        except (ScorerError, TrainingError) as error:  # what else was measured stays
            complain(f"attack {self.name} is left out from there on: {error} ({subject.where})")
            return Partial(scores)
        return scores


def ask(attacked: Attacked) -> dict[str, Score]:
    """The questions on the concept and general ones, ``kind/metric``; what cannot be measured is left out."""
    subject, scores = attacked.subject, dict[str, Score]()
    for kind in ("forget", "general"):
        questions = subject.concept.ask(kind, subject.split)  # type: ignore[arg-type]
        rows = [encode(subject.tokenizer, put("bare", question, subject.concept)) for question in questions]
        found = log_likelihoods(subject.model, rows, subject.tokenizer.pad_token_id) if rows else []
        taught = [kind == "forget" and contains("\n".join(attacked.shown), [_right(question)]) for question in questions]
        for name, wanted in ((kind, False), ("taught", True)):
            at = [i for i, is_taught in enumerate(taught) if is_taught == wanted]
            if at:
                of = figures(name, [questions[i] for i in at], [found[i] for i in at], lettered=False)
                scores[f"{name}/acc_norm"] = of[f"{name}/acc_norm"]
    return scores | _said(attacked)


def _said(attacked: Attacked) -> dict[str, Score]:
    """Open questions answered right."""
    subject, asked = attacked.subject, attacked.subject.concept.ask_open("forget", attacked.subject.split)
    if not asked:
        return {}
    right = answered(subject, replies(subject, [row.question for row in asked], TOKENS, "open questions"), asked)
    taught = [contains("\n".join(attacked.shown), row.answers) for row in asked]
    found = {
        kind: [hit for hit, is_taught in zip(right, taught, strict=True) if is_taught == wanted]
        for kind, wanted in (("forget", False), ("taught", True))
    }
    return {f"{kind}/right": proportion(hits) for kind, hits in found.items() if hits}


def _right(question: Question) -> str:
    return question.choices[question.answer]


def evenly(rows: Sequence[str], count: int) -> tuple[str, ...]:
    """So many of the rows, from all over them."""
    return tuple(rows[:: max(1, len(rows) // count)][:count])
