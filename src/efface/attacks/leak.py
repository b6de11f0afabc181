"""Leak curve: the same open question, asked again and again at temperature 1, until one of the answers is right.

What an erasure has made unlikely is still said by chance: who asks often and can tell a right answer gets it. Each point of the
curve is estimated without bias from the same samples (arXiv 2107.03374, 2511.04934).
"""

from dataclasses import dataclass, replace

from efface.attacks.attack import Attacked, Measure
from efface.attacks.relearning import merged
from efface.auditing.scorers.open import leak_curve, right_of
from efface.auditing.subject import Subject

SIZES = (64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Leak:
    """``any of K answers`` for every size up to so many samples; the largest first, for it is what the seconds are spent on."""

    samples: int

    def __call__(self, subject: Subject, measure: Measure) -> None:
        """Only open questions on the concept are asked."""
        if not (asked := subject.concept.ask_open("forget", subject.split)):
            return
        counts = right_of(merged(subject), asked, self.samples)
        silent = replace(subject, concept=subject.concept.model_copy(update={"questions": (), "open_questions": ()}))
        for k, score in leak_curve(counts, self.samples, SIZES).items():
            measure(Attacked(silent, f"any of {k} answers", found={"forget/right": score}))
