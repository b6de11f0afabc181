"""``efface gate RUN --max-forget 0.30 …``: for release pipelines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from efface.auditing.scores import Audit
from efface.cli.parse import parse
from efface.errors import InputError
from efface.files import read_json
from efface.report.intervals import Interval
from efface.report.judged import JUDGED, intervals, summary
from efface.report.verdict import of_itself
from efface.shown import say

#: limit -> figure of :func:`efface.report.judged.summary`
LIMITS = {judged.limit: name for name, judged in JUDGED.items() if judged.limit}


@dataclass(frozen=True)
class _Run:
    run: tyro.conf.Positional[Path]
    """A run folder, or a folder that 'efface audit' or 'efface export' wrote."""


@dataclass(frozen=True)
class _How:
    max: tyro.conf.UseAppendAction[tuple[tuple[str, float], ...]] = ()
    """KEY LIMIT: of any score in audit.json, those of scorers of your own among them; may be given again."""
    min: tyro.conf.UseAppendAction[tuple[tuple[str, float], ...]] = ()
    """KEY LIMIT: the same from below."""
    confident: bool = False
    """Decide on the bound of the 95 % interval: the upper one for a max, the lower one for a min. No interval is a breach."""


Arguments = make_dataclass(
    "Arguments",
    [
        (judged.limit, Annotated[float | None, tyro.conf.arg(help=judged.says)], field(default=None))
        for judged in JUDGED.values()
        if judged.limit
    ],
    bases=(_How, _Run),
    frozen=True,
)
Arguments.__doc__ = (
    """Exit with 0 if a run keeps within every limit given, with 1 if it breaches one (as what was not measured does)."""
)


@dataclass(frozen=True)
class Limit:
    """One limit and the figure that it bounds."""

    name: str
    most: bool
    limit: float
    value: float | None
    between: Interval | None


def gate(args: Sequence[str]) -> int:
    """Parse, compare, print a line a limit; 1 if one is breached."""
    given: Any = parse(Arguments, args, "gate")
    bounds = {name: limit for name in LIMITS if (limit := getattr(given, name)) is not None}
    of_scores = [(f"{side} {key}", side == "max", key, limit) for side in ("max", "min") for key, limit in getattr(given, side)]
    if not bounds and not of_scores:
        raise InputError("gate: expected at least one limit, for example --max-forget 0.30; see: efface gate --help")
    named = [*bounds.items()] + [(name, limit) for name, _, _, limit in of_scores]
    if wrong := [name for name, limit in named if math.isnan(limit)]:
        raise InputError(f"gate: --{wrong[0].replace('_', '-')}: expected a number, got nan")
    audit = read_json(given.run / "audit.json", Audit)
    found, between = summary(audit), intervals(audit)
    limits = [
        Limit(name.replace("_", "-"), name.startswith("max"), limit, found[LIMITS[name]], between[LIMITS[name]])
        for name, limit in bounds.items()
    ]
    for name, most, key, limit in of_scores:
        score = audit.erased.scores.get(key)
        ends = None if score is None or score.low is None or score.high is None else (score.low, score.high)
        limits.append(Limit(name, most, limit, None if score is None else score.value, ends))
    breached = 0
    for bound in limits:
        holds, shown = _judge(bound, given.confident)
        breached += not holds
        say(f"{'pass' if holds else 'FAIL'}  {bound.name}: {shown} (expected {'<=' if bound.most else '>='} {bound.limit:g})")
    if note := of_itself(audit):
        say(note)
    return int(breached > 0)


def _judge(bound: Limit, confident: bool) -> tuple[bool, str]:
    """Whether a figure keeps within its limit, and the figure as it is shown."""
    value, between, most, limit = bound.value, bound.between, bound.most, bound.limit
    if value is None:
        return False, "not measured"
    shown = f"{value:.3f} [{between[0]:.3f}, {between[1]:.3f}]" if between else f"{value:.3f}"
    if confident and between is None:
        return False, f"{shown}, no interval"
    decides = between[most] if confident and between else value
    if confident:
        shown += f", bound {decides:.3f}"
    return (decides <= limit if most else decides >= limit), shown
