"""``efface gate RUN --max-forget 0.30 …``: for release pipelines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from efface.auditing.files import read_json
from efface.auditing.scores import Audit
from efface.cli.parse import parse
from efface.errors import InputError
from efface.report.intervals import Interval
from efface.report.table import intervals, summary


@dataclass(frozen=True)
class Arguments:
    """Exit with 0 if a run keeps within every limit given, with 1 if it breaches one. What was not measured is a breach."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a folder that 'efface audit' wrote."""
    max_forget: float | None = None
    """Accuracy (acc_norm) of the erased model on the concept's questions, in the worst form."""
    max_open: float | None = None
    """Share of the concept's open questions answered right, in the worst form."""
    max_leak: float | None = None
    """Share of the concept's open questions answered right in any sample."""
    max_recognised: float | None = None
    """How much the model still knows whom a question is about: 1 as the base, 0 as of a stranger."""
    min_gone: float | None = None
    """Share of the distance from the base's accuracy to chance that is gone, in the worst form."""
    min_neighbours: float | None = None
    """Accuracy on neighbour questions over the base's, in the worst form."""
    min_general: float | None = None
    """Accuracy on general questions over the base's, in the worst form."""
    max_perplexity: float | None = None
    """Perplexity of held-out texts over the base's."""
    max_answers: float | None = None
    """Perplexity of answers about the concept over the base's."""
    max_back: float | None = None
    """Share of the lost accuracy that relearning brings back (audit.relearn_steps)."""
    max_repeated: float | None = None
    """Share of repeated 4-grams in these answers."""
    max_drift: float | None = None
    """KL divergence from the base on held-out texts, nats a token."""
    confident: bool = False
    """Decide on the bound of the 95 % interval: the upper one for a max, the lower one for a min. No interval is a breach."""


#: limit -> figure of :func:`efface.report.table.summary`
LIMITS = {
    "max_forget": "forget",
    "max_open": "open",
    "max_leak": "leak",
    "max_recognised": "recognised",
    "min_gone": "gone",
    "min_neighbours": "neighbours",
    "min_general": "general",
    "max_perplexity": "retain ppl",
    "max_answers": "answers ppl",
    "max_back": "back",
    "max_repeated": "repeated",
    "max_drift": "drift",
}


def gate(args: Sequence[str]) -> int:
    """Parse, compare, print a line a limit; 1 if one is breached."""
    given: Arguments = parse(Arguments, args, "gate")
    limits = {name: limit for name in LIMITS if (limit := getattr(given, name)) is not None}
    if not limits:
        raise InputError("gate: expected at least one limit, for example --max-forget 0.30; see: efface gate --help")
    if wrong := [name for name, limit in limits.items() if math.isnan(limit)]:
        raise InputError(f"gate: --{wrong[0].replace('_', '-')}: expected a number, got nan")
    audit, breached = read_json(given.run / "audit.json", Audit), 0
    found, between = summary(audit), intervals(audit)
    for name, limit in limits.items():
        figure = LIMITS[name]
        holds, shown = _judge(found[figure], between[figure], name.startswith("max"), limit, given.confident)
        breached += not holds
        sign = "<=" if name.startswith("max") else ">="
        print(f"{'pass' if holds else 'FAIL'}  {name.replace('_', '-')}: {shown} (expected {sign} {limit:g})")
    return int(breached > 0)


def _judge(value: float | None, between: Interval | None, most: bool, limit: float, confident: bool) -> tuple[bool, str]:
    """Whether a figure keeps within its limit, and the figure as it is shown."""
    if value is None:
        return False, "not measured"
    shown = f"{value:.3f} [{between[0]:.3f}, {between[1]:.3f}]" if between else f"{value:.3f}"
    if confident and between is None:
        return False, f"{shown}, no interval"
    decides = between[most] if confident and between else value
    if confident:
        shown += f", bound {decides:.3f}"
    return (decides <= limit if most else decides >= limit), shown
