"""Progress of long work: a live bar in a terminal, a line every few seconds in a log file, both with an ETA."""

import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from efface.processes import is_main
from efface.shown import complain

SECONDS_BETWEEN_LINES = 10.0
_T = TypeVar("_T")


class Bar:
    """A context manager: ``with Bar("training", 64) as bar: bar.step("loss 1.2")``."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done, self.first = what, total, 0, 0
        self.started = self.printed = time.monotonic()
        self.live: Progress | None = None

    def __enter__(self) -> "Bar":
        console = Console(stderr=True)
        if console.is_terminal and is_main():
            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn())
            text = TextColumn("{task.description}")
            self.live = Progress(text, *columns, TextColumn("{task.fields[note]}"), console=console)
            self.task = self.live.add_task(self.what, total=self.total, note="")
            self.live.start()
        return self

    def start_at(self, done: int) -> None:
        """Count from a step that was done before (a resumed training)."""
        self.done = self.first = done
        if self.live:
            self.live.update(self.task, completed=done)

    def step(self, note: str = "", count: int = 1) -> None:
        """Count one finished step and show ``note`` beside it."""
        self.done += count
        if self.live:
            self.live.update(self.task, advance=count, note=note)
            return
        now = time.monotonic()
        if not is_main():
            return
        if now - self.printed > SECONDS_BETWEEN_LINES or self.done >= self.total:
            self.printed = now
            left = (now - self.started) / (self.done - self.first) * (self.total - self.done)
            spent = now - self.started
            complain(f"{self.what} {self.done}/{self.total}  {spent:.0f} s, eta {left:.0f} s  {note}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()


def track(items: Iterable[_T], what: str) -> Iterator[_T]:
    """Iterate with a progress bar."""
    assert isinstance(items, Sized)
    with Bar(what, len(items)) as bar:
        for item in items:
            yield item
            bar.step()
