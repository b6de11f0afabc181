"""The before/after table in the terminal."""

from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from efface.auditing.scores import Audit
from efface.report import forms
from efface.report.recovery import NEVER, attack_rows
from efface.report.table import rows, share, show, significance
from efface.report.verdict import beside, recovered, verdict
from efface.shown import in_table


def print_audit(audit: Audit, title: str) -> None:
    """Base beside erased, with 95 % intervals and the difference's p-value, adjusted for their number (Holm). Fits 80 columns."""
    table = Table(title=in_table(title), caption=verdict(audit), caption_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for column in ("figure", "n", "base", "erased", "p"):
        table.add_column(column, justify="right" if column == "n" else "left", no_wrap=True)
    for goal, group in groupby(rows(audit), key=lambda row: row.goal):
        table.add_row(f"[bold]{in_table(goal)}[/]")
        for row in group:
            figures = (show(row.base, row.percent), show(row.erased, row.percent))
            table.add_row(
                in_table(row.label),
                str(row.erased.n),
                *figures,
                significance(row.difference).removeprefix("p ").removeprefix("= ").replace(" ", ""),
            )
        table.add_section()
    Console().print(table)
    print_forms(audit)
    print_attacks(audit)


def print_forms(audit: Audit) -> None:
    """Per cent right in every form, base and erased; a star where the form judges. Fits 80 columns."""
    if not (rows := forms.table(audit)):
        return
    said = f" {leaks[0].upper()}{leaks[1:]}." if (leaks := forms.leaks(audit)) else ""
    caption = f"Per cent right (acc_norm), base and erased. *: judges, as the worst form in which the base knows something.{said}"
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for column in ("asked", "concept", "", "neighbours", "", "general", "", "open", ""):
        table.add_column(column, justify="left" if column == "asked" else "right", no_wrap=True)
    for how, cells in rows:
        shown = []
        for base, erased, judges in cells:
            shown += ["" if base is None else f"{100 * base.value:.0f}"]
            shown += ["" if erased is None else f"{100 * erased.value:.0f}{'*' if judges else ' '}"]
        table.add_row(how, *shown)
    Console().print(table)


def print_attacks(audit: Audit) -> None:
    """Every attack at its longest: what it cost, and what came back. Fits 80 columns."""
    if not (rows := list(attack_rows(audit))):
        return
    caption = " ".join(["Per cent right: base, erased > attacked.", recovered(audit), *beside(audit)]).replace("  ", " ").strip()
    head = "What it takes to get it back"
    table = Table(title=head, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for column in ("attack", "texts x steps", "s", "choice", "open", "general"):
        table.add_column(column, justify="left" if column == "attack" else "right", no_wrap=column != "attack")
    for row in rows:
        names = ("taught", "taught speech", "general") if row.point.variant.startswith(NEVER) else ("choice", "speech", "general")
        shown = [
            f"{share(base)},{share(before)}>{share(after)}" if after else ""
            for base, before, after, _ in (row.scores[name] for name in names)
        ]
        cost = f"{row.point.texts} x {row.point.steps}" if row.point.texts else ""
        table.add_row(in_table(f"{row.point.name}, {row.point.variant}"), cost, f"{row.seconds:.0f}", *shown)
    Console().print(table)
