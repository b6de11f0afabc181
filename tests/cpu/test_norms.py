from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from efface.cpu.norms import lean
from efface.lm.load import load
from tests.conftest import ARCHITECTURES


def gradient(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Output, gradient at the input, and bytes kept for the backward pass."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    x = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        out = model(inputs_embeds=x, use_cache=False).logits
    out.float().square().mean().backward()
    assert x.grad is not None
    return out.detach(), x.grad, kept


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_and_gradients_are_those_of_the_models_own_code(architecture: str, model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders[architecture]), dtype="float32").model.requires_grad_(False)
    x = torch.randn(2, 5, model.get_input_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(0))
    out, grad, kept = gradient(model, x)
    with lean(model):
        changed = [module for module in model.modules() if "forward" in vars(module)]
        lean_out, lean_grad, lean_kept = gradient(model, x)
    torch.testing.assert_close(lean_out, out)
    torch.testing.assert_close(lean_grad, grad)
    assert lean_kept < kept if changed else lean_kept == kept
    assert not any("forward" in vars(module) for module in model.modules())
    assert bool(changed) == (architecture in ("llama", "mistral", "qwen2", "qwen3"))


class OneMoreRMSNorm(nn.Module):
    """A norm whose weight stands for one more than itself, as some models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(4), requires_grad=False), 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * (1 + self.weight)


def test_a_norm_of_another_form_is_left_alone() -> None:
    norm = OneMoreRMSNorm()
    with lean(norm):
        assert "forward" not in vars(norm)


class GatedRMSNorm(OneMoreRMSNorm):
    """A norm that may be given a gate."""

    def forward(self, x: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
        out = x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight
        return out if gate is None else out * gate.sigmoid()


class GeluUnit(nn.Module):
    """A gated unit with another activation, and weights that are all but zero."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4, bias=False)
        with torch.no_grad():
            self.down_proj.weight.mul_(1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(nn.functional.gelu(self.gate_proj(x)) * self.up_proj(x))
        return out


class StrangeUnit(nn.Module):
    """Parameters where others have modules."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = self.up_proj = self.down_proj = nn.Parameter(torch.zeros(4))


@pytest.mark.parametrize("module", [GatedRMSNorm(), GeluUnit(), StrangeUnit()])
def test_what_computes_something_else_is_left_alone(module: nn.Module) -> None:
    module.requires_grad_(False)
    with lean(module):
        assert "forward" not in vars(module)


def test_a_forward_pass_that_something_hooked_is_left_alone() -> None:
    norm = LlamaRMSNorm(4).requires_grad_(False)
    with lean(norm):
        assert "forward" in vars(norm)
    hooked = norm.forward
    norm.forward = hooked
    with lean(norm):
        assert vars(norm)["forward"] is hooked
    assert vars(norm)["forward"] is hooked
