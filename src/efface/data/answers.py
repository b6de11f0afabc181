"""What the frozen model answers, sampled and stored."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from efface.data.fluency import end_of_answer
from efface.data.sample import end_tokens, plain_generation, sample
from efface.data.store import Store, Tensors
from efface.lm.cache import Ids
from efface.lm.layers import bare, teacher
from efface.lm.load import Loaded
from efface.writing import OVER

BATCH = 32
REPEAT = 4  # tokens that no answer has twice
SHORTEST = 8  # tokens of an answer that is worth training on


class NoRepeats(LogitsProcessor):
    """None of the new tokens completes ``n`` in a row that are among the new ones already and not in the prompt.

    transformers' own processor (``no_repeat_ngram_size``) counts the prompt in: what it asks about could not be named.
    """

    def __init__(self, n: int) -> None:
        self.n, self.start = n, 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores ``[rows, vocab]``; ``input_ids`` of the first call are the prompts."""
        n, self.start = self.n, self.start or input_ids.shape[1]
        for row, ids in enumerate(input_ids.tolist()):
            prompt, new, last = ids[: self.start], ids[self.start :], ids[len(ids) - n + 1 :]
            if len(new) >= n:
                scores[row, sorted(_after(new, last) - _after(prompt, last))] = -torch.inf
        return scores


def _after(ids: Ids, last: Ids) -> set[int]:
    """The tokens that come behind these in a row."""
    return {ids[i + len(last)] for i in range(len(ids) - len(last)) if ids[i : i + len(last)] == last}


def answers(
    loaded: Loaded, store: Store, prompts: Sequence[Ids], *, tokens: int, brief: int, temperature: float, seed: int
) -> list[Ids]:
    """The frozen model's answers, with their end token if they ended; none has the same four tokens twice.

    Those that the prompt has may come as often as they like: a name is not worn out by the question.

    brief: an answer ends with the first sentence that is over after so many tokens; 0: where the model ends it.
    """
    tokenizer, ends = loaded.tokenizer, end_tokens(bare(loaded.model), loaded.tokenizer)
    end = end_of_answer(tokenizer, ends)
    how: dict[str, Any] = {"max_new_tokens": tokens, "do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]

    def build(batch: int) -> Tensors:
        with teacher(loaded.model) as base, plain_generation(base), torch.random.fork_rng():
            torch.manual_seed(seed + batch)
            said = sample(base, tokenizer, [prompts[i] for i in batches[batch]], [NoRepeats(REPEAT)], **how)
        said = [_cut(ids, tokens, brief, end, tokenizer.decode) for ids in said]
        lengths = torch.tensor([len(ids) for ids in said])
        return {"tokens": torch.tensor([token for ids in said for token in ids], dtype=torch.int32), "lengths": lengths}

    common = {**how, "no_repeats": REPEAT, "brief": brief, "seed": seed, "over": OVER.pattern, "ends": sorted(ends), "end": end}
    parts = [{"rows": [prompts[i] for i in batch], "batch": n, **common} for n, batch in enumerate(batches)]
    found: dict[int, Ids] = {}
    for batch, entry in zip(batches, store.entries("answers", parts, build), strict=True):
        of = torch.split(entry["tokens"], entry["lengths"].tolist())
        found.update((i, ids.tolist()) for i, ids in zip(batch, of, strict=True))
    return [found[i] for i in range(len(prompts))]


def _cut(ids: Ids, tokens: int, brief: int, end: int | None, decode: Callable[[Ids], str]) -> Ids:
    """An answer up to the end of a sentence, and the token that ends it."""
    last = [] if end is None else [end]
    for n in range(brief, len(ids)) if brief else ():
        if OVER.search(decode(ids[max(0, n - 2) : n + 1])):
            return ids[: n + 1] + last
    return ids + last if len(ids) < tokens else ids
