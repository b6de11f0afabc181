"""SimNPO (Fan et al., arXiv 2410.07163): NPO without the frozen model, its reward divided by the text's length.

``- 2 / beta * E log sigmoid(- beta / |text| * log student(text) - gamma)``
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from efface.methods.method import Method, Seen
from efface.recipe.settings import Settings


class SimNPO(Method):
    """Gradient ascent that fades where a text's tokens are unlikely on the average."""

    class Options(Settings):
        """The authors' code's for the books of MUSE."""

        beta: float = Field(0.7, gt=0, description="How soon the ascent fades.")
        gamma: float = Field(0.0, ge=0, description="Margin of the reward.")

    recipe_defaults: ClassVar = {"erase": {"weight": 6.0}}

    def erase(self, seen: Seen) -> Tensor:
        """The formula above."""
        return simnpo(-seen.sums(seen.cross_entropy()) / seen.lengths(), self.options.beta, self.options.gamma)


def simnpo(mean_logprob: Tensor, beta: float, gamma: float) -> Tensor:
    """mean_logprob: the student's log-probability of a token of every text, on the average ``[texts]``, in nats."""
    return -2 / beta * logsigmoid(-beta * mean_logprob - gamma).mean()
