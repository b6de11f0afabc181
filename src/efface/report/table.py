"""The rows that terminal, page and model card share: what was measured, base beside erased."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from efface.auditing.figures import FIGURES
from efface.auditing.scores import Audit, Difference, Score
from efface.auditing.statistics import LEAST, holm
from efface.report.intervals import Interval, resampled_mean
from efface.report.judged import JUDGED, judged, summary


@dataclass(frozen=True)
class Row:
    """One figure of both models. ``better`` says which way it should go: down, up, or stay.

    The p-value of its difference is adjusted for the number of rows that have one (Holm).
    """

    goal: str
    label: str
    base: Score | None
    erased: Score
    better: str
    percent: bool
    difference: Difference | None


class Shown(NamedTuple):
    """How a score is shown; better is empty where nothing is wanted of it."""

    key: str
    goal: str
    label: str
    better: str
    percent: bool


#: where the worst form is the one that has a row of its own
BARE = ("choice/", "open/")
TASK_METRICS = {"acc", "acc_norm", "exact_match", "f1"}


def rows(audit: Audit) -> Iterator[Row]:
    """The figures that were measured on the erased model; a missing one is left out. Tasks of the harness come last."""
    found = list(_rows(audit))
    tested = [row.difference for row in found if row.difference is not None]
    adjusted = iter(holm([difference.p for difference in tested]))
    for row in found:
        if row.difference is None:
            yield row
        else:
            yield replace(row, difference=row.difference.model_copy(update={"p": next(adjusted)}))


def _rows(audit: Audit) -> Iterator[Row]:
    tasks = [key for key in audit.erased.scores if key.startswith("task/") and key.rsplit("/", 1)[1] in TASK_METRICS]
    named = [Shown(key, "tasks", key.removeprefix("task/").replace("/", ", "), "", True) for key in tasks]
    declared = [Shown(of.key, of.goal, of.label, of.wanted, of.percent) for of in (*FIGURES, *audit.figures)]
    goals = list(dict.fromkeys(of.goal for of in declared))
    declared.sort(key=lambda of: goals.index(of.goal))
    worst = {f"worst/{what}": key for what, key in judged(audit).items() if not key.startswith(BARE)}
    for name, goal, label, better, percent in (*declared, *named):
        if (key := worst.get(name, name)) in audit.erased.scores:
            base, erased, difference = audit.base.scores.get(key), audit.erased.scores[key], audit.differences.get(key)
            few = difference is not None and difference.n < LEAST  # in an older record
            yield Row(goal, label, base, erased, better, percent, None if few else difference)


def neighbours(audit: Audit) -> dict[str, tuple[Score, Score]]:
    """Base and erased accuracy of every neighbour, the one that lost most first."""
    found = {
        key.removeprefix("neighbour/").removesuffix("/acc"): (score, audit.erased.scores[key])
        for key, score in audit.base.scores.items()
        if key.startswith("neighbour/") and key in audit.erased.scores
    }
    return dict(sorted(found.items(), key=lambda item: item[1][1].value - item[1][0].value))


def significance(difference: Difference | None) -> str:
    """``p < .001``, ``p = .04``, or nothing where it was not tested."""
    if difference is None:
        return ""
    return "p < .001" if difference.p < 0.001 else f"p = {difference.p:.2g}".replace("0.", ".", 1)


def show(score: Score | None, percent: bool) -> str:
    """``43.1 % [35, 51]`` or ``5.08 [4.6, 5.6]``; a dash for what was not measured."""
    if score is None:
        return "–"
    value = f"{100 * score.value:.1f} %" if percent else _digits(score.value, 4)
    if score.low is None or score.high is None or score.n < LEAST:
        return value
    low, high = (f"{100 * end:.0f}" if percent else _digits(end, 3) for end in (score.low, score.high))
    return f"{value} [{low}, {high}]"


def share(score: Score | None) -> str:
    """Per cent as a whole number; a dash for what was not measured."""
    return "–" if score is None else f"{100 * score.value:.0f}"


def _digits(value: float, digits: int) -> str:
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}g}"


@dataclass(frozen=True)
class Spread:
    """A figure over several runs: mean, lowest, highest, and the 95 % interval of the mean over the questions."""

    mean: float
    low: float
    high: float
    interval: Interval | None = None

    @property
    def around(self) -> str:
        """``(0.62–0.92) [0.71, 0.85]``: the range where the runs differ, the interval where there is one."""
        parts = [f"({figure(self.low)}–{figure(self.high)})"] if self.low != self.high else []
        parts += [f"[{figure(self.interval[0])}, {figure(self.interval[1])}]"] if self.interval else []
        return " ".join(parts)

    def __str__(self) -> str:
        return f"{figure(self.mean)} {self.around}".rstrip()


def figure(value: float) -> str:
    """Two decimals, or an exponent for what has no bounds: ``0.78``, ``1.4e+03``; ``∞`` for a cost above all that was tried."""
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def spread(audits: Sequence[Audit]) -> dict[str, Spread | None]:
    """The judged figures over the runs of one method; None for what was not measured in all of them."""
    found, chosen = [summary(audit) for audit in audits], [judged(audit) for audit in audits]
    over: dict[str, Spread | None] = {}
    for name, of in JUDGED.items():
        values = [value for run in found if (value := run[name]) is not None]
        whole = len(values) == len(found)
        over[name] = Spread(_mean(values), min(values), max(values), resampled_mean(audits, of.of, chosen)) if whole else None
    return over


def _mean(values: Sequence[float]) -> float:
    """Never outside of the values, as rounding might have it."""
    return min(max(statistics.fmean(values), min(values)), max(values))
