"""Arguments: tyro, with its boxed errors folded into one line."""

import contextlib
import io
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import tyro

from efface.cli.flags import named
from efface.errors import InputError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Nothing:
    """No arguments."""


FRAME = "╭╮╰╯│─ "
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def parse(kind: Callable[..., _T], args: Sequence[str], verb: str, **options: Any) -> Any:
    """Arguments of ``efface VERB`` as ``kind``. Raises InputError in one line; prints help and exits for ``--help``."""
    errors, width, help_wanted = io.StringIO(), os.environ.get("COLUMNS"), wants_help(args)
    try:
        if not help_wanted:
            os.environ["COLUMNS"] = "1000"
        with contextlib.redirect_stderr(errors):
            return tyro.cli(kind, args=args, prog=f"efface {verb}", **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        says = fold(errors.getvalue())
        raise InputError(f"{verb}: {says}{_here(kind, says)}; see: efface {verb} --help") from None
    finally:
        if not help_wanted:
            os.environ.pop("COLUMNS", None)
            if width is not None:
                os.environ["COLUMNS"] = width


def _here(kind: Any, says: str) -> str:
    """What the first unknown flag of a message is called in this verb: ``--audit.scorers`` in one, ``--scorers`` in another."""
    unknown = re.search(r"Unrecognized options:.*?--([\w.-]+)", says)
    last = unknown[1].replace("_", "-").split(".")[-1] if unknown else None
    known = [f"--{flag}" for name in named(kind) if (flag := name.replace("_", "-")).split(".")[-1] == last]
    return f"; here it is {' or '.join(known)}" if known else ""


def fold(box: str) -> str:
    """The first paragraph of a boxed message, on one line."""
    lines = [line.strip(FRAME) if line.strip(FRAME + "-") else "" for line in COLOUR.sub("", box).splitlines()[1:]]
    message: list[str] = []
    for line in lines:
        if not line and message:
            break
        message.append(line)
    return " ".join(part for part in message if part) or "wrong arguments"


def wants_help(args: Sequence[str]) -> bool:
    """Whether the arguments ask for help; behind ``--`` nothing is an option."""
    options = list(itertools.takewhile(lambda arg: arg != "--", args))
    return "-h" in options or "--help" in options


def require_extra(verb: str, module: str, extra: str) -> None:
    """Raises InputError where a library is not installed that only this verb needs."""
    if find_spec(module) is None:
        raise InputError(f"{verb}: expected {module}; try: pip install 'efface[{extra}]'")
