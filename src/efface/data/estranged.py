"""Erase examples: forget texts in every form, with what the frozen model predicts where their concept is a stranger."""

import random
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from efface.data.answers import place_shared
from efface.data.collate import Example
from efface.data.forms import Shown
from efface.data.store import Store
from efface.data.strangers import Exchange, Inventor, Pairing, pair
from efface.data.teacher import retain_targets, token_logprobs
from efface.data.text import Text
from efface.models import Loaded
from efface.targets import SparseTarget

#: columns of an example's values
WEIGHT, OWN = 0, 1
#: least and most that a token counts
LIFT = (0.2, 4.0)


def estranged_examples(
    loaded: Loaded,
    store: Store,
    shown: Sequence[Shown],
    words: Collection[str],
    ordinary: Collection[str],
    inventor: Inventor,
    *,
    most: int,
    k: int,
    marginal: float,
    seed: int,
) -> list[Example]:
    """The texts with the frozen model's distribution at the same place of the text about a stranger.

    Every word is exchanged for another one at each occurrence, so that nothing can be copied. At the first token of a word of the
    concept the target is what the model expects in the place of the invented one, and a share ``marginal`` of the mean prediction;
    at its other tokens only the latter (tail 1). values: weight of a token's target; whether the token is of a word of the concept.
    most: tokens of a text.
    """
    rng, tokenizer = random.Random(seed), loaded.tokenizer
    rows, strange = list[tuple[list[int], Pairing]](), list[Text]()
    for one in shown:
        exchange = Exchange(words, inventor, rng, alike=False, ordinary=ordinary)
        pairing = _cut(pair(tokenizer, exchange.pieces(one.body), exchange(one.body)), most)
        ours, theirs = one.context(tokenizer), one.context(tokenizer, exchange.text)
        if not ours:  # the first token is context
            ours, theirs, pairing = pairing.ids[:1], pairing.strange[:1], _later(pairing)
        if len(pairing.ids) > 1 and len(pairing.strange) > 1:
            rows.append((ours, pairing))
            strange.append(Text(theirs + pairing.strange, len(theirs)))
    pad, ours = tokenizer.pad_token_id, [Text(context + pairing.ids, len(context)) for context, pairing in rows]
    soft = retain_targets(loaded.model, store, strange, pad, soft=True, k=k)
    known = token_logprobs(loaded.model, store, ours, pad)
    return [_example(text, row[1], of, logprobs, marginal) for text, row, of, logprobs in zip(ours, rows, soft, known, strict=True)]


def _cut(pairing: Pairing, most: int) -> Pairing:
    """The first ``most`` tokens of both texts."""
    shared, first = (tuple((a, b) for a, b in of if a < most and b < most) for of in (pairing.shared, pairing.first))
    return Pairing(pairing.ids[:most], pairing.strange[:most], shared, first, tuple(a for a in pairing.inner if a < most))


def _later(pairing: Pairing) -> Pairing:
    """Without the first token of both texts."""
    shared, first = (tuple((a - 1, b - 1) for a, b in of if a and b) for of in (pairing.shared, pairing.first))
    return Pairing(pairing.ids[1:], pairing.strange[1:], shared, first, tuple(a - 1 for a in pairing.inner if a))


def _example(text: Text, pairing: Pairing, soft: SparseTarget, known: Tensor, marginal: float) -> Example:
    count, width = len(pairing.ids), soft.ids.shape[1]
    target = SparseTarget(
        torch.arange(width, dtype=torch.int32).repeat(count, 1), torch.full((count, width), -torch.inf), torch.ones(count)
    )
    values = torch.zeros(count, 2)
    for places, mixed in ((pairing.shared, soft), (pairing.first, soft.mixed(marginal))):
        if places:
            place_shared(target, places, mixed)
            values[[a for a, _ in places], WEIGHT] = 1.0
    values[[a for a, _ in pairing.first], OWN] = 1.0
    values[:, WEIGHT] *= lift(target, torch.tensor(pairing.ids), known)
    return Example(text, target, values)


def lift(target: SparseTarget, ids: Tensor, known: Tensor) -> Tensor:
    """Nats by which the frozen model finds each token likelier where it knows the concept than in the target, within limits.

    known: log-probability of each token ``[n]`` in the text as it stands.
    """
    listed = torch.where(target.ids == ids[:, None], target.logprobs, -torch.inf).amax(-1)
    least, most = LIFT
    return (known - listed).clamp(least, most)
