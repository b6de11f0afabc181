"""RepNoise, representation noising (Rosati et al., arXiv 2405.14577, section 3).

``beta * MMD(h(tokens), Gaussian noise) - alpha * log(1 + CE(forget text, read off the layers))``; sums over layers are means.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from efface.lm.layers import bare, decoder_layers
from efface.methods.method import Method, Seen
from efface.recipe.settings import Settings


class RepNoise(Method):
    """Turns the states of the forget texts into noise and makes the texts unlikely, seen from several layers."""

    class Options(Settings):
        """The paper's; it reads every layer."""

        alpha: float = Field(1.0, ge=0, description="Weight of the ascent.")
        beta: float = Field(0.001, ge=0, description="Weight of the noise.")
        every: int = Field(6, gt=0, description="Read every so many layers, the last one included.")
        tokens: int = Field(128, gt=1, description="States of a batch that are compared with noise.")

    recipe_defaults: ClassVar = {"erase": {"weight": 6.0}}

    def layers(self, model: nn.Module) -> Sequence[int]:
        """Every so many, counted from the last."""
        count = len(decoder_layers(bare(model))[1])
        return sorted(range(count - 1, -1, -self.options.every))

    def erase(self, seen: Seen) -> Tensor:
        """The formula above; every layer is read through the model's last norm and output layer."""
        noise, alpha, beta = [], float(self.options.alpha), float(self.options.beta)
        losses = [seen.mean(seen.cross_entropy(seen.norm(states))) for states in seen.layers.values()]
        for states in seen.layers.values():
            some = states[torch.randperm(len(states), device=states.device)[: self.options.tokens]].float()
            noise.append(mmd(some, torch.randn_like(some)))
        ascent = torch.log1p(torch.stack(losses).mean())
        return beta * torch.stack(noise).mean() - alpha * ascent


def mmd(states: Tensor, noise: Tensor, kernels: int = 5) -> Tensor:
    """Maximum mean discrepancy of two samples ``[n, size]``: Gaussian kernels around the mean squared distance, factors of 2."""
    both = torch.cat([states, noise])
    distances = torch.cdist(both, both).square()
    n = len(both)
    width = distances.detach().sum() / (n * n - n) / 2 ** (kernels // 2)
    kernel = torch.stack([(-distances / (width * 2**i)).exp() for i in range(kernels)]).sum(0)
    half = len(states)
    return (kernel[:half, :half] + kernel[half:, half:] - kernel[:half, half:] - kernel[half:, :half]).mean()
