"""A control: the same training towards random tokens. What it breaks is damage, not erasure.

``- E log student(random token | forget text before it)``
"""

from collections.abc import Sequence

from torch import Tensor

from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.tilted_targets import random_targets
from efface.lm.load import Loaded
from efface.methods.method import Method, Seen, likelihood


class RandomTarget(Method):
    """Labels that know nothing of the concept or of language."""

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """The texts with a random token in the place of every predicted one."""
        targets = random_targets(corpora.texts.forget, loaded.model.get_input_embeddings().weight.shape[0], self.recipe.data.seed)
        return [Example(*pair) for pair in zip(corpora.texts.forget, targets, strict=True)]

    def erase(self, seen: Seen) -> Tensor:
        """Next-token loss on these tokens."""
        return likelihood(seen)
