"""Directions: what an erasure adds to the states on any text is taken out of them while the model runs.

An erasure may be a switch: the same shift of the states whatever the text, behind which the knowledge is as it was. Who has the
base model as well finds the shift on texts about other things, and undoes it (as refusal was undone, arXiv 2406.11717).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from efface.attacks.attack import Attacked, Measure, evenly
from efface.attacks.relearning import CUT
from efface.auditing.subject import Subject
from efface.data.batches import right_pad
from efface.data.text import encode
from efface.lm.layers import bare, decoder_layers
from efface.lm.states import output_states

TEXTS = 16


def directions(subject: Subject, measure: Measure) -> None:
    """``ablate``: without the component along the shift; ``subtract``: less each layer's own part of it. Of the base: nothing."""
    if subject.of_base:
        return
    ids, mask = _neutral(subject)
    with subject.base() as base:
        before = mean_states(base, ids, mask)
    unit = direction((mean_states(subject.model, ids, mask) - before)[:, 1], before)
    own = (mean_states(subject.model, ids, mask, before) - before)[:, 1]
    ways: dict[str, Callable[[int, Tensor], Tensor]] = {
        "ablate": lambda layer, states: without(states, unit[layer]),
        "subtract": lambda layer, states: states - own[layer].to(states),
    }
    for variant, change in ways.items():
        with changed(subject.model, change):
            measure(Attacked(replace(subject), variant))


def _neutral(subject: Subject) -> tuple[Tensor, Tensor]:
    """Passages about other things as token ids and mask ``[texts, seq]``."""
    passages = subject.concept.texts("retain", "held_out") or subject.concept.texts("retain", "train")
    texts = [encode(text, subject.tokenizer, CUT) for text in evenly([row.text for row in passages], TEXTS)]
    return right_pad([text.ids for text in texts], subject.tokenizer.pad_token_id, bare(subject.model).device)


@torch.no_grad()
def mean_states(model: nn.Module, ids: Tensor, mask: Tensor, mend: Tensor | None = None) -> Tensor:
    """Mean state ``[layers, 2, size]`` after every decoder layer: of the texts' first tokens, and of all others.

    mend: such means, to which the states of all layers below are brought back first; what is shifted then is a layer's own doing.
    """
    found = list[Tensor]()

    def look(layer: int, states: Tensor) -> Tensor:
        others = states[:, 1:][mask[:, 1:].bool().to(states.device)]
        found.append(torch.stack([of.cpu().double().mean(0) for of in (states[:, 0], others)]))
        return states if mend is None else states - (found[layer] - mend[layer])[1].to(states)

    with changed(model, look):
        output_states(model, *torch.zeros(2, 1, dtype=torch.long), input_ids=ids, attention_mask=mask)
    return torch.stack(found)


def direction(shift: Tensor, common: Tensor) -> Tensor:
    """Unit vectors ``[layers, size]`` along the part of each shift ``[layers, size]`` that is orthogonal to what states share.

    common: ``[layers, n, size]``, the mean states of the base. A first token's is an attention sink in many models, hundreds of
    times as long as others; without it, or without the mean state, the model says nothing. No shift: no direction (0).
    """
    shared = torch.linalg.qr(common.mT).Q  # [layers, size, n]
    return nn.functional.normalize(shift - (shared @ (shared.mT @ shift[..., None]))[..., 0], dim=-1)


def without(states: Tensor, unit: Tensor) -> Tensor:
    """``h - (h · d) d``: states ``[..., size]`` without their component along ``d`` ``[size]``."""
    wide, along = states.float(), unit.to(states.device, torch.float32)
    return (wide - (wide @ along)[..., None] * along).to(states.dtype)


@contextmanager
def changed(model: nn.Module, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """The model with the states ``[batch, seq, size]`` after each decoder layer changed, for as long as the context lasts."""

    def hook(layer: int) -> Callable[..., Any]:
        def after(_: nn.Module, __: Any, leaving: Any) -> Any:
            return (change(layer, leaving[0]), *leaving[1:]) if isinstance(leaving, tuple) else change(layer, leaving)

        return after

    with ExitStack() as hooks:
        for layer, block in enumerate(decoder_layers(bare(model))[1]):
            hooks.enter_context(block.register_forward_hook(hook(layer)))
        yield
