"""Targets of the frozen teacher, computed once for every text, in length-sorted batches.

The persona streams see persona *and* text: their prefix stands before the same token ids, and their logits are read at the
same tokens. What is kept of each position is a :class:`efface.targets.SparseTarget` on the processor.
"""

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from efface.data.corpora import Text
from efface.models import teacher, without_prefix
from efface.progress import track
from efface.recipe import EraseSettings
from efface.targets import SparseTarget, erased_logprobs, eta_schedule

Prefixes = tuple[list[int], list[int]]
SIGN = {"erase": 1.0, "enhance": -1.0}


@torch.no_grad()
def retain_targets(model: PreTrainedModel, texts: Sequence[Text], pad: int, *, soft: bool, k: int) -> list[SparseTarget]:
    """The teacher's own distribution at every predicted token of every text (soft), or its likeliest token."""

    def target(indices: list[int]) -> list[SparseTarget]:
        logits = text_logits(base, [texts[i].ids for i in indices], [texts[i].start for i in indices], pad)
        if soft:
            return [SparseTarget.from_logprobs(row.log_softmax(-1), k).to("cpu") for row in logits]
        return [SparseTarget.one_hot(row.argmax(-1).cpu()) for row in logits]

    with teacher(model) as base:
        return _in_batches(texts, target, "retain targets")


@torch.no_grad()
def erase_targets(
    model: PreTrainedModel,
    texts: Sequence[Text],
    personas: Sequence[Sequence[Prefixes]],
    pad: int,
    settings: EraseSettings,
    *,
    k: int,
    seed: int,
    before_text: Sequence[int] = (),
) -> list[SparseTarget]:
    """The erased distribution at every predicted token of every text.

    personas: for every text one or more (expert, novice) prefixes; the log-probabilities of several are averaged.
    before_text: what the tokenizer puts before every text; the personas hold it already, so it is not repeated after them.
    """
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if settings.float64 else torch.float32

    def target(indices: list[int]) -> list[SparseTarget]:
        ids, starts = [texts[i].ids for i in indices], [texts[i].start for i in indices]
        streams = [text_logits(base, ids, starts, pad)]
        for stream in (0, 1):
            drawn = []
            for draw in range(len(personas[indices[0]])):
                before = [personas[i][draw][stream] for i in indices]
                shown = [without_prefix(row, list(before_text)) for row in ids]
                rows = [persona + row for persona, row in zip(before, shown, strict=True)]
                at = [len(row) - len(text) + start for row, text, start in zip(rows, ids, starts, strict=True)]
                drawn.append(text_logits(base, rows, at, pad))
            streams.append([_mean_logprobs(rows) for rows in zip(*drawn, strict=True)])
        return [tilt(*(row.to(dtype) for row in rows)) for rows in zip(*streams, strict=True)]

    def tilt(base: Tensor, expert: Tensor, novice: Tensor) -> SparseTarget:
        eta = SIGN[settings.action] * eta_schedule(len(base), settings.eta, settings.schedule).to(base)
        logprobs = erased_logprobs(
            base,
            expert,
            novice,
            eta=eta,
            temperature=settings.temperature,
            top_k=settings.top_k,
            candidates=settings.candidates,
        )
        return SparseTarget.from_logprobs(logprobs.float(), k).to("cpu")

    def at_random(indices: list[int]) -> list[SparseTarget]:
        vocab = model.get_input_embeddings().weight.shape[0]
        draws = (torch.randn(len(texts[i].ids) - texts[i].start, vocab, generator=generator) for i in indices)
        return [SparseTarget.from_logprobs(draw.log_softmax(-1), k) for draw in draws]

    with teacher(model) as base:
        return _in_batches(texts, at_random if settings.action == "random" else target, "erase targets")


def text_logits(model: PreTrainedModel, rows: Sequence[list[int]], starts: Sequence[int], pad: int) -> list[Tensor]:
    """Logits (float32) that predict each row's tokens from its start on: a list of ``[len(row) - start, vocab]``."""
    device = model.device
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    first = min(starts) - 1
    keep = torch.arange(first, longest, device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
    return [
        logits[i, start - 1 - first : len(row) - 1 - first].float()
        for i, (row, start) in enumerate(zip(rows, starts, strict=True))
    ]


def _mean_logprobs(draws: Sequence[Tensor]) -> Tensor:
    """Logits of one draw as they are, or the mean of the log-probabilities of several."""
    return draws[0] if len(draws) == 1 else torch.stack([draw.log_softmax(-1) for draw in draws]).mean(0)


def draw_personas(count: int, draws: int, make: Callable[[random.Random], Prefixes], seed: int) -> list[list[Prefixes]]:
    """``draws`` seeded persona prefixes for each of ``count`` texts."""
    rng = random.Random(seed)
    return [[make(rng) for _ in range(draws)] for _ in range(count)]


def _in_batches(
    texts: Sequence[Text], target: Callable[[list[int]], list[SparseTarget]], what: str, tokens: int = 1024
) -> list[SparseTarget]:
    """Apply ``target`` to texts of similar length, about ``tokens`` tokens at a time; results in the order of ``texts``."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
    done: dict[int, SparseTarget] = {}
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(texts[i].ids) > tokens:
            batches.append([])
        batches[-1].append(i)
    for batch in track(batches, what):
        done.update(zip(batch, target(batch), strict=True))
    return [done[i] for i in range(len(texts))]
