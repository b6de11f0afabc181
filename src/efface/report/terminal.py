"""The before/after table in the terminal."""

from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from efface.report.table import rows, show, significance, verdict
from efface.results import Audit


def print_audit(audit: Audit, title: str) -> None:
    """Base beside erased, with 95 % intervals and the difference's p-value, adjusted for their number (Holm). Fits 80 columns."""
    table = Table(title=escape(title), caption=verdict(audit), caption_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for column in ("figure", "n", "base", "erased", "p"):
        table.add_column(column, justify="right" if column == "n" else "left", no_wrap=True)
    for goal, group in groupby(rows(audit), key=lambda row: row.goal):
        table.add_row(f"[bold]{goal}[/]")
        for row in group:
            figures = (show(row.base, row.percent), show(row.erased, row.percent))
            table.add_row(
                row.label,
                str(row.erased.n),
                *figures,
                significance(row.difference).removeprefix("p ").removeprefix("= ").replace(" ", ""),
            )
        table.add_section()
    Console().print(table)
