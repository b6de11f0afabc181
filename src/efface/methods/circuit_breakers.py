"""Circuit breakers, representation rerouting (Zou et al., arXiv 2406.04313, section 3).

``alpha * (1 - t / 2T) * E ReLU(cos(h(token), h_base(token)))`` at two layers, t of T steps done.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from efface.methods.method import Method, Seen
from efface.recipe.settings import Settings


class CircuitBreakers(Method):
    """Turns the states of the forget texts until they have nothing in common with the frozen model's."""

    class Options(Settings):
        """The paper's."""

        alpha: float = Field(10.0, gt=0, description="Weight at the first step; half of it at the last.")

    recipe_defaults: ClassVar = {
        "erase": {"weight": 100.0},
        "lora": {"layers": "0%-66%"},
    }  # 0 to 20 of 32, states read after 10 and 20

    def layers(self, model: nn.Module) -> Sequence[int]:
        """The one in the middle of the trained ones, and the highest."""
        trained = self.adapted(model)
        return sorted({trained[len(trained) // 2], trained[-1]})

    def erase(self, seen: Seen) -> Tensor:
        """The formula above, mean over the two layers."""
        base = seen.base()
        terms = [seen.mean(rerouting(jolted(states), base[layer])) for layer, states in seen.layers.items()]
        return float(self.options.alpha) * (1 - seen.progress / 2) * torch.stack(terms).mean()


def jolted(states: Tensor) -> Tensor:
    """States with a hundredth of noise: where student and frozen model are still the same, the cosine has no slope.

    The paper's code leaves that point by the rounding of half precision.
    """
    noise: Tensor = 0.01 * states.detach().norm(dim=-1, keepdim=True) * normalize(torch.randn_like(states), dim=-1)
    return states + noise


def rerouting(states: Tensor, base: Tensor) -> Tensor:
    """Cosine of states and base ``[n, size]``, nothing where they point apart: ``[n]``."""
    return cosine_similarity(states.float(), base.float(), dim=-1).relu()
