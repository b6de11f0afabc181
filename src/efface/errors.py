"""The one tree of exceptions.

Everything a user can mend is an :class:`EffaceError`: its message says in one line what was expected, what came and how to
mend it. The command line prints that line and exits with code 2; anything else is a bug and keeps its traceback.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

SHOWN = 80  # characters of what came, in a message


class EffaceError(Exception):
    """Base of every error that the user can mend."""


class InputError(EffaceError, ValueError):
    """An argument or a setting is wrong."""


class ModelError(InputError):
    """A model cannot be found, fetched, read or used."""


class ConceptError(InputError):
    """A concept pack cannot be found, or one of its files is wrong."""


class RunError(InputError):
    """A run folder is missing, incomplete, or already there."""


class WriteError(RunError):
    """Something cannot be written: the disk is full, a limit is reached, the disk is away."""


class UnfinishedRunError(RunError):
    """The folder to work in holds the work of another run."""


class TrainingError(EffaceError, RuntimeError):
    """Training went wrong (a loss that is not finite), or what it made is no use (figures that are not)."""


class ScorerError(EffaceError, RuntimeError):
    """A scorer or an attack of the user's own cannot go on; it is left out, and what else is measured stays."""


def one_line(error: "ValidationError") -> str:
    """The first complaint of a pydantic error: where, what, and what came (of which our own messages say what is needed)."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = "no such setting" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    silent = first["type"] in ("missing", "json_invalid", "value_error")
    came = "" if silent else f", got {shortened(first['input'])}"
    return f"{where}{': ' if where else ''}{message}{came}{more}"


def first_line(error: BaseException) -> str:
    """What an error says on its first line, and as many more as that only announces; its type, where it says nothing or a key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = "" if isinstance(error, KeyError) else next(iter(lines), "")
    for line in lines[1:]:
        if not said.endswith(":"):
            break
        said += f" {line}"
    return said.rstrip(":,") or f"{type(error).__name__} {' '.join(lines)}".strip()


def shortened(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
