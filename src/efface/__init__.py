"""efface: erase a concept from a language model, and measure what is left of it.

The public names are loaded on first use, so that ``import efface`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efface.auditing import audit as audit
    from efface.concept import Concept as Concept
    from efface.errors import EffaceError as EffaceError
    from efface.guidance import ErasedLogits as ErasedLogits
    from efface.pipeline import erase as erase
    from efface.pipeline import prepare as prepare
    from efface.recipe import Recipe as Recipe
    from efface.results import Audit as Audit
    from efface.results import RunRecord as RunRecord

__version__ = "0.1.0"

_HOME = {
    "Audit": "results",
    "Concept": "concept",
    "EffaceError": "errors",
    "ErasedLogits": "guidance",
    "Recipe": "recipe",
    "RunRecord": "results",
    "audit": "auditing",
    "erase": "pipeline",
    "prepare": "pipeline",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'efface' has no attribute {name!r}")
    return getattr(import_module(f"efface.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
