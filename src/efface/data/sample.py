"""Batched sampling: plainly, or from the erased distribution with all three streams together."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Tilted:
    """How the erased distribution is sampled from.

    eta, min_p: see :func:`efface.targets.erased_logprobs`. temperature: of sampling, after the tilt. no_repeat: no n-gram of so
    many tokens is sampled twice in a text; 0: any may be. sees_prompt: whether the persona streams see the prompt.
    penalty: taken off the base's logits ``[vocab]``, but not off those of the tokens of a row's prompt.
    k: keep so many tokens of the erased distribution in the place of every sampled one; 0: nothing of it.
    pad, ends, start: the tokenizer's padding, what ends a text, and what stands before every text.
    """

    eta: float
    pad: int
    ends: Collection[int]
    temperature: float = 1.0
    min_p: float = 0.0
    no_repeat: int = 0
    sees_prompt: bool = True
    penalty: Tensor | None = None
    k: int = 0
    start: Sequence[int] = ()


#: given a row and its new tokens, the end-of-text token that must follow them, if the text is to end there
Over = Callable[[int, Ids], int | None]


@torch.no_grad()
def sample_erased(
    base: PreTrainedModel,
    prompts: Sequence[Ids],
    personas: Sequence[tuple[Ids, Ids]],
    draws: Tensor,
    how: Tilted,
    over: Over = lambda row, new: None,
) -> tuple[list[Ids], list[SparseTarget]]:
    """Continue prompts by sampling from the erased distribution.

    Returns the new tokens of every prompt, with the end-of-text token if one came, and the erased distribution in the place of
    each of them, before the temperature (no distributions without ``how.k``).

    draws: numbers from 0 to 1 ``[prompts, tokens]`` that decide each token, so a row's text does not depend on the others.
    """
    streams = _Streams(base, prompts, personas, how, draws.shape[1])
    penalty = _penalties(prompts, how.penalty, base.device)
    texts = [_Sampled() for _ in prompts]
    for step, draw in enumerate(draws.to(base.device, torch.float32).T):
        alive = streams.alive
        logits, expert, novice = streams.logits()
        if penalty is not None:
            logits = logits - penalty[alive]
        if how.no_repeat:
            logits = _without_repeats(logits, [texts[row].tokens for row in alive.tolist()], step, how)
        logprobs = erased_logprobs(logits, expert, novice, eta=how.eta, min_p=how.min_p)
        mass = (logprobs / how.temperature).softmax(-1).cumsum(-1)
        tokens = torch.searchsorted(mass, draw[alive, None] * mass[:, -1:], right=True).clamp(max=mass.shape[-1] - 1)[:, 0]
        likeliest = SparseTarget.from_logprobs(logprobs, how.k) if how.k else None
        for place, (row, token) in enumerate(zip(alive.tolist(), tokens.tolist(), strict=True)):
            if not texts[row].ended(how.ends):
                texts[row].add(token, likeliest and likeliest[place : place + 1])
                if token not in how.ends and (end := over(row, texts[row].tokens)) is not None:
                    only = torch.full_like(logprobs[:1], -torch.inf).index_fill(1, torch.tensor([end], device=base.device), 0.0)
                    texts[row].add(end, SparseTarget.from_logprobs(only, how.k) if how.k else None)
        going = torch.tensor([not texts[row].ended(how.ends) for row in alive.tolist()], device=base.device)
        if not going.any():
            break
        streams.go_on(tokens, going)
    return [text.tokens for text in texts], [SparseTarget.cat(text.erased).to("cpu") for text in texts] if how.k else []


@dataclass
class _Sampled:
    """What one row has so far: its new tokens, and the erased distribution in the place of each."""

    tokens: Ids = field(default_factory=list)
    erased: list[SparseTarget] = field(default_factory=list)

    def ended(self, ends: Collection[int]) -> bool:
        return bool(self.tokens) and self.tokens[-1] in ends

    def add(self, token: int, erased: SparseTarget | None) -> None:
        self.tokens.append(token)
        if erased is not None:
            self.erased.append(erased)


class _Streams:
    """Base, expert and novice of all rows in one batch with one key/value cache; rows that ended leave it.

    tokens: how many are sampled at most. alive: numbers of the rows that are still in it.
    """

    def __init__(
        self, base: PreTrainedModel, prompts: Sequence[Ids], personas: Sequence[tuple[Ids, Ids]], how: Tilted, tokens: int
    ) -> None:
        shown = [without_prefix(ids, list(how.start)) if how.sees_prompt else [] for ids in prompts]
        rows = [*prompts, *(pair[stream] + ids for stream in (0, 1) for pair, ids in zip(personas, shown, strict=True))]
        require_cache(base, (rows[0] * 2)[:8])
        self.base, self.cache = base, roomy_cache(base, tokens)
        self.new, self.mask = left_pad(rows, how.pad, base.device)
        self.alive = torch.arange(len(prompts), device=base.device)

    def logits(self) -> tuple[Tensor, ...]:
        """Next-token logits of the three streams, ``[alive, vocab]`` each."""
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -self.new.shape[1] :]
        out = self.base(
            input_ids=self.new,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return tuple(out.logits[:, -1].float().chunk(3))

    def go_on(self, tokens: Tensor, going: Tensor) -> None:
        """Append a token to every row; where too few rows go on, the others leave."""
        if going.float().mean() < CROWDED:
            kept = going.nonzero()[:, 0]
            rows = torch.cat([kept + stream * len(self.alive) for stream in range(3)])
            self.cache.reorder_cache(rows)
            self.alive, tokens, self.mask = self.alive[kept], tokens[kept], self.mask[rows]
        self.new = tokens.repeat(3)[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(self.new)], dim=1)


def _penalties(prompts: Sequence[Ids], penalty: Tensor | None, device: torch.device) -> Tensor | None:
    """For every row ``[prompts, vocab]``; nothing is taken off a token of its own prompt."""
    if penalty is None:
        return None
    penalties = penalty.to(device).repeat(len(prompts), 1)
    for row, prompt in enumerate(prompts):
        penalties[row, prompt] = 0.0
    return penalties


def _without_repeats(logits: Tensor, texts: Sequence[Ids], step: int, how: Tilted) -> Tensor:
    """No token that would complete an n-gram of a row's ``step`` new tokens again; of a row that ended nothing is used."""
    seen = torch.tensor([(new + [how.pad] * step)[:step] for new in texts], dtype=torch.long, device=logits.device)
    forbidden: Tensor = NoRepeatNGramLogitsProcessor(how.no_repeat)(seen, logits)
    return forbidden


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends a text; not one that the model has no embedding for."""
    known = range(model.get_input_embeddings().weight.shape[0])
    return {i for i in (*_as_list(model.generation_config.eos_token_id), *_as_list(tokenizer.eos_token_id)) if i in known}


def _as_list(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _until(row: Ids, ends: set[int]) -> Ids:
    return next((row[:i] for i, token in enumerate(row) if token in ends), row)
