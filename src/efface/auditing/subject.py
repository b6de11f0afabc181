"""The extension point of the audit: a scorer measures one thing on one model."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedTokenizerBase

from efface.auditing.scores import Score
from efface.concept.pack import Concept, Split
from efface.data.corpora import Corpora
from efface.data.strangers import holds
from efface.lm.layers import teacher
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings, DataSettings

#: asked of a topic where a pack has no open questions
ASK = "What do you know about {}?"


@dataclass(frozen=True)
class Subject:
    """What a scorer gets: the model under test (eval mode, ready to run) and the questions it is judged by.

    other_base: the base model, where it is not the model under test with its adapter disabled.
    judge: the model that reads the answers, with its tokenizer; None: the base.
    said, base_said: the greedy answers so far to questions in chat, of the model under test and of its base.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    concept: Concept
    split: Split
    settings: AuditSettings = AuditSettings()  # noqa: RUF009  (frozen)
    other_base: nn.Module | None = None
    judge: Loaded | None = None
    said: dict[str, list[int]] = field(default_factory=dict, init=False, compare=False, repr=False)
    base_said: dict[str, list[int]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def of_base(self) -> bool:
        """Whether the model under test is the base itself."""
        return self.other_base is self.model

    @property
    def where(self) -> str:
        """The model under test, for a line that tells what could not be measured on it."""
        return f"on the {'base' if self.of_base else 'erased'} model"

    @cached_property
    def words(self) -> frozenset[str]:
        """The concept's own words."""
        return Corpora(self.concept, DataSettings()).words

    @cached_property
    def questions(self) -> list[str]:
        """What is asked about the concept: its open questions; if the pack has none, its topics and the prompts that name it."""
        if asked := self.concept.ask_open("forget", self.split):
            return [row.question for row in asked]
        manifest = self.concept.manifest
        return [*map(ASK.format, manifest.topics), *(prompt for prompt in manifest.prompts if holds(prompt, self.words))]

    def base(self) -> AbstractContextManager[Any]:
        """The base model, for as long as the context lasts."""
        return nullcontext(self.other_base) if self.other_base is not None else teacher(self.model)  # type: ignore[arg-type]


class Scorer(Protocol):
    """Figures of one test, keyed ``test/kind/metric``. A test that cannot be made is left out, never 0."""

    __name__: str

    def __call__(self, subject: Subject) -> dict[str, Score]:
        """Measure the subject."""
        ...
