"""DPO (Rafailov et al., arXiv 2305.18290) with "I don't know" preferred to the forget text (as in TOFU, arXiv 2401.06121).

``- E log sigmoid(beta * [log(student(refusal) / base(refusal)) - log(student(text) / base(text))])``
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.lm.load import Loaded
from efface.methods.idk import asked, refusals
from efface.methods.method import Method, Seen
from efface.methods.npo import log_ratios, with_reference
from efface.recipe.settings import Settings


class DPO(Method):
    """Every forget text is an answer to a request; a refusal of the same request is what the student should rather say."""

    class Options(Settings):
        """The paper's."""

        beta: float = Field(0.1, gt=0, description="How soon a preference is strong enough.")

    recipe_defaults: ClassVar = {"erase": {"weight": 2.0}}

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """Pairs of a text and a refusal, each with the frozen model's log-probabilities."""
        forget = asked(loaded, corpora)
        rejected = with_reference(loaded, forget, store)
        preferred = with_reference(loaded, refusals(loaded, forget, self.recipe.data.seed), store)
        return [replace(text, other=refusal) for text, refusal in zip(rejected, preferred, strict=True)]

    def erase(self, seen: Seen) -> Tensor:
        """The formula above: in a batch a text and its refusal stand side by side."""
        rejected, preferred = log_ratios(seen).view(-1, 2).unbind(-1)
        return dpo(preferred, rejected, self.options.beta)


def dpo(preferred: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """preferred, rejected: log of student over frozen model ``[pairs]``, in nats."""
    return -logsigmoid(beta * (preferred - rejected)).mean()
