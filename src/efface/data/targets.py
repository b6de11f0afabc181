"""Targets of the frozen teacher for both corpora, from the store or computed in length-sorted batches.

The persona streams see persona *and* text: their prefix stands before the same token ids, and their states are read at the
same tokens. A forget text's entry in the store keeps what decides its target for other eta, temperature and top-k
(:class:`efface.targets.Candidates`); a retain text's entry keeps the teacher's likeliest tokens.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from efface.lm.states import output_head, output_states, plain_attention
from efface.losses import chunk_size
from efface.recipe.settings import EraseSettings
from efface.targets import Candidates, SparseTarget, erased_logprobs, eta_schedule

Prefixes = tuple[list[int], list[int]]
SIGN = {"erase": 1.0, "enhance": -1.0}
SHARD = 32  # texts of an entry in the store, of similar length
TOKENS = 2048  # of a batch
POOL = 16  # persona pairs that the texts of a corpus share


def retain_targets(
    model: PreTrainedModel, store: Store, texts: Sequence[Text], pad: int, *, soft: bool, k: int
) -> list[SparseTarget]:
    """The teacher's own distribution at every predicted token of every text (soft), or its likeliest token."""
    head = output_head(model)

    def sparse(states: Tensor) -> Tensors:
        return vars(SparseTarget.from_logprobs(head(states).float().log_softmax(-1), k))

    def make(rows: list[Text]) -> Tensors:
        with _reading(model) as base:
            return in_chunks(sparse, text_states(base, rows, pad))

    targets = [SparseTarget(**entry) for entry in from_store(store, "retain", texts, {"k": k}, make)]
    return targets if soft else [SparseTarget.one_hot(target.likeliest()) for target in targets]


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
    shards = _shards(texts)
    parts = [{"texts": [[texts[i].ids, texts[i].start] for i in shard], **enters} for shard in shards]
    if first is not None and store.lacks(kind, parts):
        first()

    def build(shard: int) -> Tensors:
        return _in_batches([texts[i] for i in shards[shard]], lambda rows, _: make(rows))

    found: dict[int, Tensors] = {}
    for shard, entry in zip(shards, store.entries(kind, parts, build), strict=True):
        counts = [len(texts[i].ids) - texts[i].start for i in shard]
        split = {name: torch.split(tensor, counts) for name, tensor in entry.items()}
        found |= {i: {name: of[place] for name, of in split.items()} for place, i in enumerate(shard)}
    return [found[i] for i in range(len(texts))]


@torch.no_grad()
def erase_targets(
    model: PreTrainedModel,
    store: Store,
    texts: Sequence[Text],
    personas: Sequence[Sequence[Prefixes]],
    pad: int,
    settings: EraseSettings,
    *,
    k: int,
    before_text: Sequence[int] = (),
) -> list[SparseTarget]:
    """The erased distribution at every predicted token of every text.

    personas: for every text one or more (expert, novice) prefixes; the log-probabilities of several are averaged.
    before_text: what the tokenizer puts before every text; the personas hold it already, so it is not repeated after them.
    """
    sign, dtype = SIGN[settings.action], torch.float64 if settings.float64 else torch.float32
    wide = settings.top_k is None or max(settings.top_k, settings.candidates or 0) > Candidates.MOST_TOKENS
    wide = wide or settings.eta > Candidates.MOST_ETA or settings.temperature > Candidates.MOST_TEMPERATURE
    options = {"temperature": settings.temperature, "top_k": settings.top_k, "candidates": settings.candidates}
    head, shards, shared = output_head(model), _shards(texts), list[SharedPrefixes]()

    def etas(text: Text) -> Tensor:
        return sign * eta_schedule(len(text.ids) - text.start, settings.eta, settings.schedule).to(dtype)

    def build(shard: int) -> Tensors:
        with _reading(model) as base:
            if not shared:
                shared.append(SharedPrefixes(base, [ids for drawn in personas for pair in drawn for ids in pair], pad))
            rows, of = [texts[i] for i in shards[shard]], [personas[i] for i in shards[shard]]
            return _in_batches(rows, lambda rows, at: decide(base, rows, [of[i] for i in at]))

    def decide(base: PreTrainedModel, rows: list[Text], drawn: list[Sequence[Prefixes]]) -> Tensors:
        streams = [text_states(base, rows, pad)]
        shown = [Text(without_prefix(row.ids, list(before_text)), row.start) for row in rows]
        for draw, stream in ((draw, stream) for draw in range(len(drawn[0])) for stream in (0, 1)):
            before = [pairs[draw][stream] for pairs in drawn]
            streams.append(_behind(base, shared[0], before, rows, [text.ids for text in shown], pad))
        eta = torch.cat([etas(row) for row in rows]).to(streams[0].device)
        return in_chunks(keep, eta, *streams)

    def keep(eta: Tensor, states: Tensor, *persona_states: Tensor) -> Tensors:
        expert, novice = (_mean_logprobs([head(of).to(dtype) for of in persona_states[stream::2]]) for stream in (0, 1))
        if wide:
            logprobs = erased_logprobs(head(states).to(dtype), expert, novice, eta=eta, **options)  # type: ignore[arg-type]
            return vars(SparseTarget.from_logprobs(logprobs.float(), k))
        return vars(Candidates.choose(head(states).to(dtype), expert, novice, sign))

    enters: dict[str, Any] = {"sign": sign, "float64": settings.float64, "before": list(before_text)}
    if wide:
        enters |= {
            "k": k,
            **settings.model_dump(exclude={"weight", "personas", "target", "marginal", "keyness", "resist"}),
        }
    parts = [{"texts": [[texts[i].ids, texts[i].start, personas[i]] for i in shard], **enters} for shard in shards]
    found: dict[int, SparseTarget] = {}
    for shard, entry in zip(shards, store.entries("erase", parts, build), strict=True):
        if wide:
            target = SparseTarget(**entry)
        else:
            target = Candidates(**entry).target(eta=torch.cat([etas(texts[i]) for i in shard]), **options)
        found |= _by_text(target, texts, shard)
    return [found[i] for i in range(len(texts))]


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
