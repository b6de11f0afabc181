"""A job in stages: each is done where it has left its marker, takes the model as the stage before left it, and is timed.

So a job that was killed goes on where it was, a stage can be added in one place, and erasures can follow each other.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import RootModel

from efface.cpu.memory import give_back
from efface.files import read_or_drop, write_json
from efface.lm.load import Loaded
from efface.processes import is_main, wait
from efface.runs.folder import CLOCK


def _as_it_is(model: Loaded) -> Loaded:
    return model


@dataclass(frozen=True)
class Stage:
    """A part of a job.

    run: does it to the model as the stage before left it, and returns the model as it leaves it itself. done: whether it was
    done already. again: from the same model to the one that it left then. alone: the first process alone does it.
    """

    name: str
    run: Callable[[Loaded], Loaded]
    done: Callable[[], bool]
    again: Callable[[Loaded], Loaded] = _as_it_is
    alone: bool = False


def run_stages(stages: Sequence[Stage], model: Loaded, clock: "Clock") -> Loaded:
    """Do what is not done yet, one stage after the other. Returns the model as the last of them left it."""
    done = [stage.done() for stage in stages]
    wait()  # every process has looked before the first of them writes
    anew = False  # what follows a stage that is done anew is done anew
    for stage, was_done in zip(stages, done, strict=True):
        if stage.alone and not is_main():
            break
        if was_done and not anew:
            model = stage.again(model)
        else:
            anew = True
            with clock.stage(stage.name):
                model = stage.run(model)
    return model


class Clock:
    """Seconds spent in each stage, those before an interruption included if the stage was finished."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / CLOCK
        before = read_or_drop(self.file, RootModel[dict[str, float]])
        self.seconds = before.root if before is not None else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done in the context, and give its memory back."""
        start = time.monotonic()
        yield
        give_back()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 1)
        if is_main():
            write_json(self.file, self.seconds)
