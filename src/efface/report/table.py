"""The rows that terminal, page and model card share: what was measured, base beside erased."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from efface.concept import Kind
from efface.groups import LEAST, holm
from efface.report.intervals import Figure, Interval, Redrawn, resampled, resampled_mean
from efface.results import Audit, Difference, Score


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


#: key of the score, goal, label, wanted direction, shown as per cent
FIGURES = (
    ("choice/forget/acc", "innocence", "concept, acc", "down", True),
    ("choice/forget/acc_norm", "innocence", "concept, acc_norm", "down", True),
    ("choice/forget/acc_mutual_info", "innocence", "concept, acc_mutual_info", "down", True),
    ("choice/forget/probability", "innocence", "concept, probability", "down", True),
    ("open/forget/right", "innocence", "concept, open questions", "down", True),
    ("open/forget/leak", "innocence", "concept, leak in samples", "down", True),
    ("perplexity/forget/held_out", "innocence", "concept texts, perplexity", "up", False),
    ("relearned/forget/acc", "permanence", "concept, relearned, acc", "down", True),
    ("relearned/forget/acc_norm", "permanence", "concept, relearned, acc_norm", "down", True),
    ("relearned_control/forget/acc_norm", "permanence", "the same with other texts", "down", True),
    ("answers/forget/perplexity", "seamlessness", "answers, perplexity", "stay", False),
    ("answers/forget/repeated_4grams", "seamlessness", "answers, repeated 4-grams", "stay", True),
    ("answers/forget/distinct_2grams", "seamlessness", "answers, distinct 2-grams", "stay", True),
    ("answers/forget/entropy", "seamlessness", "answers, n-gram entropy", "stay", False),
    ("answers/forget/ends", "seamlessness", "answers that end", "stay", True),
    ("judge/forget/fluency", "seamlessness", "answers, judge (1 to 10)", "stay", False),
    ("choice/neighbour/acc", "specificity", "neighbours, acc", "stay", True),
    ("choice/neighbour/acc_norm", "specificity", "neighbours, acc_norm", "stay", True),
    ("choice/neighbour/acc_mutual_info", "specificity", "neighbours, acc_mutual_info", "stay", True),
    ("choice/neighbour/probability", "specificity", "neighbours, probability", "stay", True),
    ("open/neighbour/right", "specificity", "neighbours, open questions", "stay", True),
    ("choice/general/acc", "specificity", "general, acc", "stay", True),
    ("choice/general/acc_norm", "specificity", "general, acc_norm", "stay", True),
    ("choice/general/acc_mutual_info", "specificity", "general, acc_mutual_info", "stay", True),
    ("choice/general/probability", "specificity", "general, probability", "stay", True),
    ("perplexity/retain/held_out", "specificity", "other texts, perplexity", "stay", False),
    ("drift/retain/kl", "specificity", "other texts, KL from base", "stay", False),
)
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
    named = [(key, "tasks", key.removeprefix("task/").replace("/", ", "), "", True) for key in tasks]
    for key, goal, label, better, percent in (*FIGURES, *named):
        if key in audit.erased.scores:
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


def _digits(value: float, digits: int) -> str:
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}g}"


def gone(audit: Audit, metric: str | None = None) -> float | None:
    """Share of the distance from the base's forget accuracy to chance that is gone; None where the base is at chance.

    metric: by default acc_norm, or acc where the questions have nothing else.
    """
    key = f"choice/forget/{metric}" if metric else accuracy(audit, "forget")
    if key not in audit.base.scores or key not in audit.erased.scores:
        return None
    base, erased, chance = audit.base.scores[key].value, audit.erased.scores[key].value, audit.base.scores[key].chance
    return (base - erased) / (base - chance) if chance is not None and base > chance else None


def accuracy(audit: Audit, kind: str) -> str:
    """Key of the accuracy by which questions of a kind are judged: acc_norm, or acc where it was not measured."""
    if isinstance(audit, Redrawn):
        return audit.judged[kind]
    key = f"choice/{kind}/acc_norm"
    return key if key in audit.erased.scores else f"choice/{kind}/acc"


def kept(audit: Audit, key: str) -> float | None:
    """Erased figure over base figure; None where it was not measured or the base's is 0."""
    if key not in audit.base.scores or key not in audit.erased.scores or not audit.base.scores[key].value:
        return None
    return audit.erased.scores[key].value / audit.base.scores[key].value


def back(audit: Audit) -> float | None:
    """Share of the lost forget accuracy that relearning brings back; None where nothing was lost or it was not measured."""
    key = accuracy(audit, "forget")
    relearned = audit.erased.scores.get(key.replace("choice/", "relearned/"))
    if relearned is None or key not in audit.base.scores or key not in audit.erased.scores:
        return None
    lost = audit.base.scores[key].value - audit.erased.scores[key].value
    return (relearned.value - audit.erased.scores[key].value) / lost if lost > 0 else None


def fluency(audit: Audit) -> float | None:
    """How well answers about the concept read, 1: as the base's. Its perplexity over the erased model's, less what is repeated.

    Loops have a low perplexity, so the share of repeated 4-grams above the base's is taken off.
    """
    ratio, key = kept(audit, "answers/forget/perplexity"), "answers/forget/repeated_4grams"
    if not ratio or key not in audit.base.scores or key not in audit.erased.scores:
        return None
    worse = max(0.0, audit.erased.scores[key].value - audit.base.scores[key].value)
    return min(1.0, 1 / ratio) * (1 - worse)


def specificity(audit: Audit) -> float | None:
    """The least of neighbours kept, general questions kept, and the base's perplexity of other texts over the erased model's."""
    shares = [kept(audit, accuracy(audit, kind)) for kind in ("neighbour", "general")]
    ratio = kept(audit, "perplexity/retain/held_out")
    known = [share for share in (*shares, 1 / ratio if ratio else None) if share is not None]
    return min(1.0, *known) if known else None


def own(audit: Audit, key: str) -> float | None:
    """The erased model's figure; None where it was not measured."""
    return audit.erased.scores[key].value if key in audit.erased.scores else None


#: the figures by which runs are judged and compared
JUDGED: dict[str, Figure] = {
    "gone": gone,
    "forget": lambda audit: own(audit, accuracy(audit, "forget")),
    "open": lambda audit: own(audit, "open/forget/right"),
    "leak": lambda audit: own(audit, "open/forget/leak"),
    "back": back,
    "neighbours": lambda audit: kept(audit, accuracy(audit, "neighbour")),
    "neighbours, open": lambda audit: kept(audit, "open/neighbour/right"),
    "general": lambda audit: kept(audit, accuracy(audit, "general")),
    "retain ppl": lambda audit: kept(audit, "perplexity/retain/held_out"),
    "answers ppl": lambda audit: kept(audit, "answers/forget/perplexity"),
    "repeated": lambda audit: own(audit, "answers/forget/repeated_4grams"),
    "drift": lambda audit: own(audit, "drift/retain/kl"),
    "kept": specificity,
    "fluency": fluency,
}


def summary(audit: Audit) -> dict[str, float | None]:
    """The figures by which runs are judged and compared; None for what was not measured."""
    return {name: figure(audit) for name, figure in JUDGED.items()}


def judged(audit: Audit) -> dict[str, str]:
    """By kind, the key of the accuracy that :func:`accuracy` chooses."""
    return {kind: accuracy(audit, kind) for kind in get_args(Kind)}


def intervals(audit: Audit) -> dict[str, Interval | None]:
    """95 % intervals of the figures of :func:`summary`; None where there is none (:func:`efface.report.intervals.resampled`)."""
    chosen = judged(audit)
    return {name: resampled(audit, figure, chosen) for name, figure in JUDGED.items()}


def verdict(audit: Audit) -> str:
    """One sentence: how much is gone, how much is kept, how the answers read; with 95 % intervals where there are any."""
    found, between = summary(audit), intervals(audit)

    def share(name: str, missing: str, says: str) -> str:
        return (
            missing
            if (value := found[name]) is None
            else says.format(f"{value:.0%}".replace("%", " %") + _percents(between[name]))
        )

    fluent, ends = found["answers ppl"], between["answers ppl"]
    around = f" [{ends[0]:.2g}, {ends[1]:.2g}]" if ends else ""
    parts = [
        share("gone", "forget accuracy not measured above chance", "{} of the way from the base to chance is gone"),
        share("neighbours", "neighbours not measured", "neighbours keep {}"),
        share("general", "general knowledge not measured", "general knowledge keeps {} of the base's accuracy"),
        "answers not measured"
        if fluent is None
        else f"answers about the concept have {fluent:.2g}{around} times the perplexity of the base's",
    ]
    return "; ".join(parts) + "."


def _percents(interval: Interval | None) -> str:
    return f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else ""


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
    """Two decimals, or an exponent for what has no bounds: ``0.78``, ``1.4e+03``."""
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def spread(audits: Sequence[Audit]) -> dict[str, Spread | None]:
    """The judged figures over the runs of one method; None for what was not measured in all of them."""
    found, chosen = [summary(audit) for audit in audits], [judged(audit) for audit in audits]
    over: dict[str, Spread | None] = {}
    for name, of in JUDGED.items():
        values = [value for run in found if (value := run[name]) is not None]
        whole = len(values) == len(found)
        over[name] = Spread(_mean(values), min(values), max(values), resampled_mean(audits, of, chosen)) if whole else None
    return over


def _mean(values: Sequence[float]) -> float:
    """Never outside of the values, as rounding might have it."""
    return min(max(statistics.fmean(values), min(values)), max(values))
