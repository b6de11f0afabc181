"""The erased distribution of the paper as targets: forget texts read as they stand, and behind an expert and a novice.

The persona streams see persona *and* text: their prefix stands before the same token ids, and their states are read at the
same tokens; in float32, for their difference is small and the tilt multiplies it.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from efface.data.batches import places, right_pad
from efface.data.store import Store, Tensors
from efface.data.targets import by_length, by_text, in_batches, in_chunks, reading, text_states
from efface.data.text import Text
from efface.lm.cache import SharedPrefixes
from efface.lm.chat import without_prefix
from efface.lm.precision import in_float32
from efface.lm.states import output_head, output_states
from efface.recipe.settings import EraseSettings
from efface.targets import SparseTarget, erased_logprobs, eta_schedule

Prefixes = tuple[list[int], list[int]]
SIGN = {"erase": 1.0, "enhance": -1.0}
POOL = 16  # persona pairs that the texts of a corpus share


@dataclass(frozen=True)
class Tilt:
    """How the erase targets are tilted.

    k: tokens kept of the erased distribution. start: what the tokenizer puts before every text; the personas hold it
    already, so it is not repeated after them. double: compute in float64.
    """

    settings: EraseSettings
    pad: int
    k: int
    start: tuple[int, ...] = ()
    double: bool = False

    @property
    def sign(self) -> float:
        """-1: towards the concept."""
        return SIGN[self.settings.action]

    @property
    def dtype(self) -> torch.dtype:
        """In which the tilt is computed."""
        return torch.float64 if self.double else torch.float32

    @property
    def options(self) -> dict[str, Any]:
        """Of :func:`efface.targets.erased_logprobs`."""
        return {"temperature": self.settings.temperature, "top_k": self.settings.top_k}

    @property
    def enters(self) -> dict[str, Any]:
        """What decides a stored entry besides texts and personas."""
        settings = self.settings.model_dump(include={"action", "eta", "schedule", "temperature", "top_k"})
        return {"float64": self.double, "before": list(self.start), "k": self.k, **settings, "weights": "float32"}

    def etas(self, text: Text) -> Tensor:
        """eta at every predicted token ``[n, 1]``."""
        eta = eta_schedule(len(text.ids) - text.start, self.settings.eta, self.settings.schedule)
        return self.sign * eta.to(self.dtype)


@torch.no_grad()
def erase_targets(
    model: PreTrainedModel, store: Store, texts: Sequence[Text], personas: Sequence[Sequence[Prefixes]], tilt: Tilt
) -> list[SparseTarget]:
    """The erased distribution at every predicted token of every text.

    personas: for every text one or more (expert, novice) prefixes; the log-probabilities of several are averaged.
    """
    shards, streams = by_length(texts), _Streams(model, personas, tilt)

    def build(shard: int) -> Tensors:
        rows, of = [texts[i] for i in shards[shard]], [personas[i] for i in shards[shard]]
        with in_float32(model):
            return in_batches(rows, lambda rows, at: streams.entry(rows, [of[i] for i in at]))

    parts = [{"texts": [[texts[i].ids, texts[i].start, personas[i]] for i in shard], **tilt.enters} for shard in shards]
    found: dict[int, SparseTarget] = {}
    for shard, entry in zip(shards, store.entries("erase", parts, build), strict=True):
        found |= by_text(SparseTarget(**entry), texts, shard)
    return [found[i] for i in range(len(texts))]


class _Streams:
    """Reads texts as they stand and behind their personas, and keeps what decides their erase targets."""

    def __init__(self, model: PreTrainedModel, personas: Sequence[Sequence[Prefixes]], tilt: Tilt) -> None:
        self.model, self.personas, self.tilt, self.head = model, personas, tilt, output_head(model)
        self.shared: SharedPrefixes | None = None

    def entry(self, rows: list[Text], drawn: Sequence[Sequence[Prefixes]]) -> Tensors:
        """What the store keeps of some texts, whose personas are ``drawn``."""
        tilt = self.tilt
        with reading(self.model) as base:
            if self.shared is None:  # the keys and values of all personas, read once
                prefixes = [ids for of_text in self.personas for pair in of_text for ids in pair]
                self.shared = SharedPrefixes(base, prefixes, tilt.pad)
            streams = [text_states(base, rows, tilt.pad)]
            shown = [without_prefix(row.ids, list(tilt.start)) for row in rows]
            for draw, stream in ((draw, stream) for draw in range(len(drawn[0])) for stream in (0, 1)):
                before = [pairs[draw][stream] for pairs in drawn]
                streams.append(_behind(base, self.shared, before, rows, shown, tilt.pad))
            eta = torch.cat([tilt.etas(row) for row in rows]).to(streams[0].device)
            return in_chunks(self._keep, eta, *streams)

    def _keep(self, eta: Tensor, states: Tensor, *of_personas: Tensor) -> Tensors:
        tilt, head = self.tilt, self.head
        expert, novice = (_mean_logprobs([head(of).to(tilt.dtype) for of in of_personas[stream::2]]) for stream in (0, 1))
        base = head(states).to(tilt.dtype)
        erased = erased_logprobs(base, expert, novice, eta=eta, **tilt.options).float()
        return vars(SparseTarget.from_logprobs(erased, min(tilt.k, tilt.settings.top_k or tilt.k)))


def random_targets(texts: Sequence[Text], vocab: int, seed: int) -> list[SparseTarget]:
    """A random token in the place of every predicted one, one-sided as a tilt of large eta: the control that knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    return [SparseTarget.one_hot(torch.randint(vocab, (len(text.ids) - text.start,), generator=generator)) for text in texts]


def _behind(
    model: PreTrainedModel,
    shared: SharedPrefixes,
    before: Sequence[list[int]],
    texts: Sequence[Text],
    shown: Sequence[list[int]],
    pad: int,
) -> Tensor:
    """The same states with a persona before each text. shown: the ids of the texts that stand behind it."""
    cut = [len(text.ids) - len(ids) for text, ids in zip(texts, shown, strict=True)]
    if not shared.usable:
        rows = [Text(ids + row, text.start - c + len(ids)) for ids, row, text, c in zip(before, shown, texts, cut, strict=True)]
        return text_states(model, rows, pad)
    rows = [Text([ids[-1], *row], text.start - c + 1) for ids, row, text, c in zip(before, shown, texts, cut, strict=True)]
    ids, mask = right_pad([row.ids for row in rows], pad, model.device)
    return output_states(model, *places(rows), input_ids=ids, **shared.before(before, mask))


def _mean_logprobs(draws: Sequence[Tensor]) -> Tensor:
    """Logits of one draw as they are, or the mean of the log-probabilities of several."""
    return draws[0] if len(draws) == 1 else torch.stack([draw.log_softmax(-1) for draw in draws]).mean(0)


def draw_personas(count: int, draws: int, make: Callable[[random.Random], Prefixes], seed: int) -> list[list[Prefixes]]:
    """``draws`` of a pool of seeded persona prefixes for each of ``count`` texts."""
    rng = random.Random(seed)
    pool = [make(rng) for _ in range(POOL)]
    return [[rng.choice(pool) for _ in range(draws)] for _ in range(count)]
