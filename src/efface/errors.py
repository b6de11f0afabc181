"""The one tree of exceptions.

Everything a user can mend is an :class:`EffaceError`: its message says in one line what was expected, what came and how to
mend it. The command line prints that line and exits with code 2; anything else is a bug and keeps its traceback.
"""


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


class UnfinishedRunError(RunError):
    """The folder to work in holds the work of another run."""


class TrainingError(EffaceError, RuntimeError):
    """Training went wrong (a loss that is not finite), or what it made is no use (figures that are not)."""
