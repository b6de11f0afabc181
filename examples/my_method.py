"""A method of your own: efface erase MODEL CONCEPT --method examples/my_method.py

Every token of the forget texts shall come as a surprise of so many nats, and no more: a likelihood hinge. Corpora, retain term,
store of targets, trainer, audit and report are those of efface; a method says what is minimised on the forget texts.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from efface.methods.method import Method, Seen
from efface.recipe.settings import Settings


class LikelihoodHinge(Method):
    """``E max(0, floor + log student(token))``: zero once every token is less likely than ``exp(-floor)``."""

    class Options(Settings):
        """Given on the command line as: --options floor 6."""

        floor: float = Field(8.0, gt=0, description="Nats from which on a token counts as forgotten.")

    # what a recipe has to be for this method, where the user says nothing
    recipe_defaults: ClassVar = {"erase": {"weight": 1.0}}

    def erase(self, seen: Seen) -> Tensor:
        """seen.cross_entropy(): minus the log-probability of every next token ``[n]``."""
        return seen.mean((float(self.options.floor) - seen.cross_entropy()).relu())
