"""``efface model fetch|path NAME``: an embedded model as an ordinary folder."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from efface.cli.parse import parse
from efface.errors import ModelError
from efface.lm.bundled import ALIASES, cached
from efface.lm.bundled import fetch as fetch_model
from efface.shown import say


@dataclass(frozen=True)
class Name:
    """An embedded model."""

    name: tyro.conf.Positional[str]
    """Its alias, for example smollm2-135m."""


def fetch(args: Sequence[str]) -> None:
    """Fetch an embedded model and convert it, on first use; print its folder."""
    say(fetch_model(parse(Name, args, "model fetch", description=fetch.__doc__).name))


def path(args: Sequence[str]) -> None:
    """Print the folder of an embedded model that was fetched before."""
    name = parse(Name, args, "model path", description=path.__doc__).name
    folder = cached(name) if name in ALIASES else None
    if folder is None:
        raise ModelError(f"{name!r} is not in the cache; fetch one of: {', '.join(ALIASES)}")
    say(folder)
