"""A control: the retain term alone. What it changes, training as such did."""

from collections.abc import Sequence

from efface.concept.pack import Concept
from efface.data.batches import Example
from efface.data.store import Store
from efface.data.text import Text
from efface.lm.load import Loaded
from efface.methods.method import Method


class RetainOnly(Method):
    """No forget texts at all."""

    def examples(self, loaded: Loaded, forget: Sequence[Text], concept: Concept, store: Store) -> Sequence[Example]:
        """None."""
        return []
