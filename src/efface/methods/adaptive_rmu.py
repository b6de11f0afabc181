"""Adaptive RMU (Dang et al., arXiv 2408.06223): RMU whose vector is as long as the frozen model's own state, times beta.

``E || h(token) - beta * ||h_base(token)|| * u ||^2``
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from efface.methods.method import Method, Seen
from efface.methods.rmu import direction, misdirection
from efface.recipe.settings import Settings


class AdaptiveRMU(Method):
    """RMU that fits any layer of any model."""

    class Options(Settings):
        """The paper's."""

        beta: float = Field(5.0, gt=0, description="Length of the vector, in lengths of the frozen model's state.")

    recipe_defaults: ClassVar = {"erase": {"weight": 0.06}, "lora": {"layers": "16%-25%"}}

    def layers(self, model: nn.Module) -> Sequence[int]:
        """The highest trained one."""
        return self.adapted(model)[-1:]

    def erase(self, seen: Seen) -> Tensor:
        """The formula above, as a mean over the states' dimensions."""
        (states,), (base,) = seen.layers.values(), seen.base().values()
        length = self.options.beta * base.float().norm(dim=-1, keepdim=True)
        return seen.mean(misdirection(states, length * direction(states, self.recipe.seed)))
