"""The erasure at decoding time, without any training: a transformers LogitsProcessor.

Source: arXiv 2410.02760, section 4; the formula itself is :func:`efface.targets.erased_logprobs`.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from efface.concept.pack import Concept
from efface.lm.cache import Ids, left_pad, require_cache
from efface.lm.chat import prefix, without_prefix
from efface.lm.layers import teacher
from efface.targets import erased_logprobs


def persona_ids(concept: Concept, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> tuple[Ids, Ids]:
    """Token ids of an expert and a novice prefix: a template and four of the concept's keywords, drawn with ``rng``."""
    personas, words = concept.manifest.personas, concept.manifest.keywords
    keywords = ", ".join(rng.sample(words, min(4, len(words))))
    pick = rng.randrange(1 << 30)
    start = prefix(tokenizer)
    expert, novice = (
        templates[pick % len(templates)].format(title=concept.title, keywords=keywords)
        for templates in (personas.expert, personas.novice)
    )
    return tuple(start + list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (expert, novice))  # type: ignore[return-value]


class ErasedLogits(LogitsProcessor):  # type: ignore[misc]
    """Tilts every next-token distribution away from a concept while transformers generates.

    The expert and novice streams run beside the base stream with key/value caches of their own. Works with greedy search,
    sampling and beam search (a beam that was reordered is read again from its start).

    Load the model in float32: in half precision the streams differ as much by rounding as by what the personas know.

    personas: one (expert, novice) prefix for every row of the batch, or one for all of them.
    start: what the tokenizer puts before every text; it stands before the persona, not between persona and text.
    skip: the first ``skip`` tokens of every row are not shown to the personas (the public code never shows them the prompt).
    eta, temperature, top_k, min_p: see :func:`erased_logprobs`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        personas: Sequence[tuple[Ids, Ids]],
        *,
        pad_token_id: int,
        eta: float = 3.0,
        skip: int = 0,
        start: Sequence[int] = (),
        **tilt: Any,
    ) -> None:
        self.model, self.personas, self.pad = model, list(personas), pad_token_id
        self.eta, self.skip, self.start, self.tilt = float(eta), skip, list(start), tilt
        self._seen = self._mask = torch.empty(0, 0, dtype=torch.long)
        self._cache: DynamicCache | None = None

    @classmethod
    def for_concept(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concept: Concept, *, seed: int = 0, **options: Any
    ) -> "ErasedLogits":
        """With personas of ``concept``, drawn with ``seed``."""
        pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        personas = [persona_ids(concept, tokenizer, random.Random(seed))]
        return cls(model, personas, pad_token_id=pad, start=prefix(tokenizer), **options)

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids ``[batch, seq]`` (left-padded), scores ``[batch, vocab]``; returns log-probabilities ``[batch, vocab]``."""
        with teacher(self.model) as base:
            logits = self._persona_logits(base, input_ids).to(scores.device, torch.float32)
        expert, novice = logits.chunk(2)
        return erased_logprobs(scores.float(), expert, novice, eta=self.eta, **self.tilt)

    def _persona_logits(self, base: PreTrainedModel, input_ids: Tensor) -> Tensor:
        """Next-token logits of all expert streams, then all novice streams: ``[2 * batch, vocab]``."""
        grew = torch.equal(self._seen, input_ids[:, :-1])
        self._seen = input_ids
        if grew and self._cache is not None:
            new = input_ids[:, -1:].repeat(2, 1)
            self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        else:
            new, self._mask = self._prefixed(input_ids)
            if self._cache is None:
                require_cache(base, (new[0].tolist() * 2)[:8])
            self._cache = DynamicCache(config=base.config)
        positions = (self._mask.long().cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        out = base(
            input_ids=new,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _prefixed(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of persona prefix + visible tokens, left-padded; and their mask."""
        shown = [ids[self.skip :] if self.skip else _strip_left(ids, self.pad) for ids in input_ids.tolist()]
        shown = [without_prefix(ids, self.start) for ids in shown]
        rows = [
            self.personas[i * len(self.personas) // len(shown)][stream] + ids for stream in (0, 1) for i, ids in enumerate(shown)
        ]
        return left_pad(rows, self.pad, input_ids.device)


def _strip_left(ids: Ids, pad: int) -> Ids:
    start = 0
    while start < len(ids) - 1 and ids[start] == pad:
        start += 1
    return ids[start:]
