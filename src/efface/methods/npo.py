"""NPO, negative preference optimisation (Zhang et al., arXiv 2404.05868, equation 3).

``- 2 / beta * E log sigmoid(- beta * log(student(text) / base(text)))``
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from efface.data.batches import Example, next_token_example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.targets import token_logprobs
from efface.data.text import Text
from efface.lm.load import Loaded
from efface.methods.method import Method, Seen
from efface.recipe.settings import Settings


class NPO(Method):
    """Gradient ascent that fades where a text is already much less likely than under the frozen model."""

    class Options(Settings):
        """The paper's."""

        beta: float = Field(0.1, gt=0, description="How soon the ascent fades.")

    recipe_defaults: ClassVar = {"erase": {"weight": 1.0}}

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """The texts with their own next tokens and the frozen model's log-probability of each."""
        return with_reference(loaded, corpora.texts.forget, store)

    def erase(self, seen: Seen) -> Tensor:
        """The formula above."""
        return npo(log_ratios(seen), self.options.beta)


def npo(log_ratio: Tensor, beta: float) -> Tensor:
    """log_ratio: log of student over frozen model, of every text ``[texts]``, in nats."""
    return -2 / beta * logsigmoid(-beta * log_ratio).mean()


def log_ratios(seen: Seen) -> Tensor:
    """Log of student over frozen model, summed over each text's tokens ``[texts]``."""
    assert seen.values is not None
    return seen.sums(-seen.cross_entropy() - seen.values[:, 0])


def with_reference(loaded: Loaded, texts: Sequence[Text], store: Store) -> list[Example]:
    """Next-token examples that carry the frozen model's log-probability of every token."""
    found = token_logprobs(loaded.model, store, texts, loaded.tokenizer.pad_token_id)
    return [replace(next_token_example(text), values=logprobs[:, None]) for text, logprobs in zip(texts, found, strict=True)]
