"""Work in batches that fit: where memory runs out a batch is halved and the work goes on from where it was."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate.utils.memory import should_reduce_batch_size

from efface.cpu.memory import give_back
from efface.progress import Bar

_Row = TypeVar("_Row")
_Done = TypeVar("_Done")


def in_batches(rows: Sequence[_Row], most: int, what: str, work: Callable[[Sequence[_Row]], Sequence[_Done]]) -> list[_Done]:
    """What ``work`` makes of all rows, at most so many at a time, in their order. what: for the progress bar.

    Out of memory the batch is halved, from then on; a single row for which there is no room raises what it raised.
    """
    done, size = list[_Done](), most
    with Bar(what, len(rows)) as bar:
        while len(done) < len(rows):
            batch = rows[len(done) : len(done) + size]
            try:
                made = work(batch)
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
                size = max(1, min(size, len(batch)) // 2)
                give_back()
                continue
            done += made
            bar.step(count=len(batch))
    return done


def fitting(work: Callable[[int], _Done], most: int) -> _Done:
    """What ``work`` makes with a batch size of so many, or half of it as often as memory asks for."""
    size = most
    while True:
        try:
            return work(size)
        except RuntimeError as error:
            if size == 1 or not out_of_memory(error):
                raise
            size //= 2
            give_back()


def at_once(rows: Sequence[_Row], work: Callable[[Sequence[_Row]], Sequence[_Done]]) -> list[_Done]:
    """What ``work`` makes of these rows together; in halves where there is no room."""
    try:
        return list(work(rows))
    except RuntimeError as error:
        if len(rows) == 1 or not out_of_memory(error):
            raise
    give_back()
    half = len(rows) // 2
    return [*at_once(rows[:half], work), *at_once(rows[half:], work)]


def out_of_memory(error: Exception) -> bool:
    """Whether there was no room on the device (any device, however its library says so)."""
    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))
