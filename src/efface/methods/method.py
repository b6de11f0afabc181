"""What a method of erasure is: it prepares examples once, and turns a batch into the terms of a loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from efface.concept import Concept
from efface.data.collate import Example
from efface.data.store import Store
from efface.models import Loaded
from efface.recipe import Recipe


@dataclass(frozen=True)
class LossTerms:
    """Weighted terms of one batch, scalars in nats; a term that the batch does not have is None."""

    erase: Tensor | None = None
    retain: Tensor | None = None
    fluency: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """The terms that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def total(self) -> Tensor:
        """Sum of all terms."""
        return sum(self.named().values())  # type: ignore[return-value]


class Method(Protocol):
    """The extension point: one class in one file of this folder, entered in ``METHODS``."""

    def __init__(self, recipe: Recipe) -> None: ...

    def prepare(self, loaded: Loaded, concept: Concept, store: Store) -> dict[str, Sequence[Example]]:
        """Examples for each term, made with the frozen model before training; what is expensive comes from the store."""
        ...

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        """Terms of the loss for a batch of :class:`efface.data.collate.Collator`."""
        ...
