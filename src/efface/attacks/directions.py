"""Directions: what an erasure adds to the states on any text is taken out of them while the model runs.

An erasure may be a switch: the same shift of the states whatever the text, behind which the knowledge is as it was. Who has the
base model as well finds the shift on texts about other things, and undoes it (as refusal was undone, arXiv 2406.11717).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from efface.attacks.attack import Attacked, Measure, evenly
from efface.attacks.relearning import CUT
from efface.auditing.subject import Subject
from efface.data.text import encode
from efface.lm.layers import bare, decoder_layers
from efface.lm.states import layer_states

TEXTS = 32
#: times the usual norm from which on a state is an attention sink: it holds nothing of the text, and all texts need it
SINK = 5


def directions(subject: Subject, measure: Measure) -> None:
    """``ablate``: without the component along the shift, after every layer. Of the base nothing is measured."""
    if subject.of_base:
        return
    concept = subject.concept
    texts = evenly([row.text for row in concept.texts("retain", "held_out") or concept.texts("retain", "train")], TEXTS)
    with subject.base() as base:
        before, usual = mean_states(base, subject.tokenizer, texts)
    unit = direction(mean_states(subject.model, subject.tokenizer, texts)[0] - before, before)
    with changed(subject.model, lambda layer, states: without(states, unit[layer], SINK * float(usual[layer]))):
        measure(Attacked(replace(subject), "ablate"))


@torch.no_grad()
def mean_states(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Mean state ``[layers, size]`` and mean norm ``[layers]`` after every decoder layer, over tokens but each text's first."""
    whole = bare(model)
    layers, sums, count = range(len(decoder_layers(whole)[1])), torch.zeros(()), 0
    for text in texts:
        ids = torch.tensor([encode(text, tokenizer, CUT).ids], device=whole.device)
        at = torch.arange(1, ids.shape[1])
        states = layer_states(model, at * 0, at, layers, to_the_end=False, input_ids=ids, attention_mask=torch.ones_like(ids))
        wide = torch.stack([of.cpu().double() for of in states])
        sums = sums + torch.cat([wide, wide.norm(dim=-1, keepdim=True)], -1).sum(1)
        count += len(at)
    means = sums / count
    return means[:, :-1], means[:, -1]


def direction(shift: Tensor, mean: Tensor) -> Tensor:
    """Unit vectors ``[layers, size]`` along the part of each shift that is orthogonal to the mean state.

    The mean state is part of every state; a model without it says nothing. A shift of nothing has no direction (0).
    """
    along = nn.functional.normalize(mean, dim=-1)
    return nn.functional.normalize(shift - (shift * along).sum(-1, keepdim=True) * along, dim=-1)


def without(states: Tensor, unit: Tensor, most: float) -> Tensor:
    """``h - (h · d) d``: states ``[..., size]`` without their component along ``d``; those of a norm above ``most`` stay."""
    wide, along = states.float(), unit.to(states.device, torch.float32)
    ablated = wide - (wide @ along)[..., None] * along
    return torch.where(wide.norm(dim=-1, keepdim=True) > most, wide, ablated).to(states.dtype)


@contextmanager
def changed(model: nn.Module, change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """The model with the states ``[batch, seq, size]`` after each decoder layer changed, for as long as the context lasts."""

    def hook(layer: int) -> Callable[..., Any]:
        def after(_: nn.Module, __: Any, leaving: Any) -> Any:
            return (change(layer, leaving[0]), *leaving[1:]) if isinstance(leaving, tuple) else change(layer, leaving)

        return after

    hooks = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(decoder_layers(bare(model))[1])]
    try:
        yield
    finally:
        for of in hooks:
            of.remove()
