"""Erased against base on the same items: exact McNemar test for right and wrong, paired bootstrap for the rest."""

import numpy as np
from scipy.stats import binomtest

from efface.results import Difference, Score

DRAWS = 2000


def difference(base: Score, erased: Score) -> Difference | None:
    """Erased minus base over their items; None where these were not kept or do not match."""
    if not base.items or not erased.items or len(base.items) != len(erased.items):
        return None
    pairs = np.array([base.items, erased.items])
    gaps = pairs[1] - pairs[0]
    rng = np.random.default_rng(0)
    means = np.array([gaps[rng.integers(len(gaps), size=len(gaps))].mean() for _ in range(DRAWS)])
    low, high = np.quantile(means, [0.025, 0.975])
    if set(np.unique(pairs)) <= {0.0, 1.0}:
        won, lost = int((gaps > 0).sum()), int((gaps < 0).sum())
        p, test = (binomtest(won, won + lost).pvalue if won + lost else 1.0), "McNemar"
    else:
        p, test = min(1.0, 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (DRAWS + 1)), "bootstrap"
    return Difference(value=gaps.mean(), n=len(gaps), low=low, high=high, p=float(p), test=test)  # type: ignore[arg-type]
