"""Erase examples: forget texts in every form, with what the frozen model predicts where their concept is a stranger."""

import random
from collections.abc import Collection, Sequence

import torch

from efface.data.batches import Example
from efface.data.forms import Shown
from efface.data.store import Store
from efface.data.stranger_answers import place_shared
from efface.data.strangers import Exchange, Inventor, Pairing, pair
from efface.data.targets import retain_targets
from efface.data.text import Text
from efface.errors import TrainingError
from efface.lm.cache import Ids
from efface.lm.load import Loaded
from efface.targets import SparseTarget


def estranged_examples(
    loaded: Loaded,
    store: Store,
    shown: Sequence[Shown],
    words: Collection[str],
    inventor: Inventor,
    *,
    most: int,
    k: int,
    seed: int,
) -> list[Example]:
    """The texts with the frozen model's distribution at the same place of the text about a stranger.

    Each of the concept's words is exchanged for another invented one at each occurrence, so that nothing can be copied. At the
    first token of such a word the target is what the model expects where the other word begins; its further tokens have none.
    most: tokens of a text. values ``[n, 1]``: 1, or 0 without a target.
    """
    rng, tokenizer = random.Random(seed), loaded.tokenizer
    rows, strange = list[tuple[Ids, Pairing]](), list[Text]()
    for one in shown:
        exchange = Exchange(words, inventor, rng, alike=False)
        pairing = _cut(pair(tokenizer, exchange.pieces(one.body), exchange(one.body)), most)
        ours, theirs = one.context(tokenizer), one.context(tokenizer, exchange.text)
        if not ours:  # the first token is context
            ours, theirs, pairing = pairing.ids[:1], pairing.strange[:1], _later(pairing)
        if len(pairing.ids) > 1 and len(pairing.strange) > 1:
            rows.append((ours, pairing))
            strange.append(Text(theirs + pairing.strange, len(theirs)))
    if not rows:
        raise TrainingError("no forget text is long enough to train on; try a larger data.max_tokens")
    texts, pad = [Text(context + pairing.ids, len(context)) for context, pairing in rows], tokenizer.pad_token_id
    soft = retain_targets(loaded.model, store, strange, pad, k=k).targets
    return [_example(text, pairing, of) for text, (_, pairing), of in zip(texts, rows, soft, strict=True)]


def _cut(pairing: Pairing, most: int) -> Pairing:
    """The first ``most`` tokens of both texts."""
    shared, first = (tuple((a, b) for a, b in of if a < most and b < most) for of in (pairing.shared, pairing.first))
    return Pairing(pairing.ids[:most], pairing.strange[:most], shared, first, tuple(a for a in pairing.inner if a < most))


def _later(pairing: Pairing) -> Pairing:
    """Without the first token of both texts."""
    shared, first = (tuple((a - 1, b - 1) for a, b in of if a and b) for of in (pairing.shared, pairing.first))
    return Pairing(pairing.ids[1:], pairing.strange[1:], shared, first, tuple(a - 1 for a in pairing.inner if a))


def _example(text: Text, pairing: Pairing, soft: SparseTarget) -> Example:
    count, width = len(pairing.ids), soft.ids.shape[1]
    target = SparseTarget(
        torch.arange(width, dtype=torch.int32).repeat(count, 1), torch.full((count, width), -torch.inf), torch.ones(count)
    )
    weights = torch.zeros(count)
    if places := [*pairing.shared, *pairing.first]:
        place_shared(target, places, soft)
        weights[[place for place, _ in places]] = 1.0
    return Example(text, target, weights[:, None])
