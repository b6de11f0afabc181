"""Norms and gated units that keep less for the backward pass, where the model's own code keeps every intermediate result.

On a processor, while training: a root-mean-square norm keeps its input as it came (not two float32 copies), a gated unit its two
factors (not the activation as well). A module is replaced only if it gives the same values as its own code on a test input.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
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
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
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
    """The lean form of a module; None if it has none, computes something else, or has a forward pass of its own (a hook)."""
    is_norm = "RMSNorm" in type(module).__name__
    is_unit = all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj"))
    if not (is_norm or is_unit) or "forward" in vars(module):
        return None
    form: Any = lean_norm if is_norm else lean_unit
    try:
        weight = module.weight if is_norm else next(module.gate_proj.parameters())
        alone = len(signature(module.forward).parameters) == 1  # a norm may take a gate as well
        return form if alone and not (is_norm and weight.requires_grad) and _agree(form, module, weight) else None
    except (AttributeError, NotImplementedError, RuntimeError, StopIteration, TypeError, ValueError):
        return None


@torch.no_grad()
def _agree(form: Any, module: nn.Module, weight: Tensor) -> bool:
    """Whether both give the same on an ordinary input and on a tiny one, to a hundredth of the largest value."""
    if not weight.is_floating_point():
        return False
    x = torch.linspace(-2, 3, weight.shape[-1], device=weight.device).to(weight.dtype)[None]
    with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        pairs = [(form(module, of).float(), module(of).float()) for of in (x, x * 1e-3)]
    return all(bool((one - other).abs().max() <= 0.01 * other.abs().max()) for one, other in pairs)
