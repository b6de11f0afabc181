"""A Python file of the user's own, named in a recipe or on the command line; it is run."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from efface.errors import InputError, first_line, one_line


def in_brief(error: BaseException) -> str:
    """What a file of the user's own raised, on one line."""
    says = one_line(error) if isinstance(error, ValidationError) else first_line(error)
    return says if says.startswith(type(error).__name__) else f"{type(error).__name__}: {says}"


def import_file(file: Path, kind: str) -> ModuleType:
    """Run a file as a module. kind: what it should be, for the message. Raises InputError in one line."""
    name = f"efface_{kind}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise InputError(f"no {kind} file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{file} cannot be imported: {in_brief(error)}") from None
    return module


def require_function(found: Any, file: str, expected: str) -> Callable[..., Any]:
    """What can be called as it should be. expected: ``score(subject)``. Raises InputError."""
    if not callable(found):
        raise InputError(f"{file}: expected a function {expected}")
    function: Callable[..., Any] = found
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of what is not written in Python it is not known
        return function
    try:
        signature.bind(*expected.split(","))
    except TypeError:
        raise InputError(f"{file}: expected a function {expected}, got {expected.split('(')[0]}{signature}") from None
    return function


def is_file(method: Any) -> bool:
    """Whether a method is a Python file, which is run, and no name."""
    return isinstance(method, str) and method.endswith(".py")
