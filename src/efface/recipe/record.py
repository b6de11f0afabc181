"""How a run came about, as JSON that everything later reads."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, field_validator

from efface.recipe.recipe import Recipe, recorded


class RunRecord(BaseModel, frozen=True, extra="forbid"):
    """How a run came about: recipe, seeds, versions, hashes, time, trained tokens.

    sources: revision and hash of every corpus that the pack names but does not hold.
    """

    recipe: Recipe
    versions: dict[str, str]
    hashes: dict[str, str]
    tokens: dict[str, int]
    seconds: dict[str, float]
    peak_gib: float | None = None
    processes: int = 1
    sources: dict[str, str] = {}
    losses: list[dict[str, float]]

    @field_validator("recipe", mode="before")
    @classmethod
    def _as_it_was(cls, recipe: Any) -> Any:
        return recorded(recipe) if isinstance(recipe, Mapping) else recipe
