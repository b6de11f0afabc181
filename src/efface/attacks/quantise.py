"""Quantisation: what the released weights say after a round trip through few bits (arXiv 2410.16454).

An erasure moves each weight by little. Where that is less than half a step of the grid, rounding puts the weight where that of
the base would have been put, and what it knew is there again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from efface.attacks.attack import Attacked, Measure
from efface.attacks.relearning import release
from efface.auditing.subject import Subject
from efface.lm.layers import linear_modules
from efface.shown import complain

#: how many weights of a row share a scale
GROUP = 64


def grids() -> dict[str, Callable[[Tensor], Tensor]]:
    """The round trips by name; without bitsandbytes, or where it does not run, all but nf4, with a line that says so."""
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "int8": lambda rows: round_trip(rows, 8),
        "int4": lambda rows: round_trip(rows, 4, GROUP),
        "nf4": nf4,
    }
    try:
        nf4(torch.ones(1, GROUP))
    except (ImportError, RuntimeError, NotImplementedError, AttributeError):
        complain("attack quantise: nf4 is left out, for it needs bitsandbytes (pip install 'efface[qlora]')")
        del found["nf4"]
    return found


def nf4(rows: Tensor) -> Tensor:
    """Weights ``[out, in]`` as bitsandbytes has them after 4 bits of its normal float, in blocks of :data:`GROUP`."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    back: Tensor = dequantize_4bit(*quantize_4bit(rows.contiguous(), blocksize=GROUP, quant_type="nf4"))
    return back


def quantise(subject: Subject, measure: Measure) -> None:
    """``int8``, ``int4``, ``nf4``: a copy, adapter merged, with the linear modules of all decoder layers rounded to the grid."""
    rounded(subject, measure, grids())


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
