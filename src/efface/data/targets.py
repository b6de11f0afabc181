"""Targets of the frozen teacher for both corpora, from the store or computed in length-sorted batches.

The persona streams see persona *and* text: their prefix stands before the same token ids, and their states are read at the
same tokens; in float32, for their difference is small and the tilt multiplies it. An entry of the store keeps the likeliest
tokens of the target at every place; a retain text's also has its part in the mean of the teacher's predictions.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from efface.data.batches import places, right_pad
from efface.data.store import Store, Tensors
from efface.data.text import Text
from efface.lm.cache import SharedPrefixes
from efface.lm.chat import without_prefix
from efface.lm.layers import bare, teacher
from efface.lm.precision import in_float32
from efface.lm.states import output_head, output_states, plain_attention
from efface.losses import chunk_size
from efface.recipe.settings import EraseSettings
from efface.targets import SparseTarget, erased_logprobs, eta_schedule

Prefixes = tuple[list[int], list[int]]
SIGN = {"erase": 1.0, "enhance": -1.0}
SHARD = 32  # texts of an entry in the store, of similar length
TOKENS = 2048  # of a batch
POOL = 16  # persona pairs that the texts of a corpus share


@dataclass(frozen=True)
class Said:
    """What the frozen model says on some texts: its distribution at every predicted token of each, and their mean ``[vocab]``."""

    targets: list[SparseTarget]
    mean: Tensor


@torch.no_grad()
def retain_targets(model: PreTrainedModel, store: Store, texts: Sequence[Text], pad: int, *, k: int) -> Said:
    """The teacher's k likeliest tokens at every predicted token of every text, and the mean of its whole distributions."""
    head = output_head(model)

    def make(texts: list[Text]) -> Tensors:
        total = torch.zeros(0, dtype=torch.float64)

        def sparse(states: Tensor) -> Tensors:
            nonlocal total
            logprobs = head(states).float().log_softmax(-1)
            target = vars(SparseTarget.from_logprobs(logprobs, k))
            said = logprobs.exp().sum(0).double().cpu()
            total = said if not len(total) else total + said
            return target

        def read(rows: list[Text], _: list[int]) -> Tensors:
            with _reading(model) as base:
                return in_chunks(sparse, text_states(base, rows, pad))

        return {**_in_batches(texts, read), "sum": total}

    targets, total = dict[int, SparseTarget](), torch.zeros(())
    for shard, entry in _entries(store, "retain", texts, {"k": k, "sum": True}, make):
        total = total + entry["sum"]
        rows = {name: of for name, of in entry.items() if name != "sum"}
        targets |= _by_text(SparseTarget(**rows), texts, shard)
    return Said([targets[i] for i in range(len(texts))], (total / total.sum()).float())


def token_logprobs(model: PreTrainedModel, store: Store, texts: Sequence[Text], pad: int) -> list[Tensor]:
    """The teacher's log-probability of every predicted token of every text ``[n]``."""
    head = output_head(model)

    def read(states: Tensor, labels: Tensor) -> Tensors:
        logits = head(states).float()
        return {"logprobs": logits.gather(-1, labels.to(logits.device)[:, None])[:, 0] - logits.logsumexp(-1)}

    def make(rows: list[Text]) -> Tensors:
        labels = torch.tensor([token for row in rows for token in row.ids[row.start :]])
        with _reading(model) as base:
            states = text_states(base, rows, pad)
        return in_chunks(read, states, labels.to(states.device))

    return [entry["logprobs"] for entry in from_store(store, "reference", texts, {}, make)]


@torch.no_grad()
def from_store(
    store: Store,
    kind: str,
    texts: Sequence[Text],
    enters: Mapping[str, Any],
    make: Callable[[list[Text]], Tensors],
    first: Callable[[], None] | None = None,
) -> list[Tensors]:
    """Tensors ``[n, …]`` over the n predicted tokens of every text, from the store or made in batches of similar length.

    enters: what decides them besides the texts; make: those of some texts, one after the other; first: called before any is made.
    """
    found: dict[int, Tensors] = {}
    for shard, entry in _entries(store, kind, texts, enters, lambda of: _in_batches(of, lambda rows, _: make(rows)), first):
        counts = [len(texts[i].ids) - texts[i].start for i in shard]
        split = {name: torch.split(tensor, counts) for name, tensor in entry.items()}
        found |= {i: {name: of[place] for name, of in split.items()} for place, i in enumerate(shard)}
    return [found[i] for i in range(len(texts))]


def _entries(
    store: Store,
    kind: str,
    texts: Sequence[Text],
    enters: Mapping[str, Any],
    make: Callable[[list[Text]], Tensors],
    first: Callable[[], None] | None = None,
) -> list[tuple[list[int], Tensors]]:
    """Indices of the texts of each entry, and what the store keeps of them; as in :func:`from_store`."""
    shards = _shards(texts)
    parts = [{"texts": [[texts[i].ids, texts[i].start] for i in shard], **enters} for shard in shards]
    if first is not None and store.lacks(kind, parts):
        first()
    made = store.entries(kind, parts, lambda shard: make([texts[i] for i in shards[shard]]))
    return list(zip(shards, made, strict=True))


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
    shards, streams = _shards(texts), _Streams(model, personas, tilt)

    def build(shard: int) -> Tensors:
        rows, of = [texts[i] for i in shards[shard]], [personas[i] for i in shards[shard]]
        with in_float32(model):
            return _in_batches(rows, lambda rows, at: streams.entry(rows, [of[i] for i in at]))

    parts = [{"texts": [[texts[i].ids, texts[i].start, personas[i]] for i in shard], **tilt.enters} for shard in shards]
    found: dict[int, SparseTarget] = {}
    for shard, entry in zip(shards, store.entries("erase", parts, build), strict=True):
        found |= _by_text(SparseTarget(**entry), texts, shard)
    return [found[i] for i in range(len(texts))]


class _Streams:
    """Reads texts as they stand and behind their personas, and keeps what decides their erase targets."""

    def __init__(self, model: PreTrainedModel, personas: Sequence[Sequence[Prefixes]], tilt: Tilt) -> None:
        self.model, self.personas, self.tilt, self.head = model, personas, tilt, output_head(model)
        self.shared: SharedPrefixes | None = None

    def entry(self, rows: list[Text], drawn: Sequence[Sequence[Prefixes]]) -> Tensors:
        """What the store keeps of some texts, whose personas are ``drawn``."""
        tilt = self.tilt
        with _reading(self.model) as base:
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


@contextmanager
def _reading(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The teacher while it reads texts."""
    with teacher(model) as base, plain_attention(base):
        yield base


def random_targets(texts: Sequence[Text], vocab: int, seed: int) -> list[SparseTarget]:
    """A random token in the place of every predicted one, one-sided as a tilt of large eta: the control that knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    return [SparseTarget.one_hot(torch.randint(vocab, (len(text.ids) - text.start,), generator=generator)) for text in texts]


def text_states(model: nn.Module, texts: Sequence[Text], pad: int) -> Tensor:
    """States ``[n, size]`` that predict each text's tokens from its start on, text after text; n of them in all."""
    ids, mask = right_pad([text.ids for text in texts], pad, bare(model).device)
    return output_states(model, *places(texts), input_ids=ids, attention_mask=mask)


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


def in_chunks(make: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
    """Apply ``make`` to a few rows of all tensors at a time; its results, joined, on the processor.

    Half as many as where a loss is computed, for a target takes several distributions over the vocabulary. Results are written
    where they will stay: kept piece by piece between the large temporary ones, they would break up the heap.
    """
    size, count, joined = chunk_size(tensors[0].device) // 2, len(tensors[0]), dict[str, Tensor]()
    for first in range(0, count, size):
        for name, part in make(*(tensor[first : first + size] for tensor in tensors)).items():
            if name not in joined:
                joined[name] = part.new_empty(count, *part.shape[1:], device="cpu")
            joined[name][first : first + size] = part
    return joined


def _mean_logprobs(draws: Sequence[Tensor]) -> Tensor:
    """Logits of one draw as they are, or the mean of the log-probabilities of several."""
    return draws[0] if len(draws) == 1 else torch.stack([draw.log_softmax(-1) for draw in draws]).mean(0)


def draw_personas(count: int, draws: int, make: Callable[[random.Random], Prefixes], seed: int) -> list[list[Prefixes]]:
    """``draws`` of a pool of seeded persona prefixes for each of ``count`` texts."""
    rng = random.Random(seed)
    pool = [make(rng) for _ in range(POOL)]
    return [[rng.choice(pool) for _ in range(draws)] for _ in range(count)]


def _shards(texts: Sequence[Text]) -> list[list[int]]:
    """Indices of the texts of each entry, sorted by length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
    return [order[i : i + SHARD] for i in range(0, len(order), SHARD)]


def _by_text(target: SparseTarget, texts: Sequence[Text], shard: Sequence[int]) -> dict[int, SparseTarget]:
    return dict(zip(shard, target.split([len(texts[i].ids) - texts[i].start for i in shard]), strict=True))


def _in_batches(texts: Sequence[Text], make: Callable[[list[Text], list[int]], Tensors]) -> Tensors:
    """Apply ``make`` to texts of similar length, and their indices, about TOKENS tokens at a time; results in their order."""
    batches: list[list[int]] = [[]]
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i].ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(texts[i].ids) > TOKENS:
            batches.append([])
        batches[-1].append(i)
    rows: dict[int, list[Tensor]] = {}
    names: list[str] = []
    for batch in batches:
        made = make([texts[i] for i in batch], batch)
        names, counts = list(made), [len(texts[i].ids) - texts[i].start for i in batch]
        rows.update(zip(batch, map(list, zip(*(torch.split(made[name], counts) for name in names), strict=True)), strict=True))
    return {name: torch.cat([rows[i][j] for i in range(len(texts))]) for j, name in enumerate(names)}
