"""Scorers of the user's own, each a file: ``FIGURES``, how its scores are shown, and ``score(subject)``, which measures them."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from efface.auditing.scores import Figure, Score
from efface.auditing.subject import Scorer, Subject
from efface.errors import EffaceError, InputError
from efface.recipe.own import import_file


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
        except Exception as error:
            raise InputError(f"{self.file}: score: {type(error).__name__}: {error}") from error
        if not (isinstance(found, dict) and all(isinstance(of, Score) for of in found.values())):
            raise InputError(f"{self.file}: score: expected a dict of Score, got {type(found).__name__}")
        return found


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
        digest = sha256(Path(file).read_bytes()).hexdigest()[:16]
        found.append(OwnScorer(file, score, tuple(figures), f"{Path(file).stem} {digest}"))
    return tuple(found)
