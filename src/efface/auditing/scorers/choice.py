"""Multiple choice: the pack's questions in the lm-evaluation-harness, zero-shot.

``acc``: the likeliest choice is right; ``acc_norm``: likeliest per byte; ``acc_mutual_info``: the one whose likelihood the
question raises most; ``probability``: of the right choice among the choices. Chance is one over the number of choices.
"""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from efface.auditing.scorers.harness import METRICS, Samples, ask, probability
from efface.auditing.scores import Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Kind, Question


def score_choices(subject: Subject) -> dict[str, Score]:
    """``choice/{kind}/{metric}`` for forget, neighbour and general questions; ``neighbour/{topic}/acc`` for each neighbour."""
    asked = {kind: subject.concept.ask(kind, subject.split) for kind in get_args(Kind)}
    asked = {kind: questions for kind, questions in asked.items() if questions}
    scores: dict[str, Score] = {}
    for kind, samples in ask(subject, asked).items():
        guessing, groups = chance(asked[kind]), alike(asked[kind])
        scores |= {f"choice/{kind}/{metric}": proportion(hits(samples, metric), guessing, groups) for metric in METRICS}
        scores[f"choice/{kind}/probability"] = average([probability(sample) for sample in samples], guessing, groups)
        if kind == "neighbour":
            for topic in dict.fromkeys(question.topic for question in asked[kind]):
                at = [i for i, question in enumerate(asked[kind]) if question.topic == topic]
                right = hits([samples[i] for i in at], "acc")
                scores[f"neighbour/{topic}/acc"] = proportion(right, guessing, [groups[i] for i in at])
    return scores


def hits(samples: Samples, metric: str) -> list[bool]:
    """Whether each question was answered right."""
    return [bool(sample[metric]) for sample in samples]


def alike(questions: Sequence[Question]) -> list[tuple[str, ...]]:
    """The group of every question: of one kind, with the same choices, each of them right once.

    Where a set of choices is asked again with the same answer, another group begins: yes and no make many pairs, not one group.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    groups = []
    for question in questions:
        choices = (question.kind, *sorted(question.choices))
        answer = (*choices, question.choices[question.answer])
        groups.append((*choices, str(seen[answer])))
        seen[answer] += 1
    return groups


def chance(questions: Sequence[Question]) -> float:
    """Accuracy of guessing: the mean of one over the number of choices."""
    return sum(1 / len(question.choices) for question in questions) / len(questions)


def score_without_question(subject: Subject) -> dict[str, Score]:
    """``choice_only/{kind}/{metric}``: the same choices after "It is". Far from chance: they give the answer away."""
    bare = {
        kind: [question.model_copy(update={"stem": "It is"}) for question in subject.concept.questions if question.kind == kind]
        for kind in get_args(Kind)
    }
    found = ask(subject, {kind: questions for kind, questions in bare.items() if questions})
    return {
        f"choice_only/{kind}/{metric}": proportion(hits(found[kind], metric), groups=alike(bare[kind]))
        for kind in found
        for metric in ("acc", "acc_norm")
    }
