"""The before/after table in the terminal."""

from rich.console import Console
from rich.table import Table

from efface.report.table import rows, show, verdict
from efface.results import Audit

ARROW = {"down": "should fall", "up": "should rise", "stay": "should stay"}


def print_audit(audit: Audit, title: str) -> None:
    """Base beside erased, with 95 % intervals."""
    table = Table(title=title, caption=verdict(audit), caption_justify="left")
    for column in ("goal", "figure", "n", "base", "erased", ""):
        table.add_column(column, overflow="fold")
    goal = ""
    for row in rows(audit):
        shown, goal = row.goal if row.goal != goal else "", row.goal
        figures = (show(row.base, row.percent), show(row.erased, row.percent))
        table.add_row(shown, row.label, str(row.erased.n), *figures, ARROW[row.better])
    Console().print(table)
