"""Methods of erasure, one file each: the name of a method is that of its file.

To add one, write a file with a subclass of :class:`efface.methods.method.Method`, here or anywhere (``--method my_method.py``).
"""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from efface.errors import InputError, one_line
from efface.recipe.own import import_file, is_file
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
    return found[0]


def make_method(recipe: Recipe) -> "Method":
    """The recipe's method, ready to prepare. Raises InputError for an option that it does not have."""
    try:
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
    weighed = found.__module__.startswith(__name__) and "erase" in found.recipe_defaults
    return resolve(said, found.recipe_defaults, PEERS if weighed else {}, strict=strict)
