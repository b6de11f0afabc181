"""Methods of erasure, one file each: the name of a method is that of its file.

To add one, write a file with a subclass of :class:`efface.methods.method.Method`, here or anywhere (``--method my_method.py``).
"""

import importlib
import pkgutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from efface.errors import EffaceError, InputError, one_line, shortened
from efface.recipe.own import import_file, in_brief, is_file, require_function
from efface.recipe.recipe import Recipe
from efface.recipe.resolve import require_known, resolve

if TYPE_CHECKING:
    from efface.methods.method import Method

#: names of the built-in methods
NAMES = tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name != "method"))

#: what the erase weights of the built-in peers were found with
PEERS = {"train": {"lr": 4e-3}, "data": {"forget_chat": 0.4}}


def find_method(name: str) -> "type[Method]":
    """The class of a built-in method, or the one in a Python file. Raises InputError."""
    from efface.methods.method import Method

    module = import_file(Path(name), "method") if is_file(name) else None
    if module is None:
        name = name.replace("-", "_")
        if name not in NAMES:
            raise InputError(f"no method {name!r}; there are: {', '.join(NAMES)}; or name a Python file")
        module = importlib.import_module(f"efface.methods.{name}")
    found = [
        of
        for of in vars(module).values()
        if isinstance(of, type) and issubclass(of, Method) and of.__module__ == module.__name__ and of.__name__[0] != "_"
    ]
    if len(found) != 1:
        raise InputError(f"{name}: expected one class that extends Method, got {len(found)}")
    if is_file(name):
        _require_erase(found[0], name)
    return found[0]


def _require_erase(of: "type[Method]", file: str) -> None:
    """Raises InputError where a class does not say what is minimised, though there is something to minimise it on."""
    from efface.methods.method import Method

    if all(getattr(of, name) is getattr(Method, name) for name in ("erase", "examples", "prepare", "prepare_one", "loss")):
        there = [name for name, what in vars(of).items() if callable(what) and not isinstance(what, type) and name[0] != "_"]
        raise InputError(f"{file}: expected {of.__name__} to have a method erase(self, seen), got {', '.join(there) or 'none'}")
    require_function(of.erase, file, "erase(self, seen)")


@contextmanager
def telling_of(method: str) -> Iterator[None]:
    """What goes wrong in a file that is a method is told in one line, an InputError; what goes wrong elsewhere stays as it is."""
    try:
        yield
    except EffaceError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [of.lineno for of in frames if is_file(method) and Path(of.filename).resolve() == Path(method).resolve()]
        if not lines or _out_of_memory(error):
            raise
        raise InputError(f"{method}: line {lines[-1]}: {in_brief(error)}") from error


def _out_of_memory(error: BaseException) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or (isinstance(error, Exception) and bool(should_reduce_batch_size(error)))


def make_method(recipe: Recipe) -> "Method":
    """The recipe's method, ready to prepare. Raises InputError for an option that it does not have."""
    try:
        with telling_of(recipe.method):
            return find_method(recipe.method)(recipe)
    except ValidationError as error:
        raise InputError(f"options of {recipe.method}: {one_line(error)}") from None


def complete_recipe(said: Mapping[str, Any], *, strict: bool = True) -> Recipe:
    """:func:`efface.recipe.resolve.resolve` with what the method asks for. Raises InputError."""
    method = said.get("method", "elm")
    if method == "elm" or not isinstance(method, str):
        return resolve(said, strict=strict)
    if is_file(method):  # nothing is run for a recipe that is wrong anyway
        require_known(said)
    found = find_method(method)
    if is_file(method):
        _require_defaults(found.recipe_defaults, method)
    weighed = found.__module__.startswith(__name__) and "erase" in found.recipe_defaults
    return resolve(said, found.recipe_defaults, PEERS if weighed else {}, strict=strict)


def _require_defaults(defaults: Any, file: str) -> None:
    """Raises InputError for what is no part of a recipe."""
    if not isinstance(defaults, Mapping):
        raise InputError(f"{file}: recipe_defaults: expected a mapping, got {shortened(defaults)}")
    try:
        require_known(defaults)
    except InputError as error:
        raise InputError(f"{file}: recipe_defaults: {str(error).removeprefix('recipe: ')}") from None
