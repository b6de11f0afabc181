"""Quantisation: what the released weights say after a round trip through few bits (arXiv 2410.16454).

An erasure moves each weight by little. Where that is less than half a step of the grid, rounding puts the weight where that of
the base would have been put, and what it knew is there again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from efface.attacks.attack import Attacked, Measure
from efface.attacks.relearning import release
from efface.auditing.subject import Subject
from efface.lm.layers import linear_modules
from efface.shown import complain

#: bits, and how many weights of a row share a scale (None: all of them)
GRIDS: dict[str, tuple[int, int | None]] = {"int8": (8, None), "int4": (4, 64)}


def quantise(subject: Subject, measure: Measure) -> None:
    """``int8``, ``int4``: a copy, adapter merged, with the linear modules of all decoder layers rounded to the grid."""
    rounded(subject, measure, {variant: partial(round_trip, bits=bits, group=group) for variant, (bits, group) in GRIDS.items()})


@torch.no_grad()
def rounded(subject: Subject, measure: Measure, roundings: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
    """Measure a copy for each rounding of the weights ``[out, in]`` of all linear modules; for none if they are in few bits."""
    for variant, rounding in roundings.items():
        released = release(subject.model)
        modules = [released.get_submodule(name) for name in linear_modules(released)]
        if not all(module.weight.is_floating_point() for module in modules):  # type: ignore[operator]
            complain("attack quantise is left out: the weights are in few bits already")
            return
        for module in modules:
            rows: Tensor = module.weight.T if isinstance(module, Conv1D) else module.weight  # type: ignore[assignment]
            rows.copy_(rounding(rows))
        measure(Attacked(replace(subject, model=released, other_base=None), variant))


def round_trip(rows: Tensor, bits: int, group: int | None = None) -> Tensor:
    """``s * round(w / s)`` of weights ``[out, in]`` with ``s = max |w| / (2^(bits - 1) - 1)`` over a row, or a group of it.

    Round to nearest, symmetric: zero stays zero, the largest weight of a group stays what it was. The last group may be shorter.
    """
    parts = []
    for part in torch.split(rows.float(), group or rows.shape[1], dim=1):
        scale = part.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / (2 ** (bits - 1) - 1)
        parts.append((part / scale).round() * scale)
    return torch.cat(parts, 1).to(rows.dtype)
