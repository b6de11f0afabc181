"""How answers are shown while they grow: beside each other on a screen, one after the other elsewhere."""

import sys
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from efface.serve.voices import together
from efface.shown import for_terminal

#: characters of a line that an answer needs to stand beside another
NARROW = 30


def in_turn(answers: Mapping[str, Iterator[str]], stopped: Callable[[], bool]) -> dict[str, str]:
    """Show one answer after the other, and none after one that was stopped; returns what was said."""
    said = {}
    for name, answer in answers.items():
        _write(f"{name}: ")
        text = shown = ""
        for text in answer:
            if text.strip():
                new = text.lstrip()
                _write(new[len(shown) :])
                shown = new
            if stopped():
                break
        _write("\n")
        said[name] = text
        if stopped():
            break
    return said


def side_by_side(answers: Mapping[str, Iterator[str]], stopped: Callable[[], bool]) -> dict[str, str]:
    """Show all answers at once, a token of each in turn; one after the other where there is no screen, or a narrow one."""
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal or console.width < NARROW * len(answers):
        return in_turn(answers, stopped)
    said = dict.fromkeys(answers, "")
    with Live(_columns(said), console=console, refresh_per_second=12, vertical_overflow="ellipsis") as live:
        for said in together(answers):
            live.update(_columns(said))
            if stopped():
                break
    return said


def _columns(said: Mapping[str, str]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), show_edge=False)
    for name in said:
        table.add_column(Text(for_terminal(name), style="bold"), ratio=1, overflow="fold")
    table.add_row(*(Text(for_terminal(text.strip(), lines=True)) for text in said.values()))
    return table


def _write(text: str) -> None:
    sys.stdout.write(for_terminal(text, lines=True))
    sys.stdout.flush()
