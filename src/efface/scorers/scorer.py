"""The extension point of the audit: a scorer measures one thing on one model."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn
from transformers import PreTrainedTokenizerBase

from efface.concept import Concept, Split
from efface.results import Score


@dataclass(frozen=True)
class Subject:
    """What a scorer gets: the model under test (eval mode, ready to run) and the questions it is judged by."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    concept: Concept
    split: Split


class Scorer(Protocol):
    """Figures of one test, keyed ``test/kind/metric``. A test that cannot be made is left out, never 0."""

    def __call__(self, subject: Subject) -> dict[str, Score]:
        """Measure the subject."""
        ...
