"""Statistics of items that belong together: whole groups are drawn again, and signs flipped group by group.

Four questions that share four choices, each right once, are not four independent ones: a model that answers by the choices alone
has exactly one of them right. Taken for independent their intervals are too wide, or too narrow where a group rises as one.

Intervals: percentile bootstrap over groups, with the percentiles that make up for few groups (Hesterberg 2015, arXiv 1411.5279,
"expanded percentile"). Every draw is seeded: the same figures always have the same intervals.
"""

import math
import statistics
from collections.abc import Hashable, Iterable, Sequence
from statistics import NormalDist

import numpy as np

from efface.auditing.scores import Difference, Score
from efface.errors import TrainingError

#: nothing is tested and nothing has an interval on fewer groups
LEAST = 5
DRAWS = 10_000
CELLS = 2_000_000  # of draws times groups at once: 16 MB


def numbered(groups: Iterable[Hashable]) -> tuple[int, ...] | None:
    """Groups as numbers from 0, in order of appearance; None where every item is alone in its own."""
    numbers: dict[Hashable, int] = {}
    found = tuple(numbers.setdefault(group, len(numbers)) for group in groups)
    return found if len(numbers) < len(found) else None


def totals(columns: np.ndarray, groups: Sequence[int] | None) -> np.ndarray:
    """Sums over the items of every group: ``[n, k]`` to ``[groups, k]``; groups None: every item alone."""
    if groups is None:
        return columns
    summed = np.zeros((max(groups) + 1, columns.shape[1]))
    np.add.at(summed, np.asarray(groups), columns)
    return summed


def redrawn(sums: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Sums over as many groups drawn with replacement: ``[groups, k]`` to ``[draws, k]``."""
    count, rng = len(sums), np.random.default_rng(seed)
    rows = max(1, min(draws, CELLS // count))
    parts = [min(rows, draws - first) for first in range(0, draws, rows)]
    return np.concatenate([rng.multinomial(count, np.full(count, 1 / count), size=part) @ sums for part in parts])


def redrawn_means(values: Sequence[float], groups: Sequence[int] | None) -> tuple[np.ndarray, int]:
    """Means of the items under every draw, and the number of groups; fewer draws where there are thousands of groups."""
    sums = totals(np.stack([np.asarray(values, dtype=float), np.ones(len(values))], 1), groups)
    found = redrawn(sums, draws=max(DRAWS // 10, min(DRAWS, 10 * CELLS // len(sums))))
    return found[:, 0] / found[:, 1], len(sums)


def ends(drawn: np.ndarray, groups: int) -> tuple[float, float]:
    """95 % interval of a figure from its values under the draws of so many groups.

    A draw in which the figure does not exist (NaN) may be anything: it counts at both ends, which may then be infinite.
    """
    from scipy.special import stdtrit

    tail = NormalDist().cdf(-math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, 0.975)))
    least, most = (np.where(np.isnan(drawn), beyond, drawn) for beyond in (-math.inf, math.inf))
    return float(np.quantile(least, tail, method="lower")), float(np.quantile(most, 1 - tail, method="higher"))


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of ``n`` independent items."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def sign_flips(sums: Iterable[int]) -> float:
    """Two-sided p of these sums of groups if in every group plus and minus were as likely: exact, over all flips.

    Where no group has more than one item this is the exact McNemar test.
    """
    signed = list(sums)
    sizes = [abs(size) for size in signed if size]
    seen, most = abs(sum(signed)), sum(sizes)
    share = np.zeros(2 * most + 1)  # of the flips that end at -most … most
    share[most] = 1.0
    for size in sizes:
        share = (np.roll(share, size) + np.roll(share, -size)) / 2
    far = np.abs(np.arange(-most, most + 1)) >= seen
    return min(1.0, float(share[far].sum()))


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): the chance that any of them would be so small by chance is kept."""
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted, worst = [1.0] * len(values), 0.0
    for rank, at in enumerate(order):
        worst = adjusted[at] = max(worst, min(1.0, (len(values) - rank) * values[at]))
    return adjusted


def proportion(hits: Sequence[bool], chance: float | None = None, groups: Sequence[Hashable] | None = None) -> Score:
    """Share of hits with its 95 % interval: Wilson, or a bootstrap over groups where some items share one.

    groups: of every item, anything that tells them apart; None: every item alone. Where all items agree no draw differs from
    another; then it is Wilson's for as many items as there are groups.
    """
    assert hits
    score = Score(value=sum(hits) / len(hits), n=len(hits), chance=chance, items=tuple(map(float, hits)), groups=_of(groups))
    if score.units < LEAST:
        return score
    if score.groups is None or score.value in (0.0, 1.0):
        return _between(score, wilson(score.value, score.units))
    return _between(score, ends(*redrawn_means(score.items or (), score.groups)))


def average(values: Sequence[float], chance: float | None = None, groups: Sequence[Hashable] | None = None) -> Score:
    """Mean of any values with its 95 % interval: 1.96 standard errors (not below 0 if no value is), or a bootstrap over groups.

    Raises TrainingError for a value that is no finite number.
    """
    if not all(map(math.isfinite, values)):
        raise TrainingError("the model gives no finite numbers")
    score = Score(value=statistics.fmean(values), n=len(values), chance=chance, items=tuple(values), groups=_of(groups))
    if score.units < LEAST:
        return score
    if score.groups is not None:
        return _between(score, ends(*redrawn_means(values, score.groups)))
    half = 1.96 * statistics.stdev(values) / math.sqrt(score.n)
    least = 0.0 if min(values) >= 0 else -math.inf
    return _between(score, (max(score.value - half, least), score.value + half))


def _of(groups: Sequence[Hashable] | None) -> tuple[int, ...] | None:
    return None if groups is None else numbered(groups)


def _between(score: Score, interval: tuple[float, float]) -> Score:
    return score.model_copy(update={"low": interval[0], "high": interval[1]})


def difference(base: Score, erased: Score) -> Difference | None:
    """Erased minus base over their items; None where these were not kept, do not match, or make fewer than five groups."""
    if not base.items or not erased.items or len(base.items) != len(erased.items) or base.groups != erased.groups:
        return None
    if erased.units < LEAST:
        return None
    pairs = np.array([base.items, erased.items])
    gaps, groups = pairs[1] - pairs[0], erased.groups
    means, count = redrawn_means(gaps.tolist(), groups)
    low, high = ends(means, count)
    if set(np.unique(pairs)) <= {0.0, 1.0}:
        p = sign_flips(int(total) for total in totals(gaps[:, None], groups)[:, 0])
        test = "McNemar" if groups is None else "sign flips"
    else:
        p, test = min(1.0, 2 * (1 + int(min((means <= 0).sum(), (means >= 0).sum()))) / (len(means) + 1)), "bootstrap"
    return Difference(value=float(gaps.mean()), n=len(gaps), low=low, high=high, p=p, test=test)  # type: ignore[arg-type]
