"""The options of the erasure at decoding time, and a seed: what the verbs that answer have in common."""

import math
from typing import Protocol

from efface.errors import InputError
from efface.recipe.settings import MAX_SEED

ETA, MIN_P = 3.0, 0.02  # where nothing else is said


class Guidance(Protocol):
    """Arguments with these; None: the default."""

    @property
    def eta(self) -> float | None:
        """Strength of the tilt."""

    @property
    def guide_min_p(self) -> float | None:
        """How likely, relative to the base's best one, a token has to be."""

    @property
    def seed(self) -> int:
        """Of sampling and of the personas."""


def check_guidance(verb: str, given: Guidance) -> None:
    """Raises InputError for a number that is none of these."""
    if not 0 <= (given.eta or 0) < math.inf:
        raise InputError(f"{verb}: --eta: expected a number from 0 on, got {given.eta}")
    if not 0 <= given.seed <= MAX_SEED:
        raise InputError(f"{verb}: --seed: expected a number from 0 to {MAX_SEED}, got {given.seed}")
    if not 0 <= (given.guide_min_p or 0) < 1:
        raise InputError(f"{verb}: --guide-min-p: expected a number from 0 up to 1, got {given.guide_min_p}")
