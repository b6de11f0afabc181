"""A control: the retain term alone. What it changes, training as such did."""

from collections.abc import Sequence

from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.lm.load import Loaded
from efface.methods.method import Method


class RetainOnly(Method):
    """No forget texts at all."""

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """None."""
        return []
