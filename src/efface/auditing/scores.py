"""What a run leaves behind, as JSON that everything later reads: scores, audit, run record."""

import math
import os
import statistics
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from efface.auditing.statistics import LEAST, ends, numbered, redrawn_means, wilson
from efface.errors import RunError, TrainingError
from efface.recipe.plain import one_line
from efface.recipe.recipe import Recipe, recorded
from efface.recipe.settings import AuditSettings


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Result):
    """One figure with its sample size, its 95 % interval and what guessing would give (None where none applies).

    There is no interval on fewer than five groups of items.
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    #: the outcome of every item, in an order that does not depend on the model, where two models can be compared item by item
    items: tuple[float, ...] | None = None
    #: the group of every item, from 0: those that share their choices; None: every item alone (or an older record)
    groups: tuple[int, ...] | None = None
    #: of a perplexity the tokens of every item: the figure is the exponential of the items' mean over tokens, in nats
    tokens: tuple[int, ...] | None = None

    @property
    def units(self) -> int:
        """Number of groups: what may be taken for independent."""
        return self.n if self.groups is None else max(self.groups) + 1


class Difference(_Result):
    """Erased minus base, item by item: mean over ``n`` pairs, 95 % interval (bootstrap over groups), and a two-sided p-value."""

    value: float
    n: int
    low: float
    high: float
    p: float
    test: Literal["McNemar", "sign flips", "bootstrap"]


class Answer(_Result):
    """The text that one model wrote for one prompt.

    pieces: the text in tokens, each with how far base and erased differ there: total variation distance, 0 to 1.
    """

    prompt: str
    text: str
    pieces: tuple[tuple[str, float], ...] = ()


class Said(_Result):
    """A greedy answer to an open question about the concept.

    right: it contains an accepted answer. concept_words: words of the concept that the question does not hold, per 100 words.
    repeated: share of its 4-grams that came before in it.
    """

    prompt: str
    text: str
    right: bool
    concept_words: float
    repeated: float


class Layer(_Result):
    """What one decoder layer's output still holds about the concept.

    probe: a linear classifier tells right statements from wrong ones; null: the same after the labels were shuffled.
    lens: probability of the right choice among the choices, read off with the model's own output layer (None: not measured).
    norm: mean Euclidean norm of the states.
    """

    layer: int
    probe: Score
    null: Score
    lens: Score | None
    norm: Score


class Measured(_Result):
    """Everything measured on one model. ``scores`` is keyed ``test/kind/metric``; a missing key was not measured."""

    scores: dict[str, Score]
    answers: list[Answer]
    depth: list[Layer] = []
    said: list[Said] = []


class Audit(_Result):
    """The same measurements of the base and of the erased model, on one split of a pack's questions.

    models: name and hash of both. differences: for every score that both models have item by item.
    """

    version: Literal[1] = 1
    concept: str
    title: str = ""
    split: Literal["tune", "test"]
    models: dict[str, str] = {}
    settings: AuditSettings = AuditSettings()
    base: Measured
    erased: Measured
    differences: dict[str, Difference] = {}


class RunRecord(_Result):
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


def proportion(hits: Sequence[bool], chance: float | None = None, groups: Sequence[Hashable] | None = None) -> Score:
    """Share of hits with its 95 % interval: Wilson, or a bootstrap over groups where some items share one.

    groups: of every item, anything that tells them apart; None: every item alone. Where all items agree no draw differs from
    another; then it is Wilson's for as many items as there are groups.
    """
    assert hits
    score = Score(value=sum(hits) / len(hits), n=len(hits), chance=chance, items=tuple(map(float, hits)), groups=_of(groups))
    if score.units < LEAST:
        return score
    if score.groups is None or score.value in (0.0, 1.0):
        return _between(score, wilson(score.value, score.units))
    return _between(score, ends(*redrawn_means(score.items or (), score.groups)))


def average(values: Sequence[float], chance: float | None = None, groups: Sequence[Hashable] | None = None) -> Score:
    """Mean of any values with its 95 % interval: 1.96 standard errors (not below 0 if no value is), or a bootstrap over groups.

    Raises TrainingError for a value that is no finite number.
    """
    if not all(map(math.isfinite, values)):
        raise TrainingError("the model gives no finite numbers")
    score = Score(value=statistics.fmean(values), n=len(values), chance=chance, items=tuple(values), groups=_of(groups))
    if score.units < LEAST:
        return score
    if score.groups is not None:
        return _between(score, ends(*redrawn_means(values, score.groups)))
    half = 1.96 * statistics.stdev(values) / math.sqrt(score.n)
    least = 0.0 if min(values) >= 0 else -math.inf
    return _between(score, (max(score.value - half, least), score.value + half))


def _of(groups: Sequence[Hashable] | None) -> tuple[int, ...] | None:
    return None if groups is None else numbered(groups)


def _between(score: Score, interval: tuple[float, float]) -> Score:
    return score.model_copy(update={"low": interval[0], "high": interval[1]})


_Read = TypeVar("_Read", bound=_Result)


def is_run(folder: str | Path) -> bool:
    """Whether this is the folder of a finished run."""
    return (Path(folder) / "run.json").is_file()


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
