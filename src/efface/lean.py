"""Norms and gated units that keep less for the backward pass, where the model's own code keeps every intermediate result.

On a processor, while training: a root-mean-square norm keeps its input as it came (not two float32 copies), a gated unit its two
factors (not the activation as well). A module is replaced only if it gives the same values as its own code on a test input.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Norm(torch.autograd.Function):
    """``weight * x / sqrt(mean(x^2) + eps)`` over the last dimension, computed in float32; the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale if wide is x else wide.mul_(scale).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        grad = (grads[0] * weight).float()
        wide = x.float() * scale
        grad -= wide * (grad * wide).mean(-1, keepdim=True)
        return grad.mul_(scale).to(x.dtype), None, None


class _Gate(torch.autograd.Function):
    """``silu(gate) * up``."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad = grads[0]
        of_up = nn.functional.silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), of_up


def lean_norm(module: nn.Module, x: Tensor) -> Tensor:
    """What a norm of the usual form gives."""
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", 1e-6))
    out: Tensor = _Norm.apply(x, module.weight, eps)  # type: ignore[no-untyped-call]
    return out


def lean_unit(module: Any, x: Tensor) -> Tensor:
    """What a gated unit of the usual form gives."""
    out: Tensor = module.down_proj(_Gate.apply(module.gate_proj(x), module.up_proj(x)))  # type: ignore[no-untyped-call]
    return out


@contextmanager
def lean(model: nn.Module) -> Iterator[None]:
    """While this lasts, norms and gated units of the usual form keep less; results are the same to rounding.

    Only on a processor: an accelerator has fused kernels of its own.
    """
    changed = []
    try:
        for module in model.modules() if next(model.parameters()).device.type == "cpu" else ():
            form = _form(module)
            if form is not None:
                module.forward = form.__get__(module)
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _form(module: Any) -> Any:
    """The lean form of a module; None if it has none, or computes something else."""
    weight = getattr(module, "weight", None)
    if "RMSNorm" in type(module).__name__ and isinstance(weight, nn.Parameter) and not weight.requires_grad:
        form, x = lean_norm, torch.linspace(-2, 3, len(weight), dtype=weight.dtype)[None]
    elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")):
        first = next(module.gate_proj.parameters())
        form, x = lean_unit, torch.linspace(-2, 3, first.shape[1], dtype=first.dtype)[None]
    else:
        return None
    with torch.no_grad(), torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        try:
            same = torch.allclose(form(module, x).float(), module(x).float(), rtol=1e-2, atol=1e-3)
        except (AttributeError, RuntimeError, TypeError):
            return None
    return form if same else None
