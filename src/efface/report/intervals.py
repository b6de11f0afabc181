"""95 % intervals of derived figures: ratios, shares, the least of several, by drawing the items of all scores in them again.

Both models' items are drawn together, and groups as a whole, as in :mod:`efface.auditing.statistics`; then the figure is computed
as from the measured scores. It may be any function of an audit.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

import numpy as np

from efface.auditing.scores import Audit, Measured, Score
from efface.auditing.statistics import LEAST, ends, redrawn, totals

DRAWS = 1000

#: any figure of an audit
Derived = Callable[[Audit], float | None]
Interval = tuple[float, float]
Scores = dict[str, Score]


class Redrawn(Audit):
    """An audit with the scores of one draw. judged: by kind (and ``open``), the key that was chosen on the real items.

    It is chosen once and held: a worst one looked for in every draw would be worse than the worst of the real items.
    """

    judged: Mapping[str, str]


class _Noted(dict[str, Score]):
    """Scores that remember which of them were read."""

    def __init__(self, scores: Mapping[str, Score]) -> None:
        super().__init__(scores)
        self.read = dict[str, None]()

    def __getitem__(self, key: str) -> Score:
        found = super().__getitem__(key)
        self.read[key] = None
        return found

    def get(self, key: str, default: Any = None) -> Any:
        with suppress(KeyError):
            return self[key]
        return default


def used(audit: Audit, figure: Derived, judged: Mapping[str, str]) -> tuple[Scores, Scores]:
    """The scores of the base and of the erased model that a figure reads."""
    base, erased = _Noted(audit.base.scores), _Noted(audit.erased.scores)
    figure(_with(audit, base, erased, judged))
    return {key: base[key] for key in base.read}, {key: erased[key] for key in erased.read}


def resampled(audit: Audit, figure: Derived, judged: Mapping[str, str]) -> Interval | None:
    """95 % interval of a figure. None: not measured, items not kept, fewer than five groups, or in too many draws divided by 0.

    judged: by kind, the accuracy that the figure shall go by. A figure that is a score of its own has the interval of that score.
    """
    value, (base, erased) = figure(_with(audit, audit.base.scores, audit.erased.scores, judged)), used(audit, figure, judged)
    scores = [*base.values(), *erased.values()]
    if value is None or not scores:
        return None
    if len(scores) == 1 and scores[0].value == value:
        low, high = scores[0].low, scores[0].high
        return (low, high) if low is not None and high is not None and scores[0].units >= LEAST else None
    drawn = values(audit, figure, judged)
    return None if drawn is None else _known(drawn, min(score.units for score in scores))


def pooled(audit: Audit, figures: Sequence[Derived], judged: Mapping[str, str]) -> Interval | None:
    """95 % interval of a figure that was measured several times, each way its own function: over the items and over these."""
    if len(figures) == 1:
        return resampled(audit, figures[0], judged)
    drawn = [values(audit, figure, judged) for figure in figures]
    known = [of for of in drawn if of is not None]
    if not known or len(known) < len(drawn):
        return None
    sides = [side for figure in figures for side in used(audit, figure, judged)]
    return _known(np.concatenate(known), min(score.units for side in sides for score in side.values()))


def resampled_mean(audits: Sequence[Audit], figure: Derived, judged: Sequence[Mapping[str, str]]) -> Interval | None:
    """95 % interval of a figure's mean over several runs: the same questions are drawn for all of them.

    It says how far the mean depends on the questions; how far on the seeds of the runs, their range says.
    """
    if len(audits) == 1:
        return resampled(audits[0], figure, judged[0])
    drawn = [values(audit, figure, of) for audit, of in zip(audits, judged, strict=True)]
    known = [of for of in drawn if of is not None]
    if not known or len(known) < len(drawn):
        return None
    sides = [side for audit, of in zip(audits, judged, strict=True) for side in used(audit, figure, of)]
    return _known(np.mean(known, axis=0), min(score.units for side in sides for score in side.values()))


def _known(drawn: np.ndarray, groups: int) -> Interval | None:
    """None where an end lies beyond the draws in which the figure exists; it may be infinite in those where it does."""
    interval = ends(drawn, groups)
    beyond = np.isnan(drawn).any() and not all(map(math.isfinite, interval))
    return None if beyond else interval


def values(audit: Audit, figure: Derived, judged: Mapping[str, str]) -> np.ndarray | None:
    """The figure in every draw ``[draws]``, NaN where it is not defined; None where some score cannot be drawn again."""
    sides = used(audit, figure, judged)
    drawn = [{key: _draws(f"{audit.concept} {key}", score) for key, score in side.items()} for side in sides]
    known = [{key: of for key, of in side.items() if of is not None} for side in drawn]
    if [*map(len, known)] != [*map(len, drawn)]:
        return None
    both = zip(*(_each(*side) for side in zip(sides, known, strict=True)), strict=True)
    found = [figure(_with(audit, base, erased, judged)) for base, erased in both]
    return np.array([math.nan if value is None else value for value in found])


def _draws(key: str, score: Score) -> np.ndarray | None:
    """The score's value in every draw; None where it cannot be told. Scores of the same questions are drawn alike."""
    if not score.items or score.units < LEAST:
        return None
    items = np.array(score.items)
    if score.low != score.high and set(score.items) in ({0.0}, {1.0}):  # no draw differs: what is behind none or all of so many
        count, rng = score.units, np.random.default_rng(crc32(key.encode()))
        return rng.beta(count * score.value + 0.5, count * (1 - score.value) + 0.5, DRAWS)
    weights = np.ones(len(items)) if score.tokens is None else np.array(score.tokens, dtype=float)
    sums = totals(np.stack([items * weights, weights], 1), score.groups)
    whole = sums.sum(0)
    if not math.isclose(_value(score, whole[None])[0], score.value, rel_tol=1e-6, abs_tol=1e-9):
        return None  # an older perplexity, whose items have no number of tokens
    concept, kind = key.split(" ")[0], key.split("/")[-2:][0]
    return _value(score, redrawn(sums, DRAWS, crc32(f"{concept} {kind} {score.n}".encode())))


def _value(score: Score, sums: np.ndarray) -> np.ndarray:
    """Of the weighted sum and the weights of all items ``[draws, 2]``: their mean, or the perplexity."""
    means: np.ndarray = sums[:, 0] / sums[:, 1]
    return means if score.tokens is None else np.exp(np.minimum(means, 700.0))


def _each(scores: Scores, drawn: Mapping[str, np.ndarray]) -> Iterator[Scores]:
    """The scores of every draw."""
    for at in range(DRAWS):
        yield {key: score.model_copy(update={"value": float(drawn[key][at])}) for key, score in scores.items()}


def _with(audit: Audit, base: Scores, erased: Scores, judged: Mapping[str, str]) -> Redrawn:
    """Unchecked, for there are thousands of them."""
    before, after = (Measured.model_construct(scores=scores, answers=[]) for scores in (base, erased))
    return Redrawn.model_construct(concept=audit.concept, split=audit.split, judged=judged, base=before, erased=after)
