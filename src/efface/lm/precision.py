"""A model's own weights in float32 for as long as it is needed: what a difference of two predictions must be computed in.

In bfloat16 the two are off by a tenth of a nat each, which is as much as they differ; and the tilt multiplies it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

HALF = (torch.bfloat16, torch.float16)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Weights and buffers of half precision in float32, in place: none is copied, and each is bit for bit what it was after.

    They take twice their memory meanwhile. Weights of fewer bits stay, and compute in float32.
    """
    halves = [(tensor, tensor.dtype) for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in HALF]
    packed: list[Any] = [of for of in model.modules() if isinstance(getattr(of, "compute_dtype", None), torch.dtype)]
    computed = [module.compute_dtype for module in packed]
    try:
        for tensor, _ in halves:
            _cast(tensor, torch.float32)
        for module in packed:
            module.compute_dtype = torch.float32
        yield
    finally:
        for tensor, dtype in halves:
            _cast(tensor, dtype)
        for module, computes in zip(packed, computed, strict=True):
            module.compute_dtype = computes


def _cast(tensor: Tensor, dtype: torch.dtype) -> None:
    tensor.data = tensor.data.to(dtype)
