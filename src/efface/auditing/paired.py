"""Erased against base on the same items, those that share their choices together.

Right and wrong: exact sign flips of the groups' sums; with every item alone this is the exact McNemar test. The rest: bootstrap
over groups, of paired differences.
"""

import numpy as np

from efface.auditing.scores import Difference, Score
from efface.auditing.statistics import LEAST, ends, redrawn_means, sign_flips, totals


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
