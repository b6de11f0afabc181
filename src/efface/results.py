"""What a run leaves behind, as JSON that everything later reads: scores, audit, run record."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from efface.errors import RunError
from efface.recipe import Recipe, one_line


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Result):
    """One figure with its sample size, its 95 % interval and what guessing would give (None where none applies)."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    chance: float | None = None


class Answer(_Result):
    """The text that one model wrote for one prompt."""

    prompt: str
    text: str


class Measured(_Result):
    """Everything measured on one model. ``scores`` is keyed ``test/kind/metric``; a missing key was not measured."""

    scores: dict[str, Score]
    answers: list[Answer]


class Audit(_Result):
    """The same measurements of the base and of the erased model, on one split of a pack's questions."""

    concept: str
    split: Literal["tune", "test"]
    base: Measured
    erased: Measured


class RunRecord(_Result):
    """How a run came about: recipe, seeds, versions, hashes, time, trained tokens."""

    recipe: Recipe
    versions: dict[str, str]
    hashes: dict[str, str]
    tokens: dict[str, int]
    seconds: dict[str, float]
    peak_gib: float | None = None
    processes: int = 1
    losses: list[dict[str, float]]


def proportion(hits: Sequence[bool], chance: float | None = None) -> Score:
    """Share of hits with its 95 % Wilson interval."""
    n = len(hits)
    assert n > 0
    p, z = sum(hits) / n, 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Score(value=p, n=n, low=max(0.0, middle - half), high=min(1.0, middle + half), chance=chance)


_Read = TypeVar("_Read", bound=_Result)


def write_json(path: Path, value: Any) -> None:
    """Write a result or plain JSON data, atomically."""
    import json

    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path, model: type[_Read]) -> _Read:
    """Read a result. Raises RunError when the file is missing or of another shape."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError:
        raise RunError(f"{path} is not there; expected a finished run folder") from None
    except ValidationError as error:
        raise RunError(f"{path}: {one_line(error)}") from None
