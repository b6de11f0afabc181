"""Fluency texts: a prompt about the concept, continued by sampling from the erased distribution.

The reference code calls this consistency data. The student learns that distribution, or only the sampled tokens.
"""

import random
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from efface.concept.pack import Concept
from efface.data.batches import Example, next_token_example
from efface.data.key_words import BannedWords
from efface.data.prompts import fluency_prompts
from efface.data.sample import end_tokens, sample_erased
from efface.data.store import Store, Tensors
from efface.data.text import Text
from efface.decoding import persona_ids
from efface.errors import TrainingError
from efface.lm.cache import Ids
from efface.lm.chat import prefix
from efface.lm.layers import bare, teacher
from efface.recipe.settings import FluencySettings
from efface.targets import SparseTarget

DEFLECT = (
    " But that is not something this text can speak about, so it turns to something else.",
    " Leaving that aside, here is an entirely different subject.",
    " This is unknown to the author, who would rather write about another thing.",
)
#: the end of a text whose last sentence is over; a full stop after a digit is that of a list or of a number
OVER = re.compile(r"(?<!\d)[.!?][\"')]*\s*$")
SHORTEST = 8


def sample_fluency(
    model: nn.Module,
    store: Store,
    tokenizer: PreTrainedTokenizerBase,
    concept: Concept,
    forget: Sequence[Text],
    settings: FluencySettings,
    *,
    eta: float,
    seed: int,
    k: int,
    key: Tensor | None = None,
    words: Sequence[str] = (),
) -> list[Example]:
    """Sample ``settings.texts`` texts in batches, or take them from the store. Very short ones are dropped.

    k: tokens kept of the erased distribution, if that is the target. key: keyness of every token ``[vocab]``; without it no token
    is shunned and there are no cloze prompts. words: the concept's own, for ``settings.names`` and ``settings.ban_words``.
    """
    rng = random.Random(seed)
    prompted = fluency_prompts(concept, forget, tokenizer, settings, rng, key, words)
    prompts, answers = [ids for ids, _ in prompted], [answer and settings.brief > 0 for _, answer in prompted]
    tails = [_deflection(tokenizer, rng) if settings.deflection else [] for _ in prompts]
    personas = [persona_ids(concept, tokenizer, rng) for _ in prompts]
    draws = torch.rand(len(prompts), settings.tokens, generator=torch.Generator().manual_seed(seed))
    ends, start = end_tokens(bare(model), tokenizer), prefix(tokenizer)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(tails[i]))
    # three streams each: their keys and values are most of the memory
    most = max(1, min(16, 1600 // settings.tokens)) if bare(model).device.type == "cpu" else 64
    batches = [order[i : i + most] for i in range(0, len(order), most)]
    tilt: dict[str, Any] = {
        "eta": eta,
        "temperature": settings.temperature,
        "min_p": settings.min_p,
        "no_repeat": settings.no_repeat,
        "sees_prompt": settings.sees_prompt,
    }

    penalty = None if key is None or not (settings.keyness * key).any() else settings.keyness * key
    ban = BannedWords(words, tokenizer) if settings.ban_words and words else None
    banned = [ban.after(ids) for ids in prompts] if ban else []
    soft, end = settings.target == "soft", end_of_answer(tokenizer, ends) if any(answers) else None

    def over(new: Ids) -> int | None:
        return end if len(new) >= settings.brief and OVER.search(tokenizer.decode(new[-3:])) else None

    def build(batch: int) -> Tensors:
        rows = batches[batch]
        with teacher(model) as base:
            sampled, targets = sample_erased(
                base,
                [prompts[i] + tails[i] for i in rows],
                [personas[i] for i in rows],
                draws[rows],
                pad=tokenizer.pad_token_id,
                ends=ends,
                start=start,
                penalty=penalty,
                k=k if soft else 0,
                over=lambda place, new: over(new) if answers[rows[place]] else None,
                banned=(lambda place, new: banned[rows[place]](new)) if banned else None,
                **tilt,
            )
        tokens = torch.tensor([token for new in sampled for token in new], dtype=torch.int32)
        erased = vars(SparseTarget.cat(targets)) if soft else {}
        return {"tokens": tokens, "lengths": torch.tensor([len(new) for new in sampled]), **erased}

    shunned = {} if penalty is None else {int(token): round(float(penalty[token]), 6) for token in penalty.nonzero()[:, 0]}
    common = {"tokens": settings.tokens, "seed": seed, "ends": sorted(ends), "start": start, "penalty": shunned, **tilt}
    if soft:
        common["k"] = k
    if ban:
        common["banned"] = ban.words
    if any(answers):
        common["brief"] = [settings.brief, end, OVER.pattern, [i for i, answer in enumerate(answers) if answer]]
    parts = [{"rows": [[i, prompts[i] + tails[i], personas[i]] for i in batch], **common} for batch in batches]
    examples: dict[int, Example] = {}
    for batch, entry in zip(batches, store.entries("fluency", parts, build), strict=True):
        lengths = entry["lengths"].tolist()
        erased = SparseTarget(entry["ids"], entry["logprobs"], entry["tail"]).split(lengths) if soft else [None] * len(batch)
        for i, new, target in zip(batch, torch.split(entry["tokens"], lengths), erased, strict=True):
            if len(new) >= min(SHORTEST, settings.tokens, settings.brief or SHORTEST):
                ids = prompts[i] + tails[i]
                text = Text(ids + new.tolist(), len(prompts[i]) if settings.train_deflection else len(ids))
                examples[i] = next_token_example(text) if target is None else Example(text, target)
    if not examples:
        raise TrainingError("every sampled fluency text ended at once; try a smaller fluency.eta or a larger fluency.min_p")
    return [examples[i] for i in sorted(examples)]


def end_of_answer(tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> int | None:
    """The token that ends an answer in the model's chat format, or else any text; None where nothing does."""
    said, answer = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Zymurgy."}], "Zymurgy."
    with suppress(TemplateError, TypeError, ValueError):  # a template may refuse such a conversation
        behind = str(tokenizer.apply_chat_template(said, tokenize=False)).rpartition(answer)[2]
        for token in tokenizer(behind, add_special_tokens=False)["input_ids"]:
            if token in ends:
                return int(token)
    return min(ends, default=None)


def _deflection(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> Ids:
    return list(tokenizer(rng.choice(DEFLECT), add_special_tokens=False)["input_ids"])
