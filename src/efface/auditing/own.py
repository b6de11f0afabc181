"""Scorers of the user's own, each a file: ``FIGURES``, how its scores are shown, and ``score(subject)``, which measures them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from efface.auditing.figures import FIGURES
from efface.auditing.scores import Figure, Score
from efface.auditing.subject import Scorer, Subject
from efface.errors import EffaceError, InputError
from efface.recipe.own import import_file, in_brief


@dataclass
class OwnScorer:
    """A scorer from a file. __name__: tells it, and what stands in its file, from all others."""

    file: str
    score: Scorer
    figures: tuple[Figure, ...]
    __name__: str

    def __call__(self, subject: Subject) -> dict[str, Score]:
        """Measure the subject. Raises InputError in one line for what goes wrong in the file."""
        try:
            found = self.score(subject)
        except EffaceError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(f"{self.file}: score: {in_brief(error)}") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.file}: score: expected a dict of Score, got {type(found).__name__}")
        for key, of in found.items():
            self._require(key, of)
        return found

    def _require(self, key: Any, of: Any) -> None:
        """Raises InputError for what is no score that an audit can hold."""
        if not (isinstance(key, str) and key.count("/") == 2 and isinstance(of, Score)):
            raise InputError(f"{self.file}: score: expected a Score by key (test/kind/metric), got {key!r}: {type(of).__name__}")
        if not math.isfinite(of.value) or of.n < 1:
            raise InputError(f"{self.file}: score: expected a finite value, n 1 or more, got {key} {of.value}, n {of.n}")
        if of.items is not None and len(of.items) != of.n:
            raise InputError(f"{self.file}: score: {key} has {len(of.items)} items, expected n ({of.n}) of them")


def own_scorers(files: Sequence[str]) -> tuple[OwnScorer, ...]:
    """The scorers in these files. Raises InputError for one that has none."""
    found = []
    for file in files:
        module = import_file(Path(file), "scorer")
        score, figures = getattr(module, "score", None), getattr(module, "FIGURES", ())
        if not callable(score):
            raise InputError(f"{file}: expected a function score(subject)")
        if not (isinstance(figures, tuple | list) and all(isinstance(of, Figure) for of in figures)):
            raise InputError(f"{file}: expected FIGURES to be a tuple of efface.auditing.scores.Figure")
        if taken := [of.key for of in figures if of.key in {figure.key for figure in FIGURES}]:
            raise InputError(f"{file}: FIGURES: {taken[0]} is a figure of every audit; choose another key")
        digest = sha256(Path(file).read_bytes()).hexdigest()[:16]
        found.append(OwnScorer(file, score, tuple(figures), f"{Path(file).stem} {digest}"))
    return tuple(found)
