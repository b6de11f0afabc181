"""``efface report RUN``: write the page again from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from efface.auditing.scores import Audit
from efface.cli.parse import parse
from efface.files import read_json
from efface.recipe.record import RunRecord
from efface.runs.folder import is_run
from efface.shown import say


@dataclass(frozen=True)
class Arguments:
    """Write report.html (and the model card) of a run or an audit again; nothing is measured."""

    run: tyro.conf.Positional[Path]
    """A run folder, or a folder that 'efface audit' wrote."""


def report(args: Sequence[str]) -> None:
    """Parse, write, print where."""
    given: Arguments = parse(Arguments, args, "report")
    audit = read_json(given.run / "audit.json", Audit)
    record = read_json(given.run / "run.json", RunRecord) if is_run(given.run) else None

    from efface.report.page import write_report

    write_report(given.run, audit, record)
    say(given.run / "report.html")
