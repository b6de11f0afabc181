"""efface: erase a concept from a language model, and measure what is left of it.

The public names are loaded on first use, so that ``import efface`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efface.auditing.scores import Audit as Audit
    from efface.concept.pack import Concept as Concept
    from efface.decoding import ErasedLogits as ErasedLogits
    from efface.errors import EffaceError as EffaceError
    from efface.recipe.recipe import Recipe as Recipe
    from efface.recipe.record import RunRecord as RunRecord
    from efface.release.export import export as export
    from efface.runs.audit import audit as audit
    from efface.runs.pipeline import erase as erase
    from efface.runs.pipeline import prepare as prepare

__version__ = "0.1.0"

_HOME = {
    "Audit": "auditing.scores",
    "Concept": "concept.pack",
    "EffaceError": "errors",
    "ErasedLogits": "decoding",
    "Recipe": "recipe.recipe",
    "RunRecord": "recipe.record",
    "audit": "runs.audit",
    "erase": "runs.pipeline",
    "export": "release.export",
    "prepare": "runs.pipeline",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'efface' has no attribute {name!r}")
    return getattr(import_module(f"efface.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
