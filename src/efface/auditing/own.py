"""Scorers of the user's own, each a file: ``FIGURES``, how its scores are shown, and ``score(subject)``, which measures them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from efface.auditing.figures import FIGURES
from efface.auditing.scores import Figure, Partial, Score
from efface.auditing.subject import Scorer, Subject
from efface.errors import InputError, ScorerError
from efface.lm.condition import condition
from efface.recipe.own import import_file, in_brief, require_function
from efface.shown import complain

_T = TypeVar("_T")


def run_own(file: str, name: str, subject: Subject, work: Callable[[], _T]) -> _T:
    """What a function in a file of the user's own makes of a subject. name: of the function.

    Raises ScorerError in one line for what goes wrong there; InputError where a model is not what it was afterwards, whatever
    else went wrong, for all that is measured later would be wrong.
    """
    others = (subject.other_base, subject.judge.model if subject.judge else None)
    models = [subject.model, *(of for of in others if of is not None and of is not subject.model)]
    before, failed = [condition(of) for of in models], None
    try:
        found = work()
    except (Exception, SystemExit) as error:
        failed = error
    for model, was in zip(models, before, strict=True):
        if changed := [part for part, now in condition(model).items() if now != was[part]]:
            where = f"{file}: {name} left the model with another state ({', '.join(changed)})"
            raise InputError(
                f"{where}, so nothing more can be measured on it; change a copy (release(subject.model))"
            ) from failed
    if failed is not None:
        raise ScorerError(f"{file}: {name}: {in_brief(failed)}") from failed
    return found


@dataclass
class OwnScorer:
    """A scorer from a file. __name__: tells it, and what stands in its file, from all others."""

    file: str
    score: Scorer
    figures: tuple[Figure, ...]
    __name__: str

    def __call__(self, subject: Subject) -> dict[str, Score]:
        """Measure the subject; a scorer in which something goes wrong is left out, with a line that says what."""
        try:
            found = run_own(self.file, "score", subject, lambda: self.score(subject))
            if not isinstance(found, dict):
                raise ScorerError(f"{self.file}: score: expected a dict of Score, got {type(found).__name__}")
            for key, of in found.items():
                self._require(key, of)
        except ScorerError as error:
            complain(f"scorer {Path(self.file).stem} is left out: {error} ({subject.where})")
            return Partial()
        return found

    def _require(self, key: Any, of: Any) -> None:
        """Raises ScorerError for what is no score that an audit can hold."""
        if not (isinstance(key, str) and key.count("/") == 2 and isinstance(of, Score)):
            raise ScorerError(f"{self.file}: score: expected a Score by key (test/kind/metric), got {key!r}: {type(of).__name__}")
        if not math.isfinite(of.value) or of.n < 1:
            raise ScorerError(f"{self.file}: score: expected a finite value, n 1 or more, got {key} {of.value}, n {of.n}")
        if of.items is not None and len(of.items) != of.n:
            raise ScorerError(f"{self.file}: score: {key} has {len(of.items)} items, expected n ({of.n}) of them")


def own_scorers(files: Sequence[str]) -> tuple[OwnScorer, ...]:
    """The scorers in these files. Raises InputError for one that has none."""
    found = []
    for file in files:
        module = import_file(Path(file), "scorer")
        score = require_function(getattr(module, "score", None), file, "score(subject)")
        figures = getattr(module, "FIGURES", ())
        if not (isinstance(figures, tuple | list) and all(isinstance(of, Figure) for of in figures)):
            raise InputError(f"{file}: expected FIGURES to be a tuple of efface.auditing.scores.Figure")
        if taken := [of.key for of in figures if of.key in {figure.key for figure in FIGURES}]:
            raise InputError(f"{file}: FIGURES: {taken[0]} is a figure of every audit; choose another key")
        digest = sha256(Path(file).read_bytes()).hexdigest()[:16]
        found.append(OwnScorer(file, score, tuple(figures), f"{Path(file).stem} {digest}"))
    return tuple(found)
