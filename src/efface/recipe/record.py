"""How a run came about, as JSON that everything later reads."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator

from efface.recipe.recipe import Recipe, recorded


class Machine(BaseModel, frozen=True, extra="forbid"):
    """What computed. device: its name; processor: name and kind of kernels; cuda, driver: versions, where there is a GPU.

    dtype: precision of the frozen weights. switches: settings and variables of the environment that choose or keep kernels.
    """

    device: str
    dtype: str
    processor: str
    threads: int
    cuda: str | None = None
    driver: str | None = None
    switches: dict[str, str] = {}


class Training(BaseModel, frozen=True, extra="forbid"):
    """What a training leaves beside its adapter. files: SHA-256 of the adapter's files, by their path in the run folder."""

    losses: list[dict[str, float]]
    tokens: dict[str, int]
    files: dict[str, str] = {}
    machine: Machine | None = None


class Layer(BaseModel, frozen=True, extra="forbid"):
    """A run that another stands on: its folder, what it was made from and is, as that other found it."""

    run: str
    model: str
    concept: str
    hashes: dict[str, str]


class RunRecord(BaseModel, frozen=True, extra="forbid"):
    """How a run came about: recipe, seeds, versions, hashes, time, trained tokens.

    sources: revision and hash of every corpus that the pack names but does not hold. files: SHA-256 of the adapter's files.
    machine: what the adapter was trained on; None in an older record.
    stands_on: the runs whose adapters were merged into its base, the first of them first.
    """

    recipe: Recipe
    versions: dict[str, str]
    hashes: dict[str, str]
    tokens: dict[str, int]
    seconds: dict[str, float]
    peak_gib: float | None = None
    processes: int = 1
    machine: Machine | None = None
    sources: dict[str, str] = {}
    files: dict[str, str] = {}
    stands_on: tuple[Layer, ...] = ()
    losses: list[dict[str, float]]
    #: of the rest of the file
    sha256: str | None = Field(default=None, exclude=True)

    @field_validator("recipe", mode="before")
    @classmethod
    def _as_it_was(cls, recipe: Any) -> Any:
        return recorded(recipe) if isinstance(recipe, Mapping) else recipe
