"""What an attack is: from a subject it makes attacked subjects, one after the other, and each is asked the same questions.

What is scored must not be what was taught. Of an attack that trains, the questions whose right answer stands in none of its texts
(V) tell what comes back beside them; those whose answer does stand there (T) are shown apart (arXiv 2410.08827).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from efface.auditing.answers import replies
from efface.auditing.batches import out_of_memory
from efface.auditing.forms import put
from efface.auditing.likelihoods import Branches, log_likelihoods
from efface.auditing.public import Lettered, topics_asked
from efface.auditing.scorers.forms import encode, figures
from efface.auditing.scorers.open import TOKENS, answered
from efface.auditing.scores import Partial, Score
from efface.auditing.statistics import proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Passage, Question
from efface.errors import ModelError, ScorerError, TrainingError, first_line
from efface.lm.layers import positions
from efface.shown import complain
from efface.writing import contains, folded

_T = TypeVar("_T")


@dataclass(frozen=True)
class Attacked:
    """A subject after an attack.

    variant: which of the attack's ways; texts, steps: on how many it was trained, and for how long; shown: these passages.
    form: in which stems are put (:mod:`efface.auditing.forms`). found: what the attack has measured itself, ``kind/metric``.
    """

    subject: Subject
    variant: str
    texts: int = 0
    steps: int = 0
    shown: tuple[Passage, ...] = ()
    form: str = "bare"
    found: Mapping[str, Score] = field(default_factory=dict)


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
    asked: questions besides those of the pack, where it has none of a kind.
    """

    name: str
    attack: Attack
    key: str = ""
    asked: tuple[Question, ...] = ()
    __name__: str = field(init=False)

    def __post_init__(self) -> None:
        self.__name__ = f"attack {self.name} {self.key}".rstrip()

    def __call__(self, subject: Subject) -> dict[str, Score]:
        """Attack the subject and measure what that leaves; an attack that fails is left out, with a line that says why."""
        scores, began, subject = dict[str, Score](), time.perf_counter(), _complete(subject, self.asked)

        def measure(attacked: Attacked) -> None:
            nonlocal began
            seconds = time.perf_counter() - began
            where = f"attack/{self.name}/{attacked.variant.replace('/', ' ')}/{attacked.texts}x{attacked.steps}"
            scores.update({f"{where}/{key}": score for key, score in ask(attacked).items()})
            scores[f"{where}/cost/seconds"] = Score(value=seconds, n=1)
            began = time.perf_counter()

        if self.asked:  # no other part of the audit asks these
            measure(Attacked(subject, "before"))
        try:
            self.attack(subject, measure)
        except (RuntimeError, MemoryError, ModelError, ScorerError) as error:  # what else was measured stays
            expected = isinstance(error, TrainingError | ModelError | ScorerError)
            if not (expected or out_of_memory(error)):
                raise
            says = error if expected else f"out of memory ({first_line(error)})"
            complain(f"attack {self.name} is left out from there on: {says} ({subject.where})")
            return Partial(scores)
        return scores


def _complete(subject: Subject, asked: Sequence[Question]) -> Subject:
    """With those of these questions that it can read too, and the topics where the pack asks nothing about the concept itself."""
    concept, split, room = subject.concept, subject.split, positions(subject.model)
    asked = [row for row in asked if room is None or max(of.longest for of in encoded([row], subject)) <= room]
    own = concept.ask("forget", split) or concept.ask_open("forget", split)
    open_questions = () if own else topics_asked(concept, split, subject.words)
    if not asked and not open_questions:
        return subject
    rows = {"questions": (*concept.questions, *asked), "open_questions": (*concept.open_questions, *open_questions)}
    return replace(subject, concept=concept.model_copy(update=rows))


def encoded(questions: Sequence[Question], subject: Subject, form: str = "bare") -> list[Branches]:
    """Choice questions with their stems in a form; where all are of tasks that score letters, as such a task asks them."""
    form = _form(questions, form)
    return [encode(subject.tokenizer, put(form, question, subject.concept)) for question in questions]


def _form(questions: Sequence[Question], form: str = "bare") -> str:
    return "letters" if questions and all(isinstance(question, Lettered) for question in questions) else form


def ask(attacked: Attacked) -> dict[str, Score]:
    """The questions on the concept and general ones, ``kind/metric``; what cannot be measured is left out."""
    subject, scores = attacked.subject, dict[str, Score]()
    for kind in ("forget", "general"):
        questions = subject.concept.ask(kind, subject.split)  # type: ignore[arg-type]
        rows, lettered = encoded(questions, subject, attacked.form), _form(questions) == "letters"
        found = log_likelihoods(subject.model, rows, subject.tokenizer.pad_token_id) if rows else []
        taught = [kind == "forget" and tells(attacked.shown, [_right(question)]) for question in questions]
        for name, wanted in ((kind, False), ("taught", True)):
            at = [i for i, is_taught in enumerate(taught) if is_taught == wanted]
            if at:
                of = figures(name, [questions[i] for i in at], [found[i] for i in at], lettered)
                scores[f"{name}/acc_norm"] = of[f"{name}/acc_norm"]
    return {**scores, **_said(attacked), **attacked.found}


def _said(attacked: Attacked) -> dict[str, Score]:
    """Open questions answered right."""
    subject, asked = attacked.subject, attacked.subject.concept.ask_open("forget", attacked.subject.split)
    if not asked:
        return {}
    right = answered(subject, replies(subject, [row.question for row in asked], TOKENS, "open questions"), asked)
    taught = [tells(attacked.shown, row.answers) for row in asked]
    found = {
        kind: [hit for hit, is_taught in zip(right, taught, strict=True) if is_taught == wanted]
        for kind, wanted in (("forget", False), ("taught", True))
    }
    return {f"{kind}/right": proportion(hits) for kind, hits in found.items() if hits}


def tells(shown: Sequence[Passage], answers: Sequence[str]) -> bool:
    """Whether a fact with these answers stands in one of the passages: it says so, or, where it does not say, as whole words."""
    said = {folded(fact) for passage in shown for fact in passage.facts or ()}
    unsaid = "\n".join(passage.text for passage in shown if passage.facts is None)
    return any(folded(answer) in said for answer in answers) or contains(unsaid, answers)


def _right(question: Question) -> str:
    return question.choices[question.answer]


def evenly(rows: Sequence[_T], count: int) -> tuple[_T, ...]:
    """So many of the rows, from all over them."""
    return tuple(rows[:: max(1, len(rows) // count)][:count])
