"""A control: the retain term alone. What it changes, training as such did."""

from collections.abc import Sequence

from efface.concept import Concept
from efface.data.collate import Example
from efface.data.store import Store
from efface.data.text import Text
from efface.methods.method import Method
from efface.models import Loaded


class RetainOnly(Method):
    """No forget texts at all."""

    def examples(self, loaded: Loaded, forget: Sequence[Text], concept: Concept, store: Store) -> Sequence[Example]:
        """None."""
        return []
