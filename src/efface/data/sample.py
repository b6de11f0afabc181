"""Batched sampling: plainly, or from the erased distribution with all three streams together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from efface.lm.cache import Ids, left_pad, require_cache, roomy_cache
from efface.lm.chat import without_prefix
from efface.lm.layers import bare
from efface.targets import SparseTarget, erased_logprobs

CROWDED = 0.75  # below this share of rows that go on, the others leave the batch


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Ids],
    processors: Sequence[LogitsProcessor] = (),
    **options: Any,
) -> list[Ids]:
    """Continue a batch of prompts; returns only the new tokens, up to the first end-of-text token.

    options: any argument of transformers' ``generate`` (max_new_tokens, do_sample, temperature, …).
    """
    ids, mask = left_pad(prompts, tokenizer.pad_token_id, model.device)
    options = {"pad_token_id": tokenizer.pad_token_id, **options}
    out: Any = model.generate(input_ids=ids, attention_mask=mask, logits_processor=LogitsProcessorList(processors), **options)
    return [_until(row, end_tokens(model, tokenizer)) for row in out[:, ids.shape[1] :].tolist()]


@contextmanager
def plain_generation(model: nn.Module) -> Iterator[None]:
    """Of the model's generation config only what changes no answer but its end, for as long as the context lasts."""
    whole = bare(model)
    own = whole.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "use_cache")
    whole.generation_config = GenerationConfig(**{name: getattr(own, name) for name in names})
    try:
        yield
    finally:
        whole.generation_config = own


@torch.no_grad()
def sample_erased(
    base: PreTrainedModel,
    prompts: Sequence[Ids],
    personas: Sequence[tuple[Ids, Ids]],
    draws: Tensor,
    *,
    pad: int,
    ends: set[int],
    eta: float,
    temperature: float = 1.0,
    min_p: float = 0.0,
    start: Sequence[int] = (),
    sees_prompt: bool = True,
    no_repeat: int = 0,
    penalty: Tensor | None = None,
    k: int = 0,
    over: Callable[[int, Ids], int | None] | None = None,
    banned: Callable[[int, Ids], list[int]] | None = None,
) -> tuple[list[Ids], list[SparseTarget]]:
    """Continue prompts by sampling from the erased distribution.

    Returns the new tokens of every prompt, with the end-of-text token if one came, and the erased distribution in the place of
    each of them, before ``temperature``: its ``k`` likeliest tokens (nothing of it without ``k``).

    All three streams of all rows go through the model together, with one key/value cache; rows that ended leave the batch.

    draws: numbers from 0 to 1 ``[prompts, tokens]`` that decide each token, so a row's text does not depend on the others.
    sees_prompt: whether the persona streams see the prompt. no_repeat: no n-gram of so many tokens is sampled twice in a
    text; 0: any may be. penalty: taken off the base's logits ``[vocab]``, but not off those of the tokens of a row's prompt.
    over: given a row and its new tokens, the end-of-text token that must follow them, if the text is to end there.
    banned: given the same, tokens that must not come next. The rest as in :class:`ErasedLogits`.
    """
    shown = [without_prefix(ids, list(start)) if sees_prompt else [] for ids in prompts]
    rows = [*prompts, *(pair[stream] + ids for stream in (0, 1) for pair, ids in zip(personas, shown, strict=True))]
    require_cache(base, (rows[0] * 2)[:8])
    new, mask = left_pad(rows, pad, base.device)
    cache, alive = roomy_cache(base, draws.shape[1]), torch.arange(len(prompts), device=base.device)
    sampled: list[Ids] = [[] for _ in prompts]
    erased: list[list[SparseTarget]] = [[] for _ in prompts]
    if penalty is not None:
        penalty = penalty.to(base.device).repeat(len(prompts), 1)
        for row, prompt in enumerate(prompts):
            penalty[row, prompt] = 0.0
    repeats = NoRepeatNGramLogitsProcessor(no_repeat) if no_repeat else None
    for step, draw in enumerate(draws.to(base.device, torch.float32).T):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        out = base(
            input_ids=new, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        logits, expert, novice = out.logits[:, -1].float().chunk(3)
        if penalty is not None:
            logits = logits - penalty[alive]
        if banned is not None:
            for place, row in enumerate(alive.tolist()):
                logits[place, banned(row, sampled[row])] = -torch.inf
        if repeats is not None:
            seen = [(sampled[row] + [pad] * step)[:step] for row in alive.tolist()]  # of a row that ended nothing is used
            logits = repeats(torch.tensor(seen, dtype=torch.long, device=base.device), logits)
        logprobs = erased_logprobs(logits, expert, novice, eta=eta, min_p=min_p)
        mass = (logprobs / temperature).softmax(-1).cumsum(-1)
        tokens = torch.searchsorted(mass, draw[alive, None] * mass[:, -1:], right=True).clamp(max=mass.shape[-1] - 1)[:, 0]
        likeliest = SparseTarget.from_logprobs(logprobs, k) if k else None
        for place, (row, token) in enumerate(zip(alive.tolist(), tokens.tolist(), strict=True)):
            if not (sampled[row] and sampled[row][-1] in ends):
                sampled[row].append(token)
                if likeliest is not None:
                    erased[row].append(likeliest[place : place + 1])
                if over is not None and token not in ends and (end := over(row, sampled[row])) is not None:
                    sampled[row].append(end)
                    only = torch.full_like(logprobs[:1], -torch.inf).index_fill(1, torch.tensor([end], device=base.device), 0.0)
                    erased[row] += [SparseTarget.from_logprobs(only, k)] if k else []
        going = torch.tensor([sampled[row][-1] not in ends for row in alive.tolist()], device=base.device)
        if not going.any():
            break
        if going.float().mean() < CROWDED:
            kept = going.nonzero()[:, 0]
            rows_kept = torch.cat([kept + stream * len(alive) for stream in range(3)])
            cache.reorder_cache(rows_kept)
            alive, tokens, mask = alive[kept], tokens[kept], mask[rows_kept]
        new = tokens.repeat(3)[:, None]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
    return sampled, [SparseTarget.cat(parts).to("cpu") for parts in erased] if k else []


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends a text."""
    return {*_as_list(model.generation_config.eos_token_id), *_as_list(tokenizer.eos_token_id)}


def _as_list(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _until(row: Ids, ends: set[int]) -> Ids:
    return next((row[:i] for i, token in enumerate(row) if token in ends), row)
