"""RMU, representation misdirection (Li et al., arXiv 2403.03218, section 4).

``E || h(token) - c * u ||^2`` at one layer, u a fixed random direction; trained are this layer and the two before it.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.methods.method import Method, Seen
from efface.recipe.settings import Settings


class RMU(Method):
    """Pushes what the highest trained layer says about the forget texts in one direction that means nothing."""

    class Options(Settings):
        """The paper's, for Zephyr-7B."""

        c: float = Field(6.5, gt=0, description="Length of the vector that the states are pushed to.")

    recipe_defaults: ClassVar = {"erase": {"weight": 1.0}, "lora": {"layers": "16%-25%"}}  # 5 to 7 of 32

    def layers(self, model: nn.Module) -> Sequence[int]:
        """The highest trained one."""
        return self.adapted(model)[-1:]

    def erase(self, seen: Seen) -> Tensor:
        """The formula above, as a mean over the states' dimensions."""
        (states,), length = seen.layers.values(), float(self.options.c)
        return seen.mean(misdirection(states, length * direction(states, self.recipe.seed)))


def direction(like: Tensor, seed: int) -> Tensor:
    """A random unit vector ``[size]``, its entries drawn from 0 to 1 before it is normalised."""
    draw = torch.rand(like.shape[-1], generator=torch.Generator().manual_seed(seed))
    unit: Tensor = draw / draw.norm()
    return unit.to(like.device)


def misdirection(states: Tensor, aim: Tensor) -> Tensor:
    """Mean squared distance of states ``[n, size]`` from ``aim``, over the dimensions: ``[n]``."""
    return (states.float() - aim).square().mean(-1)
