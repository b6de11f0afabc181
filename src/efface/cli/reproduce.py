"""``efface reproduce RUN``: make a run again from its record, and compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from efface.cli.parse import parse
from efface.concept.find import find_packs
from efface.processes import is_main
from efface.shown import complain, in_table, say

if TYPE_CHECKING:
    from efface.runs.reproduce import Figure, Reproduction


@dataclass(frozen=True)
class Arguments:
    """Make a run again from its record, and compare both: adapter, figures, and what was not what it is now.

    Exit code: 0 the same adapter, or the same inputs and figures within the intervals; 1 otherwise; 2 wrong input.
    """

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN|run.json")]]
    """A run folder, or the record of one."""
    to: Path | None = None
    """Folder to make it in (default: RUN-again). A finished run that is there is compared, and not made again."""
    model: str | None = None
    """Where the model is, if not where the record says."""
    concept: str | None = None
    """The same of the concept pack."""
    method: str | None = None
    """The Python file that the run's method is. It is run, so it must be named."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""


def reproduce(args: Sequence[str]) -> int:
    """Parse, make again, print what came out."""
    given: Arguments = parse(Arguments, args, "reproduce")
    from efface.runs.reproduce import original, recipe_again
    from efface.runs.reproduce import reproduce as make_again

    of = original(given.run)
    said = {name: getattr(given, name) for name in ("model", "concept", "method", "trust_remote_code")}
    recipe, left_out = recipe_again(of, said)
    find_packs(recipe.concept)
    for name, value in left_out.items() if is_main() else ():
        more = "to allow it say --trust-remote-code" if name == "trust_remote_code" else "what it measured is not compared"
        complain(f"{given.run}: {name} {value} is left out, for it runs code or sends something; {more}")
    found = make_again(of, recipe, given.to)
    if is_main():
        _tell(found)
    return int(not found.holds)


def _tell(found: "Reproduction") -> None:
    from efface.runs.reproduce import GRADES

    if found.figures:
        _print_figures(found.figures)
    for grade, group in groupby(found.differences, key=lambda of: of.grade):
        say(f"{GRADES[grade]}{' (without effect here)' if found.same else ''}")
        for of in group:
            say(f"  {of.what}: {of.then} then, {of.now} now")
    say(f"adapter: {_verdict(found)}")
    say(f"report: {found.run.folder / 'report.html'}")


def _verdict(found: "Reproduction") -> str:
    then, now = found.adapters
    if found.same:
        return f"the same, bit for bit ({then})"
    judged = [figure.within for figure in found.figures if figure.within is not None]
    why = "" if found.differences else "; nothing that is recorded differs, so a kernel may not be deterministic"
    if any(of.grade == "inputs" for of in found.differences):
        why = "; it was made from other inputs, so it says nothing of this run"
    figures = f"{sum(judged)} of {len(judged)} figures within the intervals" if judged else "there are no figures to judge it by"
    return f"another one ({then} then, {now} now); {figures}{why}"


def _print_figures(figures: Sequence["Figure"]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from efface.report.table import figure

    table = Table(box=box.SIMPLE_HEAD, padding=0, caption="Within: the new figure lies in the 95 % interval of the run's.")
    for column in ("figure", "then", "95 %", "now", "within"):
        table.add_column(column, justify="left" if column == "figure" else "right", no_wrap=True)
    for of in figures:
        between = "–" if of.between is None else f"[{figure(of.between[0])}, {figure(of.between[1])}]"
        both = ("–" if value is None else figure(value) for value in (of.then, of.now))
        then, now = both
        table.add_row(in_table(of.name), then, in_table(between), now, {True: "yes", False: "NO", None: "–"}[of.within])
    Console().print(table)
