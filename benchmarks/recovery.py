"""The table of what it takes to get the knowledge back: every row's relearning curves, on questions that were not taught."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from efface.auditing.scores import Audit
from efface.report.recovery import CONTROL, MEASURES, Point, cost, curves, points, share_back

CHOICE = MEASURES["choice"]


def attacked(audit: Audit) -> bool:
    """Whether a training of an attacker was measured."""
    return bool(curves(audit))


def recovery_table(found: Mapping[str, Sequence[Audit]]) -> str:
    """Markdown: per cent right before, along the first training and after it on other texts; the cost to recover.

    Means over the runs of a row; of costs the range.
    """
    steps = sorted({point.steps for of in found.values() for audit in of for point in _first(audit)})
    head = ["row", "runs", "base", "erased", *map(str, steps), "other texts", "general", "back, %", "cost", "cost, speech"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, audits in found.items():
        cells = [
            _percent(audits, lambda audit: _score(audit, _first(audit)[0].before, CHOICE, base=True)),
            _percent(audits, lambda audit: _score(audit, _first(audit)[0].before, CHOICE)),
            *(_percent(audits, lambda audit, at=at: _score(audit, _at(audit, at), CHOICE)) for at in steps),  # type: ignore[misc]
            _percent(audits, lambda audit: _score(audit, _control(audit), CHOICE)),
            _percent(audits, lambda audit: _score(audit, _first(audit)[-1], "general/acc_norm")),
            _percent(audits, _most_back),
            _range([cost(audit, "choice") for audit in audits]),
            _range([cost(audit, "speech") for audit in audits]),
        ]
        lines.append(f"| {row} | {len(audits)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _first(audit: Audit) -> list[Point]:
    return next(iter(curves(audit).values()))


def _at(audit: Audit, steps: int) -> Point | None:
    return next((point for point in _first(audit) if point.steps == steps), None)


def _control(audit: Audit) -> Point | None:
    return next((point for point in points(audit.erased.scores) if point.variant.startswith(CONTROL)), None)


def _score(audit: Audit, point: Point | None, key: str, *, base: bool = False) -> float | None:
    score = (audit.base if base else audit.erased).scores.get(f"{point.key}/{key}") if point is not None else None
    return None if score is None else score.value


def _most_back(audit: Audit) -> float | None:
    shares = [share_back(audit, point, "choice") for point in _first(audit)]
    return max((share for share in shares if share is not None), default=None)


def _percent(audits: Sequence[Audit], of: Callable[[Audit], float | None]) -> str:
    values = [value for audit in audits if (value := of(audit)) is not None]
    return f"{100 * fmean(values):.0f}" if values else "–"


def _range(values: Sequence[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return " to ".join(dict.fromkeys("∞" if math.isinf(value) else f"{value:.0f}" for value in known[:1] + known[-1:])) or "–"
