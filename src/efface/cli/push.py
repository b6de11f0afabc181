"""``efface push RUN user/name``: a run or an export goes to the hub."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from efface.cli.parse import parse
from efface.errors import InputError
from efface.shown import complain, for_terminal, say

if TYPE_CHECKING:
    from efface.release.push import Plan


@dataclass(frozen=True)
class Arguments:
    """Upload a run or an export to the hub, and ask before anything is public. What broke off goes on with the same command."""

    what: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN|EXPORT")]]
    """A run folder (without places of this machine), or a folder that 'efface export' wrote."""
    repo: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="user/name")]]
    """Repository on the hub; made if it is not there."""
    private: bool = False
    """Make it private."""
    revision: str | None = None
    """Branch to put it on; made if it is not there."""
    create_pr: bool = False
    """Ask for it in a pull request."""
    yes: bool = False
    """Do not ask before something is public."""


def push(args: Sequence[str]) -> int:
    """Parse, say what will be sent, ask, send."""
    given: Arguments = parse(Arguments, args, "push")
    from efface.release.push import Target, look, packed, send

    target = Target(given.repo, given.private, given.revision, given.create_pr)
    with packed(given.what) as parcel:
        plan = look(parcel, target)
        _tell(plan)
        if plan.public and not given.yes and not _agreed(plan):
            complain("push: nothing was sent")
            return 1
        say(send(plan))
    return 0


def _tell(plan: "Plan") -> None:
    parcel, target = plan.parcel, plan.target
    for name, count in parcel.files.items():
        say(f"{_size(count):>10}  {name}")
    where = f"{target.repo}{f' at {target.revision}' if target.revision else ''}"
    how = "a pull request, " if target.create_pr else "new, " if plan.new else ""
    seen = ("public when all is there" if plan.revealed else "public") if plan.public else "private"
    say(f"{len(parcel.files)} files, {_size(parcel.bytes)}, to {where} ({how}{seen})")
    if parcel.base is None:
        complain("the base is not on the hub, or no id of it is known; what is sent names it by the last part of its place")


def _agreed(plan: "Plan") -> bool:
    """Whether who types says yes. Raises InputError where nobody does."""
    if not sys.stdin.isatty():
        raise InputError(f"push: {plan.target.repo} will be public, and nobody is there to ask; say --yes, or --private")
    try:
        return input(f"Make this public as {for_terminal(plan.target.repo)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
