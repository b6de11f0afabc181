"""``efface play RUN [RUN …]``: talk to base and erased model in the browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from efface.cli.parse import parse, require_extra
from efface.errors import InputError
from efface.runs.folder import is_run


@dataclass(frozen=True)
class Arguments:
    """Talk to base and erased model in the browser, side by side. Needs the extra: pip install 'efface[play]'."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders to choose from."""
    host: str = "127.0.0.1"
    """Address to serve at; 0.0.0.0: to whoever reaches this machine."""
    port: int = 7860
    """Port to serve at; 0: any that is free."""
    tokens: int = 200
    """Longest answer."""


def play(args: Sequence[str]) -> None:
    """Parse, look at the runs, serve."""
    given: Arguments = parse(Arguments, args, "play")
    if not given.runs:
        raise InputError("play: expected a run folder, or several")
    for run in given.runs:
        if not is_run(run):
            raise InputError(f"play: {str(run)!r} is no finished run folder; expected one with a run.json")
    if not 0 <= given.port <= 65535:
        raise InputError(f"play: --port: expected a number from 0 to 65535, got {given.port}")
    if given.tokens < 1:
        raise InputError(f"play: --tokens: expected a number from 1 on, got {given.tokens}")
    require_extra("play", "gradio", "play")

    from efface.runs.run import Run
    from efface.serve.playground import Playground, serve
    from efface.serve.stage import Stage

    stages = {str(run): Stage(Run(run)) for run in given.runs}
    serve(Playground(stages, given.tokens), given.host, given.port)
