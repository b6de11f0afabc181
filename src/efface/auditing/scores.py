"""What an audit leaves behind, as JSON that everything later reads: scores, answers, layers, and all of them together."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from efface.concept.written import Written
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
    """A greedy answer about the concept: to an open question, or to the question what one of its names is.

    right: it contains an accepted answer (only open questions have any). concept_words: words of the concept that the question
    does not hold, per 100 words. repeated: share of its 4-grams that came before in it.
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


class Partial(dict[str, Score]):
    """The scores of a scorer that could not go on: those that it had."""


class Unfinished(Measured):
    """What a scorer measured that could not go on. It stays in this audit, and is not kept for another."""


class Figure(_Result):
    """How a score is shown. key: ``test/kind/metric``; goal: the heading it stands under; wanted: which way it should go."""

    key: str
    goal: str
    label: str
    wanted: Literal["down", "up", "stay"]
    percent: bool = True


class Audit(_Result):
    """The same measurements of the base and of the erased model, on one split of a pack's questions.

    models: name and hash of both. differences: for every score that both models have item by item. figures: of scorers of
    one's own, besides those that every audit has (:data:`efface.auditing.figures.FIGURES`).
    truth: where the answers come from by which it judges: from people, or from what a model said itself.
    written: how a model wrote the pack, or each of several, by its title.
    """

    #: of the rest of the file, from which a damaged one is known
    sha256: str | None = Field(default=None, exclude=True)
    version: Literal[1] = 1
    concept: str
    title: str = ""
    split: Literal["tune", "test"]
    truth: Literal["people", "self"] = "people"
    written: dict[str, Written] = {}
    models: dict[str, str] = {}
    settings: AuditSettings = AuditSettings()
    base: Measured
    erased: Measured
    differences: dict[str, Difference] = {}
    figures: tuple[Figure, ...] = ()
