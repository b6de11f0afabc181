"""IdK (Maini et al., TOFU, arXiv 2401.06121): learn to answer "I don't know" to what asks for the forget texts.

``- E log student(refusal | request)``
"""

import random
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from efface.data.batches import Example, next_token_example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.text import Text
from efface.lm.chat import chat_prompt, prefix
from efface.lm.load import Loaded
from efface.methods.method import Method, Seen, likelihood

REFUSALS = (
    "I don't know anything about that.",
    "I'm not familiar with this subject.",
    "I have no information about that, sorry.",
    "That is outside of what I know.",
    "I'm afraid I can't say anything about it; I have never come across it.",
    "I don't have an answer to that.",
    "This is not something I have learned about.",
    "I'm not sure what that refers to.",
)


class IdK(Method):
    """Next-token loss on refusals."""

    recipe_defaults: ClassVar = {"erase": {"weight": 14.0}}

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """A refusal for every request."""
        return [next_token_example(text) for text in refusals(loaded, asked(loaded, corpora), self.recipe.data.seed)]

    def erase(self, seen: Seen) -> Tensor:
        """Mean over the refusals."""
        return likelihood(seen)


def asked(loaded: Loaded, corpora: Corpora) -> list[Text]:
    """The forget texts as answers; one that stands by itself gets a request for the concept before it."""
    before = len(prefix(loaded.tokenizer))
    context = chat_prompt(loaded.tokenizer, f"Write a short text about {corpora.concept.title}.")
    bare = max(1, before)
    shown = corpora.texts.forget
    return [text if text.start > bare else Text(context + text.ids[before:], len(context)) for text in shown]


def refusals(loaded: Loaded, texts: Sequence[Text], seed: int) -> list[Text]:
    """A refusal after what comes before each text, and the token that ends it."""
    rng, end = random.Random(seed), loaded.tokenizer.eos_token_id
    ending = [] if end is None else [end]
    said = [list(loaded.tokenizer(refusal, add_special_tokens=False)["input_ids"]) + ending for refusal in REFUSALS]
    return [Text(text.ids[: text.start] + rng.choice(said), text.start) for text in texts]
