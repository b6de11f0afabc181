"""``efface model fetch|path NAME``: an embedded model as an ordinary folder."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from efface.cli.parse import parse
from efface.embedded import ALIASES, cached
from efface.embedded import fetch as fetch_model
from efface.errors import ModelError


@dataclass(frozen=True)
class Name:
    """An embedded model."""

    name: tyro.conf.Positional[str]
    """Its alias, for example smollm2-135m."""


def fetch(args: Sequence[str]) -> None:
    """Fetch and convert on first use; print the folder."""
    print(fetch_model(parse(Name, args, "model fetch").name))


def path(args: Sequence[str]) -> None:
    """Print the folder of a model that was fetched before."""
    name = parse(Name, args, "model path").name
    folder = cached(name) if name in ALIASES else None
    if folder is None:
        raise ModelError(f"{name!r} is not in the cache; fetch one of: {', '.join(ALIASES)}")
    print(folder)
